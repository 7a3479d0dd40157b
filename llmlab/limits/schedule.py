"""When may the next request leave? Plain numbers: no clock, no loop, no lock.

`Schedule` decides, `llmlab.limits.RateLimiter` acts. It combines

* a **strict sliding window**: never more than `limit` requests *arrive* in any `period_s`. Arrival lies between sending
  and the answer, so a place leaves the window one period after ``min(answered_at, sent_at + margin_s)``;
* **pacing** by the generic cell rate algorithm (GCRA): one request every ``period_s / limit``;
* **refusals**: a 429 pauses everything, and if too large a share is lost, the pace is cut.

Tokens are a second budget under the same rules, booked together with the request or not at all.

References
----------
ITU-T Recommendation I.371, "Traffic control and congestion control in B-ISDN" (GCRA, virtual scheduling form).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

from llmlab.errors import InputError
from llmlab.limits.refusals import Refusals
from llmlab.limits.window import Window

LATE_S = 0.25


def positive(name: str, value: float | None) -> float | None:
    """`value` if it can be a limit; infinity becomes `None`, unlimited."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, Real) or math.isnan(value) or value <= 0:
        raise InputError(f"{name} must be a positive number or None (unlimited), not {value!r}.")
    if math.isinf(value):
        return None
    return value if isinstance(value, int) else float(value)


def seconds(name: str, value: float, *, positive: bool = False) -> float:
    """`value` if it is a finite time, 0 or more."""
    number = isinstance(value, Real) and not isinstance(value, bool) and 0 <= value < math.inf
    if not number or (positive and not value):
        raise InputError(
            f"{name} must be a {'positive number of' if positive else 'number of 0 or more'} seconds, not {value!r}."
        )
    return float(value)


@dataclass(slots=True)
class Budget:
    """One counted resource: its limit, and GCRA's theoretical arrival time `tat` of the next unit."""

    limit: float | None
    tat: float = -math.inf


@dataclass(slots=True, eq=False)
class Place:
    """One request's place in the window.

    Attributes
    ----------
    sent_at : float
        When it was booked, or sent if that is known.
    leaves_at : float
        When it leaves the window; minus infinity if it stands in none, as there was no limit.
    tokens : float
        Reserved, or used if that is known.
    number : int
        Counts the bookings.
    returnable : bool
        Whether it may be given back: nothing is known to have been sent.
    """

    sent_at: float
    leaves_at: float
    tokens: float
    number: int
    returnable: bool = True


class Schedule:
    """The window, the pace and the pauses of one key.

    All times are seconds on one clock that never goes back; `now` is given by the caller.

    Attributes
    ----------
    requests, tokens : Budget
        The two limits.
    share : float
        The part of both limits that is used; below 1 only while processes that share a key cannot talk.
    paused_until : float
        Nothing leaves before.
    booked : int
        Counts the bookings.
    returnable : int
        The booking whose pace can still be given back; 0 if there is none.
    """

    def __init__(
        self,
        limit: float | None,
        *,
        period_s: float,
        tokens: float | None,
        burst: float,
        margin_s: float,
        grain_s: float = 0.0,
    ) -> None:
        self.requests = Budget(positive("limit", limit))
        self.tokens = Budget(positive("tokens", tokens))
        self.period_s = seconds("period_s", period_s, positive=True)
        self.burst = positive("burst", burst) or math.inf
        self.margin_s = seconds("margin_s", margin_s)
        self.window = Window(grain_s)
        self.refusals = Refusals()
        self.paused_until = -math.inf
        self.share = 1.0
        self.booked = 0
        self.returnable = 0

    @property
    def unlimited(self) -> bool:
        """Whether nothing is counted."""
        return self.requests.limit is None and self.tokens.limit is None

    def ready_at(self, tokens: float, now: float) -> float:
        """When a request of this weight may leave; if that is in the future, the time to look again."""
        self.window.expire(now)
        ready = self.paused_until
        tolerance = self._tolerance()
        too_many = [0.0, 0.0]
        for at, (budget, used, weight) in enumerate(
            ((self.requests, self.window.requests, 1.0), (self.tokens, self.window.tokens, tokens))
        ):
            if budget.limit is not None:
                ready = max(ready, budget.tat - tolerance)
                too_many[at] = used + weight - budget.limit * self.share
        # An empty window lets anything through: a limit of 0.5 still means one request every two periods.
        if self.window and max(too_many) > 0:
            ready = max(ready, self.window.left_by(*too_many))
        return ready

    def book(self, tokens: float, due: float, now: float) -> Place:
        """Take a place. `due` is when it could have left: a late timer must not slow the pace down."""
        self.booked += 1
        self.returnable = self.booked
        if self.unlimited:
            return Place(now, -math.inf, tokens, self.booked)
        due = min(now, max(due, now - min(LATE_S, self.period_s / 100)))
        for budget, weight in ((self.requests, 1.0), (self.tokens, tokens)):
            if budget.limit is not None:
                budget.tat = max(budget.tat, due) + weight * self.interval_s(budget.limit, now)
        if self.refusals.probe_s:
            self.requests.tat = max(self.requests.tat, now + self._tolerance() + self.refusals.probe_s)
            self.refusals.probe_s = 0.0
        return Place(now, self.window.add(self._leaves_at(now), 1, tokens), tokens, self.booked)

    def adopt(self, sent_at: float, leaves_at: float, tokens: float) -> Place:
        """Count a request that was sent at `sent_at` without having been booked here."""
        self.booked += 1
        self.returnable = 0
        for budget, weight in ((self.requests, 1.0), (self.tokens, tokens)):
            interval_s = 0.0 if budget.limit is None else self.interval_s(budget.limit, sent_at)
            budget.tat = max(budget.tat, sent_at + weight * interval_s)
        return Place(sent_at, self.window.add(leaves_at, 1, tokens), tokens, self.booked)

    def sent(self, place: Place, now: float) -> bool:
        """It leaves only now, later than it was booked; returns whether its place is still there."""
        if self.unlimited:
            place.sent_at = now
            return True
        if not self.window.take_out(place.leaves_at, 1, place.tokens):
            return False
        place.sent_at = now
        place.leaves_at = self.window.add(self._leaves_at(now), 1, place.tokens)
        return True

    def change(self, budget: Budget, limit: float | None, now: float) -> None:
        """A higher limit shortens the wait for what was booked under the lower one."""
        before, tolerance = budget.limit, self._tolerance()
        if limit == before:
            return
        budget.limit = limit
        for each in (self.requests, self.tokens):
            each.tat += self._tolerance() - tolerance
        if limit is None:
            budget.tat = -math.inf
        elif before is not None and limit > before:
            rest = budget.tat - self._tolerance() - max(now, self.paused_until)
            budget.tat -= max(0.0, rest) * (1 - before / limit)
        self.returnable = 0
        self.refusals.start_anew(now)
        if self.paused_until > now:
            self.pause(self.paused_until)

    def answered(self, place: Place, tokens: float | None, now: float) -> bool:
        """It has arrived, and used `tokens`; returns whether a waiter may now leave earlier."""
        if place.returnable:
            self.refusals.answered(place.sent_at, self.period_s, self._per_period())
        place.returnable = False
        first = self.window.first_leaves_at
        settled = self._settle(place, tokens if tokens is not None and 0 <= tokens < math.inf else place.tokens, now)
        return settled or self.window.first_leaves_at < first

    def refused(self, place: Place, retry_after_s: float | None, now: float) -> bool:
        """429: pause, and slow down if too large a share is lost; returns whether this began a pause."""
        place.returnable = False
        self._settle(place, place.tokens, now)
        usable = retry_after_s is not None and 0 < retry_after_s < math.inf
        pause_s = self.refusals.refused(
            place.sent_at, retry_after_s if usable else None, now, self.period_s, self._per_period()
        )
        began = now + pause_s > max(now, self.paused_until)
        if began:
            self.pause(now + pause_s)
        return began

    def _settle(self, place: Place, tokens: float, now: float) -> bool:
        """Its place is shortened, and holds what was really used; returns whether the tokens differ."""
        leaves_at, surplus = min(place.leaves_at, self.window.rounded(now + self.period_s)), tokens - place.tokens
        if surplus and self.tokens.limit is not None:
            self.tokens.tat += surplus * self.interval_s(self.tokens.limit, now)
        if leaves_at < place.leaves_at or surplus:
            if self.window.take_out(place.leaves_at, 1, place.tokens):
                place.leaves_at = self.window.add(leaves_at, 1, tokens)
            elif surplus > 0:
                # Settled after its place had left: the surplus is a debt in the present window.
                self.window.add(now + self.period_s, 0, surplus)
        place.tokens = tokens
        return bool(surplus) and self.tokens.limit is not None

    def give_back(self, place: Place) -> bool:
        """Nothing was sent; returns whether there was something to give back."""
        if not place.returnable:
            return False
        place.returnable = False
        self.window.take_out(place.leaves_at, 1, place.tokens)
        place.leaves_at = -math.inf
        if place.number == self.returnable:
            self.returnable = 0
            for budget, weight in ((self.requests, 1.0), (self.tokens, place.tokens)):
                if budget.limit is not None:
                    budget.tat -= weight * self.interval_s(budget.limit, place.sent_at)
        return True

    def pause(self, until: float) -> None:
        """Nothing leaves before `until`; then the first at once, the others paced, as no credit is left."""
        self.paused_until = max(self.paused_until, until)
        self.returnable = 0
        for budget in (self.requests, self.tokens):
            budget.tat = max(budget.tat, self.paused_until + self._tolerance())

    def factor(self, now: float) -> float:
        """Share of the configured rate that is used at present: 1, or less after many refusals."""
        return self.refusals.factor(now, self.period_s)

    def interval_s(self, limit: float, now: float) -> float:
        """Seconds between two units of a budget at present."""
        return self.period_s / (limit * self.share * self.factor(now))

    def in_window(self, now: float) -> int:
        """Requests that count against the limit at present."""
        self.window.expire(now)
        return self.window.requests

    def _leaves_at(self, sent_at: float) -> float:
        return sent_at + self.margin_s + self.period_s

    def _per_period(self) -> float:
        """Requests per period at the full rate; where only tokens are limited, those that there were."""
        if self.requests.limit is not None:
            return self.requests.limit
        return math.inf if self.tokens.limit is None else max(1.0, self.window.requests)

    def _tolerance(self) -> float:
        limit = self.requests.limit
        return 0.0 if limit is None else max(0.0, min(self.burst, limit) - 1) * self.period_s / limit
