"""Whole experiments over real HTTP: no token and no answer is lost."""

from pathlib import Path

import pandas as pd

import llmlab as ll
from tests.helpers import ask, texts

TICKETS = pd.read_csv(Path(__file__).parents[2] / "data" / "tickets.csv")
CATEGORIES = sorted(TICKETS["gold"].unique())
PROMPT = "Which category fits?\n\n{text}"
TOKENS = ["prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens", "total_tokens"]


async def test_250_tickets_three_times_lose_neither_token_nor_answer(provider):
    client = provider(latency_s=0.05, malformed_rate=0.05, error_rate=0.05, missing_usage_rate=0.05, seed=3)
    policy = ll.RetryPolicy(max_retries=8, wait=lambda attempt: 0)
    results = await ask(client, TICKETS, PROMPT, categories=CATEGORIES, runs=3, retry=policy, max_concurrent=100)
    predictions, attempts = results
    counts = client.counts()
    assert results.stopped is None
    assert predictions["status"].tolist() == ["ok"] * 750
    assert predictions["unit_id"].tolist() == TICKETS["unit_id"].repeat(3).tolist()
    assert predictions["run"].tolist() == [1, 2, 3] * 250
    assert len(attempts) == counts.requests == counts.ok + counts.errors
    assert counts.errors == (attempts["http_status"] == 500).sum() > 10
    assert attempts["error_type"].isin(["ParseError", "TruncatedError", "InvalidLabelError"]).sum() > 10
    assert counts.usage_missing == (attempts["http_status"].eq(200) & attempts["total_tokens"].isna()).sum() > 10
    assert {name: int(attempts[name].sum()) for name in TOKENS} == {name: getattr(counts, name) for name in TOKENS}
    assert {name: int(predictions[name].sum()) for name in TOKENS} == {name: getattr(counts, name) for name in TOKENS}
    assert (predictions["prediction"].astype(str) == predictions["gold"]).mean() > 0.75
    assert predictions.groupby("unit_id")["prediction"].nunique().gt(1).any()
    assert attempts["cost_usd"].notna().equals(attempts["total_tokens"].notna())


async def test_the_attempts_say_when_and_how_long(provider):
    client = provider(latency_s=0.05)
    before = pd.Timestamp.now("UTC")
    results = await ask(client, texts(6), max_concurrent=2, limiter=ll.RateLimiter(600, margin_s=0.0))
    _, attempts = results
    assert (attempts["latency_s"] >= 0.05).all()
    assert attempts["latency_s"].max() < 5
    assert (attempts["queue_s"] >= 0).all()
    # The third pair stands behind two others that take 50 ms each.
    assert attempts["queue_s"].nlargest(2).min() >= 0.1
    assert attempts["throttled"].sum() >= 3
    assert attempts.loc[~attempts["throttled"], "wait_s"].eq(0).all()
    assert attempts["started_at"].between(before, pd.Timestamp.now("UTC")).all()
    assert attempts["started_at"].max() - attempts["started_at"].min() > pd.Timedelta(0.45, "s")


async def test_3_000_units_at_200_in_flight_are_all_answered(provider):
    client = provider(latency_s=0.1)
    results = await ask(client, texts(3_000), max_concurrent=200)
    predictions, attempts = results
    counts = client.counts()
    assert predictions["status"].eq("ok").all()
    assert predictions["unit_id"].tolist() == list(range(3_000))
    assert len(attempts) == counts.requests == counts.ok == 3_000
    assert int(attempts["total_tokens"].sum()) == counts.total_tokens
    assert counts.peak_in_flight <= 200
