"""Those who wait for a grant, first come, first served, over all event loops and threads of the process.

`Waiters` knows whose turn it is and when to look again; whether the first may go is the limiter's decision. Each event
loop with waiters holds one timer, however many wait in it; a loop that stands still or is closed holds up nobody.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from llmlab.limits.lock import Lock

LEAST_S = 0.001
CLOCK_FAILED_S = 1.0


class Cancellable(Protocol):
    """A grant, which its waiter may give back unused."""

    def cancel(self) -> None:
        """Give it back."""
        ...


GrantT = TypeVar("GrantT", bound=Cancellable)


@dataclass(slots=True, eq=False)
class LoopTimer:
    """An event loop with waiters, and when it will look at them again."""

    loop: asyncio.AbstractEventLoop
    waiting: int = 0
    timer: asyncio.TimerHandle | None = None
    due: float = math.inf


@dataclass(slots=True, eq=False)
class Waiter(Generic[GrantT]):
    """One call of `acquire` that has to wait."""

    timer: LoopTimer
    future: asyncio.Future[GrantT]
    tokens: float
    since: float
    counted: bool = True
    granted: bool = False


class Waiters(Generic[GrantT]):
    """The queue of one limiter.

    Parameters
    ----------
    lock : Lock
        The limiter's.
    ready_at : callable
        (tokens, now) → when a request of this weight may leave; if that is in the future, the time to look again.
    book : callable
        (tokens, due, now, since) → the grant of a waiter who asked at `since` and whose turn came at `due`.
        Both are called under the lock.
    """

    def __init__(
        self,
        lock: Lock,
        *,
        ready_at: Callable[[float, float], float],
        book: Callable[[float, float, float, float], GrantT],
    ) -> None:
        self._lock = lock
        self._ready_at = ready_at
        self._book = book
        self._queue: deque[Waiter[GrantT]] = deque()
        self._timers: dict[asyncio.AbstractEventLoop, LoopTimer] = {}
        self._due = -math.inf

    def __bool__(self) -> bool:
        return bool(self._queue)

    @property
    def waiting(self) -> int:
        """How many wait, in all loops."""
        return sum(timer.waiting for timer in self._timers.values())

    # Under the lock.

    def add(self, loop: asyncio.AbstractEventLoop, tokens: float, since: float, now: float) -> Waiter[GrantT]:
        """Queue at the end; await the future of what is returned, and call `leave` if that is cancelled."""
        waiter = Waiter(self._timer(loop), loop.create_future(), tokens, since)
        self._queue.append(waiter)
        self.serve(now)
        return waiter

    def serve(self, now: float) -> None:
        """Grant to the first as long as it may go, then set the timers."""
        if self._lock.nested:
            return
        while self._queue:
            waiter = self._queue[0]
            if waiter.future.done():
                self._queue.popleft()
                continue
            if not waiter.timer.loop.is_running():
                # It stands still or is closed: let the others pass; should it run again, the waiter queues anew.
                self._queue.popleft()
                self._uncount(waiter)
                _post(waiter.timer.loop, self._requeue, waiter)
                continue
            ready = self._ready_at(waiter.tokens, now)
            if ready > now:
                self._due = ready
                break
            self._queue.popleft()
            due = max(ready, self._due, waiter.since)
            self._due = -math.inf
            self._deliver(waiter, self._book(waiter.tokens, due, now, waiter.since))
        self._set_timers(now)

    def weights(self, count: int) -> list[float]:
        """The tokens of so many who wait first."""
        found: list[float] = []
        for waiter in self._queue:
            if len(found) == count:
                break
            if not waiter.future.done():
                found.append(waiter.tokens)
        return found

    def _deliver(self, waiter: Waiter[GrantT], grant: GrantT) -> None:
        waiter.granted = True
        self._uncount(waiter)
        if waiter.timer.loop is _running_loop():
            waiter.future.set_result(grant)
        elif not _post(waiter.timer.loop, _hand_over, waiter.future, grant):
            grant.cancel()

    def _timer(self, loop: asyncio.AbstractEventLoop) -> LoopTimer:
        timer = self._timers.setdefault(loop, LoopTimer(loop))
        timer.waiting += 1
        return timer

    def _uncount(self, waiter: Waiter[GrantT]) -> None:
        if not waiter.counted:
            return
        waiter.counted = False
        timer = waiter.timer
        timer.waiting -= 1
        if timer.waiting:
            return
        self._timers.pop(timer.loop, None)
        if timer.timer is not None:
            if timer.loop is _running_loop():
                timer.timer.cancel()
            else:
                _post(timer.loop, timer.timer.cancel)
            timer.timer = None

    def _set_timers(self, now: float) -> None:
        """Every loop with waiters wakes when the first waiter is due."""
        if not self._queue:
            return
        here = _running_loop()
        for timer in self._timers.values():
            if timer.due <= self._due:
                continue
            if timer.loop is here:
                if timer.timer is not None:
                    timer.timer.cancel()
                timer.due = self._due
                # A clock that stands still, or ticks coarsely, must not make the loop spin.
                timer.timer = timer.loop.call_later(max(LEAST_S, self._due - now), self._wake, timer)
            elif timer.loop.is_running() and _post(timer.loop, self._wake, timer):
                timer.due = self._due

    # Without the lock.

    def leave(self, waiter: Waiter[GrantT]) -> None:
        """A cancelled waiter takes nothing, also when its grant came in the same turn of the loop."""
        with self._lock:
            self._uncount(waiter)
            granted, first = waiter.granted, bool(self._queue) and self._queue[0] is waiter
        if granted and not waiter.future.cancelled():
            waiter.future.result().cancel()
        elif first:
            waiter.timer.loop.call_soon(self._wake, waiter.timer)

    def _wake(self, timer: LoopTimer) -> None:
        with self._lock:
            if timer.timer is not None:
                timer.timer.cancel()
            timer.timer, timer.due = None, math.inf
        try:
            with self._lock.timed() as now:
                self.serve(now)
        except Exception:
            # The clock failed: look again a little later, or nobody would.
            with self._lock:
                if timer.timer is None and timer.waiting:
                    timer.timer = timer.loop.call_later(CLOCK_FAILED_S, self._wake, timer)
            raise

    def _requeue(self, waiter: Waiter[GrantT]) -> None:
        with self._lock.timed() as now:
            if not waiter.future.done():
                waiter.timer, waiter.counted = self._timer(waiter.timer.loop), True
                self._queue.append(waiter)
                self.serve(now)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _post(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *args: object) -> bool:
    """Have it called by the loop of another thread; returns whether that loop is still open."""
    try:
        loop.call_soon_threadsafe(callback, *args)
    except RuntimeError:
        return False
    return True


def _hand_over(future: asyncio.Future[GrantT], grant: GrantT) -> None:
    if future.done():
        grant.cancel()
    else:
        future.set_result(grant)
