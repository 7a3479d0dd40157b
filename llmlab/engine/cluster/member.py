"""What an experiment on a cluster knows of one of its workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from llmlab.engine.cluster.travel import Orders, Report


@dataclass(slots=True, eq=False)
class Member:
    """A worker that takes part.

    Attributes
    ----------
    address : str
    task : Task
        Talks to it.
    outstanding : dict
        The positions of the trials that it was given and that have not ended, in order.
    in_flight : int
        Requests in flight, when it last reported.
    exposed : tuple of int
        The trials that these were about, and those that were just about to be sent.
    given : tuple of int
        The trials of the last part, if it has not reported since.
    waiting, retrying : int
        Trials that waited for the limiter, and for their next attempt.
    bound : int
        Most slots that it may have taken.
    sent, sent_in_s : int and float
        How many requests it sent lately, and in how many seconds.
    granted : dict
        Answers to its wishes for money, to be told.
    aside_usd : list of float
        What is put aside for its calls.
    heard_at, reported_at : float
        When it last got an answer from the provider, and when it last reported, by `time.monotonic`.
    over : bool
        Whether it has reported for the last time.
    number : int
        Of the last orders.
    news : dict
        The models of which others got an answer since it was told, with the form of the answer.
    """

    address: str
    task: asyncio.Task[None] = field(init=False)
    outstanding: dict[int, None] = field(default_factory=dict)
    in_flight: int = 0
    exposed: tuple[int, ...] = ()
    given: tuple[int, ...] = ()
    waiting: int = 0
    retrying: int = 0
    bound: int = 0
    sent: int = 0
    sent_in_s: float = 0.0
    granted: dict[int, bool] = field(default_factory=dict)
    aside_usd: list[float] = field(default_factory=list)
    heard_at: float = 0.0
    reported_at: float = field(default_factory=time.monotonic)
    over: bool = False
    news: dict[str, str | None] = field(default_factory=dict)
    number: int = 0
    _slots: int = 0

    @property
    def unsent(self) -> int:
        """Trials that wait there for their turn."""
        return len(self.outstanding) - self.in_flight - self.retrying

    @property
    def maybe_sent(self) -> list[int]:
        """The trials of which requests may be in flight now: those that were exposed, and what has been given since.

        Not the latter if its trials were waiting for the limiter: then those stand behind them.
        """
        since = () if self.waiting else self.given[: max(0, self._slots - len(self.exposed))]
        return [at for at in dict.fromkeys((*self.exposed, *since)) if at in self.outstanding]

    def take_granted(self) -> dict[int, bool]:
        """The answers to its wishes since the last time."""
        granted, self.granted = self.granted, {}
        return granted

    def take_news(self) -> dict[str, str | None]:
        """The models of which others got an answer since the last time."""
        news, self.news = self.news, {}
        return news

    def orders(self, *, slots: int, **more: Any) -> Orders:
        """The next orders."""
        self.number += 1
        self._slots = slots
        self.bound = max(self.bound, slots)
        return Orders(number=self.number, slots=slots, **more)

    def take(self, report: Report) -> None:
        """Note what its report on the last orders says of itself."""
        now = time.monotonic()
        self.sent = max(0, len(report.told.made) + report.in_flight - self.in_flight)
        self.sent_in_s, self.reported_at = now - self.reported_at, now
        self.in_flight, self.exposed, self.given = report.in_flight, report.exposed, ()
        self.waiting, self.retrying = report.waiting, report.retrying
        self.bound = max(self._slots, report.slots_used)
        self.over = report.over
        self.drop(one.position for one in report.told.made if one.is_last)
        self.drop(position for position, _ in report.told.unsent)

    def drop(self, positions: Iterable[int]) -> None:
        """These trials are not expected of it any more."""
        for position in positions:
            self.outstanding.pop(position, None)
