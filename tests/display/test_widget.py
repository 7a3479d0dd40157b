"""The panel says everything while it runs, escapes what others wrote, and leaves a static picture."""

import pytest

from llmlab.display.tally import QueuedBatch, Tally
from llmlab.display.widget import MOST_SAMPLES, History, clicks_wait, live_html, snapshot
from tests.helpers import Clock, attempt, failing


def answered(tally: Tally, count: int, **changes) -> Tally:
    for _ in range(count):
        tally.record(attempt(**changes))
        tally.finish(ok=True)
    return tally


def test_says_everything_while_it_runs():
    tally = answered(Tally(100), 9, throttled=True, wait_s=2.0)
    tally.record(attempt(**failing(retry_in_s=20.0)))
    tally.finish(ok=False)
    tally.in_flight, tally.waiting, tally.retrying = 3, 80, 7
    tally.limits(rate=1.0, paused_s=42.0)
    page = live_html(tally, History())
    for part in (
        "9 answered", "1 failed", "3 in flight", "87 not run", "90%", "1 repeated", "90</div>", "45 out", "$4.50",
        "$45.00 projected", "paused by the provider, 42 s", "ETA", "last error: OverloadedError: no capacity",
    ):  # fmt: skip
        assert part in page


def test_what_a_model_or_provider_wrote_is_escaped_and_short():
    tally = Tally(10)
    tally.record(attempt(**failing(error="<script>alert(1)</script>\n" + "'x\" " * 5000)))
    page = live_html(tally, History(), "because <b>")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert len(page) < 6000
    assert "<b>" not in snapshot(tally, History(), "because <b>")["text/html"].replace("<b>0</b>", "")


def test_stopping_waits_for_what_is_in_flight():
    tally = Tally(10)
    tally.in_flight = 3
    assert "stopping… 3 in flight" in live_html(tally, History(), "interrupted")


def test_empty_experiments_draw():
    assert "0</b> of 0 trials" in live_html(Tally(0), History())
    assert snapshot(Tally(0), History())["text/plain"].startswith("llmlab: 0 of 0 trials answered")


def test_the_snapshot_is_static_html_and_one_line_of_text():
    tally = answered(Tally(10), 4)
    bundle = snapshot(tally, History(), "interrupted;\n6 of 10 trials are not answered")
    assert set(bundle) == {"text/html", "text/plain"}
    assert len(bundle["text/plain"].splitlines()) == 1
    assert "4 of 10 trials answered" in bundle["text/plain"]
    assert "interrupted; 6 of 10" in bundle["text/html"]
    assert "<script" not in bundle["text/html"]


def test_the_sparkline_keeps_the_whole_run_in_few_points():
    clock = Clock()
    history, tally = History(), Tally(10, clock)
    for second in range(10_000):
        clock.now = 1000.0 + second
        tally.recent.append((clock.now, True, float(second)))
        history.sample(tally)
    assert MOST_SAMPLES / 2 <= len(history.wait_s) <= MOST_SAMPLES
    assert len(history.throttle_rate) == len(history.wait_s)
    assert history.wait_s[0] < 10
    assert history.wait_s[-1] > 9800


@pytest.mark.parametrize(
    ("kernel", "main_thread", "waits"),
    [((6, 31), True, True), ((7, 4), True, False), ((7, 4), False, True), ((), True, False)],
)
def test_there_is_a_button_only_where_a_click_is_handled_at_once(kernel, main_thread, waits):
    assert clicks_wait(kernel, main_thread) == waits


def test_batches_in_the_queue_are_lines_of_their_own_while_they_run():
    tally = answered(Tally(100), 9)
    tally.batches = (QueuedBatch(1, 1, 40, 91, submitted_at=1e9, ends_by=1e9 + 86_400),)
    page = live_html(tally, History())
    assert "batch 1 of 1: 40 of 91 done · submitted" in page
    assert "closing the notebook is fine" in page
    assert "ETA: no telling yet" in page
    assert "batch" not in snapshot(tally, History())["text/html"]
