"""Every second of a run belongs to one thing that it waited for: limit, slots, answers, retries, pause or outage."""

import pandas as pd
import pytest

from llmlab.analysis import bottleneck

START = pd.Timestamp("2026-01-01", tz="UTC")


def row(unit, sent, latency=1.0, *, wait=0.0, queue=0.0, attempt=1, retry=None, http=200, error=None):
    return {
        "unit_id": unit, "model": "m", "run": 1, "attempt": attempt, "started_at": START + pd.Timedelta(sent, "s"),
        "queue_s": queue, "wait_s": wait, "latency_s": latency, "retry_in_s": retry, "http_status": http,
        "error_type": error,
    }  # fmt: skip


def took(*rows):
    frame = pd.DataFrame(rows, columns=list(row("u", 0))).astype({"retry_in_s": "Float64", "http_status": "Int64"})
    frame["started_at"] = pd.to_datetime(frame["started_at"], utc=True)
    found = bottleneck(frame)
    return found.set_index("waited_for")["seconds"].round(3).to_dict(), found


def test_the_limit_until_the_last_was_sent_then_the_answers():
    seconds, table = took(row("a", 0), row("b", 2, wait=2), row("c", 4, wait=4))
    assert seconds == {"rate limit": 4, "answers": 1}
    assert table["share"].tolist() == pytest.approx([0.8, 0.2])
    assert table.columns.tolist() == ["waited_for", "seconds", "share", "change"]
    assert "requests_per_minute" in table.loc[0, "change"]


def test_slots_where_a_request_waits_for_one_and_the_limit_does_not_hold_it():
    seconds, table = took(row("a", 0, 5), row("b", 5, 5, queue=5), row("c", 10, 5, queue=10))
    assert seconds == {"free slots": 10, "answers": 5}
    assert table.loc[0, "change"] == "a higher max_concurrent"


def test_the_batch_queue_is_no_slow_model():
    rows = [row("a", 0, 2), row("b", 3, 5000, http=200), row("c", 3, 5000, retry=0.0), row("c", 5004, 1, attempt=2)]
    found = bottleneck(pd.DataFrame(rows).assign(service_tier=["default", "batch", "batch", pd.NA]))
    assert found["waited_for"].tolist() == ["batch queue", "answers"]
    assert found["seconds"].tolist() == pytest.approx([5000, 3])
    assert "live" in found.loc[0, "change"]


def test_retries_only_while_nothing_is_in_flight():
    failed = row("a", 0, 1, retry=20.0, http=500, error="OverloadedError")
    assert took(failed, row("a", 21, 1, attempt=2), row("b", 0, 11))[0] == {"answers": 12, "retries": 10}


def test_a_retry_that_never_came_is_no_waiting():
    seconds, _ = took(row("a", 0, 1, retry=20.0, http=500, error="OverloadedError"))
    assert seconds == {"answers": 1}


def test_a_pause_lasts_from_the_refusal_to_the_next_request():
    refused = row("a", 0, 1, http=429, error="RateLimitError", retry=30.0)
    seconds, table = took(refused, row("b", 31, 1, wait=31), row("a", 32, 1, attempt=2))
    assert seconds == {"provider's pause": 30, "answers": 2, "rate limit": 1}
    assert "429" in table.loc[0, "change"]
    # A higher limit of one's own would not help: the provider has said no.
    assert table.set_index("waited_for").loc["rate limit", "change"].startswith("nothing, as the provider refuses")


def test_an_outage_is_several_failures_in_a_row_until_the_next_answer():
    down = [row(unit, at, 1, http=None, error="ConnectionError", retry=60.0) for at, unit in enumerate("abc")]
    seconds, _ = took(*down, row("d", 29, 1, wait=29), row("e", 30, 1, wait=30))
    assert seconds == {"outage": 29, "rate limit": 1, "answers": 1}


def test_two_failures_are_no_outage():
    down = [row(unit, at, 1, http=500, error="OverloadedError") for at, unit in enumerate("ab")]
    assert took(*down, row("d", 9, 1, wait=9))[0] == {"rate limit": 9, "answers": 1}


def test_a_break_between_two_sessions_is_nobodys():
    assert took(row("a", 0, 2), row("b", 86_400, 3))[0] == {"answers": 5}


def test_nothing_was_asked():
    seconds, table = took()
    assert seconds == {}
    assert len(table) == 0


def test_trials_of_two_prompts_are_told_apart():
    rows = [row("a", 0, 1, retry=5.0, http=500, error="OverloadedError"), row("a", 3, 1)]
    frame = pd.DataFrame(rows).astype({"retry_in_s": "Float64", "http_status": "Int64"})
    frame.insert(2, "prompt", ["short", "long"])
    assert bottleneck(frame)["waited_for"].tolist() == ["answers"]
