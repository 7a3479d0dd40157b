"""One limiter per key and endpoint, for the whole process."""

from __future__ import annotations

import asyncio
import math
import threading

import pytest

from llmlab.errors import InputError
from llmlab.limits import RateLimiter, RateLimiterRegistry
from llmlab.limits.registry import fingerprint
from tests.helpers import eventually, queue, thread, virtual

KEY = "sk-or-v1-5ecre7"


def test_there_is_one_limiter_per_key_and_it_starts_at_60():
    limiter = RateLimiterRegistry.get_limiter(KEY)
    assert limiter is RateLimiterRegistry.get_limiter(KEY)
    assert limiter is not RateLimiterRegistry.get_limiter(KEY + "2")
    assert limiter.limit == 60
    assert limiter.tokens is None


def test_threads_that_ask_at_once_get_the_same_limiter():
    found, line = [], threading.Barrier(8)

    def ask():
        line.wait(10)
        found.append(RateLimiterRegistry.get_limiter(KEY, 30))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(10)
    assert len(found) == 8
    assert len(set(map(id, found))) == 1


def test_a_value_given_changes_the_limiter_and_one_left_out_does_not():
    limiter = RateLimiterRegistry.get_limiter(KEY, 100, tokens_per_minute=5000)
    RateLimiterRegistry.get_limiter(KEY)
    assert (limiter.limit, limiter.tokens) == (100, 5000)
    RateLimiterRegistry.get_limiter(KEY, None)
    assert (limiter.limit, limiter.tokens) == (None, 5000)
    RateLimiterRegistry.get_limiter(KEY, 10, tokens_per_minute=None)
    assert (limiter.limit, limiter.tokens) == (10, None)
    RateLimiterRegistry.get_limiter(KEY, "auto")
    assert limiter.auto
    RateLimiterRegistry.get_limiter(KEY, 20)
    assert (limiter.limit, limiter.auto) == (20, False)


@pytest.mark.parametrize("value", [0, -1, math.nan, True, "fast"])
def test_the_registry_refuses_it_too_for_a_new_limiter_and_an_old_one(value):
    with pytest.raises(InputError, match="limit must be a positive number"):
        RateLimiterRegistry.get_limiter(KEY, value)
    assert RateLimiterRegistry.get_metrics()["limit"] is None
    limiter = RateLimiterRegistry.get_limiter(KEY, "auto")
    with pytest.raises(InputError, match="limit must be a positive number"):
        RateLimiterRegistry.get_limiter(KEY, value)
    assert (limiter.limit, limiter.auto) == (60, True)


def test_changing_the_limit_through_the_registry_frees_those_who_wait():
    limiter = RateLimiterRegistry.get_limiter(KEY, 1)

    async def main():
        await limiter.acquire()
        await asyncio.gather(*await queue(limiter, 0, 0, 0, 0, 0))

    with thread(main):
        eventually(lambda: limiter.get_metrics()["waiting"] == 5)
        RateLimiterRegistry.get_limiter(KEY, 60_000)
    assert limiter.get_metrics()["throttled_requests"] == 5


def test_the_same_key_at_two_endpoints_has_two_limits():
    one = RateLimiterRegistry.get_limiter(KEY, 10, base_url="https://one.example/v1")
    two = RateLimiterRegistry.get_limiter(KEY, 20, base_url="https://two.example/v1")
    assert one is not two
    assert (one.limit, two.limit) == (10, 20)
    assert RateLimiterRegistry.get_limiter(KEY, base_url="https://one.example/v1") is one


def test_a_trailing_slash_makes_no_second_limiter():
    one = RateLimiterRegistry.get_limiter(KEY, base_url="https://one.example/v1")
    assert RateLimiterRegistry.get_limiter(KEY, base_url="https://one.example/v1/") is one


def test_a_limiter_set_up_by_key_alone_is_adopted_by_the_first_endpoint():
    limiter = RateLimiterRegistry.get_limiter(KEY, 500)
    assert RateLimiterRegistry.get_limiter(KEY, base_url="https://one.example/v1") is limiter
    assert limiter.limit == 500
    assert RateLimiterRegistry.get_limiter(KEY) is limiter
    assert RateLimiterRegistry.get_limiter(KEY, base_url="https://two.example/v1") is not limiter


def test_a_key_left_out_means_its_only_endpoint():
    limiter = RateLimiterRegistry.get_limiter(KEY, 500, base_url="https://one.example/v1")
    assert RateLimiterRegistry.get_limiter(KEY) is limiter


def test_metrics_of_one_key_and_of_all():
    one = RateLimiterRegistry.get_limiter("one", 100)
    two = RateLimiterRegistry.get_limiter("two", None, base_url="https://two.example/v1")

    async def ask():
        for limiter in (one, two, two):
            await limiter.acquire()

    asyncio.run(ask())
    assert RateLimiterRegistry.get_metrics("two") == two.get_metrics()
    assert RateLimiterRegistry.get_metrics("one")["total_requests"] == 1
    every = RateLimiterRegistry.get_metrics()
    assert (every["total_requests"], every["limit"]) == (3, None)
    RateLimiterRegistry.get_limiter("two", 200)
    assert RateLimiterRegistry.get_metrics()["limit"] == 300


def test_metrics_without_any_limiter_are_zero():
    for metrics in (RateLimiterRegistry.get_metrics(), RateLimiterRegistry.get_metrics("unknown")):
        assert (metrics["total_requests"], metrics["throttle_rate"], metrics["limit"]) == (0, 0.0, None)
    assert set(metrics) == set(RateLimiter(60).get_metrics())


@virtual
async def test_clear_forgets_but_running_experiments_keep_theirs():
    limiter = RateLimiterRegistry.get_limiter(KEY)
    RateLimiterRegistry.clear()
    assert RateLimiterRegistry.get_limiter(KEY) is not limiter
    await limiter.acquire()
    assert limiter.get_metrics()["total_requests"] == 1


@virtual
async def test_the_key_appears_nowhere(limit_lines):
    limiter = RateLimiterRegistry.get_limiter(KEY, None, base_url="https://openrouter.ai/api/v1")
    grant = await limiter.acquire()
    grant.refused(0.01)
    limiter.limit, limiter.tokens = 60, 1e6
    said = [repr(limiter), repr(grant), *limit_lines(), RateLimiterRegistry.get_metrics(KEY), limiter.history()]
    said += [
        RateLimiterRegistry.get_metrics(),
        RateLimiterRegistry._limiters,
        vars(limiter),
        fingerprint(KEY),
    ]
    assert KEY not in str(said)
    assert KEY[-6:] not in str(said)
    assert len(limit_lines()) == 1
    assert repr(limiter) == f"<RateLimiter {fingerprint(KEY)}: 60 requests, 1000000 tokens per 60 s, 1 granted>"
    assert repr(RateLimiter(None)) == "<RateLimiter: unlimited requests per 60 s, 0 granted>"


def test_a_model_may_have_a_limiter_of_its_own_beside_the_keys():
    url = "https://one.example/v1"
    key = RateLimiterRegistry.get_limiter(KEY, 60, base_url=url)
    small = RateLimiterRegistry.get_limiter(KEY, 5000, base_url=url, model="small")
    large = RateLimiterRegistry.get_limiter(KEY, "auto", base_url=url, model="large", tokens_per_minute=9000)
    assert len({id(key), id(small), id(large)}) == 3
    assert (key.limit, small.limit, large.limit, large.tokens) == (60, 5000, 60, 9000)
    assert large.auto
    assert RateLimiterRegistry.get_limiter(KEY, base_url=url, model="small") is small
    assert RateLimiterRegistry.get_limiter(KEY, model="large") is large
    assert RateLimiterRegistry.get_limiter(KEY) is key
    assert repr(small).startswith(f"<RateLimiter {fingerprint(KEY)} small: 5000 requests")
    assert RateLimiterRegistry.get_metrics(KEY)["limit"] == 5120
