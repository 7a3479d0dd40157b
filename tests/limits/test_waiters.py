"""Who waits is served in order, at the cost of one timer, in any number of loops and threads."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
import subprocess
import sys
import threading
import weakref
from collections import Counter
from pathlib import Path

import pytest

from llmlab.limits import RateLimiter
from tests.helpers import (
    Clock,
    cancelled,
    eventually,
    limited,
    most_in_window,
    now,
    queue,
    stamp,
    start,
    thread,
    timers,
    virtual,
    virtual_loop,
)

# Order


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


# Cost


@virtual
async def test_100_000_waiters_cost_one_timer_and_no_task_and_half_of_them_can_leave():
    loop = asyncio.get_running_loop()
    limiter = limited(60)
    await limiter.acquire()
    armed = []
    call_later, loop.call_later = loop.call_later, lambda *args: armed.append(args) or call_later(*args)
    tasks = await queue(limiter, *[0] * 100_000)
    assert len(asyncio.all_tasks()) == 1 + 1 + 100_000  # the test and its guard
    assert len(timers(loop)) == len(armed) == 1
    assert limiter.get_metrics()["waiting"] == 100_000
    await asyncio.sleep(10.5)
    assert len(armed) <= 1 + 11
    assert limiter.get_metrics()["total_requests"] == 11

    for task in tasks[10::2]:
        task.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
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


# Cancelling


@virtual
async def test_a_waiter_cancelled_in_the_queue_takes_nothing():
    limiter = limited(60)
    await limiter.acquire()
    tasks = await queue(limiter, 0, 0, 0, 0, 0)
    await cancelled(*tasks[1:4])
    await asyncio.gather(tasks[0], tasks[4])
    assert now() == pytest.approx(2)
    assert limiter.get_metrics()["total_requests"] == 3


@virtual
async def test_a_head_that_is_cancelled_lets_a_lighter_waiter_go_at_once():
    limiter = limited(None, tokens=600)
    await limiter.acquire(300)
    head, light = await queue(limiter, 600, 10)
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
        tasks = await queue(limiter, 0, 0, 0, 0, 0)
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
    first, second, third = await queue(limiter, 0, 0, 0)
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
    assert limiter.get_metrics()["waiting"] == 0


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
    assert limiter.get_metrics()["waiting"] == 0


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
    waiting = stopped.run_until_complete(queue(limiter, 0, 0, 0, 0))
    running.run_until_complete(asyncio.wait_for(limiter.acquire(), 5))
    assert not any(task.done() for task in waiting[1:])
    stopped.run_until_complete(asyncio.wait_for(asyncio.gather(*waiting), 5))
    assert limiter.get_metrics()["total_requests"] == 5
    assert limiter.get_metrics()["waiting"] == 0


def test_a_loop_that_is_closed_with_waiters_does_not_block_the_others_and_is_forgotten(two_loops):
    _, running = two_loops
    closed = asyncio.new_event_loop()
    forgotten = weakref.ref(closed)
    limiter = RateLimiter(3000)
    waiting = closed.run_until_complete(queue(limiter, 0, 0, 0, 0))
    closed.close()
    running.run_until_complete(asyncio.wait_for(limiter.acquire(), 5))
    assert limiter.get_metrics()["total_requests"] == 2
    assert limiter.get_metrics()["waiting"] == 0
    for task in waiting:
        task._log_destroy_pending = False
    del closed, waiting, task
    gc.collect()
    assert forgotten() is None


def test_an_interrupted_loop_does_not_block_the_next(two_loops):
    interrupted, running = two_loops
    limiter = RateLimiter(3000)

    def interrupt():
        raise KeyboardInterrupt

    async def main():
        await queue(limiter, 0, 0, 0)
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
        tasks = await queue(limiter, 0)
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
        first = await queue(limiter, 0)
        ask.set()
        assert asked.wait(10)
        return first + await queue(limiter, 0)

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
        stopped.run_until_complete(queue(limiter, 0))
        running.run_until_complete(queue(limiter, 0))
    stopped.run_until_complete(asyncio.sleep(0))
    assert len(timers(stopped)) == 1
    running.run_until_complete(asyncio.sleep(0))
    assert len(timers(running)) == 1


def test_a_loop_that_was_blocked_sends_no_more_than_a_window_when_it_wakes():
    """Its waiters were granted 300 places meanwhile: those that have left the window queue again."""
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
        [task] = await queue(limiter, 0)
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


class ClosesUnseen(asyncio.SelectorEventLoop):
    """Says that it runs although it is closed, as one that closes right after it was looked at."""

    def is_running(self):
        return self.is_closed() or super().is_running()


def test_a_loop_that_closes_between_the_look_and_the_grant_costs_nothing(two_loops):
    closing, (_, running) = ClosesUnseen(), two_loops
    clock = Clock()
    limiter = RateLimiter(60, clock=clock)
    closing.run_until_complete(limiter.acquire())
    [lost] = closing.run_until_complete(queue(limiter, 0))
    closing.close()
    clock.now = 1.0
    running.run_until_complete(asyncio.wait_for(limiter.acquire(), 5))
    assert limiter.get_metrics()["total_requests"] == limiter.get_metrics()["queue_size"] == 2
    lost._log_destroy_pending = False


class Weight(float):
    """Calls `hook` whenever it is added to something: in the middle of the limiter's work, under its lock."""

    def __new__(cls, value, hook):
        weight = super().__new__(cls, value)
        weight.hook = hook
        return weight

    def __radd__(self, other):
        self.hook()
        return other + float(self)


def test_the_collector_may_end_an_abandoned_holder_while_the_limiter_is_at_work():
    """Its `finally` settles the grant, in the thread that already holds the lock."""
    limiter = RateLimiter(60)
    ended = []

    async def holder():
        grant = await limiter.acquire()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            grant.answered()
            ended.append(grant)

    def abandon():
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda *_: None)
        task = loop.create_task(holder())
        loop.run_until_complete(asyncio.sleep(0))
        task._log_destroy_pending = False
        loop.close()

    async def main():
        limiter.limit = None
        limiter.tokens = 1000
        await limiter.acquire(Weight(1, gc.collect))

    gc.disable()
    try:
        abandon()
        with thread(main):
            pass
    finally:
        gc.enable()
    assert len(ended) == 1
    assert limiter.get_metrics()["total_requests"] == 2


@virtual
async def test_what_is_settled_between_the_look_and_the_booking_lets_nobody_slip_through():
    limiter = limited(60)
    first = await limiter.acquire()
    tasks = await queue(limiter, *[Weight(0, first.answered)] * 3)
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


@pytest.mark.parametrize("short_of_due_s", [0.4, 1e-9])
@virtual
async def test_a_clock_that_stands_still_does_not_spin(short_of_due_s):
    loop = asyncio.get_running_loop()
    until = 1.0 - short_of_due_s
    limiter = RateLimiter(60, clock=lambda: min(loop.time(), until))
    armed = []
    call_later, loop.call_later = loop.call_later, lambda *args: armed.append(args) or call_later(*args)
    await limiter.acquire()
    [task] = await queue(limiter, 0)
    await asyncio.sleep(2)
    assert not task.done()
    assert len(armed) <= 2 / max(0.001, short_of_due_s) + 3
    until = math.inf
    await task
    assert now() <= 2 + short_of_due_s + 0.002


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
    tasks = await queue(limiter, 0, 0)
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
    first, second = await queue(limiter, 0, 0)
    clock.broken = True
    await cancelled(first)
    assert first.cancelled()
    await asyncio.sleep(0.5)
    clock.broken = False
    await second
    assert now() <= 2.5
    assert limiter.get_metrics()["waiting"] == 0
