"""Experiments and the limiter of their key: every request has a grant, one line for all on one key."""

import asyncio

import pandas as pd
import pytest

import llmlab as ll
from tests.helpers import ask, texts

AT_ONCE = ll.RetryPolicy(wait=lambda attempt: 0)


async def test_every_request_has_one_grant_of_the_keys_limiter(provider):
    client = provider(error_rate=0.3, malformed_rate=0.2, seed=2)
    key = client.api_key
    results = await ask(client, texts(40), categories=["a", "b"], requests_per_minute=60_000, retry=AT_ONCE)
    limiter = ll.RateLimiterRegistry.get_limiter(key)
    metrics = ll.RateLimiterRegistry.get_metrics(key)
    assert metrics["total_requests"] == client.counts().requests == len(results.attempts) > 40
    assert metrics["limit"] == limiter.limit == 60_000
    assert metrics["throttled_requests"] == results.attempts["throttled"].sum()
    assert metrics["avg_wait_time"] == pytest.approx(results.attempts["wait_s"].mean())
    assert ll.RateLimiterRegistry.get_metrics()["total_requests"] == metrics["total_requests"]
    assert ll.RateLimiterRegistry.get_metrics("another key")["total_requests"] == 0


async def test_grants_are_paced_however_few_the_slots(provider):
    limiter = ll.RateLimiter(1000, period_s=10.0, margin_s=0.0)
    results = await ask(provider(), texts(60), limiter=limiter, max_concurrent=4)
    sent = results.attempts["started_at"]
    assert sent.max() - sent.min() > pd.Timedelta(0.9 * 59 * 10 / 1000, "s")
    assert limiter.get_metrics()["total_requests"] == 60


def keyed(provider, key):
    """The same provider for another key."""
    return {"client": None, "base_url": provider.base_url, "api_key": key}


async def test_two_experiments_on_one_key_share_one_limit(provider):
    client = provider()
    results = await asyncio.gather(*(
        ask(client, texts(20), requests_per_minute=2400, model=model, **keyed(client, "shared")) for model in ("m", "n")
    ))  # fmt: skip
    limiter = ll.RateLimiterRegistry.get_limiter("shared")
    assert limiter.get_metrics()["total_requests"] == client.counts().requests == 40
    sent = pd.concat([one.attempts for one in results]).sort_values("started_at")
    assert sent["started_at"].iloc[-1] - sent["started_at"].iloc[0] > pd.Timedelta(0.9 * 39 * 60 / 2400, "s")
    # Both stand in one line: neither runs ahead of the other.
    assert set(sent["model"].iloc[:8]) == {"m", "n"}


async def test_a_strict_provider_refuses_none_of_two_experiments_with_one_limiter(provider):
    client = provider(limit=40, period_s=1.0)
    limiter = ll.RateLimiter(40, period_s=1.0, burst=40, margin_s=0.3)
    results = await asyncio.gather(*(ask(client, texts(30), limiter=limiter) for _ in range(2)))
    assert all(one.predictions["status"].eq("ok").all() for one in results)
    counts = client.counts()
    assert (counts.requests, counts.refused) == (60, 0)
    assert counts.max_in_window <= 40


async def test_two_keys_do_not_slow_each_other(provider):
    client = provider()
    results = await asyncio.gather(*(
        ask(client, ["a"], requests_per_minute=1, **keyed(client, key)) for key in ("one", "two")
    ))  # fmt: skip
    assert [one.attempts["throttled"].tolist() for one in results] == [[False], [False]]
    assert ll.RateLimiterRegistry.get_metrics()["total_requests"] == 2
    for key in ("one", "two"):
        assert ll.RateLimiterRegistry.get_metrics(key)["total_requests"] == 1
