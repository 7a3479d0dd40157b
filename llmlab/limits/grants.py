"""A grant is leave to send one request; `Grants` makes those of one limiter and hears what became of them."""

from __future__ import annotations

import logging

from llmlab.limits.alone import Alone
from llmlab.limits.lock import Lock
from llmlab.limits.metrics import Metrics, Second
from llmlab.limits.schedule import Budget, Place, Schedule
from llmlab.limits.share import Share
from llmlab.limits.waiters import Waiters

WELL_UNDER = 0.8


class Grant:
    """Leave to send one request now.

    Attributes
    ----------
    waited_s : float
        Seconds spent waiting for the limiter.
    throttled : bool
        Whether it had to wait at all.
    """

    __slots__ = ("_grants", "_place", "_second", "throttled", "waited_s")

    def __init__(self, grants: Grants, place: Place, second: Second, waited_s: float, throttled: bool) -> None:
        self._grants = grants
        self._place = place
        self._second = second
        self.waited_s = waited_s
        self.throttled = throttled

    def __repr__(self) -> str:
        return f"Grant(waited_s={self.waited_s:.3f}, throttled={self.throttled})"

    def answered(self, tokens: float | None = None) -> None:
        """The answer is here: its place leaves the window one period from now at the latest.

        Parameters
        ----------
        tokens : float, optional
            What was really used; replaces the reserved estimate. May be called late, or again.
        """
        self._grants.answered(self._place, tokens)

    def refused(self, retry_after_s: float | None = None) -> float:
        """The provider said 429: pause the whole key, and slow down if too large a share is refused.

        Parameters
        ----------
        retry_after_s : float, optional
            The provider's hint in seconds; nonsense is ignored.

        Returns
        -------
        float
            Seconds until the key sends again.
        """
        return self._grants.refused(self._place, retry_after_s)

    def cancel(self) -> None:
        """Nothing was sent: give the place back. Ignored after `answered`, `refused` or `cancel`."""
        self._grants.give_back(self)


class Grants:
    """Joins what decides (`Schedule`), who waits (`Waiters`) and what is counted (`Metrics`) under one lock.

    Parameters
    ----------
    schedule : Schedule
        Decides when the next request may leave.
    lock : Lock
        Held while any of the three changes.

    Attributes
    ----------
    share : Alone or Share
        Whether the schedule decides alone, or together with other processes.
    """

    def __init__(self, schedule: Schedule, lock: Lock) -> None:
        self.schedule = schedule
        self.lock = lock
        self.metrics = Metrics()
        self.share: Alone | Share = Alone(schedule)
        self.waiters: Waiters[Grant] = Waiters(lock, ready_at=self.ready_at, book=self.book)

    # What a grant reports.

    def answered(self, place: Place, tokens: float | None) -> None:
        """Its answer is here."""
        with self.lock.timed() as now:
            earlier = self.schedule.answered(place, tokens, now)
            self.share.report("answered", place, now, tokens)
            if earlier:
                self.waiters.serve(now)

    def refused(self, place: Place, retry_after_s: float | None) -> float:
        """It met a 429; returns the seconds until the key sends again."""
        with self.lock.timed() as now:
            self.metrics.refused += 1
            before = self.schedule.factor(now)
            pauses = self.schedule.refused(place, retry_after_s, now)
            self.share.report("refused", place, now, retry_after_s)
            wait_s, factor = max(0.0, self.schedule.paused_until - now), self.schedule.factor(now)
            if pauses or factor < before:
                level = logging.WARNING if factor < before else logging.INFO
                message = (
                    f"Refused (429): the key pauses {wait_s:.1f}s, then goes on at {100 * factor:.0f}% of its rate"
                )
                self.lock.log(level, message + self._who_else(now))
            return wait_s

    def _who_else(self, now: float) -> str:
        """What to say of a refusal that the requests of all who share do not explain."""
        sent, limit = self.share.in_window(now), self.schedule.requests.limit
        if limit is None or sent >= WELL_UNDER * limit:
            return ""
        return (
            f"; only {sent} of {limit:.12g} requests had been sent in {self.schedule.period_s:g} s: "
            "if someone else uses this key, too, ll.share_limits() counts together"
        )

    def give_back(self, grant: Grant) -> None:
        """Nothing was sent."""
        with self.lock:
            if not self.schedule.give_back(grant._place):
                return
            self._uncount(grant)
            if self.lock.nested:
                return
        with self.lock.timed() as now:
            self.share.given_back(grant._place, now)
            self.waiters.serve(now)

    # Under the lock.

    def ready_at(self, tokens: float, now: float) -> float:
        """When a request of this weight may leave; if that is in the future, the time to look again."""
        return self.share.ready_at(tokens, now)

    def book(self, tokens: float, due: float, now: float, since: float, throttled: bool = True) -> Grant:
        """Grant to one who asked at `since` and whose turn came at `due`."""
        place = self.schedule.book(tokens, due, now)
        self.share.booked(place, now)
        message = self.metrics.summary(now, self.share.in_window(now), self.schedule.requests.limit)
        if message:
            self.lock.log(logging.INFO, message)
        return Grant(self, place, self.metrics.count(now, now - since, throttled), now - since, throttled)

    def leaves(self, grant: Grant, now: float) -> bool:
        """Its request leaves only now; if others have its place by then, it is no grant any more."""
        # The clock runs from here, not from the booking: a busy loop may resume a waiter late.
        booked_at = grant._place.sent_at
        if self.schedule.sent(grant._place, now):
            self.share.sent(grant._place, booked_at, now)
            return True
        self._uncount(grant)
        return False

    def _uncount(self, grant: Grant) -> None:
        self.metrics.take_back(grant._second, grant.waited_s, grant.throttled)

    # Without the lock.

    def pause(self, seconds: float) -> None:
        """Send nothing for so long."""
        with self.lock.timed() as now:
            self.schedule.pause(now + seconds)
            self.share.paused(seconds, now)

    def change(self, budget: Budget, limit: float | None) -> None:
        """Set a limit; those who wait follow."""
        with self.lock.timed() as now:
            if limit != budget.limit:
                self.schedule.change(budget, limit, now)
                self.share.changed(now)
            self.waiters.serve(now)

    def ready_in_s(self) -> float:
        """Seconds until the next request could leave."""
        with self.lock.timed() as now:
            return max(0.0, self.share.next_at(now) - now)

    def state(self) -> dict[str, float | int | None]:
        """Totals and present state, under the names of `RateLimiter.get_metrics`."""
        with self.lock.timed() as now:
            return self.metrics.as_dict() | {
                "queue_size": self.share.in_window(now),
                "limit": self.schedule.requests.limit,
                "waiting": self.waiters.waiting,
                "paused_s": max(0.0, self.schedule.paused_until - now),
                "rate_factor": self.share.factor(now),
                "processes": self.share.processes,
            }
