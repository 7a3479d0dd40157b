"""One run of an experiment: it begins, acts on what its attempts return, and ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Sequence

from llmlab.client import ChatClient
from llmlab.display import Silent, Tally, View, make_view
from llmlab.engine.attempt import Asked, Attempts, carry_over
from llmlab.engine.outlook import outlook
from llmlab.engine.setup import Setup
from llmlab.engine.slots import Slots
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
            timeout_s=setup.timeout,
            connections=setup.max_concurrent,
            learn=setup.rate_limiter.auto,
        )
        self._attempts = Attempts(setup, self._client, store, journal, self.tally)
        trials = iter(carry_over(setup.plan.trials(positions), store))
        self._slots = Slots(trials, setup.max_concurrent, self._one_attempt, self._look_at)
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
            try:
                await self._slots.end()
                await asyncio.gather(ticker, return_exceptions=True)
                await self._client.close()
            finally:
                # The views count for themselves what is left.
                reason, self.stopped = self.stopped, self.stopped and self._with_what_is_left(self.stopped)
                await self._journal.close(self.stopped, len(self.store.answered))
            self.running = False
            self._show(reason, last=True)
        if self._bugs:
            raise self._bugs[0]

    async def _one_attempt(self, asked: Asked) -> None:
        follows = await self._attempts.carry_out(asked)
        if follows.narrow:
            self._slots.narrow(follows.sent_at, self.tally.in_flight)
        elif follows.widen:
            self._slots.widen()
        if follows.stop is not None:
            self._stop(follows.stop)
        if follows.retry_in_s is not None:
            self._slots.again(asked, follows.retry_in_s)
        for bug in follows.bugs:
            raise bug

    def _look_at(self, task: asyncio.Task[None]) -> None:
        """A task is over: the exception of one is a bug in the user's code, or in ours."""
        bug = None if task.cancelled() else task.exception()
        if bug is not None:
            self._bugs.append(bug)
            self._stop(f"an error in your code: {type(bug).__name__}: {bug}", self._setup.grace_s)

    def _stop(self, reason: str, grace_s: float | None = None) -> None:
        """Send nothing more; what is in flight ends, within `grace_s` seconds if given."""
        if not self.running:
            return
        self.stopped = self.stopped or reason
        self._slots.close()
        if grace_s is not None:
            self._loop.call_later(grace_s, self._slots.cancel)

    def _with_what_is_left(self, reason: str) -> str:
        left = self.tally.total - self.tally.answered
        if not left:
            return f"{reason}; all trials were answered"
        return f"{reason}; {left:,} of {self.tally.total:,} trials are not answered"

    async def _show_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(SHOW_EVERY_S)
            self._show(self.stopped)

    def _show(self, stopped: str | None, *, last: bool = False) -> None:
        try:
            due = self._slots.retries_due
            self.tally.retrying = len(due)
            slots, waiting = self._slots.allowed, self.tally.waiting
            self.tally.look(outlook(self._setup.rate_limiter, waiting=waiting, retries_due=due, slots=slots))
            self._view.show(self.tally, last=last, stopped=stopped)
        except Exception:
            # A view is never the reason to lose an experiment.
            self._view = Silent()
