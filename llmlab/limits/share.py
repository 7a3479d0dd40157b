"""This process's part in a shared key.

While the store answers, a limiter takes turns with those of other processes at the common `Schedule`. While it does
not, the limiter's own schedule decides at one n-th of the rate, where n is how many processes shared last. Either way
`acquire` neither hangs nor raises. A worker thread does the talking (`llmlab.limits.shared`); everything here runs
under the limiter's lock.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable

from llmlab.limits.common import Event, Limits, Outcome, Request
from llmlab.limits.membership import Membership
from llmlab.limits.reports import FLUSH_S, Reports
from llmlab.limits.schedule import Place, Schedule
from llmlab.limits.tickets import LAPSE_S, Tickets

MOST_GRANTS, GRANTS_S = 5, 0.03
ON_TIME_S = 0.01
STEPS = 8
HEARTBEAT_S = 3.0
PATIENCE_S = 3.0
RETRY_S = 1.0


class Share:
    """One limiter's part in a shared key; it has the methods of `llmlab.limits.alone.Alone`.

    Parameters
    ----------
    name : str
        Under which the store keeps the key: a fingerprint, never the key.
    schedule : Schedule
        The limiter's own; it counts along, so that it can take over.
    now : float
        The limiter's time.
    weights : callable
        How many → the tokens of so many who wait first.
    wake : callable
        In how many seconds → the worker takes the next step then, or earlier.
    log : callable
        (level, message).
    """

    def __init__(
        self,
        name: str,
        schedule: Schedule,
        now: float,
        *,
        weights: Callable[[int], list[float]],
        wake: Callable[[float], None],
        log: Callable[[int, str], None],
    ) -> None:
        self.name = name
        self._schedule = schedule
        self._membership = Membership(schedule, log)
        self._weights = weights
        self._wake = wake
        self._member = secrets.token_bytes(8)
        self._generation = b""
        self._reports = Reports(schedule, now, wake)
        self._tickets = Tickets(self._reports)
        self._request = Request(b"", _limits(schedule))
        self._requested_at, self._step_s = now, 0.0
        self._look_at = self._used_at = -math.inf
        self._expected_at = math.inf
        self._in_window, self._factor = schedule.in_window(now), schedule.factor(now)

    @property
    def _takes_turns(self) -> bool:
        return self._membership.sharing and not self._schedule.unlimited

    @property
    def processes(self) -> int:
        """How many shared the key when last heard of, this one included."""
        return self._membership.processes

    def ready_at(self, tokens: float, now: float) -> float:
        """When a request may leave; if that is in the future, the time to look again."""
        if now - self._used_at >= self._schedule.period_s:
            # After a rest nothing is due any more.
            self._wake(0.0)
        self._used_at = now
        if not self._takes_turns:
            return self._schedule.ready_at(tokens, now)
        due = self._tickets.due(tokens, now)
        if due is not None:
            if len(self._tickets) == 1 and self._look_at <= now and self._most_grants(now) > 1:
                # At high rates the next are fetched before these are used up.
                self._wake(0.0)
            return max(due, self._schedule.paused_until)
        if self._expected_at == math.inf:
            self._expected_at = max(now, self._look_at) + PATIENCE_S
            self._wake(max(0.0, self._look_at - now))
        elif now >= self._expected_at:
            self._wake(self.fail("it does not answer", now))
            return self._schedule.ready_at(tokens, now)
        return self._expected_at

    def next_at(self, now: float) -> float:
        """When the next request could leave, as far as that is known, for those who only want to know."""
        if not self._takes_turns:
            return self._schedule.ready_at(0.0, now)
        at = self._tickets.first_due if self._tickets else self._look_at
        return max(at, self._schedule.paused_until)

    def in_window(self, now: float) -> int:
        """Requests of all processes that count against the limit, as of the last step."""
        if not self._membership.sharing:
            return self._schedule.in_window(now)
        # Some places are taken a moment before others have left.
        most = self._schedule.requests.limit
        return self._in_window if most is None else min(self._in_window, math.ceil(most))

    def factor(self, now: float) -> float:
        """Share of the configured rate, as of the last step."""
        return self._factor if self._membership.sharing else self._schedule.factor(now)

    def booked(self, place: Place, now: float) -> None:
        """A place was taken in the limiter's own schedule, with leave from the store if turns are taken."""
        if self._takes_turns and self._tickets:
            self._reports.granted(place, self._tickets.take())
        else:
            self._reports.adopt(place, now)

    def report(self, what: Event, place: Place, now: float, value: float | None = None) -> None:
        """Something happened to it."""
        known = self._reports.add(what, place, now, value)
        if what == "refused":
            self._tickets.give_back(now)
            if not known:
                self.paused(self._schedule.paused_until - now, now)

    def sent(self, place: Place, booked_at: float, now: float) -> None:
        """Its request leaves only now."""
        if now - booked_at > ON_TIME_S:
            self._reports.add("sent", place, now)

    def given_back(self, place: Place, now: float) -> None:
        """Nothing was sent."""
        self._reports.add("given back", place, now)

    def paused(self, seconds: float, now: float) -> None:
        """The whole key pauses, for all processes."""
        self._tickets.give_back(now)
        self._reports.key("paused", now, seconds)

    def changed(self, now: float) -> None:
        """A limit was set."""
        self._tickets.give_back(now)
        self._look_at, self._expected_at = -math.inf, math.inf
        self._reports.key("anew", now)

    # What the worker brings to the store, and what it brings back.

    def request(self, now: float) -> Request:
        """What to bring to the next step."""
        self._tickets.drop_lapsed(now)
        reports, weights = self._reports.take(now), []
        asks = self._takes_turns and now >= self._look_at
        if asks:
            held = len(self._tickets)
            weights = self._weights(held + self._most_grants(now))[held:]
        self._request = Request(self._member, _limits(self._schedule), reports, weights, asks, 2 * self._step_s)
        self._requested_at = now
        return self._request

    def _most_grants(self, now: float) -> int:
        """How many to ask for at a time: several only where they leave within an instant, or a step takes long."""
        limit = self._schedule.requests.limit
        if limit is None:
            return 1
        for_s = max(GRANTS_S, 2 * self._step_s)
        return max(1, min(MOST_GRANTS, int(for_s / self._schedule.interval_s(limit, now))))

    def outcome(self, request: Request, outcome: Outcome, now: float) -> float:
        """Take what a step brought; returns in how many seconds the next is due."""
        if request is not self._request:
            # It took so long that this process went on alone; what it was granted leaves the window unused.
            return RETRY_S
        self._step_s += (now - self._requested_at - self._step_s) / STEPS
        ahead_s = now - outcome.now
        self._reports.taken(outcome.reported)
        lost = outcome.generation != self._generation != b""
        if outcome.generation != self._generation:
            self._generation = outcome.generation
            self._reports.forgotten(now)
        self._reports.muted = False
        self._membership.answered(outcome.processes, lost, now)
        self._in_window, self._factor = outcome.in_window, outcome.factor
        self._tickets.add(outcome.granted, ahead_s)
        if request.asks:
            self._look_at = -math.inf if outcome.look_again_at == math.inf else outcome.look_again_at + ahead_s
        self._expected_at = math.inf
        if outcome.paused_until + ahead_s > max(now, self._schedule.paused_until) + ON_TIME_S:
            self._schedule.pause(outcome.paused_until + ahead_s)
        return self._next_in(now)

    def _next_in(self, now: float) -> float:
        due = [self._used_at + HEARTBEAT_S if now - self._used_at < self._schedule.period_s else math.inf]
        if self._reports:
            due.append(now + FLUSH_S)
        if self._tickets:
            due.append(self._tickets.first_due + 2 * LAPSE_S)
        due.append(self._membership.rejoins_at)
        return max(0.0, min(due) - now)

    def fail(self, why: str, now: float) -> float:
        """The store failed; returns in how many seconds to try again."""
        self._membership.failed(why)
        self._tickets.clear()
        self._reports.drop()
        self._reports.muted = True
        self._request = Request(b"", self._request.limits)
        self._look_at, self._expected_at = -math.inf, math.inf
        return RETRY_S if now - self._used_at < self._schedule.period_s else math.inf


def _limits(schedule: Schedule) -> Limits:
    return Limits(schedule.requests.limit, schedule.tokens.limit, schedule.period_s, schedule.burst, schedule.margin_s)
