"""When may the next request leave? Plain numbers: no clock, no loop, no lock.

`Schedule` decides, `llmlab.limits.RateLimiter` acts. It combines

* a **strict sliding window**: never more than `limit` requests *arrive* in any `period_s`. Arrival lies between sending
  and the answer, so a place leaves the window one period after ``min(answered_at, sent_at + margin_s)``;
* **pacing** by the generic cell rate algorithm (GCRA): one request every ``period_s / limit``;
* **feedback**: a refusal pauses everything and cuts the rate once per episode, which then recovers slowly.

Tokens are a second budget under the same rules, booked together with the request or not at all.

References
----------
ITU-T Recommendation I.371, "Traffic control and congestion control in B-ISDN" (GCRA, virtual scheduling form).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from numbers import Real

from llmlab.errors import InputError

CUT = 0.7
RECOVERY_PER_PERIOD = 0.05
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
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


@dataclass(slots=True)
class Budget:
    """One counted resource: what its window holds, and GCRA's theoretical arrival time `tat`."""

    limit: float | None
    used: float = 0.0
    tat: float = -math.inf


@dataclass(slots=True, eq=False)
class Place:
    """One request's place in the window."""

    sent_at: float
    leaves_at: float
    tokens: float
    requests: int = 1
    gone: bool = False
    returnable: bool = True


class Schedule:
    """The window, the pace and the pauses of one key.

    All times are seconds on one clock that never goes back; `now` is given by the caller.
    """

    def __init__(
        self, limit: float | None, *, period_s: float, tokens: float | None, burst: float, margin_s: float
    ) -> None:
        self.requests = Budget(positive("limit", limit))
        self.tokens = Budget(positive("tokens", tokens))
        period = positive("period_s", period_s)
        if period is None:
            raise InputError(f"period_s must be a positive number of seconds, not {period_s!r}.")
        self.period_s = period
        self.burst = positive("burst", burst) or math.inf
        if not margin_s >= 0:
            raise InputError(f"margin_s must be 0 or more seconds, not {margin_s!r}.")
        self.margin_s = margin_s
        self.paused_until = -math.inf
        self._window: deque[Place] = deque()
        self._newest: Place | None = None
        self._factor = 1.0
        self._cut_at = -math.inf
        self._episodes_in_a_row = 0

    def ready_at(self, tokens: float, now: float) -> float:
        """When a request of this weight may leave; if that is in the future, the time to look again."""
        self._expire(now)
        ready = self.paused_until
        tolerance = self._tolerance()
        for budget, weight in ((self.requests, 1.0), (self.tokens, tokens)):
            if budget.limit is None:
                continue
            ready = max(ready, budget.tat - tolerance)
            # An empty window lets anything through: a limit of 0.5 still means one request every two periods.
            if self._window and budget.used + weight > budget.limit:
                ready = max(ready, self._window[0].leaves_at)
        return ready

    def book(self, tokens: float, due: float, now: float) -> Place:
        """Take a place. `due` is when it could have left: a late timer must not slow the pace down."""
        place = Place(now, now + self.margin_s + self.period_s, tokens)
        self._newest = place
        if self.requests.limit is None and self.tokens.limit is None:
            place.gone = True
            return place
        due = min(now, max(due, now - min(LATE_S, self.period_s / 100)))
        for budget, weight in ((self.requests, 1.0), (self.tokens, tokens)):
            budget.used += weight
            if budget.limit is not None:
                budget.tat = max(budget.tat, due) + weight * self.interval_s(budget.limit, now)
        self._window.append(place)
        return place

    def sent(self, place: Place, now: float) -> bool:
        """It leaves only now, later than it was booked; returns whether its place is still there."""
        place.sent_at = now
        place.leaves_at = now + self.margin_s + self.period_s
        return not place.gone or (self.requests.limit is None and self.tokens.limit is None)

    def change(self, budget: Budget, limit: float | None, now: float) -> None:
        """A higher limit shortens the wait for what was booked under the lower one."""
        before, tolerance = budget.limit, self._tolerance()
        budget.limit = limit
        for each in (self.requests, self.tokens):
            each.tat += self._tolerance() - tolerance
        if limit is None:
            budget.tat = -math.inf
        elif before is not None and limit > before:
            rest = budget.tat - self._tolerance() - max(now, self.paused_until)
            budget.tat -= max(0.0, rest) * (1 - before / limit)
        self._newest = None
        if self.paused_until > now:
            self.pause(self.paused_until)

    def answered(self, place: Place, tokens: float | None, now: float) -> bool:
        """It has arrived, and used `tokens`; returns whether a waiter may now leave earlier."""
        place.returnable = False
        if place.sent_at >= self._cut_at:
            self._episodes_in_a_row = 0
        place.leaves_at = min(place.leaves_at, now + self.period_s)
        if tokens is None or tokens == place.tokens or not 0 <= tokens < math.inf or self.tokens.limit is None:
            return bool(self._window) and self._window[0] is place
        surplus = tokens - place.tokens
        place.tokens = tokens
        self.tokens.tat += surplus * self.interval_s(self.tokens.limit, now)
        if not place.gone:
            self.tokens.used += surplus
        elif surplus > 0:
            # Settled after its place had left: the surplus is a debt in the present window.
            self.tokens.used += surplus
            self._window.append(Place(now, now + self.period_s, surplus, requests=0))
        return True

    def refused(self, place: Place, retry_after_s: float | None, now: float) -> bool:
        """429: pause, and cut the rate once per episode; returns whether this began an episode."""
        place.returnable = False
        place.leaves_at = min(place.leaves_at, now + self.period_s)
        hint = retry_after_s if retry_after_s and math.isfinite(retry_after_s) and retry_after_s > 0 else None
        # What was sent before the last pause ended says nothing about the rate after it.
        begins = place.sent_at >= self._cut_at
        if begins:
            self._factor = self.factor(now) * CUT
            if hint is None:
                hint = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self._episodes_in_a_row, 8))
            self._episodes_in_a_row += 1
        if hint is not None:
            self.pause(now + hint)
        if begins:
            self._cut_at = max(now, self.paused_until)
        return begins

    def give_back(self, place: Place) -> bool:
        """Nothing was sent; returns whether there was something to give back."""
        if not place.returnable:
            return False
        place.returnable = False
        if not place.gone:
            self.requests.used -= place.requests
            self.tokens.used -= place.tokens
        if place is self._newest:
            for budget, weight in ((self.requests, 1.0), (self.tokens, place.tokens)):
                if budget.limit is not None:
                    budget.tat -= weight * self.interval_s(budget.limit, place.sent_at)
        place.requests, place.tokens = 0, 0.0
        return True

    def pause(self, until: float) -> None:
        """Nothing leaves before `until`; then the first at once, the others paced, as no credit is left."""
        self.paused_until = max(self.paused_until, until)
        self._newest = None
        for budget in (self.requests, self.tokens):
            budget.tat = max(budget.tat, self.paused_until + self._tolerance())

    def factor(self, now: float) -> float:
        """Share of the configured rate: 1, or less after refusals, growing back a little each quiet period."""
        if self._factor == 1.0:
            return 1.0
        quiet = max(0.0, (now - self._cut_at) / self.period_s - 1.0)
        return min(1.0, self._factor + RECOVERY_PER_PERIOD * quiet)

    def interval_s(self, limit: float, now: float) -> float:
        """Seconds between two units of a budget at present."""
        return self.period_s / limit / self.factor(now)

    def in_window(self, now: float) -> int:
        """Requests that count against the limit at present."""
        self._expire(now)
        return int(self.requests.used)

    def _tolerance(self) -> float:
        limit = self.requests.limit
        return 0.0 if limit is None else max(0.0, min(self.burst, limit) - 1) * self.period_s / limit

    def _expire(self, now: float) -> None:
        window = self._window
        while window and window[0].leaves_at <= now:
            place = window.popleft()
            place.gone = True
            self.requests.used -= place.requests
            self.tokens.used -= place.tokens
        if not window:
            self.requests.used = self.tokens.used = 0.0
