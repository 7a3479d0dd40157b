"""What a process has to tell the others that share its key: which requests it sent and what became of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from llmlab.limits.common import Event, Report
from llmlab.limits.schedule import Place, Schedule

FLUSH_S = 0.1


@dataclass(slots=True, eq=False)
class Copy:
    """A request in the limiter's own schedule, and the same in the common one; `known` once it stands there."""

    own: Place
    common: Place
    known: bool


@dataclass(slots=True, eq=False)
class Happened:
    """Something to report, until a step has taken it along."""

    what: Event
    at: float
    copy: Copy
    value: float | None = None


class Reports:
    """The requests of one limiter that still count, and what is to be told of them.

    Parameters
    ----------
    schedule : Schedule
        The limiter's own. What stands in its window already is to be told, too.
    now : float
        The limiter's time.
    wake : callable
        In how many seconds → the worker takes a step then, or earlier.
    """

    def __init__(self, schedule: Schedule, now: float, wake: Callable[[float], None]) -> None:
        self.muted = False
        self._schedule = schedule
        self._wake = wake
        self._copies: dict[int, Copy] = {}
        self._happened: list[Happened] = []
        self._brought: list[Happened] = []
        for leaves_at, requests, tokens in zip(*schedule.window.entries(), strict=True):
            for _ in range(requests):
                sent_at, number = min(now, leaves_at - schedule.period_s), -1 - len(self._copies)
                place = Place(sent_at, leaves_at, tokens / requests, number)
                self._copies[number] = Copy(place, place, known=False)

    def __bool__(self) -> bool:
        return bool(self._happened)

    def granted(self, own: Place, common: Place) -> None:
        """It was sent with leave from the store, which knows it therefore."""
        self._copies[own.number] = Copy(own, common, known=True)

    def adopt(self, own: Place, now: float) -> None:
        """It was sent without asking the store."""
        copy = self._copies[own.number] = Copy(own, own, known=False)
        self._add(Happened("adopted", now, copy))

    def add(self, what: Event, own: Place, now: float, value: float | None = None) -> bool:
        """Something became of it; returns whether it is one of those that count."""
        copy = self._copies.get(own.number)
        if copy is None:
            return False
        self._add(Happened(what, now, copy, value))
        if what == "given back" or (what == "answered" and self._schedule.unlimited):
            # Without a limit nothing here waits for its leaving the window, and there may be very many.
            del self._copies[own.number]
        return True

    def unused(self, common: Place, now: float) -> None:
        """Leave from the store that is not used."""
        self._add(Happened("given back", now, Copy(common, common, known=True)))

    def key(self, what: Event, now: float, value: float | None = None) -> None:
        """Something that holds for the whole key: `paused` or `anew`."""
        nothing = Place(0.0, -math.inf, 0.0, 0)
        self._add(Happened(what, now, Copy(nothing, nothing, known=True), value))

    def _add(self, happened: Happened) -> None:
        if self.muted:
            return
        self._happened.append(happened)
        if happened.what in ("refused", "paused", "anew"):
            self._wake(0.0)
        elif len(self._happened) == 1:
            self._wake(FLUSH_S)

    def take(self, now: float) -> list[Report]:
        """What to bring to the next step."""
        self._forget(now)
        if self.muted:
            self._happened = [Happened("adopted", now, copy) for copy in self._copies.values() if not copy.known]
        self._brought, self._happened = self._happened, []
        return [self._report(happened, now) for happened in self._brought]

    def _report(self, happened: Happened, now: float) -> Report:
        own = happened.copy.own
        if happened.what == "adopted":
            return Report("adopted", max(0.0, now - own.sent_at), own, self._leaves_at(own) - now)
        return Report(happened.what, max(0.0, now - happened.at), happened.copy.common, happened.value)

    def taken(self, places: list[Place]) -> None:
        """The step has taken them along; so they stand now."""
        for happened, place in zip(self._brought, places, strict=True):
            happened.copy.common, happened.copy.known = place, True

    def forgotten(self, now: float) -> None:
        """The store knew nothing before this step: tell it everything in the next."""
        told = {id(happened.copy) for happened in self._brought + self._happened if happened.what == "adopted"}
        for copy in self._copies.values():
            if id(copy) not in told:
                copy.known = False
                self._happened.append(Happened("adopted", now, copy))

    def drop(self) -> None:
        """The step failed: nobody knows what of it has been taken along."""
        self._happened, self._brought = [], []

    def _leaves_at(self, own: Place) -> float:
        """When it leaves the window, also where there is no limit and so no window."""
        if own.leaves_at > -math.inf:
            return own.leaves_at
        return own.sent_at + self._schedule.margin_s + self._schedule.period_s

    def _forget(self, now: float) -> None:
        """Requests that have left the window; they stand in the order of booking."""
        gone = []
        for number, copy in self._copies.items():
            if self._leaves_at(copy.own) > now:
                break
            gone.append(number)
        for number in gone:
            del self._copies[number]
