"""The limiter on loops whose time is virtual; threads meet on a clock that the test sets by hand."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import itertools
import logging
import math
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path

import looptime
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.errors import InputError, TooLongError
from llmlab.limits.limiter import HISTORY_SECONDS, RateLimiter, RateLimiterRegistry, fingerprint
from llmlab.limits.schedule import Schedule
from llmlab.records import Feedback

KEY = "sk-or-v1-5ecre7"
SUMMARY = re.compile(
    r"Rate limiter summary \(last \d+\.\ds\): \d+ requests, \d+ throttled \(\d+\.\d%\), queue: \d+/(\d+|unlimited)"
)
HANGS_S = 1e6
"""Virtual seconds after which a test hangs; reached at once where nothing else is scheduled."""


def virtual_loop(start: float = 0.0):
    return looptime.patch_event_loop(asyncio.new_event_loop(), start=start, noop_cycles=2)


def virtual(test):
    """Run an async test in virtual time and check that the limiter leaves no task and no timer behind."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        loop = virtual_loop()
        try:
            loop.run_until_complete(asyncio.wait_for(test(*args, **kwargs), HANGS_S))
            assert not asyncio.all_tasks(loop)
            assert not timers(loop)
        finally:
            loop.close()

    return run


def timers(loop) -> list[asyncio.TimerHandle]:
    """The limiter's live timers."""
    return [
        handle
        for handle in loop._scheduled
        if not handle.cancelled() and isinstance(getattr(handle._callback, "__self__", None), RateLimiter)
    ]


def now() -> float:
    return asyncio.get_running_loop().time()


def limited(limit, **settings) -> RateLimiter:
    """A limiter on the running loop's time."""
    return RateLimiter(limit, clock=asyncio.get_running_loop().time, **settings)


class Clock:
    """Stands still until told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def start(*coroutines) -> list[asyncio.Task]:
    return [asyncio.ensure_future(coroutine) for coroutine in coroutines]


async def queue(limiter: RateLimiter, count: int) -> list[asyncio.Task]:
    """`count` tasks that have asked."""
    tasks = start(*(limiter.acquire() for _ in range(count)))
    await asyncio.sleep(0)
    return tasks


async def stamp(limiter: RateLimiter, count: int, tokens: float = 0) -> list[float]:
    """When `count` requests leave that ask one after the other and are answered at once."""
    stamps = []
    for _ in range(count):
        (await limiter.acquire(tokens)).answered()
        stamps.append(now())
    return stamps


async def cancelled(*tasks: asyncio.Task) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task


def most_in_window(stamps: list[float], period_s: float = 60.0) -> int:
    """Most arrivals in any half-open window of one period."""
    stamps = sorted(stamps)
    first, most = 0, 0
    for last, stamp in enumerate(stamps):
        while stamps[first] <= stamp - period_s + 1e-6:
            first += 1
        most = max(most, last - first + 1)
    return most


def eventually(condition) -> None:
    """Wait for other threads, at most ten seconds."""
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("never came true")


@contextlib.contextmanager
def thread(main):
    """Run `asyncio.run(main())` in a thread; a deadlock fails the test instead of hanging it."""
    errors = []

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            errors.append(error)

    running = threading.Thread(target=run, daemon=True)
    running.start()
    yield running
    running.join(10)
    assert not running.is_alive()
    assert not errors


@pytest.fixture(autouse=True)
def _no_limiters():
    RateLimiterRegistry.clear()
    yield
    RateLimiterRegistry.clear()


@pytest.fixture
def lines(caplog):
    """The limiter's log lines so far."""
    caplog.set_level(logging.INFO, "llmlab.limits")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "llmlab.limits"]


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
async def test_a_fractional_limit_of_a_half_sends_one_every_two_periods():
    assert await stamp(limited(0.5), 4) == pytest.approx([0, 120, 240, 360])


@virtual
async def test_burst_of_the_whole_limit_sends_the_windows_quota_at_once():
    stamps = await stamp(limited(60, burst=60), 121)
    assert stamps[:60] == [0.0] * 60
    assert most_in_window(stamps) == 60


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


# Cost


@virtual
async def test_100_000_waiters_cost_one_timer_and_no_task_and_half_of_them_can_leave():
    loop = asyncio.get_running_loop()
    limiter = limited(60)
    await limiter.acquire()
    armed = []
    call_later, loop.call_later = loop.call_later, lambda *args: armed.append(args) or call_later(*args)
    tasks = await queue(limiter, 100_000)
    assert len(asyncio.all_tasks()) == 1 + 1 + 100_000  # the test and its guard
    assert len(timers(loop)) == len(armed) == 1
    assert limiter.get_metrics()["waiting"] == 100_000
    await asyncio.sleep(10.5)
    assert len(armed) <= 1 + 11
    assert limiter.get_metrics()["total_requests"] == 11

    began = time.perf_counter()
    for task in tasks[10::2]:
        task.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert time.perf_counter() - began < 2.0
    assert limiter.get_metrics()["waiting"] == 100_000 - 10 - 49_995
    assert len(timers(loop)) == 1
    limiter.limit = None
    await asyncio.gather(*tasks[11::2])
    assert limiter.get_metrics()["total_requests"] == 11 + 49_995


@virtual
async def test_an_uncontended_acquire_makes_no_future_no_timer_and_no_task():
    loop = asyncio.get_running_loop()
    limiter = limited(60)
    made = []
    for name in ("create_future", "call_later", "call_at", "call_soon", "create_task"):
        setattr(loop, name, lambda *args, **kwargs: made.append(args))
    try:
        with pytest.raises(StopIteration):
            limiter.acquire().send(None)
    finally:
        for name in ("create_future", "call_later", "call_at", "call_soon", "create_task"):
            delattr(loop, name)
    assert made == []


# Order and weights


@virtual
async def test_waiters_are_served_in_the_order_they_asked():
    limiter = limited(600)
    asked, granted = [], []

    async def call(turn):
        await asyncio.sleep(turn % 7 * 0.15)
        asked.append(turn)
        await limiter.acquire()
        granted.append(turn)

    await asyncio.gather(*(call(turn) for turn in range(50)))
    assert granted == asked


@virtual
async def test_a_heavy_waiter_is_not_starved_by_light_ones():
    limiter = limited(None, tokens=600)
    order = []

    async def call(name, tokens):
        (await limiter.acquire(tokens)).answered(tokens)
        order.append(name)

    await asyncio.gather(
        *(call("small", 10) for _ in range(5)),
        call("whole limit", 600),
        *(call("late", 10) for _ in range(5)),
    )
    assert order == ["small"] * 5 + ["whole limit"] + ["late"] * 5


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
    [task] = await queue_tokens(limiter, 100)
    await asyncio.sleep(30)
    assert not task.done()
    assert limiter.get_metrics()["queue_size"] == 1
    grant = await task
    assert now() == pytest.approx(61)
    assert grant.waited_s == pytest.approx(61)


async def queue_tokens(limiter, *weights):
    tasks = start(*(limiter.acquire(weight) for weight in weights))
    await asyncio.sleep(0)
    return tasks


@virtual
async def test_settling_less_lets_a_waiter_go_earlier():
    limiter = limited(None, tokens=600)
    grant = await limiter.acquire(600)
    [task] = await queue_tokens(limiter, 540)
    await asyncio.sleep(1)
    grant.answered(60)
    await task
    assert now() == pytest.approx(6)


@virtual
async def test_settling_more_twice_or_late_is_booked_and_never_settling_ends_with_the_slot():
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


# Cancelling


@virtual
async def test_a_waiter_cancelled_in_the_queue_takes_nothing():
    limiter = limited(60)
    await limiter.acquire()
    tasks = await queue(limiter, 5)
    await cancelled(*tasks[1:4])
    await asyncio.gather(tasks[0], tasks[4])
    assert now() == pytest.approx(2)
    assert limiter.get_metrics()["total_requests"] == 3


@virtual
async def test_a_head_that_is_cancelled_lets_a_lighter_waiter_go_at_once():
    limiter = limited(None, tokens=600)
    await limiter.acquire(300)
    head, light = await queue_tokens(limiter, 600, 10)
    await asyncio.sleep(40)
    assert not light.done()
    await cancelled(head)
    await light
    assert now() == pytest.approx(40)


@virtual
async def test_when_every_waiter_is_cancelled_nothing_is_left():
    loop = asyncio.get_running_loop()
    limiter = limited(60)
    await limiter.acquire()
    for order in (1, -1):
        tasks = await queue(limiter, 5)
        await cancelled(*tasks[::order])
        await asyncio.sleep(0)
        assert timers(loop) == []
        assert limiter.get_metrics()["waiting"] == 0
    assert (await stamp(limiter, 1)) == pytest.approx([1])


@pytest.mark.parametrize("lead_s", [-5e-10, 0.0, 5e-10])
@virtual
async def test_a_waiter_cancelled_in_the_tick_of_its_grant_gives_it_back(lead_s):
    limiter = limited(60)
    await limiter.acquire()
    first, second, third = await queue(limiter, 3)
    asyncio.get_running_loop().call_at(1.0 + lead_s, first.cancel)
    await second
    assert first.cancelled()
    assert now() == pytest.approx(1)
    assert limiter.get_metrics()["total_requests"] == 2
    assert limiter.get_metrics()["queue_size"] == 2
    await third
    assert now() == pytest.approx(2)


@pytest.mark.parametrize("timeout_s", [0.5, 1.0, 1.0 - 5e-10, 1.0 + 5e-10, 1.5])
@virtual
async def test_wait_for_either_gets_the_grant_or_takes_nothing(timeout_s):
    limiter = limited(60)
    await limiter.acquire()
    try:
        await asyncio.wait_for(limiter.acquire(), timeout_s)
        got = 1
    except TimeoutError:
        got = 0
    assert limiter.get_metrics()["total_requests"] == 1 + got
    assert await stamp(limiter, 1) == pytest.approx([1 + got])


@virtual
async def test_a_holder_that_sent_nothing_returns_its_slot_and_only_once():
    limiter = limited(60, burst=60)
    grants = [await limiter.acquire() for _ in range(60)]
    assert limiter.get_metrics()["queue_size"] == 60
    for _ in range(3):
        grants[-1].cancel()
    assert limiter.get_metrics()["queue_size"] == limiter.get_metrics()["total_requests"] == 59
    assert await stamp(limiter, 2) == pytest.approx([0, 60 + 1])


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
    assert limiter._held == {}


# Feedback


@virtual
async def test_a_pause_holds_those_who_already_wait():
    limiter = limited(60)
    await limiter.acquire()
    tasks = await queue(limiter, 3)
    limiter.pause(20)
    await tasks[0]
    assert now() == pytest.approx(20)
    await tasks[1]
    assert now() == pytest.approx(21)
    await tasks[2]


@pytest.mark.parametrize("burst", [1, 60, math.inf])
@virtual
async def test_after_a_pause_there_is_no_burst(burst):
    limiter = limited(60, burst=burst)
    limiter.pause(30)
    assert await stamp(limiter, 4) == pytest.approx([30, 31, 32, 33])


@pytest.mark.parametrize("seconds", [0, -5, math.nan, math.inf])
@virtual
async def test_a_nonsensical_pause_is_ignored(seconds):
    limiter = limited(60, burst=60)
    limiter.pause(seconds)
    assert await stamp(limiter, 60) == [0.0] * 60


@virtual
async def test_a_refusal_pauses_the_whole_key_cuts_once_and_says_so_once(lines):
    limiter = limited(60, burst=60)
    grants = [await limiter.acquire() for _ in range(10)]
    await asyncio.sleep(0.3)
    assert [grant.refused(5) for grant in grants[:5]] == pytest.approx([5] * 5)
    await asyncio.sleep(2)
    for grant in grants[5:]:
        assert grant.refused() == pytest.approx(3)
    metrics = limiter.get_metrics()
    assert metrics["refused_requests"] == 10
    assert metrics["rate_factor"] == pytest.approx(0.7)
    assert metrics["paused_s"] == pytest.approx(3)
    assert len(lines()) == 1
    assert "5.0s" in lines()[0]
    assert "70%" in lines()[0]
    assert await stamp(limiter, 3) == pytest.approx([5.3, 5.3 + 1 / 0.7, 5.3 + 2 / 0.7])


@virtual
async def test_the_rate_recovers_after_quiet_periods():
    limiter = limited(60)
    (await limiter.acquire()).refused(1)
    await asyncio.sleep(1 + 60 * 4)
    assert limiter.get_metrics()["rate_factor"] == pytest.approx(0.85)
    await asyncio.sleep(60 * 3)
    assert limiter.get_metrics()["rate_factor"] == 1
    first, second = await stamp(limiter, 2)
    assert second - first == pytest.approx(1)


@virtual
async def test_a_refused_request_that_is_settled_does_not_end_the_series_of_pauses():
    limiter = limited(60)
    waits = []
    for _ in range(4):
        grant = await limiter.acquire()
        waits.append(grant.refused())
        grant.answered(0)
    assert waits == pytest.approx([1, 2, 4, 8])


@virtual
async def test_auto_takes_the_providers_limits():
    limiter = limited("auto")
    assert limiter.limit == 60
    tasks = await queue(limiter, 100)
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
    tasks = await queue(limiter, 10)
    await asyncio.sleep(1)
    limiter.limit = 6000
    await asyncio.gather(*tasks)
    assert now() < 2
    [task] = await queue(limiter, 1)
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
    [task] = await queue_tokens(limiter, 600)
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


@pytest.mark.parametrize("value", [0, -1, math.nan, True, "fast"])
def test_the_registry_refuses_it_too_for_a_new_limiter_and_an_old_one(value):
    with pytest.raises(InputError, match="limit must be a positive number"):
        RateLimiterRegistry.get_limiter(KEY, value)
    assert RateLimiterRegistry.get_metrics()["limit"] is None
    limiter = RateLimiterRegistry.get_limiter(KEY, "auto")
    with pytest.raises(InputError, match="limit must be a positive number"):
        RateLimiterRegistry.get_limiter(KEY, value)
    assert (limiter.limit, limiter.auto) == (60, True)


def test_a_limit_out_of_a_data_frame_is_a_limit():
    assert RateLimiter(np.int64(60)).limit == 60


# Loops and threads


def test_three_runs_in_a_row_share_the_pace_and_the_window():
    """As when a notebook's cell is run again: each run has a loop of its own."""
    loops, stamps = [], []

    def factory():
        loops.append(virtual_loop(start=loops[-1].time() if loops else 0.0))
        return loops[-1]

    limiter = RateLimiter(5, clock=lambda: loops[-1].time())

    async def main():
        stamps.extend(await stamp(limiter, 4))
        start(limiter.acquire(), limiter.acquire())
        await asyncio.sleep(0)

    for _ in range(3):
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())
    assert stamps == pytest.approx([12.0 * n for n in range(12)])
    assert limiter.get_metrics()["total_requests"] == 12
    assert limiter.get_metrics()["waiting"] == 0
    assert limiter._lanes == {}


def test_two_loops_in_threads_take_turns():
    """Both wait on one key; whoever asked first is served first, whichever loop wakes."""
    clock = Clock()
    limiter = RateLimiter(60, clock=clock)
    order = []
    turn = [threading.Event() for _ in range(7)]

    async def call(number):
        (await limiter.acquire()).answered()
        order.append(number)

    def client(numbers):
        async def main():
            tasks = []
            for number in numbers:
                while not turn[number].is_set():
                    await asyncio.sleep(0.001)
                tasks += start(call(number))
                await asyncio.sleep(0)
                turn[number + 1].set()
            await asyncio.gather(*tasks)

        return main

    turn[0].set()
    with thread(client([0, 2, 4])), thread(client([1, 3, 5])):
        eventually(turn[6].is_set)
        for second in range(6):
            clock.now = float(second)
            limiter.limit = 60
            eventually(lambda second=second: len(order) == second + 1)
    assert order == [0, 1, 2, 3, 4, 5]
    assert limiter._lanes == {}


def test_two_loops_in_threads_wake_each_other_on_the_real_clock():
    limiter = RateLimiter(6000)
    done = []

    async def main():
        done.extend(await asyncio.gather(*(limiter.acquire() for _ in range(10))))

    with thread(main), thread(main):
        pass
    assert len(done) == 20


def test_four_threads_never_get_more_than_the_window_holds():
    clock = Clock()
    limiter = RateLimiter(60, burst=60, margin_s=0, clock=clock)
    granted = []

    async def call():
        grant = await limiter.acquire()
        granted.append(clock.now)
        if len(granted) % 2:
            grant.answered()

    async def main():
        await asyncio.gather(*(call() for _ in range(50)))

    with contextlib.ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(thread(main))
        eventually(lambda: limiter.get_metrics()["waiting"] == 140)
        for minute in (1, 2, 3):
            eventually(lambda minute=minute: len(granted) == 60 * minute)
            clock.now = 60.0 * minute
            limiter.limit = 60
    assert Counter(granted) == {0.0: 60, 60.0: 60, 120.0: 60, 180.0: 20}
    assert limiter.get_metrics()["total_requests"] == 200


def test_four_threads_with_answers_refusals_returns_and_cancels_keep_the_sums_true():
    limiter = RateLimiter(None, tokens=1e9)

    async def call(turn):
        task = asyncio.ensure_future(limiter.acquire(turn % 5))
        await asyncio.sleep(0)
        if turn % 7 == 0:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            grant = await task
            [grant.answered, grant.cancel, lambda: grant.answered(3), grant.answered][turn % 4]()
            return turn % 4 != 1
        return False

    sent = []

    async def main():
        sent.extend(await asyncio.gather(*(call(turn) for turn in range(400))))
        limiter.limit = 1e9
        limiter.get_metrics()
        limiter.history()
        limiter.limit = None

    with thread(main), thread(main), thread(main), thread(main):
        pass
    assert len(sent) == 1600
    metrics = limiter.get_metrics()
    # A task that had its grant before the cancel keeps it until it is given back.
    assert metrics["total_requests"] == sum(sent)
    assert metrics["queue_size"] == metrics["total_requests"]
    assert metrics["waiting"] == 0
    assert sum(granted for _, granted, _, _ in limiter.history()) == metrics["total_requests"]


@pytest.fixture
def two_loops():
    loops = [asyncio.new_event_loop(), asyncio.new_event_loop()]
    for loop in loops:
        loop.set_exception_handler(lambda *_: None)
    yield loops
    for loop in loops:
        if not loop.is_closed():
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            if tasks:
                loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            loop.close()


def test_a_loop_that_is_stopped_does_not_block_the_others_and_goes_on_when_it_runs_again(two_loops):
    stopped, running = two_loops
    limiter = RateLimiter(3000)
    waiting = stopped.run_until_complete(queue(limiter, 4))
    running.run_until_complete(asyncio.wait_for(limiter.acquire(), 5))
    assert not any(task.done() for task in waiting[1:])
    stopped.run_until_complete(asyncio.wait_for(asyncio.gather(*waiting), 5))
    assert limiter.get_metrics()["total_requests"] == 5
    assert limiter._lanes == {}


def test_a_loop_that_is_closed_with_waiters_does_not_block_the_others(two_loops):
    closed, running = two_loops
    limiter = RateLimiter(3000)
    waiting = closed.run_until_complete(queue(limiter, 4))
    closed.close()
    running.run_until_complete(asyncio.wait_for(limiter.acquire(), 5))
    assert limiter.get_metrics()["total_requests"] == 2
    assert limiter.get_metrics()["waiting"] == 0
    assert limiter._lanes == {}
    for task in waiting:
        task._log_destroy_pending = False


def test_an_interrupted_loop_does_not_block_the_next(two_loops):
    interrupted, running = two_loops
    limiter = RateLimiter(3000)

    def interrupt():
        raise KeyboardInterrupt

    async def main():
        await queue(limiter, 3)
        asyncio.get_running_loop().call_soon(interrupt)
        await asyncio.sleep(10)

    with pytest.raises(KeyboardInterrupt):
        interrupted.run_until_complete(main())
    running.run_until_complete(asyncio.wait_for(limiter.acquire(), 5))
    assert limiter.get_metrics()["waiting"] <= 2


def test_a_waiter_cancelled_while_its_loop_stood_still_is_not_counted_twice(two_loops):
    """Its lane must keep the timer of the others who wait there."""
    stopped, _ = two_loops
    clock = Clock()
    limiter = RateLimiter(60, clock=clock)
    ask, asked, pump, pumped, end = (threading.Event() for _ in range(5))

    async def other():
        while not ask.is_set():
            await asyncio.sleep(0.001)
        tasks = await queue(limiter, 1)
        asked.set()
        while not pump.is_set():
            await asyncio.sleep(0.001)
        limiter.limit = 60
        pumped.set()
        while not end.is_set():
            await asyncio.sleep(0.001)
        await cancelled(*tasks)

    async def first_and_last():
        await limiter.acquire()
        first = await queue(limiter, 1)
        ask.set()
        assert asked.wait(10)
        return first + await queue(limiter, 1)

    with thread(other):
        first, last = stopped.run_until_complete(first_and_last())
        pump.set()
        assert pumped.wait(10)
        assert limiter.get_metrics()["waiting"] == 2
        first.cancel()
        stopped.run_until_complete(asyncio.sleep(0))
        assert first.cancelled()
        assert limiter.get_metrics()["waiting"] == 2
        assert len(timers(stopped)) == 1
        end.set()
    clock.now = 10.0
    stopped.run_until_complete(asyncio.wait_for(last, 5))


def test_a_loop_that_stops_and_runs_again_has_one_timer(two_loops):
    stopped, running = two_loops
    limiter = RateLimiter(60, clock=Clock())
    stopped.run_until_complete(limiter.acquire())
    for _ in range(3):
        stopped.run_until_complete(queue(limiter, 1))
        running.run_until_complete(queue(limiter, 1))
    stopped.run_until_complete(asyncio.sleep(0))
    assert len(timers(stopped)) == 1
    running.run_until_complete(asyncio.sleep(0))
    assert len(timers(running)) == 1


def test_a_loop_that_was_blocked_sends_no_more_than_a_window_when_it_wakes():
    """Its waiters were granted 300 slots meanwhile: those that have left the window queue again."""
    clock = Clock()
    limiter = RateLimiter(60, clock=clock)
    sent, asked, awake = [], threading.Event(), threading.Event()

    async def call():
        (await limiter.acquire()).answered()
        sent.append(clock.now)

    async def blocked():
        tasks = start(*(call() for _ in range(400)))
        await asyncio.sleep(0.01)
        asked.set()
        awake.wait(10)
        await asyncio.sleep(0.05)
        first = len(sent)
        clock.now += 61.0
        limiter.limit = 60
        await asyncio.sleep(0.05)
        assert first == 1 + 60
        await cancelled(*tasks)

    with thread(blocked):
        assert asked.wait(10)
        for _ in range(300):
            clock.now += 1.0
            limiter.limit = 60
        awake.set()
    assert Counter(sent)[300.0] == 60
    assert most_in_window(sent) <= 60
    assert limiter.get_metrics()["total_requests"] == len(sent)


def test_a_grant_for_another_loop_whose_waiter_was_just_cancelled_is_given_back():
    clock = Clock()
    limiter = RateLimiter(60, clock=clock)
    asked, posted = threading.Event(), threading.Event()

    async def main():
        await limiter.acquire()
        [task] = await queue(limiter, 1)
        asked.set()
        posted.wait(10)
        await cancelled(task)
        await asyncio.sleep(0)

    with thread(main):
        assert asked.wait(10)
        clock.now = 1.0
        limiter.limit = 60
        assert limiter.get_metrics()["total_requests"] == 2
        posted.set()
    assert limiter.get_metrics()["total_requests"] == limiter.get_metrics()["queue_size"] == 1
    assert limiter.get_metrics()["waiting"] == 0


def test_a_loop_that_closes_between_the_look_and_the_grant_costs_nothing(monkeypatch, two_loops):
    closing, running = two_loops
    clock = Clock()
    limiter = RateLimiter(60, clock=clock)
    closing.run_until_complete(limiter.acquire())
    [lost] = closing.run_until_complete(queue(limiter, 1))
    closing.close()
    monkeypatch.setattr(closing, "is_running", lambda: True)
    clock.now = 1.0
    running.run_until_complete(asyncio.wait_for(limiter.acquire(), 5))
    assert limiter.get_metrics()["total_requests"] == limiter.get_metrics()["queue_size"] == 2
    lost._log_destroy_pending = False


def test_the_collector_may_end_an_abandoned_holder_while_the_limiter_is_at_work(monkeypatch):
    """Its `finally` settles the grant, in the thread that already holds the lock."""
    limiter = RateLimiter(60)
    ended, original = [], Schedule.ready_at

    async def holder():
        grant = await limiter.acquire()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            grant.answered()
            ended.append(grant)

    def ready_at(self, tokens, now):
        gc.collect()
        return original(self, tokens, now)

    def abandon():
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda *_: None)
        task = loop.create_task(holder())
        loop.run_until_complete(asyncio.sleep(0))
        task._log_destroy_pending = False
        loop.close()

    async def main():
        limiter.limit = None
        await limiter.acquire()

    gc.disable()
    try:
        abandon()
        monkeypatch.setattr(Schedule, "ready_at", ready_at)
        with thread(main):
            pass
    finally:
        gc.enable()
    assert len(ended) == 1
    assert limiter.get_metrics()["total_requests"] == 2


@virtual
async def test_what_the_collector_ends_between_the_look_and_the_booking_lets_nobody_slip_through(monkeypatch):
    limiter = limited(60)
    first = await limiter.acquire()
    original = Schedule.book

    def book(self, *args):
        first.answered()
        return original(self, *args)

    monkeypatch.setattr(Schedule, "book", book)
    tasks = await queue(limiter, 3)
    await asyncio.sleep(1.5)
    assert [task.done() for task in tasks] == [True, False, False]
    await asyncio.gather(*tasks)
    assert now() == pytest.approx(3)


def test_nest_asyncio_may_run_a_loop_inside_a_loop():
    script = """
import asyncio, nest_asyncio
from llmlab.limits.limiter import RateLimiter

limiter = RateLimiter(6000)

async def some():
    return [await limiter.acquire() for _ in range(3)]

async def main():
    loop = asyncio.get_running_loop()
    waiting = [asyncio.ensure_future(limiter.acquire()) for _ in range(3)]
    await asyncio.sleep(0)
    loop.run_until_complete(some())
    assert all(task.done() for task in waiting)
    waiting = [asyncio.ensure_future(limiter.acquire()) for _ in range(3)]
    await asyncio.sleep(0)
    asyncio.run(some())
    other = asyncio.new_event_loop()
    nest_asyncio.apply(other)
    waiting += [asyncio.ensure_future(limiter.acquire()) for _ in range(3)]
    await asyncio.sleep(0)
    other.run_until_complete(some())
    other.close()
    await asyncio.gather(*waiting)

nest_asyncio.apply()
asyncio.run(asyncio.wait_for(main(), 20))
print(limiter.get_metrics()["total_requests"], limiter.get_metrics()["waiting"])
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.split() == ["18", "0"], done.stderr


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


@pytest.mark.parametrize("short_of_due_s", [0.4, 1e-9])
@virtual
async def test_a_clock_that_stands_still_does_not_spin(short_of_due_s):
    loop = asyncio.get_running_loop()
    until = 1.0 - short_of_due_s
    limiter = RateLimiter(60, clock=lambda: min(loop.time(), until))
    armed = []
    call_later, loop.call_later = loop.call_later, lambda *args: armed.append(args) or call_later(*args)
    await limiter.acquire()
    [task] = await queue(limiter, 1)
    await asyncio.sleep(2)
    assert not task.done()
    assert len(armed) <= 2 / max(0.001, short_of_due_s) + 3
    until = math.inf
    await task
    assert now() <= 2 + short_of_due_s + 0.002


@virtual
async def test_a_clock_of_15_6_ms_keeps_pace_and_window():
    loop = asyncio.get_running_loop()
    limiter = RateLimiter(1000, clock=lambda: loop.time() // 0.0156 * 0.0156)
    arrivals, answers = await tier(limiter, count=2000)
    assert max(answers) <= 1.02 * 1999 * 0.06
    assert most_in_window(arrivals) <= 1000


class FaultyClock(Clock):
    """The loop's time, but raises at chosen calls, or while broken."""

    def __init__(self, *at_calls: int) -> None:
        self.calls, self.at_calls, self.broken = 0, at_calls, False
        self.loop = asyncio.get_running_loop()

    def __call__(self) -> float:
        self.calls += 1
        if self.broken or self.calls in self.at_calls:
            raise OSError("no clock")
        return self.loop.time()


@virtual
async def test_a_clock_that_raises_when_asked_takes_nothing():
    limiter = RateLimiter(60, clock=FaultyClock(1))
    with pytest.raises(OSError, match="no clock"):
        await limiter.acquire()
    assert await stamp(limiter, 2) == pytest.approx([0, 1])
    assert limiter.get_metrics()["total_requests"] == 2


@virtual
async def test_a_clock_that_raises_right_after_the_grant_gives_it_back():
    limiter = RateLimiter(60, clock=FaultyClock(4))
    await limiter.acquire()
    with pytest.raises(OSError, match="no clock"):
        await limiter.acquire()
    assert await stamp(limiter, 1) == pytest.approx([1])
    assert limiter.get_metrics()["total_requests"] == 2


@virtual
async def test_waiters_survive_a_clock_that_raises_for_a_while():
    loop = asyncio.get_running_loop()
    reported = []
    loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
    clock = FaultyClock()
    limiter = RateLimiter(60, clock=clock)
    await limiter.acquire()
    tasks = await queue(limiter, 2)
    clock.broken = True
    await asyncio.sleep(5)
    assert 1 <= len(reported) <= 6
    clock.broken = False
    await asyncio.gather(*tasks)
    assert now() <= 8


@virtual
async def test_a_waiter_can_be_cancelled_while_the_clock_raises():
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)
    clock = FaultyClock()
    limiter = RateLimiter(60, clock=clock)
    await limiter.acquire()
    first, second = await queue(limiter, 2)
    clock.broken = True
    await cancelled(first)
    assert first.cancelled()
    await asyncio.sleep(0.5)
    clock.broken = False
    await second
    assert now() <= 2.5
    assert limiter.get_metrics()["waiting"] == 0


# Metrics, history, log


@virtual
async def test_metrics_count_grants_and_average_over_all_of_them():
    limiter = limited(60)
    await stamp(limiter, 4)
    grants = [await limiter.acquire() for _ in range(2)]
    metrics = limiter.get_metrics()
    assert metrics == {
        "total_requests": 6,
        "throttled_requests": 5,
        "throttle_rate": pytest.approx(5 / 6),
        "avg_wait_time": pytest.approx(5 / 6),
        "queue_size": 6,
        "limit": 60,
        "waiting": 0,
        "refused_requests": 0,
        "paused_s": 0.0,
        "rate_factor": 1.0,
    }
    assert [grant.throttled for grant in grants] == [True, True]
    assert grants[0].waited_s == pytest.approx(1)


def test_metrics_before_the_first_request_are_zero():
    metrics = RateLimiter(60).get_metrics()
    assert metrics["total_requests"] == metrics["throttle_rate"] == metrics["avg_wait_time"] == 0


@virtual
async def test_metrics_and_history_count_neither_cancelled_waiters_nor_returned_grants():
    limiter = limited(60)
    await stamp(limiter, 3)
    before = limiter.get_metrics()
    tasks = await queue(limiter, 5)
    await asyncio.sleep(0.5)
    await cancelled(*tasks)
    assert {**limiter.get_metrics(), "paused_s": 0} == before
    grant = await limiter.acquire()
    await asyncio.sleep(5)
    grant.cancel()
    after = limiter.get_metrics()
    assert after["total_requests"] == after["queue_size"] == 3
    assert after["throttled_requests"] == 2
    assert after["avg_wait_time"] == pytest.approx(before["avg_wait_time"])
    assert sum(granted for _, granted, _, _ in limiter.history()) == 3
    assert all(granted >= 0 and throttled >= 0 for _, granted, throttled, _ in limiter.history())


@virtual
async def test_history_has_one_row_per_second_with_traffic_in_epoch_time():
    limiter = limited(120)
    await stamp(limiter, 4)
    await asyncio.sleep(10)
    await stamp(limiter, 1)
    rows = limiter.history()
    assert [granted for _, granted, _, _ in rows] == [2, 2, 1]
    assert [throttled for _, _, throttled, _ in rows] == [1, 2, 0]
    assert [row[0] - rows[0][0] for row in rows] == pytest.approx([0, 1, 11])
    assert rows[-1][0] == pytest.approx(time.time(), abs=60)


@virtual
async def test_history_is_bounded():
    clock = Clock()
    limiter = RateLimiter(None, clock=clock)
    for second in range(HISTORY_SECONDS + 500):
        clock.now = float(second)
        await limiter.acquire()
    assert len(limiter.history()) == HISTORY_SECONDS
    assert limiter.get_metrics()["total_requests"] == HISTORY_SECONDS + 500


@virtual
async def test_one_summary_line_per_ten_seconds_with_traffic_and_none_while_idle(lines, caplog):
    limiter = limited(60)
    await stamp(limiter, 36)
    assert lines() == [
        "Rate limiter summary (last 10.0s): 10 requests, 9 throttled (90.0%), queue: 11/60",
        "Rate limiter summary (last 10.0s): 10 requests, 10 throttled (100.0%), queue: 21/60",
        "Rate limiter summary (last 10.0s): 10 requests, 10 throttled (100.0%), queue: 31/60",
    ]
    assert {(record.name, record.levelname) for record in caplog.records if "summary" in record.message} == {
        ("llmlab.limits", "INFO")
    }
    await asyncio.sleep(1000)
    limiter.get_metrics()
    assert len(lines()) == 3


@pytest.mark.parametrize(
    ("limit", "end"), [(60, "60/60"), (None, "0/unlimited"), (2_000_000, "/2000000"), (0.5, "1/0.5")]
)
@virtual
async def test_the_summary_says_how_full_the_window_is(limit, end, lines):
    limiter = limited(limit)
    for _ in range(100):
        await stamp(limiter, 1)
        await asyncio.sleep(1 if limit != 60 else 0)
    assert all(SUMMARY.fullmatch(line) or limit == 0.5 for line in lines())
    assert lines()[-1].endswith(end)


@virtual
async def test_the_summary_of_much_traffic_is_one_line(lines):
    limiter = limited(6000, burst=100)
    await stamp(limiter, 1100)
    assert len(lines()) == 1
    assert SUMMARY.fullmatch(lines()[0])
    assert lines()[0].startswith("Rate limiter summary (last 10.0s): 1")


@virtual
async def test_the_summary_never_shows_a_negative_number(lines):
    limiter = limited(60)
    grants = [await limiter.acquire() for _ in range(11)]
    assert len(lines()) == 1
    for grant in grants[1:]:
        grant.cancel()
    limiter.limit = None
    await stamp(limiter, 15)
    await asyncio.sleep(12)
    await stamp(limiter, 1)
    assert len(lines()) == 2
    assert SUMMARY.fullmatch(lines()[1])


@virtual
async def test_a_log_handler_that_raises_or_asks_back_stops_nothing():
    limiter = limited(60)
    seen = []

    class Handler(logging.Handler):
        def emit(self, record):
            seen.append((record.getMessage(), limiter.get_metrics()["total_requests"]))
            raise RuntimeError("disk full")

    logger = logging.getLogger("llmlab.limits")
    handler, level = Handler(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        assert len(await stamp(limiter, 25)) == 25
        assert (await limiter.acquire()).refused(5) == pytest.approx(5)
        tasks = await queue(limiter, 3)
        await asyncio.gather(*tasks)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert len(seen) >= 3


@virtual
async def test_the_key_appears_nowhere(lines):
    limiter = RateLimiterRegistry.get_limiter(KEY, None, base_url="https://openrouter.ai/api/v1")
    grant = await limiter.acquire()
    grant.refused(0.01)
    limiter.limit, limiter.tokens = 60, 1e6
    said = [repr(limiter), repr(grant), *lines(), RateLimiterRegistry.get_metrics(KEY), limiter.history()]
    said += [
        RateLimiterRegistry.get_metrics(),
        RateLimiterRegistry._limiters,
        vars(limiter),
        fingerprint(KEY),
    ]
    assert KEY not in str(said)
    assert KEY[-6:] not in str(said)
    assert len(lines()) == 1
    assert repr(limiter) == f"<RateLimiter {fingerprint(KEY)}: 60 requests, 1000000 tokens per 60 s, 1 granted>"
    assert repr(RateLimiter(None)) == "<RateLimiter: unlimited requests per 60 s, 0 granted>"


# Registry


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


def test_changing_the_limit_through_the_registry_frees_those_who_wait():
    limiter = RateLimiterRegistry.get_limiter(KEY, 1)

    async def main():
        await limiter.acquire()
        await asyncio.gather(*await queue(limiter, 5))

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


@virtual
async def test_metrics_of_one_key_and_of_all():
    one = RateLimiterRegistry.get_limiter("one", 100)
    two = RateLimiterRegistry.get_limiter("two", 200)
    for limiter in (one, two, two):
        limiter._clock = asyncio.get_running_loop().time
        limiter._last = -math.inf
        await limiter.acquire()
    of_two = RateLimiterRegistry.get_metrics("two")
    assert of_two == two.get_metrics()
    every = RateLimiterRegistry.get_metrics()
    assert (every["total_requests"], every["throttled_requests"]) == (3, 1)
    assert every["throttle_rate"] == pytest.approx(1 / 3)
    assert every["avg_wait_time"] == pytest.approx(0.3 / 3)
    assert (every["queue_size"], every["limit"], every["waiting"]) == (3, 300, 0)
    RateLimiterRegistry.get_limiter("two", None)
    assert RateLimiterRegistry.get_metrics()["limit"] is None


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
