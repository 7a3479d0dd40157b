"""What a limiter has granted: totals, a history per second, and the summary in the log every ten seconds."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

SUMMARY_S = 10.0
EARLY_S = 0.04
HISTORY_SECONDS = 6 * 3600


@dataclass(slots=True, eq=False)
class Second:
    """The grants of one second."""

    at: int
    granted: int = 0
    throttled: int = 0
    waited_s: float = 0.0


class Metrics:
    """Counts the grants of one limiter; a grant that was given back is as if it had never been."""

    def __init__(self) -> None:
        self.granted = self.throttled = self.refused = 0
        self.waited_s = 0.0
        self._history: deque[Second] = deque(maxlen=HISTORY_SECONDS)
        self._summary_at = -math.inf
        self._summarised = (0, 0)

    def count(self, now: float, waited_s: float, throttled: bool) -> Second:
        """Count a grant; returns the second of the history in which it stands."""
        at = math.floor(now)
        if not self._history or self._history[-1].at != at:
            self._history.append(Second(at))
        self._add(self._history[-1], 1, int(throttled), waited_s)
        return self._history[-1]

    def take_back(self, second: Second, waited_s: float, throttled: bool) -> None:
        """Undo `count`."""
        self._add(second, -1, -int(throttled), -waited_s)

    def _add(self, second: Second, granted: int, throttled: int, waited_s: float) -> None:
        self.granted += granted
        self.throttled += throttled
        self.waited_s += waited_s
        second.granted += granted
        second.throttled += throttled
        second.waited_s += waited_s

    def history(self, offset_s: float) -> list[tuple[float, int, int, float]]:
        """Per second with traffic: (time plus `offset_s`, granted, throttled, seconds waited)."""
        return [(one.at + offset_s, one.granted, one.throttled, one.waited_s) for one in self._history]

    def summary(self, now: float, queue: int, limit: float | None) -> str | None:
        """What to log if ten seconds with traffic are over, else `None`."""
        elapsed = now - self._summary_at
        # A grant may come a few milliseconds early and still end the ten seconds to which its time is rounded.
        if elapsed < SUMMARY_S - EARLY_S:
            return None
        requests, throttled = self.granted - self._summarised[0], self.throttled - self._summarised[1]
        self._summary_at, self._summarised = now, (self.granted, self.throttled)
        if requests <= 0:
            return None
        throttled = min(max(throttled, 0), requests)
        of = "unlimited" if limit is None else f"{limit:.12g}"
        return (
            f"Rate limiter summary (last {elapsed:.1f}s): {requests} requests, {throttled} throttled "
            f"({100 * throttled / requests:.1f}%), queue: {queue}/{of}"
        )

    def as_dict(self) -> dict[str, float | int | None]:
        """The totals, under the names of `RateLimiter.get_metrics`."""
        return {
            "total_requests": self.granted,
            "throttled_requests": self.throttled,
            "throttle_rate": self.throttled / self.granted if self.granted else 0.0,
            "avg_wait_time": self.waited_s / self.granted if self.granted else 0.0,
            "refused_requests": self.refused,
        }


def combined(metrics: Iterable[dict[str, float | int | None]]) -> dict[str, float | int | None]:
    """Metrics of several limiters: counts add up, averages are over all grants; one unlimited makes all unlimited."""
    every = list(metrics)

    def total(name: str) -> float:
        return sum(one[name] or 0 for one in every)

    granted = total("total_requests")
    waited = sum((one["avg_wait_time"] or 0) * (one["total_requests"] or 0) for one in every)
    return {
        "total_requests": int(granted),
        "throttled_requests": int(total("throttled_requests")),
        "throttle_rate": total("throttled_requests") / granted if granted else 0.0,
        "avg_wait_time": waited / granted if granted else 0.0,
        "refused_requests": int(total("refused_requests")),
        "queue_size": int(total("queue_size")),
        "limit": None if not every or any(one["limit"] is None for one in every) else total("limit"),
        "waiting": int(total("waiting")),
        "paused_s": max((one["paused_s"] or 0.0 for one in every), default=0.0),
        "rate_factor": min((one["rate_factor"] or 1.0 for one in every), default=1.0),
        "processes": max((int(one["processes"] or 1) for one in every), default=1),
    }
