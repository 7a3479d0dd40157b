"""One run of an experiment: it begins, acts on what its attempts return, and ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import math
from collections.abc import Iterable, Sequence

import numpy as np

from llmlab.client import ChatClient
from llmlab.display import Silent, Tally, View, make_view
from llmlab.engine.attempt import Attempts, carry_over
from llmlab.engine.outlook import outlook
from llmlab.engine.queue import Asked, TrialQueue
from llmlab.engine.setup import Setup
from llmlab.engine.slots import Slots
from llmlab.engine.verdict import Next, Stop
from llmlab.results import Journal, NoJournal, Store

SHOW_EVERY_S = 0.25


class Run:
    """Asks trials until all have ended or the run is stopped. It is made inside a running event loop.

    Parameters
    ----------
    setup : Setup
    positions : sequence of int
        Which trials of the plan are asked.
    store : Store
        What earlier runs gave; this one adds to it.
    journal : Journal or NoJournal
        Closed when the run ends.

    Attributes
    ----------
    store : Store
    tally : Tally
        Where the run stands.
    running : bool
        Whether `store` still grows.
    stopped : str or None
        Why it ended early and what is left.
    """

    def __init__(
        self,
        setup: Setup,
        positions: Sequence[int],
        store: Store,
        journal: Journal | NoJournal,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._setup, self._journal = setup, journal
        self.store = store
        before = len(store.answered - set(positions))
        self.tally = Tally(len(positions), before=before, title=", ".join(setup.models))
        self.running = True
        self.stopped: str | None = None
        self._bugs: list[BaseException] = []
        self._client = ChatClient(
            setup.endpoint,
            timeout_s=setup.timeout_s,
            connections=setup.max_concurrent,
            learn=any(limiter.auto for limiter in setup.limiters.distinct(setup.models)),
        )
        self._limiters = setup.limiters.distinct(setup.models)
        self._attempts = Attempts(setup, self._client, store, journal, self.tally)
        groups = setup.limiters.groups(setup.models)
        fresh = [carry_over(setup.plan.trials(_of(group, positions, setup)), store) for group in groups]
        self._queue = TrialQueue(fresh, setup.models)
        self._slots = Slots(self._queue, setup.max_concurrent, self._one_attempt, self._look_at, groups)
        # Models that ended before the others, and why; sets of models that are away, with the timers of their probes.
        self._ended: dict[str, Stop] = {}
        self._probes: dict[frozenset[str], asyncio.TimerHandle] = {}
        self._view: View = make_view(setup.progress, self.tally, self.stop)

    def stop(self, reason: str = "stopped") -> None:
        """Send nothing more, give what is in flight `grace_s`, and end. From any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: the run is over
            self._loop.call_soon_threadsafe(self._stop, reason, self._setup.grace_s)

    async def go(self) -> None:
        """Ask every trial; returns when all have ended or the run is stopped.

        Raises
        ------
        Exception
            What the user's own code raised, after everything else has ended.
        """
        ticker = self._loop.create_task(self._show_now_and_then())
        # What the process holds already needs no walking through by the garbage collector, which halts the loop.
        gc.freeze()
        try:
            if self.stopped is None:
                self._slots.open()
                await self._slots.over
        except asyncio.CancelledError:
            self.stopped = self.stopped or "cancelled"
            raise
        finally:
            gc.unfreeze()
            ticker.cancel()
            # Cancelled once more while it ends, it still does what is left of this.
            async with contextlib.AsyncExitStack() as ending:
                ending.push_async_callback(self._conclude)
                ending.push_async_callback(self._client.close)
                await self._slots.end()
                await asyncio.gather(ticker, return_exceptions=True)
        if self._bugs:
            raise self._bugs[0]

    async def _conclude(self) -> None:
        """Say what is left, in the journal and on the screen."""
        reason = self._why_it_ended()
        count = self.tally.total - self.tally.answered
        left = f"{count:,} of {self.tally.total:,} trials are not answered" if count else "all trials were answered"
        # The views count for themselves what is left.
        self.stopped = reason and f"{reason}; {left}"
        await self._journal.close(self.stopped, len(self.store.answered))
        self.running = False
        self._show(reason, last=True)

    async def _one_attempt(self, asked: Asked) -> None:
        follows = await self._attempts.carry_out(asked)
        self._adapt(asked, follows)
        for stop in follows.stop:
            self._end(stop)
        if follows.retry_in_s is not None:
            # While its model is on hold it is the probe that is waited for.
            self._slots.again(asked, 0.0 if follows.hold else follows.retry_in_s)
        for bug in follows.bugs:
            raise bug

    def _adapt(self, asked: Asked, follows: Next) -> None:
        """How many at once, and which models are held back."""
        if follows.room is not None:
            self._slots.narrow(follows.sent_at, follows.room)
        elif follows.widen:
            self._slots.widen()
        if follows.release:
            if not asked.probe:
                # It was in flight all the time: nobody was away, there was just no room for more.
                self._slots.narrow(follows.sent_at, self.tally.in_flight + 1)
            self._slots.release(follows.release)
        if follows.hold:
            self._slots.hold(follows.hold)
            self._probe_in(follows.hold, follows.probe_in_s)

    def _end(self, stop: Stop) -> None:
        """End a model, or the run; with its last model the run ends too."""
        if not stop.models:
            self._stop(stop.reason)
            return
        for model in stop.models:
            self._ended.setdefault(model, stop)
        self._slots.drop(stop.models)
        if self._ended.keys() >= set(self._setup.models):
            self._stop(stop.reason)

    # probes

    def _probe_in(self, models: frozenset[str], in_s: float) -> None:
        if models not in self._probes:
            self._probes[models] = self._loop.call_later(in_s, self._probe, models)

    def _probe(self, models: frozenset[str]) -> None:
        if not self._slots.probe(models):
            del self._probes[models]

    def _look_at(self, task: asyncio.Task[None], asked: Asked) -> None:
        """A task is over: the exception of one is a bug in the user's code, or in ours."""
        bug = None if task.cancelled() else task.exception()
        if bug is not None:
            self._bugs.append(bug)
            self._stop(f"an error in your code: {type(bug).__name__}: {bug}", self._setup.grace_s)
        models, asked.probe = asked.probe, frozenset()
        if models:
            del self._probes[models]
            in_s = self._attempts.outages.next_probe(models)
            if in_s is not None and self.stopped is None:
                self._probe_in(models, in_s)

    def _stop(self, reason: str, grace_s: float | None = None) -> None:
        """Send nothing more; what is in flight ends, within `grace_s` seconds if given."""
        if not self.running:
            return
        self.stopped = self.stopped or reason
        self._slots.close()
        for timer in self._probes.values():
            timer.cancel()
        if grace_s is not None:
            self._loop.call_later(grace_s, self._slots.cancel)

    def _why_it_ended(self) -> str | None:
        """Why trials were not asked, if so; those of a model that ended before the others are told it in the store."""
        if self._ended:
            asked = self._setup.plan.keys()["model"]
            for model, stop in self._ended.items():
                self.store.skip(np.flatnonzero(asked == model), stop.error_type, stop.reason)
        return self.stopped or "; ".join(f"{model}: {stop.reason}" for model, stop in self._ended.items()) or None

    async def _show_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(SHOW_EVERY_S)
            self._show(self.stopped)

    def _show(self, stopped: str | None, *, last: bool = False) -> None:
        try:
            due = self._queue.retries_due
            self.tally.retrying = len(due)
            probes = [timer.when() - self._loop.time() for timer in self._probes.values()]
            self.tally.look(outlook(
                self._limiters, waiting=self.tally.waiting, retries_due=due, slots=self._slots.allowed,
                next_probe_s=max(0.0, min(probes, default=math.inf)),
            ))  # fmt: skip
            self._view.show(self.tally, last=last, stopped=stopped)
        except Exception:
            # A view is never the reason to lose an experiment.
            self._view = Silent()


def _of(group: frozenset[str], positions: Sequence[int], setup: Setup) -> Iterable[int]:
    """The positions at which these models are asked."""
    if len(group) == len(set(setup.models)):
        return positions
    return (at for at in positions if setup.plan.layout.at(at)[1] in group)
