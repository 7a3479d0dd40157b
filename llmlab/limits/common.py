"""What the processes that share a key decide together: one `Schedule` for all, and whose turn it is.

A process brings a `Request` and takes an `Outcome`. A store (`llmlab.limits.shared_file`, `llmlab.limits.shared_redis`)
keeps the state between the steps, as the bytes of `llmlab.limits.state`. All times are those of the store's clock.
Nothing here knows a key.
"""

from __future__ import annotations

import copy
import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from llmlab.limits.schedule import Place, Schedule

GRAINS_PER_PERIOD = 400
MEMBER_S = 10.0
AHEAD_S, MOST_AHEAD_S = 0.03, 0.25
GRACE_S, LEAST_S = 0.1, 0.002


Event = Literal["answered", "refused", "sent", "given back", "adopted", "paused", "anew"]


@dataclass(slots=True)
class Member:
    """One process that shares.

    Attributes
    ----------
    seen_at : float
        When it last asked or reported.
    since : float
        From when on it has been waiting for a turn; infinite if it is not.
    until : float
        Until when others leave it its turn; then it seems to have gone.
    served : int
        Number of its last turn: the least comes next.
    """

    seen_at: float = -math.inf
    since: float = math.inf
    until: float = -math.inf
    served: int = -1


@dataclass(frozen=True, slots=True)
class Limits:
    """What one process has set for the key; each obeys its own on the common count."""

    requests: float | None
    tokens: float | None
    period_s: float
    burst: float
    margin_s: float


@dataclass(frozen=True, slots=True)
class Report:
    """Something that happened to a request of this process.

    Attributes
    ----------
    what : str
        `answered`, `refused`, `sent` (later than its turn), `given back`, `adopted` (sent while the store was away),
        `paused` or `anew` (another limit was set).
    ago_s : float
        How long before the step.
    place : Place
        The request's place in the common window.
    value : float or None
        Tokens used, seconds of Retry-After, seconds of the pause, or (adopted) seconds until it leaves the window.
    """

    what: Event
    ago_s: float
    place: Place
    value: float | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """What a process brings to a step.

    Attributes
    ----------
    member : bytes
        Its random name.
    limits : Limits
    reports : sequence of Report
    weights : sequence of float
        Tokens of those who wait first.
    asks : bool
        Whether it asks for them; if not, it only reports, and keeps the turn that it may be waiting for.
    ahead_s : float
        How long before its time leave to send is of use: what a step takes, and a little more.
    """

    member: bytes
    limits: Limits
    reports: Sequence[Report] = ()
    weights: Sequence[float] = ()
    asks: bool = True
    ahead_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a process takes from a step.

    Attributes
    ----------
    granted : list of Place
        One for each of the first weights that may leave, at `Place.sent_at`.
    reported : list of Place
        The places of the reports as they stand now.
    look_again_at : float
        When to ask for the others; infinite if there are none.
    now : float
        The store's time.
    processes : int
        How many shared in the last seconds, this one included.
    in_window : int
        Requests of all that count at present.
    factor : float
        Share of the configured rate.
    paused_until : float
        Minus infinity if there was no pause.
    generation : bytes
        Changes when the store has lost what it knew.
    """

    granted: list[Place]
    reported: list[Place]
    look_again_at: float
    now: float
    processes: int
    in_window: int
    factor: float
    paused_until: float
    generation: bytes


@dataclass(slots=True)
class Common:
    """The state of one key.

    Attributes
    ----------
    schedule : Schedule
        The window, the pace and the refusals of all, under the limits of the process that looks.
    generation : bytes
        Made at random when there was no state.
    last : float
        When it was last advanced.
    turns : int
        Counts the turns.
    members : dict
        The processes by their random names.
    """

    schedule: Schedule
    generation: bytes = field(default_factory=lambda: secrets.token_bytes(8))
    last: float = -math.inf
    turns: int = 0
    members: dict[bytes, Member] = field(default_factory=dict)

    def advance(self, request: Request, now: float) -> Outcome:
        """One step of one process."""
        now = self.last = max(now, self.last)
        reported = [self._take(report, now) for report in request.reports]
        for name in [name for name, member in self.members.items() if member.seen_at < now - MEMBER_S]:
            del self.members[name]
        me = self.members.setdefault(request.member, Member())
        me.seen_at = now
        granted, look_again_at = self._grant(me, request, now) if request.asks else ([], math.inf)
        return Outcome(
            granted,
            reported,
            look_again_at,
            now,
            len(self.members),
            self.schedule.in_window(now),
            self.schedule.factor(now),
            self.schedule.paused_until,
            self.generation,
        )

    def _take(self, report: Report, now: float) -> Place:
        schedule, at = self.schedule, now - report.ago_s
        # A copy: a step that another process got ahead of is done again from the beginning.
        place = copy.copy(report.place)
        match report.what:
            case "answered":
                schedule.answered(place, report.value, at)
            case "refused":
                schedule.refused(place, report.value, at)
            case "sent":
                schedule.sent(place, at)
            case "given back":
                schedule.give_back(place)
            case "adopted":
                place = schedule.adopt(at, now + (report.value or 0.0), place.tokens)
            case "paused":
                schedule.pause(at + (report.value or 0.0))
            case "anew":
                schedule.refusals.start_anew(at)
        return place

    def _grant(self, me: Member, request: Request, now: float) -> tuple[list[Place], float]:
        """Places for the first who may leave, and when to ask for the next."""
        schedule, granted, look_again_at = self.schedule, [], math.inf
        ahead_s = max(AHEAD_S, min(request.ahead_s, MOST_AHEAD_S))
        # Those who were served longer ago and still wait come first; if they do not take their turn in time, they have
        # gone.
        before_me = sum(other.until >= now and other.served < me.served for other in self.members.values())
        theirs_s = min(before_me * len(request.weights) * self.interval_s(), GRACE_S)
        for tokens in request.weights:
            ready = schedule.ready_at(tokens, now)
            ahead = ahead_s if ready > schedule.paused_until else 0.0
            if before_me or ready > now + ahead:
                look_again_at = max(max(ready, now) + theirs_s - ahead, now + LEAST_S)
                break
            leaves = max(ready, now)
            granted.append(schedule.book(tokens, max(ready, min(me.since, leaves)), leaves))
        if granted:
            self.turns += 1
            me.served = self.turns
        if look_again_at < math.inf:
            me.since, me.until = min(me.since, now) if not granted else now, look_again_at + GRACE_S
        else:
            me.since, me.until = math.inf, -math.inf
        return granted, look_again_at

    def interval_s(self) -> float:
        """Seconds between two requests at present, under the limit of the process that looks."""
        limit = self.schedule.requests.limit
        return 0.0 if limit is None else self.schedule.interval_s(limit, self.last)
