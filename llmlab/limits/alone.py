"""A limiter that shares its key with no other process."""

from __future__ import annotations

from llmlab.limits.common import Event
from llmlab.limits.schedule import Place, Schedule


class Alone:
    """Its own schedule decides, and there is nobody to tell; `llmlab.limits.share.Share` has the same methods."""

    processes = 1

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule

    def ready_at(self, tokens: float, now: float) -> float:
        """When a request may leave; if that is in the future, the time to look again."""
        return self._schedule.ready_at(tokens, now)

    def next_at(self, now: float) -> float:
        """When the next request could leave, for those who only want to know."""
        return self._schedule.ready_at(0.0, now)

    def in_window(self, now: float) -> int:
        """Requests that count against the limit."""
        return self._schedule.in_window(now)

    def factor(self, now: float) -> float:
        """Share of the configured rate."""
        return self._schedule.factor(now)

    def booked(self, place: Place, now: float) -> None:
        """A place was taken in the limiter's own schedule."""

    def report(self, what: Event, place: Place, now: float, value: float | None = None) -> None:
        """Something happened to it."""

    def sent(self, place: Place, booked_at: float, now: float) -> None:
        """Its request leaves only now."""

    def given_back(self, place: Place, now: float) -> None:
        """Nothing was sent."""

    def paused(self, seconds: float, now: float) -> None:
        """The whole key pauses."""

    def changed(self, now: float) -> None:
        """A limit was set."""
