"""The limiter on loops whose time is virtual: what it guarantees to those who send and to the provider."""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
from collections import Counter
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.errors import InputError, TooLongError
from llmlab.limits import RateLimiter
from llmlab.records import Feedback
from tests.helpers import limited, most_in_window, now, queue, stamp, start, virtual

# The three tiers


async def tier(limiter: RateLimiter, count: int = 750, latency_s: float = 0.3) -> tuple[list[float], list[float]]:
    """Send `count` requests that arrive up to 0.2 s later; returns the arrivals and the answers."""
    arrivals, answers = [], []

    async def call(turn: int) -> None:
        grant = await limiter.acquire()
        arrivals.append(now() + 0.2 * (turn * 7919 % 100) / 100)
        await asyncio.sleep(latency_s)
        grant.answered()
        answers.append(now())

    await asyncio.gather(*(call(turn) for turn in range(count)))
    return arrivals, answers


@pytest.mark.parametrize("limit", [60, 300, 1000])
@virtual
async def test_750_requests_take_what_the_limit_allows_and_never_more_arrive_in_a_window(limit):
    arrivals, answers = await tier(limited(limit))
    bound = 749 * 60 / limit
    assert len(answers) == 750
    assert bound <= max(answers) <= 1.02 * bound
    assert most_in_window(arrivals) <= limit


@virtual
async def test_at_60_per_minute_the_answers_come_smoothly():
    arrivals, answers = await tier(limited(60))
    done = [sum(answer <= moment for answer in answers) for moment in (10, 60, 300, 765)]
    assert done[:2] == [10, 60]
    assert 294 <= done[2] <= 300
    assert done[3] == 750
    assert max(Counter(int(arrival) for arrival in arrivals).values()) <= 2


@virtual
async def test_slow_answers_cost_no_throughput():
    """A window that waits for the answers of 30 s would need half as long again."""
    _, answers = await tier(limited(60), count=300, latency_s=30)
    assert max(answers) <= 1.03 * 299 + 30


@virtual
async def test_none_is_unlimited():
    limiter = limited(None)
    assert await stamp(limiter, 1000) == [0.0] * 1000
    assert limiter.get_metrics()["throttled_requests"] == 0
    assert limiter.get_metrics()["limit"] is None


# A closed loop with a strict server

FATES = ["ok", "ok", "ok", "gives up", "returns it", "cut off", "silent"]
UNIT = st.tuples(
    st.sampled_from([0.0, 0.0, 0.5, 1.0, 7.3, 61.0]),  # asks at
    st.integers(0, 100),  # tokens
    st.floats(0, 1),  # from sending to arrival
    st.floats(0, 90),  # from arrival to the answer
    st.sampled_from(FATES),
    st.integers(0, 40),  # gives up after so many intervals: often in the very tick of the grant
)


def overrun(arrivals, limits, period_s, margin_s) -> list:
    """Arrivals that see more in their window than any limit that held in it."""
    arrivals = sorted(arrivals)
    over = []
    for moment, _ in arrivals:
        held = [
            limit
            for (since, limit), (until, _) in zip(limits, [*limits[1:], (math.inf, None)], strict=True)
            if since <= moment and until >= moment - period_s - margin_s
        ]
        if None in held:
            continue
        seen = sum(weight for other, weight in arrivals if moment - period_s + 1e-6 < other <= moment)
        if seen > max(1, max(held)) + 1e-6:
            over.append((moment, seen, held))
    return over


@given(
    limit=st.sampled_from([0.5, 1, 5, 20, 60]),
    burst=st.sampled_from([1, 1, 3, 60]),
    tokens=st.sampled_from([None, 100, 1000]),
    units=st.lists(UNIT, min_size=1, max_size=40),
    changes=st.lists(st.tuples(st.floats(0, 200), st.sampled_from([1, 2.5, 10, 100, None])), max_size=3),
)
@settings(max_examples=60, deadline=None, database=None)
@virtual
async def test_a_strict_server_never_sees_too_much_whatever_the_clients_do(limit, burst, tokens, units, changes):
    limiter = limited(limit, burst=burst, tokens=tokens)
    loop = asyncio.get_running_loop()
    arrivals, asked, granted, limits = [], [], {}, [(0.0, limit)]

    async def take(turn, weight):
        asked.append(turn)
        grant = await limiter.acquire(weight)
        granted[turn] = now()
        return grant

    async def call(turn, at, weight, jitter_s, latency_s, fate, patience):
        await asyncio.sleep(at)
        try:
            waits_s = patience * 60 / limit if fate == "gives up" else None
            grant = await asyncio.wait_for(take(turn, weight), waits_s)
        except TimeoutError:
            return False
        if fate == "returns it":
            grant.cancel()
            grant.cancel()
            return False
        loop.call_later(jitter_s, lambda: arrivals.append((now(), 1, weight)))
        if fate == "cut off":
            # The task ends with the request on its way: it counts all the same.
            return True
        await asyncio.sleep(jitter_s + latency_s)
        if fate == "ok":
            grant.answered(weight)
        return True

    async def change(at, value):
        await asyncio.sleep(at)
        limiter.limit = value
        limits.append((now(), value))

    changing = start(*(change(*one) for one in changes))
    sent = await asyncio.gather(*(call(turn, *unit) for turn, unit in enumerate(units)))
    await asyncio.gather(*changing)
    await asyncio.sleep(1)
    assert len(arrivals) == sum(sent)
    assert overrun([(at, one) for at, one, _ in arrivals], limits, 60, 1) == []
    if tokens is not None:
        assert overrun([(at, weight) for at, _, weight in arrivals], [(0.0, tokens)], 60, 1) == []
    moments = [granted[turn] for turn in asked if turn in granted]
    assert moments == sorted(moments)
    metrics = limiter.get_metrics()
    assert metrics["total_requests"] == sum(sent)
    assert metrics["waiting"] == 0


@pytest.mark.parametrize("hint", [True, False], ids=["Retry-After", "no hint"])
@virtual
async def test_a_limit_set_twice_too_high_makes_no_storm_of_refusals(hint):
    """The server is strict, and counts refusals as well."""
    limiter = limited(120)
    seen: list[float] = []
    answered, refused = [], []

    async def call() -> None:
        while True:
            grant = await limiter.acquire()
            await asyncio.sleep(0.1)
            while seen and seen[0] <= now() - 60:
                seen.pop(0)
            seen.append(now())
            full = len(seen) > 60
            wait_s = seen[-60] + 60 - now() if full else None
            await asyncio.sleep(0.2)
            if not full:
                grant.answered()
                answered.append(now())
                return
            refused.append(now())
            grant.refused(wait_s if hint else None)

    await asyncio.gather(*(call() for _ in range(750)))
    assert len(answered) == 750
    assert 0 < len(refused) < 0.05 * 750
    assert limiter.get_metrics()["refused_requests"] == len(refused)
    assert max(answered) <= 1.5 * 749


# Weights


@virtual
async def test_a_weight_above_the_whole_limit_is_an_error_at_once():
    limiter = limited(60, tokens=1000)
    with pytest.raises(TooLongError, match=r"about 1,001 tokens, but the limit is 1,000 per 60 s"):
        await limiter.acquire(1001)
    assert limiter.get_metrics()["queue_size"] == 0


@pytest.mark.parametrize("tokens", [-1, math.nan, math.inf])
@virtual
async def test_a_nonsensical_weight_is_an_error_and_books_nothing(tokens):
    limiter = limited(60, tokens=1000)
    with pytest.raises(InputError, match="tokens must be 0 or more"):
        await limiter.acquire(tokens)
    assert limiter.get_metrics()["total_requests"] == 0


@virtual
async def test_with_requests_free_but_tokens_full_nothing_is_booked():
    limiter = limited(6000, tokens=600)
    await limiter.acquire(600)
    [task] = await queue(limiter, 100)
    await asyncio.sleep(30)
    assert not task.done()
    assert limiter.get_metrics()["queue_size"] == 1
    grant = await task
    assert now() == pytest.approx(61)
    assert grant.waited_s == pytest.approx(61)


@virtual
async def test_settling_less_lets_a_waiter_go_earlier():
    limiter = limited(None, tokens=600)
    grant = await limiter.acquire(600)
    [task] = await queue(limiter, 540)
    await asyncio.sleep(1)
    grant.answered(60)
    await task
    assert now() == pytest.approx(6)


@virtual
async def test_settling_more_twice_or_late_is_booked_and_never_settling_ends_with_the_place():
    limiter = limited(None, tokens=600)
    grant = await limiter.acquire(100)
    grant.answered(400)
    await limiter.acquire(100)
    assert now() == pytest.approx(40)
    grant.answered(100)
    grant.answered(200)
    await asyncio.sleep(100)
    await limiter.acquire(600)
    grant.answered(700)
    then = now()
    await limiter.acquire(600)
    # The late surplus of 500 is paced after the 600 reserved, which are never settled.
    assert now() - then == pytest.approx(110)


@virtual
async def test_estimates_settled_at_each_answer_keep_the_real_usage_under_the_limit():
    limiter = limited(None, tokens=6000)
    used = []

    async def call(turn):
        real = 100 + turn % 7 * 30
        grant = await limiter.acquire(300)
        used.append((now(), real))
        await asyncio.sleep(0.5)
        grant.answered(real)

    await asyncio.gather(*(call(turn) for turn in range(300)))
    for moment, _ in used:
        assert sum(real for at, real in used if moment - 60 < at <= moment) <= 6000
    assert now() <= 1.05 * sum(real for _, real in used) / 100


# Giving back


@virtual
async def test_a_holder_that_sent_nothing_returns_its_place_and_only_once():
    limiter = limited(60, burst=60)
    grants = [await limiter.acquire() for _ in range(60)]
    assert limiter.get_metrics()["queue_size"] == 60
    for _ in range(3):
        grants[-1].cancel()
    assert limiter.get_metrics()["queue_size"] == limiter.get_metrics()["total_requests"] == 59
    assert await stamp(limiter, 2) == pytest.approx([0, 60])


@pytest.mark.parametrize("end", ["answered", "refused"])
@virtual
async def test_what_was_sent_cannot_be_returned(end):
    """A `finally: grant.cancel()` after the answer does no harm."""
    limiter = limited(60)
    grant = await limiter.acquire()
    getattr(grant, end)()
    grant.cancel()
    assert limiter.get_metrics()["total_requests"] == limiter.get_metrics()["queue_size"] == 1


@virtual
async def test_async_with_answers_at_its_end_and_nests():
    limiter = limited(2, burst=2)
    async with limiter as outer, limiter as inner:
        assert outer is not inner
        await asyncio.sleep(0.25)
    assert await stamp(limiter, 1) == pytest.approx([60.25])


@virtual
async def test_after_an_error_in_async_with_the_request_may_still_be_on_its_way():
    limiter = limited(1)
    with pytest.raises(ZeroDivisionError):
        async with limiter:
            raise ZeroDivisionError
    assert await stamp(limiter, 1) == pytest.approx([61])


# Feedback


@virtual
async def test_a_pause_holds_those_who_already_wait():
    limiter = limited(60)
    await limiter.acquire()
    tasks = await queue(limiter, 0, 0, 0)
    limiter.pause(20)
    await tasks[0]
    assert now() == pytest.approx(20)
    await tasks[1]
    assert now() == pytest.approx(21)
    await tasks[2]


@pytest.mark.parametrize("seconds", [0, -5, math.nan, math.inf])
@virtual
async def test_a_nonsensical_pause_is_ignored(seconds):
    limiter = limited(60, burst=60)
    limiter.pause(seconds)
    assert await stamp(limiter, 60) == [0.0] * 60


@virtual
async def test_a_refusal_pauses_the_whole_key_and_says_so_once(limit_lines):
    limiter = limited(60, burst=60)
    grants = [await limiter.acquire() for _ in range(60)]
    await asyncio.sleep(0.3)
    assert grants[0].refused(5) == pytest.approx(5)
    await asyncio.sleep(2)
    assert grants[1].refused() == pytest.approx(3)
    metrics = limiter.get_metrics()
    assert metrics["refused_requests"] == 2
    assert metrics["rate_factor"] == 1
    assert metrics["paused_s"] == pytest.approx(3)
    assert limit_lines() == ["Refused (429): the key pauses 5.0s, then goes on at 100% of its rate"]
    assert await stamp(limiter, 1) == pytest.approx([60.3])


@virtual
async def test_refusals_that_keep_coming_are_a_warning_that_says_how_fast_it_goes_on(caplog):
    caplog.set_level(logging.INFO, "llmlab.limits")
    limiter = limited(60)
    for turn in range(20):
        grant = await limiter.acquire()
        grant.refused() if turn % 2 else grant.answered()
    assert limiter.get_metrics()["rate_factor"] < 0.7
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any("then goes on at 57% of its rate" in warning for warning in warnings)


@virtual
async def test_refused_well_under_the_limit_somebody_else_may_use_the_key(limit_lines):
    limiter = limited(600)
    for _ in range(100):
        (await limiter.acquire()).answered()
    (await limiter.acquire()).refused(1)
    assert limit_lines()[-1].endswith(
        "; only 101 of 600 requests had been sent in 60 s: if someone else uses this key, too, ll.share_limits() "
        "counts together"
    )
    assert await stamp(limiter, 600)
    (await limiter.acquire()).refused(1)
    assert limit_lines()[-1].endswith("its rate")


@virtual
async def test_auto_takes_the_providers_limits():
    limiter = limited("auto")
    assert limiter.limit == 60
    tasks = await queue(limiter, *[0] * 100)
    limiter.learn(Feedback(limit_requests=6000, limit_tokens=90_000))
    assert (limiter.limit, limiter.tokens) == (6000, 90_000)
    await asyncio.gather(*tasks)
    assert now() < 2
    fixed = limited(60)
    fixed.learn(Feedback(limit_requests=500))
    assert fixed.limit == 60
    halves = limited("auto", period_s=30)
    halves.learn(Feedback(limit_requests=500))
    assert halves.limit == 250


# Changing the limits


@virtual
async def test_raising_the_limit_frees_those_who_wait():
    limiter = limited(1)
    (await limiter.acquire()).answered()
    tasks = await queue(limiter, *[0] * 10)
    await asyncio.sleep(1)
    limiter.limit = 6000
    await asyncio.gather(*tasks)
    assert now() < 2
    [task] = await queue(limiter, 0)
    limiter.limit = None
    await task
    assert now() < 2


@virtual
async def test_lowering_the_limit_holds_for_those_who_wait():
    limiter = limited(600)
    stamps = []

    async def call():
        (await limiter.acquire()).answered()
        stamps.append(now())

    tasks = start(*(call() for _ in range(40)))
    await asyncio.sleep(2.05)
    before = len(stamps)
    limiter.limit = 10
    await asyncio.sleep(120)
    assert before == 21
    assert most_in_window([at for at in stamps if at > 2.1]) <= 10
    limiter.limit = None
    await asyncio.gather(*tasks)


@virtual
async def test_changing_the_tokens_moves_those_who_wait():
    limiter = limited(None, tokens=600)
    await limiter.acquire(600)
    [task] = await queue(limiter, 600)
    await asyncio.sleep(1)
    limiter.tokens = 60_000
    await task
    assert now() < 2


@pytest.mark.parametrize("value", [0, -1, math.nan, True, "fast", "60", Decimal(5)])
def test_a_limit_that_is_none_is_refused_and_changes_nothing(value):
    with pytest.raises(InputError, match="limit must be a positive number"):
        RateLimiter(value)
    limiter = RateLimiter(60, tokens=100)
    with pytest.raises(InputError):
        limiter.limit = value
    with pytest.raises(InputError):
        limiter.tokens = value
    assert (limiter.limit, limiter.tokens) == (60, 100)
    for setting in ("period_s", "burst", "tokens"):
        with pytest.raises(InputError, match=setting):
            RateLimiter(60, **{setting: value})


def test_a_limit_out_of_a_data_frame_is_a_limit():
    assert RateLimiter(np.int64(60)).limit == 60


# Clocks


@pytest.mark.parametrize("jump_s", [-1000.0, -3600.0])
@virtual
async def test_a_clock_set_back_delays_nobody(jump_s):
    offset = 0.0
    loop = asyncio.get_running_loop()
    limiter = RateLimiter(60, clock=lambda: loop.time() + offset)
    task = asyncio.ensure_future(stamp(limiter, 30))
    await asyncio.sleep(10.5)
    offset = jump_s
    stamps = await task
    assert stamps[-1] <= 30
    assert most_in_window(stamps, 10) <= 11


@virtual
async def test_a_clock_set_an_hour_forward_lets_no_burst_through():
    offset = 0.0
    loop = asyncio.get_running_loop()
    limiter = RateLimiter(60, clock=lambda: loop.time() + offset)
    task = asyncio.ensure_future(stamp(limiter, 30))
    await asyncio.sleep(10.5)
    offset = 3600.0
    stamps = await task
    assert min(after - before for before, after in itertools.pairwise(stamps)) >= 0.7
    assert most_in_window(stamps, 10) <= 11


@virtual
async def test_a_clock_of_15_6_ms_keeps_pace_and_window():
    loop = asyncio.get_running_loop()
    limiter = RateLimiter(1000, clock=lambda: loop.time() // 0.0156 * 0.0156)
    arrivals, answers = await tier(limiter, count=2000)
    assert max(answers) <= 1.02 * 1999 * 0.06
    assert most_in_window(arrivals) <= 1000
