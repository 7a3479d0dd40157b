"""The trials of a run that wait: those not asked yet, those to be asked again, and those of models held back."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Set
from dataclasses import dataclass, field
from typing import Any

from llmlab.records import Trial


@dataclass(slots=True, eq=False)
class Asked:
    """A trial while it is asked, and what its attempts in this run have come to.

    Attributes
    ----------
    trial : Trial
    before : int
        Attempts of earlier runs.
    ready_at : float
        Since when it could have been sent, by `time.monotonic`.
    sent : bool
        Whether the present attempt has left for the provider.
    waits : bool
        Whether it waits for the limiter.
    probe : frozenset of str
        The models that are on hold and for which it is sent, to see if anybody is there again; usually none.
    leads : bool
        Whether it tries a simpler form of answer, and the others of its model wait for what becomes of it.
    tried : int
        Attempts of this run.
    uncounted, in_outage : int
        Those among them that use up no retry: because too many were sent at once or with the wrong answer form, and
        because nobody was there.
    billed, unread : int
        Those that may have been billed without an answer, and those whose answer could not be read.
    unreadable : str
        The last answer that could not be read.
    doubted : bool
        Whether its last failure has been taken for an outage before.
    messages : list of messages
        What is sent about the unit.
    correction : list of messages
        What is added to them to say what was wrong with the last answer.
    """

    trial: Trial
    before: int
    ready_at: float
    sent: bool = False
    waits: bool = False
    probe: frozenset[str] = frozenset()
    leads: bool = False
    tried: int = 0
    uncounted: int = 0
    in_outage: int = 0
    billed: int = 0
    unread: int = 0
    unreadable: str = ""
    doubted: bool = False
    messages: list[dict[str, Any]] = field(default_factory=list)
    correction: list[dict[str, Any]] = field(default_factory=list)


class TrialQueue:
    """Says which trial goes next: one that is due again, else the next fresh one, and none of a model held back.

    Parameters
    ----------
    fresh : iterators of Asked
        The trials in the order in which they are to be asked first; drawn when they are needed. Where models have
        limiters of their own, each of these has an iterator, and they take turns.
    models : iterable of str
        The models they are asked of.
    """

    def __init__(self, fresh: Iterable[Iterator[Asked]], models: Iterable[str]) -> None:
        self._more = False
        # Each iterator that is not exhausted, with the trial that was drawn from it too early, if there is one.
        self._fresh = deque((each, deque[Asked]()) for each in fresh)
        self._ready: deque[Asked] = deque()
        self._leading: deque[Asked] = deque()
        self._later: list[tuple[float, int, Asked]] = []
        self._order = itertools.count()
        # The models whose trials may go, and the trials put aside of those that are held back.
        self._open_models = set(models)
        self._aside: dict[str, deque[Asked]] = {}

    @property
    def empty(self) -> bool:
        """Whether no trial waits, and none will come."""
        return self.idle and not self._more

    @property
    def idle(self) -> bool:
        """Whether no trial waits at present."""
        return not (self._fresh or self._leading or self._ready or self._later or any(self._aside.values()))

    def expect_more(self) -> None:
        """Further trials will be given to `add`, until `no_more`."""
        self._more = True

    def add(self, fresh: Iterable[Iterator[Asked]]) -> None:
        """Further trials, as at the start."""
        self._fresh.extend((each, deque[Asked]()) for each in fresh)

    def no_more(self) -> None:
        """No further trials will come."""
        self._more = False

    @property
    def retries_due(self) -> list[float]:
        """When the trials that wait for their next attempt are due, by `time.monotonic`."""
        return [due for due, *_ in self._later]

    @property
    def first_due(self) -> float | None:
        """When the first of them is due; `None` if there is none."""
        return self._later[0][0] if self._later else None

    def put(self, asked: Asked) -> None:
        """It can go at once. A trial whose model has ended is forgotten."""
        if self._goes_on(asked):
            (self._leading if asked.leads else self._ready).append(asked)

    def put_later(self, asked: Asked) -> None:
        """It can go at its `ready_at`. A trial whose model has ended is forgotten."""
        if self._goes_on(asked):
            heapq.heappush(self._later, (asked.ready_at, next(self._order), asked))

    def wake(self, now: float) -> None:
        """Those whose time has come can go."""
        while self._later and self._later[0][0] <= now:
            self.put(heapq.heappop(self._later)[2])

    def next(self, full: Set[str] = frozenset()) -> Asked | None:
        """The next trial of a model that is not held back, or one that others wait for; `None` if there is none.

        Parameters
        ----------
        full : set of str
            Models that are passed over for now: enough of their trials wait for their limiter.
        """
        if self._leading:
            return self._leading.popleft()
        if self._open_models <= full:
            if not (self._open_models or self._aside):
                # Every model has ended: what is left of the plan is not asked.
                self._fresh.clear()
            return None
        for _ in range(len(self._ready)):
            asked = self._ready.popleft()
            if asked.trial.model in full:
                self._ready.append(asked)
            elif asked.trial.model in self._open_models:
                return asked
            else:
                self._put_aside(asked)
        while (asked := self._next_fresh(full)) is not None:
            if asked.trial.model in self._open_models:
                return asked
            self._put_aside(asked)
        return None

    def next_for_probe(self, models: Set[str]) -> Asked | None:
        """A trial of models that are held back; one that was not tried yet if there is one.

        What failed before may have failed by its own fault.
        """
        while (asked := self._next_fresh()) is not None:
            if asked.trial.model in models:
                return asked
            self._ready.append(asked)
        for _ in range(len(self._ready)):
            asked = self._ready.popleft()
            if asked.trial.model in models:
                return asked
            self._ready.append(asked)
        for model in models & self._aside.keys():
            if self._aside[model]:
                return self._aside[model].popleft()
        for entry in sorted(self._later):
            if entry[2].trial.model in models:
                self._later.remove(entry)
                heapq.heapify(self._later)
                return entry[2]
        return None

    def hold(self, models: Iterable[str]) -> None:
        """None of these models goes until `release`."""
        for model in set(models) & self._open_models:
            self._open_models.remove(model)
            self._aside[model] = deque()

    def release(self, models: Iterable[str]) -> bool:
        """The trials of these models can go again; returns whether any was held back."""
        held = set(models) & self._aside.keys()
        for model in held:
            self._ready.extend(self._aside.pop(model))
            self._open_models.add(model)
        return bool(held)

    def drop(self, models: Iterable[str]) -> None:
        """Forget the trials of these models."""
        gone = set(models)
        self._open_models -= gone
        for model in gone:
            self._aside.pop(model, None)
        self._ready = deque(asked for asked in self._ready if asked.trial.model not in gone)
        self._leading = deque(asked for asked in self._leading if asked.trial.model not in gone)
        self._later = [entry for entry in self._later if entry[2].trial.model not in gone]
        heapq.heapify(self._later)

    def clear(self) -> None:
        """Forget all trials."""
        self._open_models.clear()
        self._aside.clear()
        self._ready.clear()
        self._leading.clear()
        self._later.clear()
        self._fresh.clear()
        self._more = False

    def is_held(self, asked: Asked) -> bool:
        """Whether its model is held back."""
        return asked.trial.model in self._aside

    def _next_fresh(self, full: Set[str] = frozenset()) -> Asked | None:
        """A fresh trial of a model that is not full; the iterators take turns."""
        for _ in range(len(self._fresh)):
            each, drawn = self._fresh.popleft()
            asked = drawn.popleft() if drawn else next(each, None)
            if asked is None:
                continue
            if asked.trial.model in full:
                drawn.append(asked)
            self._fresh.append((each, drawn))
            if not drawn:
                return asked
        return None

    def _goes_on(self, asked: Asked) -> bool:
        return asked.trial.model in self._open_models or asked.trial.model in self._aside

    def _put_aside(self, asked: Asked) -> None:
        """Keep it until its model is released; forget it if the model has ended."""
        if asked.trial.model in self._aside:
            self._aside[asked.trial.model].append(asked)
