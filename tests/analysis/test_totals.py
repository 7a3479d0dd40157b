"""Sums over amounts of which some are unknown: counted where they may have been charged, and never taken as 0."""

import numpy as np
import pandas as pd
import pytest

import llmlab as ll
from llmlab.analysis import Total, by_group, compare, costs, may_be_billed
from llmlab.records import TOKENS


def attempts(*rows, flag=True):
    """Attempts of (cost, tokens, http_status, error_type, may_be_billed)."""
    frame = pd.DataFrame(
        [
            {
                "unit_id": f"u{at}", "model": "m", "run": 1, "attempt": 1, "status": "call_error" if error else "ok",
                "error_type": error, "http_status": status, "cost_usd": cost, "may_be_billed": billed,
                **dict.fromkeys(TOKENS, tokens), "latency_s": 1.0,
            }
            for at, (cost, tokens, status, error, billed) in enumerate(rows)
        ]
    ).astype({"cost_usd": "Float64", "http_status": "Int64"} | dict.fromkeys(TOKENS, "Int64"))  # fmt: skip
    return frame if flag else frame.drop(columns="may_be_billed")


ANSWERED = (0.25, 100, 200, None, True)
SILENT = (None, None, 200, None, True)
REFUSED = (None, None, 429, "RateLimitError", False)
CUT = (None, None, None, "ConnectionError", True)
UNPRICED = (None, 100, 200, None, True)


@pytest.mark.parametrize(
    ("rows", "known", "unknown"),
    [
        ([], 0, 0),
        ([ANSWERED, ANSWERED], 0.5, 0),
        ([ANSWERED, SILENT, SILENT], 0.25, 2),
        ([ANSWERED, REFUSED], 0.25, 0),
        ([CUT], 0, 1),
        ([ANSWERED, UNPRICED, CUT, REFUSED], 0.25, 2),
    ],
)
@pytest.mark.parametrize("flag", [True, False])
def test_the_total_of_a_frame_is_that_of_its_attempts_one_by_one(rows, known, unknown, flag):
    frame = attempts(*rows, flag=flag) if rows else attempts(ANSWERED, flag=flag).iloc[:0]
    total = Total.of(frame, "cost_usd")
    assert total == Total(known, unknown, reported=sum(row[0] is not None for row in rows))
    one_by_one = Total()
    for cost, _, _, _, billed in rows:
        one_by_one = one_by_one.plus(cost, billed)
    assert one_by_one == total
    assert total.exact == (None if unknown else known)
    assert total.amount == (None if unknown and not known else known)


def test_totals_add_up():
    assert Total(1.5, 1, 2) + Total(2, 3, 4) == Total(3.5, 4, 6)


def test_tokens_are_whole_and_an_unpriced_answer_has_known_ones():
    total = Total.of(attempts(ANSWERED, UNPRICED, SILENT), "total_tokens")
    assert total == Total(200, 1, 2)
    assert isinstance(total.known, int)


@pytest.mark.parametrize(
    ("status", "error", "billed"),
    [
        (200, None, True),
        (200, "BadResponseError", True),
        (524, "TimeoutError", True),
        (None, "TimeoutError", True),
        (None, "CancelledError", True),
        (None, "ConnectionError", True),
        (429, "RateLimitError", False),
        (500, "OverloadedError", False),
        (401, "AuthenticationError", False),
        (None, "ConfigError", False),
    ],
)
def test_what_old_frames_do_not_tell_follows_from_status_and_error(status, error, billed):
    frame = attempts((None, None, status, error, not billed), flag=False)
    assert may_be_billed(frame).tolist() == [billed]


def test_groups_are_summed_by_the_same_rule():
    frame = attempts(ANSWERED, SILENT, REFUSED, CUT).assign(model=["a", "a", "b", "c"])
    table = by_group(frame, "model")
    assert table.index.tolist() == ["a", "b", "c"]
    assert table["cost_usd"].astype(object).tolist() == [0.25, 0.0, pd.NA]
    assert table["unknown_cost_usd"].tolist() == [1, 0, 1]
    assert table["total_tokens"].astype(object).tolist() == [100, 0, pd.NA]
    assert table["attempts"].tolist() == [2, 1, 1]
    for model, rows in frame.groupby("model"):
        assert Total.of(rows, "cost_usd").unknown == table.loc[model, "unknown_cost_usd"]


def test_a_cut_connection_is_unknown_everywhere():
    frame = attempts(ANSWERED, CUT)
    predictions = frame[["unit_id", "model", "run"]].assign(
        prediction=pd.Categorical(["a", None]), status=["ok", "failed"], finished_at=pd.NaT
    )
    assert costs(predictions, frame)["unknown_cost"].tolist() == [1]
    assert costs(predictions, frame)["unknown_tokens"].tolist() == [1]
    assert compare(predictions, frame)["cost_usd"].isna().all()
    assert compare(predictions, frame)["unknown_cost"].tolist() == [1]
    by_outcome = costs(predictions, frame, "outcome").set_index("outcome")["cost_usd"]
    assert by_outcome["ok"] == 0.25
    assert pd.isna(by_outcome["call_error"])


async def test_costs_add_up_by_every_grouping():
    units = pd.read_csv("data/tickets.csv").head(80)
    with ll.simulate.client(latency_s=0.0, malformed_rate=0.2, error_rate=0.1, missing_usage_rate=0.05) as client:
        results = await ll.run_experiment(
            units, "{text}", model=["openai/gpt-4o-mini", "nobody/knows"], categories=sorted(units["gold"].unique()), runs=2,
            client=client, requests_per_minute=None, progress=False, retry=ll.RetryPolicy(wait=lambda attempt: 0.0),
        )  # fmt: skip
        counted = client.counts()
    for by in ("model", "category", "outcome", "attempt"):
        table = results.costs(by)
        assert table["attempts"].sum() == counted.requests
        assert table["total_tokens"].sum() == counted.total_tokens
        assert table["cost_usd"].sum() == pytest.approx(results.attempts["cost_usd"].sum())
        assert table["unknown_cost"].sum() == Total.of(results.attempts, "cost_usd").unknown
    by_model = results.costs().set_index("model")
    assert pd.isna(by_model.loc["nobody/knows", "cost_usd"])
    assert by_model.loc["nobody/knows", "unknown_cost"] > 0
    failed = results.costs("outcome").set_index("outcome")
    wanted = results.attempts.query("status == 'parse_error'")["cost_usd"].sum()
    assert failed.loc["parse_error", "cost_usd"] == pytest.approx(wanted)
    assert results.costs("attempt")["attempt"].tolist() == sorted(results.attempts["attempt"].unique())
    with pytest.raises(ll.InputError, match="choose one of"):
        results.costs("colour")


async def test_with_answers_that_lack_usage_no_cost_is_definite(provider):
    units = [f"text {n}" for n in range(36)]
    client = provider(missing_usage_rate=0.5, seed=1)
    results = await ll.run_experiment(
        units, "{text}", model="openai/gpt-4o-mini", categories=["a", "b"], client=client, requests_per_minute=None,
        progress=False,
    )  # fmt: skip
    silent = int(results.attempts["total_tokens"].isna().sum())
    assert 0 < silent < 36
    assert results.costs()["unknown_cost"].tolist() == results.costs()["unknown_tokens"].tolist() == [silent]
    compared = results.compare()
    assert compared[["cost_usd", "cost_usd_per_1000_units", "total_tokens"]].isna().all(axis=None)
    assert compared["unknown_cost"].tolist() == [silent]
    assert np.isfinite(results.costs()["cost_usd"].astype(float)).all()
