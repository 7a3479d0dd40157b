"""In which order trials are asked: all live, or the first ones live and the rest through the provider's batch queue."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

import numpy as np

from llmlab.display import Tally
from llmlab.engine.batch import BatchQueue
from llmlab.engine.queue import Asked
from llmlab.engine.setup import Setup
from llmlab.engine.verdict import Stop
from llmlab.errors import InputError
from llmlab.results import Store

MOST_PROBES, MOST_IN_ALL = 3, 20
"""Of a model and prompt so many trials are asked live until one is answered: those that failed for another reason than
their own text, and all."""
OF_ITS_TEXT = {"EmptyInputError", "TooLongError", "ModerationError", "RefusalError"}


class AllLive:
    """Everything is asked live, in one stage.

    Parameters
    ----------
    setup : Setup
    positions : sequence of int
        The trials to be asked.
    store : Store
        What they have had.
    """

    def __init__(self, setup: Setup, positions: Sequence[int], store: Store) -> None:
        self._setup, self._positions, self._store = setup, positions, store

    @property
    def goes_on(self) -> str:
        """What goes on elsewhere after an early end, in words; empty if nothing does."""
        return ""

    def first(self) -> list[Iterator[Asked]]:
        """The trials of the first stage, an iterator for those of each limiter."""
        groups = self._setup.limiters.groups(self._setup.models)
        return [carry_over(self._setup, self._of(group), self._store) for group in groups]

    async def begin(self) -> None:
        """Before the first stage."""

    async def next(self) -> list[Iterator[Asked]]:
        """The trials of the next live stage, once the last one is over; none if that was the last."""
        return []

    def leave(self, grace_s: float | None) -> None:
        """Wait for nothing any more; what is in flight has so many seconds, or as many as it needs."""

    def count(self, tally: Tally) -> None:
        """Add what is under way elsewhere."""

    async def cancel(self) -> None:
        """There is nothing that could be cancelled.

        Raises
        ------
        InputError
            Always.
        """
        raise InputError("There is no batch to cancel: the experiment was not started with batch=True.")

    async def close(self) -> None:
        """Nothing is open."""

    def _of(self, group: frozenset[str]) -> Iterable[int]:
        """The positions at which these models are asked."""
        if len(group) == len(set(self._setup.models)):
            return self._positions
        layout = self._setup.plan.layout
        return (at for at in self._positions if layout.at(at)[1] in group)


class ThroughQueue:
    """One trial of each model and prompt is asked live, the rest through the queue, and what that leaves live again.

    The first ones find out the answer's form and a wrong prompt before thousands of copies are paid for.

    Parameters
    ----------
    setup : Setup
    positions : sequence of int
        The trials to be asked.
    store : Store
        What they have had.
    queue : BatchQueue
    over : collection of str
        The models that have ended.
    ended : callable
        Told what ends before its time.
    """

    def __init__(
        self,
        setup: Setup,
        positions: Sequence[int],
        store: Store,
        queue: BatchQueue,
        over: Collection[str],
        ended: Callable[[Stop], None],
    ) -> None:
        self._setup, self._store, self._queue = setup, store, queue
        self._over, self._ended = over, ended
        self._again = setup.batch == "again"
        submitted = queue.positions
        fresh = [position for position in positions if position not in submitted]
        # By model and prompt: the trials to be asked, and those of them that were asked live first.
        self._fresh: dict[tuple[str, str | None], deque[Asked]] = {}
        self._probes: dict[tuple[str, str | None], list[Asked]] = {}
        self._sort_in(carry_over(setup, fresh, store))

    @property
    def goes_on(self) -> str:
        """What goes on elsewhere after an early end, in words; empty if nothing does."""
        if not self._queue.open:
            return ""
        what, them = (
            ("the batch goes on", "it") if self._queue.open == 1 else (f"{self._queue.open} batches go on", "them")
        )
        return (
            f"{what} at the provider: the same cell reads {them} later, and cancel_batch() of an experiment from "
            f"start_experiment cancels {them}"
        )

    def first(self) -> list[Iterator[Asked]]:
        """The trials of the first stage, an iterator for those of each limiter."""
        return self._by_limiter(self._next_probes())

    async def begin(self) -> None:
        """Find out whether there is a queue, and what earlier sessions have in it."""
        self._sort_in(await self._queue.begin())

    async def next(self) -> list[Iterator[Asked]]:
        """The trials of the next live stage, once the last one is over; none if that was the last."""
        probes = [] if self._queue.cancelled else self._next_probes()
        if probes:
            return self._by_limiter(probes)
        for arm, waiting in self._fresh.items():
            if arm[0] in self._over or self._queue.cancelled:
                waiting.clear()
            elif waiting and not self._is_answered(arm):
                self._give_up(arm)
            self._queue.add(waiting)
            waiting.clear()
        due = await self._queue.collect()
        while self._again and due and not self._queue.cancelled:
            self._queue.add(due)
            due = await self._queue.collect()
        if self._queue.cancelled:
            self._ended(Stop("the batch was cancelled"))
            return []
        return self._by_limiter(due)

    def leave(self, grace_s: float | None) -> None:
        """Wait for nothing any more."""
        self._queue.leave()

    def count(self, tally: Tally) -> None:
        """What is in the queue has been counted."""

    async def cancel(self) -> None:
        """Have the batches cancelled; what is done by then is read."""
        await self._queue.cancel()

    async def close(self) -> None:
        """Close the connections."""
        await self._queue.close()

    def _by_limiter(self, trials: Collection[Asked]) -> list[Iterator[Asked]]:
        groups = self._setup.limiters.groups(self._setup.models)
        parts = [[asked for asked in trials if asked.trial.model in group] for group in groups]
        return [iter(part) for part in parts if part]

    def _sort_in(self, trials: Iterable[Asked]) -> None:
        for asked in trials:
            self._fresh.setdefault((asked.trial.model, asked.trial.prompt), deque()).append(asked)

    def _next_probes(self) -> list[Asked]:
        """The next trial of each model and prompt of which none is answered yet."""
        probes = []
        kinds = self._store.errors(len(self._setup.plan))["error_type"]
        for arm, waiting in self._fresh.items():
            asked = self._probes.setdefault(arm, [])
            failed = [one for one in asked if kinds[one.trial.position] not in OF_ITS_TEXT]
            untried = waiting and len(failed) < MOST_PROBES and len(asked) < MOST_IN_ALL and arm[0] not in self._over
            if untried and not self._is_answered(arm):
                asked.append(waiting.popleft())
                probes.append(asked[-1])
        return probes

    def _is_answered(self, arm: tuple[str, str | None]) -> bool:
        return any(asked.trial.position in self._store.answered for asked in self._probes[arm])

    def _give_up(self, arm: tuple[str, str | None]) -> None:
        """None of the first trials was answered: the others are not submitted."""
        model, prompt = arm
        named = model if prompt is None else f"{model} with prompt {prompt!r}"
        waiting = self._fresh[arm]
        tried = len(self._probes[arm])
        reason = f"none of the first {tried} trials of {named} was answered; the others were not submitted"
        self._store.skip(np.array([asked.trial.position for asked in waiting]), "RequestError", reason)
        waiting.clear()
        if not any(self._is_answered(other) for other in self._probes if other[0] == model):
            self._ended(Stop(reason, frozenset({model}), "RequestError"))


def carry_over(setup: Setup, positions: Iterable[int], store: Store) -> Iterator[Asked]:
    """The trials of an iterator or list of positions, as they are when a run begins."""
    began = time.monotonic()
    trials = setup.plan.trials(positions)
    return (Asked(trial, store.attempts_before(trial.position), began) for trial in trials)
