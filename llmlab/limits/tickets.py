"""Leave to send that the store of a shared key has given, and that is not yet used."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from llmlab.limits.reports import Reports
from llmlab.limits.schedule import Place

LAPSE_S = 0.25


class Tickets:
    """Granted places, in the order in which they are due; each lapses a moment after that.

    Parameters
    ----------
    reports : Reports
        Told what was not used, so that others can have it.
    """

    def __init__(self, reports: Reports) -> None:
        self._reports = reports
        # Each with the time when it is due, by the limiter's clock.
        self._granted: deque[tuple[Place, float]] = deque()

    def __len__(self) -> int:
        return len(self._granted)

    @property
    def first_due(self) -> float:
        """When the first is due."""
        return self._granted[0][1]

    def due(self, tokens: float, now: float) -> float | None:
        """When a request of this weight may leave with the first that is large enough; those before go back."""
        while self._granted and (self.first_due + LAPSE_S < now or self._granted[0][0].tokens < tokens):
            self._give_back_first(now)
        return self.first_due if self._granted else None

    def add(self, places: Iterable[Place], ahead_s: float) -> None:
        """Places that were granted, whose times are by a clock that is so much behind the limiter's."""
        self._granted.extend((place, place.sent_at + ahead_s) for place in places)

    def take(self) -> Place:
        """Use the first."""
        return self._granted.popleft()[0]

    def drop_lapsed(self, now: float) -> None:
        """Give back those that were due too long ago."""
        while self._granted and self.first_due + LAPSE_S < now:
            self._give_back_first(now)

    def give_back(self, now: float) -> None:
        """Give back all."""
        while self._granted:
            self._give_back_first(now)

    def clear(self) -> None:
        """Forget all, as the store does not answer."""
        self._granted.clear()

    def _give_back_first(self, now: float) -> None:
        self._reports.unused(self.take(), now)
