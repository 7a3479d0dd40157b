"""How many at once: a slot is an asyncio task for one attempt, and at most `max_concurrent` live at a time."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from llmlab.engine.queue import Asked, TrialQueue
from llmlab.engine.width import Width

RAMP_S, LOOK_AGAIN_S = 0.05, 0.25
STARTS_PER_TURN = 2


class Slots:
    """Starts a task for each trial that is ready, as slots allow, until none is left or `close` is called.

    Parameters
    ----------
    queue : TrialQueue
        Says which trial goes next.
    most : int
        Most slots.
    attempt : callable
        Makes the coroutine that carries out one attempt; it calls `again` if the trial needs another one.
    ended : callable
        Told every task that is over, and what it was about.
    groups : sequence of frozenset of str
        The models by limiter, if there are several: the trials of none may fill all slots while they wait for theirs.

    Attributes
    ----------
    over : Future
        Done when no task lives and no trial waits.
    width : Width
        How many slots there are at present.
    """

    def __init__(
        self,
        queue: TrialQueue,
        most: int,
        attempt: Callable[[Asked], Coroutine[Any, Any, None]],
        ended: Callable[[asyncio.Task[None], Asked], None],
        groups: Sequence[frozenset[str]] = (),
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.over: asyncio.Future[None] = self._loop.create_future()
        self._queue = queue
        self._attempt, self._ended = attempt, ended
        self._groups = groups if len(groups) > 1 else ()
        self._tasks: dict[asyncio.Task[None], Asked] = {}
        # The timer of the retry that is due first, if there is one.
        self._timers: list[asyncio.TimerHandle] = []
        self._fill_is_due = self._doubling_is_due = self._look_is_due = False
        self._closed = False
        self.width = Width(most)

    @property
    def used(self) -> int:
        """Slots taken at present."""
        return len(self._tasks)

    @property
    def exposed(self) -> tuple[int, ...]:
        """The positions of the trials whose requests were sent and not taken in, or will be sent in this moment."""
        return tuple(asked.trial.position for asked in self._tasks.values() if asked.sent or not asked.waits)

    def allow(self, most: int) -> None:
        """Allow at most so many slots from now on; what is in flight goes on."""
        if self.width.allow(most):
            self.open()

    def open(self) -> None:
        """Begin with a few slots and double them: a thousand connections at once would be a storm."""
        self._fill()
        if self.width.grows and not self._doubling_is_due:
            self._doubling_is_due = True
            self._loop.call_later(RAMP_S, self._double)

    def _double(self) -> None:
        self._doubling_is_due = False
        if self.width.grows and not self.over.done():
            self.width.double()
            self.open()

    def again(self, asked: Asked, in_s: float) -> None:
        """Ask this trial once more in so many seconds; while it waits it holds no slot."""
        asked.ready_at = time.monotonic() + in_s
        if in_s <= 0:
            self._queue.put(asked)
            return
        self._queue.put_later(asked)
        self._set_timer()

    def hold(self, models: Iterable[str]) -> None:
        """Start no trial of these models, and take back what is not sent yet, until `release`."""
        self._queue.hold(models)
        self._take_back(lambda asked: self._queue.is_held(asked) and not asked.probe and not asked.leads)

    def release(self, models: Iterable[str]) -> None:
        """Start their trials again, a few at first."""
        if self._queue.release(models):
            self.width.begin()
            self.open()

    def probe(self, models: frozenset[str]) -> bool:
        """Start one trial of models that are held back; returns whether there was one."""
        asked = None if self._closed else self._queue.next_for_probe(models)
        if asked is None:
            return False
        asked.probe = models
        self._start(asked)
        return True

    def drop(self, models: Iterable[str]) -> None:
        """Forget the trials of these models; what is in flight goes on."""
        gone = set(models)
        self._queue.drop(gone)
        self._set_timer()
        self._take_back(lambda asked: asked.trial.model in gone)

    def close(self) -> None:
        """Start nothing more, and take back what is not sent yet. What is in flight goes on."""
        self._closed = True
        self._queue.clear()
        self._set_timer()
        self._take_back(lambda asked: True)

    async def end(self) -> None:
        """Cancel what is still in flight, and wait for it."""
        self.close()
        self.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cancel(self) -> None:
        """Cancel all tasks."""
        for task in self._tasks:
            task.cancel()

    def _take_back(self, which: Callable[[Asked], bool]) -> None:
        for task, asked in self._tasks.items():
            if not asked.sent and which(asked):
                task.cancel()
        self._fill_soon()

    def _fill(self) -> None:
        """Start what is ready, a little in each turn of the loop, so that the loop stays smooth."""
        self._fill_is_due = False
        full = self._full()
        for _ in range(STARTS_PER_TURN):
            if len(self._tasks) + 1 > self.width.allowed:
                break
            asked = self._queue.next(full)
            if asked is None:
                break
            self._start(asked)
        else:
            self._fill_soon()
        if full and not self._look_is_due and not self._closed:
            self._look_is_due = True
            self._loop.call_later(LOOK_AGAIN_S, self._look_again)
        if not self._tasks and self._queue.empty and not self.over.done():
            self.over.set_result(None)

    def _full(self) -> frozenset[str]:
        """The models of which enough trials wait for their limiter."""
        if not self._groups:
            return frozenset()
        waiting = Counter(asked.trial.model for asked in self._tasks.values() if not asked.sent)
        most = max(1.0, self.width.allowed / len(self._groups))
        full = [group for group in self._groups if sum(waiting[model] for model in group) >= most]
        return frozenset().union(*full)

    def _look_again(self) -> None:
        """Some of those who waited have been sent meanwhile."""
        self._look_is_due = False
        if not self.over.done():
            self._fill()

    def _start(self, asked: Asked) -> None:
        asked.sent = False
        task = self._loop.create_task(self._attempt(asked))
        self._tasks[task] = asked
        task.add_done_callback(self._task_is_over)

    def _fill_soon(self) -> None:
        if not self._fill_is_due:
            self._fill_is_due = True
            self._loop.call_soon(self._fill)

    def _task_is_over(self, task: asyncio.Task[None]) -> None:
        asked = self._tasks.pop(task)
        if task.cancelled() and not asked.sent and not self._closed:
            # Taken back: it has not had its turn.
            self._queue.put(asked)
        self._ended(task, asked)
        self._fill_soon()

    def _set_timer(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        due = self._queue.first_due
        if due is not None:
            self._timers.append(self._loop.call_later(max(0.0, due - time.monotonic()), self._retries_are_due))

    def _retries_are_due(self) -> None:
        self._queue.wake(time.monotonic())
        self._set_timer()
        self._fill()
