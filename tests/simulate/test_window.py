"""The simulated rate limit is strict, per key, for requests and tokens, and says when to come back."""

import asyncio
import json
import time
from collections import Counter

import pytest

from llmlab.simulate.window import duration
from tests.helpers import HttpClient, most_in_window


async def test_the_window_is_strict_and_used_to_the_full(simulated):
    provider = simulated(limit=20, period_s=0.2, arrival_jitter_s=0.01)
    async with HttpClient(provider) as client:
        end = time.monotonic() + 0.7

        async def insist():
            while time.monotonic() < end:
                status, _, _ = await client.ask()
                await asyncio.sleep(0.01 if status == 429 else 0)

        await asyncio.gather(*(insist() for _ in range(8)))
    arrivals, counts = provider.arrivals(), provider.counts()
    accepted = [arrival.at_s for arrival in arrivals if arrival.outcome == "ok"]
    assert most_in_window(accepted, 0.2) == 20 == counts.max_in_window
    assert len(accepted) == counts.ok >= 60
    assert [arrival.at_s for arrival in arrivals] == sorted(arrival.at_s for arrival in arrivals)
    assert counts.refused == len(arrivals) - len(accepted) > 0


@pytest.mark.parametrize("count_refused", [False, True])
async def test_refused_requests_use_up_the_limit_where_they_count(simulated, count_refused):
    provider = simulated(limit=5, period_s=0.15, count_refused=count_refused)
    async with HttpClient(provider) as client:
        for _ in range(40):
            await client.ask()
            await asyncio.sleep(0.01)
    accepted = provider.counts().ok
    assert accepted == 5 if count_refused else accepted >= 10


async def test_a_refusal_says_when_to_come_back(simulated):
    provider = simulated(limit=2, period_s=1.5)
    async with HttpClient(provider) as client:
        _, headers, _ = await client.ask()
        assert headers["x-ratelimit-limit-requests"] == "80"  # per minute
        assert headers["x-ratelimit-remaining-requests"] == "1"
        assert headers["x-ratelimit-reset-requests"] == "1.5s"
        await client.ask()
        status, headers, raw = await client.ask()
    assert status == 429
    assert headers["Retry-After"] == "2"
    assert 1000 < int(headers["retry-after-ms"]) <= 1500
    assert headers["x-ratelimit-remaining-requests"] == "0"
    error = json.loads(raw)["error"]
    assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
    assert "Please try again in 1." in error["message"]


async def test_each_key_has_its_own_limit(simulated):
    provider = simulated(requests_per_minute=1)
    async with HttpClient(provider, "one") as one, HttpClient(provider, "two") as two:
        statuses = [(await client.ask())[0] for client in (one, two, one, two)]
    assert statuses == [200, 200, 429, 429]


async def test_tokens_are_limited_too(simulated):
    provider = simulated(tokens=150, period_s=30)
    async with HttpClient(provider) as client:
        statuses = [(await client.ask())[0] for _ in range(4)]
        _, headers, raw = await client.ask("x" * 2000)
    assert statuses == [200, 200, 429, 429]
    assert provider.counts().total_tokens <= 150
    assert "Request too large" in json.loads(raw)["error"]["message"]
    assert "Retry-After" not in headers


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.02, "20ms"), (1, "1s"), (1.2, "1.2s"), (360, "6m0s"), (3600, "1h0m0s"), (59.9999, "1m0s")],
)
def test_durations_look_like_openai_s(seconds, text):
    assert duration(seconds) == text


async def test_more_than_the_allowed_in_flight_are_refused(simulated):
    provider = simulated(latency_s=0.05, max_in_flight=3)
    async with HttpClient(provider) as client:
        statuses = Counter(status for status, _, _ in await asyncio.gather(*(client.ask() for _ in range(10))))
        assert (await client.ask())[0] == 200
    assert statuses == {200: 3, 429: 7}
    assert 3 <= provider.counts().peak_in_flight <= 4
