"""The limiter against a strict provider over real HTTP: nothing refused at the right limit and none lost."""

import asyncio

import pytest

import llmlab as ll
from tests.helpers import most_in_window

TEXTS = [f"the parcel {n} has not arrived" for n in range(300)]
SETTINGS = {"model": "m", "categories": ["delivery", "bug"], "progress": False}


async def test_a_strict_provider_refuses_nothing_at_its_limit_and_little_at_twice_that():
    async def asked(limit):
        with ll.simulate.client(latency_s=0.1, arrival_jitter_s=0.05, limit=100, period_s=2.0) as provider:
            limiter = ll.RateLimiter(limit, period_s=2.0)
            results = await ll.run_experiment(TEXTS, "{text}", client=provider, limiter=limiter, **SETTINGS)
            return results, provider.counts(), provider.arrivals()

    (results, counts, arrivals), (too_fast, cut, _) = await asyncio.gather(asked(100), asked(200))
    assert results.predictions["status"].eq("ok").all()
    assert counts.refused == 0
    assert most_in_window([arrival.at_s for arrival in arrivals], 2.0) <= 100
    sent = results.attempts["started_at"]
    # A busy machine may be late, never early; how late is told by tests/limits in virtual time.
    assert (sent.max() - sent.min()).total_seconds() >= (len(TEXTS) - 1) * 2.0 / 100 * 0.99
    assert too_fast.predictions["status"].eq("ok").all()
    assert 0 < cut.refused < 0.1 * len(TEXTS)
    assert cut.refused == int((too_fast.attempts["http_status"] == 429).sum())


async def test_two_experiments_on_one_key_share_its_limit_and_two_keys_do_not():
    with (
        ll.simulate.client(latency_s=0.02, limit=100, period_s=1.0) as one,
        ll.simulate.client(latency_s=0.02, limit=100, period_s=1.0) as other,
    ):
        shared = ll.RateLimiter(100, period_s=1.0)
        alone = ll.RateLimiter(100, period_s=1.0)
        every = await asyncio.gather(
            *(
                ll.run_experiment(TEXTS[:100], "{text}", client=provider, limiter=limiter, **SETTINGS)
                for provider, limiter in ((one, shared), (one, shared), (other, alone))
            )
        )
    assert one.counts().refused == other.counts().refused == 0
    assert all(results.predictions["status"].eq("ok").all() for results in every)
    assert [shared.get_metrics()["total_requests"], alone.get_metrics()["total_requests"]] == [200, 100]


async def test_the_registry_gives_all_experiments_of_a_key_one_limiter():
    ll.RateLimiterRegistry.clear()
    with ll.simulate.client(latency_s=0.01, requests_per_minute=1200) as provider:
        runs = (
            ll.run_experiment(TEXTS[:10], "{text}", client=provider, requests_per_minute=1200, **SETTINGS) for _ in "ab"
        )
        await asyncio.gather(*runs)
        limiter = ll.RateLimiterRegistry.get_limiter("simulated", base_url=provider.base_url)
    assert limiter.get_metrics()["total_requests"] == provider.counts().requests == 20
    assert ll.RateLimiterRegistry.get_metrics("simulated")["total_requests"] == 20
    assert provider.counts().refused == 0


async def test_auto_takes_the_limit_from_the_providers_headers():
    ll.RateLimiterRegistry.clear()
    with ll.simulate.client(latency_s=0.01, requests_per_minute=3000) as provider:
        await asyncio.wait_for(
            ll.run_experiment(TEXTS[:60], "{text}", client=provider, requests_per_minute="auto", **SETTINGS), 20
        )
        limiter = ll.RateLimiterRegistry.get_limiter("simulated", base_url=provider.base_url)
    assert limiter.limit == pytest.approx(3000)
    assert provider.counts().refused == 0


async def test_a_model_whose_window_is_full_delays_no_other():
    with ll.simulate.client(latency_s=0.01) as provider:
        run = ll.start_experiment(
            TEXTS[:40], "{text}", **SETTINGS | {"model": ["slow", "fast"]}, client=provider, max_concurrent=4,
            requests_per_minute={"slow": 60, "fast": 60_000},
        )  # fmt: skip
        try:
            await eventually(lambda: answered_of(run, "fast") == 40)
            assert answered_of(run, "slow") < 20
        finally:
            run.stop()
            await run


def answered_of(run, model):
    """Trials of this model that have an answer so far."""
    predictions = run.predictions
    return int((predictions["model"].eq(model) & predictions["status"].eq("ok")).sum())


async def eventually(condition):
    """Wait until it holds, at most 20 s."""
    for _ in range(400):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("never came true")


async def test_each_model_keeps_to_its_own_limit():
    with ll.simulate.client(latency_s=0.01) as provider:
        results = await ll.run_experiment(
            TEXTS[:10], "{text}", **SETTINGS | {"model": ["slow", "fast"]}, client=provider,
            requests_per_minute={"slow": 1200, "fast": 60_000}, tokens_per_minute={"fast": 1_000_000},
        )  # fmt: skip
        assert results.description["requests_per_minute"] == {"slow": 1200, "fast": 60_000}
        sent = results.attempts.groupby("model")["started_at"].agg(["min", "max"])
    assert (sent.loc["slow", "max"] - sent.loc["slow", "min"]).total_seconds() >= 9 * 0.05 * 0.9
    assert ll.RateLimiterRegistry.get_metrics(provider.api_key)["total_requests"] == 20


def test_a_limit_for_a_model_that_is_not_asked_is_refused_when_the_call_is_written():
    with pytest.raises(ll.InputError, match="requests_per_minute names 'gpt', but the models are m"):
        ll.run_experiment(TEXTS, "{text}", api_key="sk-local", requests_per_minute={"gpt": 5}, **SETTINGS)
