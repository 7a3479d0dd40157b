"""Who goes next, and how many at once.

A slot is an asyncio task for one attempt: at most `max_concurrent` live at a time. A trial that waits for its next
attempt lies in a heap and holds no slot.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from llmlab.engine.attempt import Asked

FIRST_SLOTS = 16
RAMP_S = 0.05
STARTS_PER_TURN = 2
NARROWING = 0.5
WIDENING = 1 / 8


class Slots:
    """Starts a task for each trial that is ready, as slots allow, until none is left or `close` is called.

    Parameters
    ----------
    fresh : iterator of Asked
        The trials in the order in which they are to be asked first.
    most : int
        Most slots.
    attempt : callable
        Makes the coroutine that carries out one attempt; it calls `again` if the trial needs another one.
    ended : callable
        Told every task that is over.

    Attributes
    ----------
    over : Future
        Done when no task lives and no trial waits.
    """

    def __init__(
        self,
        fresh: Iterator[Asked],
        most: int,
        attempt: Callable[[Asked], Coroutine[Any, Any, None]],
        ended: Callable[[asyncio.Task[None]], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.over: asyncio.Future[None] = self._loop.create_future()
        self._fresh, self._most = fresh, most
        self._attempt, self._ended = attempt, ended
        self._tasks: dict[asyncio.Task[None], Asked] = {}
        self._ready: deque[Asked] = deque()
        self._later: list[tuple[float, int, Asked]] = []
        # The timer of the retry that is due first, if there is one.
        self._timers: list[asyncio.TimerHandle] = []
        self._order = itertools.count()
        self._fill_is_due = False
        self._closed = False
        self._allowed: float = min(FIRST_SLOTS, most)
        # Never narrowed yet: the number of slots still doubles.
        self._ramping = True
        self._narrowed_at = 0.0

    @property
    def retries_due(self) -> list[float]:
        """When the trials that wait for their next attempt are due, by `time.monotonic`."""
        return [due for due, *_ in self._later]

    @property
    def allowed(self) -> int:
        """Slots at present."""
        return int(self._allowed)

    def open(self) -> None:
        """Begin with a few slots and double them: a thousand connections at once would be a storm."""
        self._fill()
        if self._allowed < self._most:
            self._loop.call_later(RAMP_S, self._double)

    def _double(self) -> None:
        if self._ramping and not self.over.done():
            self._allowed = min(2 * self._allowed, self._most)
            self.open()

    def narrow(self, sent_at: float, in_flight: int) -> None:
        """Halve the slots; once for all requests that were in flight together.

        Parameters
        ----------
        sent_at : float
            When the request was sent for which this is done, by `time.monotonic`.
        in_flight : int
            Requests in flight beside it.
        """
        if self._ramping or sent_at >= self._narrowed_at:
            self._ramping, self._narrowed_at = False, time.monotonic()
            self._allowed = max(1.0, NARROWING * min(self._allowed, in_flight + 1))

    def widen(self) -> None:
        """An answer came: after a narrowing, eight of them make one slot more."""
        if not self._ramping:
            self._allowed = min(self._allowed + WIDENING, self._most)

    def again(self, asked: Asked, in_s: float) -> None:
        """Ask this trial once more in so many seconds; ignored once closed."""
        if self._closed:
            return
        asked.ready_at = time.monotonic() + in_s
        if in_s <= 0:
            self._ready.append(asked)
            return
        heapq.heappush(self._later, (asked.ready_at, next(self._order), asked))
        self._set_timer()

    def close(self) -> None:
        """Start nothing more, and take back what is not sent yet. What is in flight goes on."""
        self._closed = True
        self._ready.clear()
        self._later.clear()
        self._set_timer()
        for task, asked in self._tasks.items():
            if not asked.sent:
                task.cancel()
        self._fill_soon()

    async def end(self) -> None:
        """Cancel what is still in flight, and wait for it."""
        self.close()
        self.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cancel(self) -> None:
        """Cancel all tasks."""
        for task in self._tasks:
            task.cancel()

    def _fill(self) -> None:
        """Start what is ready, a little in each turn of the loop, so that the loop stays smooth."""
        self._fill_is_due = False
        for _ in range(STARTS_PER_TURN):
            if self._closed or len(self._tasks) + 1 > self._allowed:
                break
            asked = self._ready.popleft() if self._ready else next(self._fresh, None)
            if asked is None:
                break
            asked.sent = False
            task = self._loop.create_task(self._attempt(asked))
            self._tasks[task] = asked
            task.add_done_callback(self._task_is_over)
        else:
            self._fill_soon()
        if not (self._tasks or self._later or self._ready or self.over.done()):
            self.over.set_result(None)

    def _fill_soon(self) -> None:
        if not self._fill_is_due:
            self._fill_is_due = True
            self._loop.call_soon(self._fill)

    def _task_is_over(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        self._ended(task)
        self._fill_soon()

    def _set_timer(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        if self._later:
            wait = max(0.0, self._later[0][0] - time.monotonic())
            self._timers.append(self._loop.call_later(wait, self._retries_are_due))

    def _retries_are_due(self) -> None:
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            self._ready.append(heapq.heappop(self._later)[2])
        self._set_timer()
        self._fill()
