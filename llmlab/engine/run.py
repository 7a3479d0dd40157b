"""One run of an experiment: it begins, acts on what its attempts return, and ends."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from llmlab.client import ChatClient
from llmlab.display import Tally
from llmlab.engine.adapt import adapt
from llmlab.engine.attempt import Attempts
from llmlab.engine.batch import BatchQueue
from llmlab.engine.budget import MakeBudget, budget_of
from llmlab.engine.cluster import OnCluster
from llmlab.engine.description import title_of
from llmlab.engine.probes import Probes
from llmlab.engine.queue import Asked, TrialQueue
from llmlab.engine.resume import Start
from llmlab.engine.screen import Screen
from llmlab.engine.setup import Setup
from llmlab.engine.slots import Slots
from llmlab.engine.stages import AllLive, ThroughQueue
from llmlab.engine.suggestions import with_suggestions
from llmlab.engine.verdict import Stop
from llmlab.errors import AttemptError, JournalError
from llmlab.results import Journal, Store
from llmlab.units import Plan

SHOW_EVERY_S = 0.25


class Run:
    """Asks trials until all have ended or the run is stopped. It is made inside a running event loop.

    Parameters
    ----------
    setup : Setup
    start : Start
        Its store grows, and its journal is closed when the run ends.
    make_budget : callable
        Makes what keeps the cap.

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

    def __init__(self, setup: Setup, start: Start, make_budget: MakeBudget = budget_of) -> None:
        self._loop = asyncio.get_running_loop()
        positions, store, journal = start.positions, start.store, start.journal
        self._setup, self._journal, self.store = setup, journal, store
        known = {"before": len(store.answered - set(positions)), "from_book": store.call.from_book}
        self.tally = Tally(len(positions), **known, title=title_of(setup))
        self.running = True
        self.stopped: str | None = None
        self._bugs: list[BaseException] = []
        limiters = setup.limiters.distinct(setup.models)
        most, learn = setup.max_concurrent, any(limiter.auto for limiter in limiters)
        self._client = ChatClient(setup.endpoint, timeout_s=setup.timeout_s, connections=most, learn=learn)
        self._attempts = Attempts(setup, self._client, store, journal, self.tally, make_budget)
        # Models that ended before the others, and why; what ended the run, if its attempts did.
        self._ended: dict[str, Stop] = {}
        self._causes: list[Stop] = []
        self._probes = Probes(lambda models: self._slots.probe(models))
        self._stages = _stages_of(setup, start, self._attempts, self.tally, self._ended, self)
        self._queue, self._slots = self._line_up(self._stages.first())
        self._screen = Screen(setup.progress, self.tally, limiters, self.stop, self._stages.count)

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
            await self._ask()
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
                ending.push_async_callback(self._stages.close)
                await self._slots.end()
                await asyncio.gather(ticker, return_exceptions=True)
        if self._bugs:
            raise self._bugs[0]

    async def _conclude(self) -> None:
        """Say what is left, in the journal and on the screen."""
        for model, stop in (await with_suggestions(self._ended, self._setup.endpoint)).items():
            if self.stopped == self._ended[model].reason:
                self.stopped = stop.reason
            self._ended[model] = stop
        reason = self._why_it_ended()
        count = self.tally.total - self.tally.answered
        left = f"{count:,} of {self.tally.total:,} trials are not answered" if count else "all trials were answered"
        # The views count for themselves what is left.
        self.stopped = reason and "; ".join(filter(None, (reason, left, self._stages.goes_on)))
        await self._journal.close(self.stopped, self.store)
        self.running = False
        self._show(reason, last=True)

    async def cancel_batch(self) -> None:
        """Have the provider cancel what is in its batch queue; what is done by then is read."""
        await self._stages.cancel()

    async def _ask(self) -> None:
        """One stage after the other."""
        try:
            await self._stages.begin()
            while self.stopped is None:
                self._slots.open()
                await self._slots.over
                asked = [] if self.stopped else await self._stages.next()
                if not asked:
                    break
                self._queue, self._slots = self._line_up(asked)
        except (AttemptError, JournalError) as error:
            self._stop(str(error))
        except Exception as bug:
            self.fail(bug)

    def _line_up(self, fresh: Iterable[Iterator[Asked]]) -> tuple[TrialQueue, Slots]:
        """The queue of a stage's trials, and slots for them."""
        setup = self._setup
        trials = TrialQueue(fresh, [model for model in setup.models if model not in self._ended])
        groups = setup.limiters.groups(setup.models)
        return trials, Slots(trials, setup.max_concurrent, self._one_attempt, self._look_at, groups)

    async def _one_attempt(self, asked: Asked) -> None:
        follows = await self._attempts.carry_out(asked)
        adapt(self._slots, self._probes, self._attempts, asked, follows, self.tally.in_flight)
        for stop in follows.stop:
            self.end(stop)
        if follows.retry_in_s is not None:
            # While its model is on hold it is the probe that is waited for.
            self._slots.again(asked, 0.0 if follows.hold else follows.retry_in_s)
        for bug in follows.bugs:
            raise bug

    def end(self, stop: Stop) -> None:
        """End a model, or the run; with its last model the run ends too."""
        if not stop.models:
            self._causes.append(stop)
            self._stop(stop.reason)
            return
        for model in stop.models:
            self._ended.setdefault(model, stop)
        self._slots.drop(stop.models)
        if self._ended.keys() >= set(self._setup.models):
            self._stop(stop.reason)

    def fail(self, bug: BaseException) -> None:
        """The user's own code raised: end the run."""
        self._bugs.append(bug)
        self._stop(f"an error in your code: {type(bug).__name__}: {bug}", self._setup.grace_s)

    def _look_at(self, task: asyncio.Task[None], asked: Asked) -> None:
        """A task is over: the exception of one is a bug in the user's code, or in ours."""
        bug = None if task.cancelled() else task.exception()
        if bug is not None:
            self.fail(bug)
        models, asked.probe = asked.probe, frozenset()
        if models:
            self._probes.over(models)
            in_s = self._attempts.outages.next_probe(models)
            if in_s is not None and self.stopped is None:
                self._probes.begin(models, in_s)

    def _stop(self, reason: str, grace_s: float | None = None) -> None:
        """Send nothing more; what is in flight ends, within `grace_s` seconds if given."""
        if not self.running:
            return
        self.stopped = self.stopped or reason
        self._stages.leave(grace_s)
        self._slots.close()
        self._probes.cancel()
        if grace_s is not None:
            self._loop.call_later(grace_s, self._slots.cancel)

    def _why_it_ended(self) -> str | None:
        """Why trials were not asked, if so; those of a model that ended before the others are told it in the store."""
        if self._ended:
            _tell(self.store, self._ended, self._setup.plan)
        return self.stopped or "; ".join(f"{model}: {stop.reason}" for model, stop in self._ended.items()) or None

    async def _show_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(SHOW_EVERY_S)
            self._show(self.stopped)

    def _show(self, stopped: str | None, *, last: bool = False) -> None:
        self._screen.show(self._queue, self._slots, self._probes, stopped, last=last)


def _stages_of(
    setup: Setup, start: Start, attempts: Attempts, tally: Tally, ended: dict[str, Stop], run: Run
) -> AllLive | ThroughQueue | OnCluster:
    """How the trials of a run are asked."""
    positions, store, journal = start.positions, start.store, start.journal
    if setup.batch and not start.live and isinstance(journal, Journal):
        queue = BatchQueue(setup, attempts, journal, tally, ended.keys(), run.end)
        return ThroughQueue(setup, positions, store, queue, ended.keys(), run.end)
    if setup.cluster is not None:
        return OnCluster(setup, positions, store, journal, attempts, ended, run)
    return AllLive(setup, positions, store)


def _tell(store: Store, ended: Mapping[str, Stop], plan: Plan) -> None:
    """Tell a store why the trials of some models were not asked."""
    asked = plan.keys()["model"]
    for model, stop in ended.items():
        store.skip(np.flatnonzero(asked == model), stop.error_type, stop.reason)
