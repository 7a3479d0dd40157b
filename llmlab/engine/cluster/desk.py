"""What the workers of a cluster are told, and what becomes of what they tell.

Store, journal, budget and tally are here, and are the only truth.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol

from llmlab.engine.attempt import Attempts
from llmlab.engine.cluster.handout import Handout, ahead
from llmlab.engine.cluster.member import Member
from llmlab.engine.cluster.outfit import used_columns
from llmlab.engine.cluster.travel import Orders, Part, Report, ToAsk
from llmlab.engine.setup import Setup
from llmlab.engine.verdict import Stop
from llmlab.errors import CancelledError
from llmlab.records import ATTEMPT, UNKNOWN_USAGE, TokenUsageAttempt, Trial
from llmlab.results import Journal, NoJournal, Store

MOST_LOSSES = 3
HOLD_S, GATHER_S, GATHER_MORE_S = 0.25, 0.25, 0.02


class Ends(Protocol):
    """What the run does when something ends before its time."""

    def end(self, stop: Stop) -> None:
        """End a model, or the run."""
        ...

    def fail(self, bug: BaseException) -> None:
        """The user's own code raised."""
        ...


class Desk:
    """Gives out the trials of one experiment, and takes in what was made of them.

    Parameters
    ----------
    setup : Setup
    positions : sequence of int
        The trials to be asked.
    store, journal : Store, Journal or NoJournal
    attempts : Attempts
        Takes in what the workers make, and has the budget.
    ended : mapping
        The models that have ended, as the run knows them.
    ends : Ends

    Attributes
    ----------
    members : dict
        The workers that take part, by address.
    closing : bool
        Whether nothing more is asked.
    grace_s : float or None
        How many seconds what is in flight has then.
    answered : dict
        The models of which an answer came, with the form that it was asked for in.
    """

    def __init__(
        self,
        setup: Setup,
        positions: Sequence[int],
        store: Store,
        journal: Journal | NoJournal,
        attempts: Attempts,
        ended: Mapping[str, Stop],
        ends: Ends,
    ) -> None:
        self.members: dict[str, Member] = {}
        self.closing = False
        self.grace_s: float | None = None
        self._setup, self._store, self._session = setup, store, journal.session
        self._intake, self._budget = attempts.intake, attempts.writer.budget
        self._ended, self._ends = ended, ends
        self._keeps_messages = isinstance(journal, Journal)
        self._columns = used_columns(setup)
        self._layout = setup.plan.layout
        self._handout = Handout(positions, lambda position: self._layout.at(position)[0])
        # How often a worker was lost while a trial was in flight there, by position.
        self._losses: Counter[int] = Counter()
        self.answered: dict[str, str | None] = {}
        self._grants: set[asyncio.Task[None]] = set()

    @property
    def all_done(self) -> bool:
        """Whether every trial has ended."""
        return self._handout.empty and not any(member.outstanding for member in self.members.values())

    def close(self, grace_s: float | None) -> None:
        """Give out nothing more."""
        self.closing = True
        self._handout.clear()
        if grace_s is not None:
            self.grace_s = grace_s if self.grace_s is None else min(grace_s, self.grace_s)

    def forget_wishes(self) -> None:
        """Nobody waits for money any more."""
        for grant in self._grants:
            grant.cancel()

    # what they are told

    def orders_for(self, member: Member) -> Orders:
        """The next orders of a worker; it reports often at first, so that short experiments are quick."""
        share, team = self._share_of(member), len(self.members)
        part = None if self.closing or not share else self._part_for(member)
        return member.orders(
            slots=share, part=part, ended=dict(self._ended), answered=member.take_news(),
            granted=member.take_granted(), spent_usd=self._budget.spent_usd,
            stops=self.closing, grace_s=self.grace_s, no_more=self.closing or self.all_done,
            hold_s=max(HOLD_S, team / 100),
            gather_s=min(GATHER_S, member.number * GATHER_MORE_S) + team / 100,
        )  # fmt: skip

    def _share_of(self, member: Member) -> int:
        """Slots of a worker: all have as many, and together never more than the experiment may have."""
        most, team = self._setup.max_concurrent, list(self.members.values())
        fair = (most + len(team) - 1 - team.index(member)) // len(team)
        return max(0, min(fair, most - sum(other.bound for other in team if other is not member)))

    def _part_for(self, member: Member) -> Part | None:
        wanted = ahead(member.sent, member.sent_in_s)
        if member.unsent > wanted // 2:
            return None
        positions = self._handout.take(wanted - member.unsent, lambda at: self._layout.at(at)[1] in self._ended)
        if not positions:
            return None
        rows: dict[int, int] = {}
        trials = []
        for position in positions:
            unit, model, prompt, run = self._layout.at(position)
            row = rows.setdefault(unit, len(rows))
            trials.append(ToAsk(position, row, model, prompt, run, self._store.attempts_before(position)))
        member.outstanding |= dict.fromkeys(positions)
        member.given = tuple(positions)
        return Part(self._setup.plan.units.frame[self._columns].iloc[list(rows)], tuple(trials))

    # what they tell

    async def take(self, member: Member, report: Report) -> tuple[str, ...]:
        """Take in a report; returns why this worker is to be let go, if so."""
        told, plan = report.told, self._setup.plan
        trials = plan.trials(one.position for one in told.made)
        made = [(ATTEMPT.build(one.cells, trial=trial), one) for trial, one in zip(trials, told.made, strict=True)]
        for attempt, _ in made:
            if attempt.status != "call_error":
                self._hear(member, attempt)
        member.take(report)
        for one in told.settled:
            member.aside_usd.remove(one.worst_usd)
            self._budget.settle(one.worst_usd, one.cost_usd, may_be_billed=one.may_be_billed)
        for number, worst_usd in told.wishes.items():
            grant = asyncio.ensure_future(self._grant(member, number, worst_usd))
            self._grants.add(grant)
            grant.add_done_callback(self._grants.discard)
        unsent = plan.trials(position for position, _ in told.unsent)
        for trial, (_, error) in zip(unsent, told.unsent, strict=True):
            self._intake.keep_unsent(trial, error)
        stops = await self._intake.keep_made([(attempt, one.value, one.messages) for attempt, one in made])
        return self._act_on(member, report, stops)

    def _hear(self, member: Member, attempt: TokenUsageAttempt) -> None:
        """An answer came; the other workers are told."""
        member.heard_at = time.monotonic()
        self.answered[attempt.trial.model] = attempt.answer_form
        for other in self.members.values():
            if other is not member:
                other.news[attempt.trial.model] = attempt.answer_form

    def _act_on(self, member: Member, report: Report, stops: Sequence[Stop]) -> tuple[str, ...]:
        for model, stop in report.ended.items():
            if model not in self._ended:
                self._ends.end(dataclasses.replace(stop, models=frozenset({model})))
        if report.bug is not None:
            self._ends.fail(report.bug)
        let_go = []
        for stop in (*stops, *report.stops):
            others = max((one.heard_at for one in self.members.values() if one is not member), default=-math.inf)
            if stop.away and others > member.heard_at:
                # The others reach the provider: it is this worker's own connection.
                let_go.append(stop.reason)
            else:
                self._ends.end(stop)
        if report.idle:
            member.drop(at for at in list(member.outstanding) if self._layout.at(at)[1] in self._ended)
        return tuple(let_go)

    async def _grant(self, member: Member, number: int, worst_usd: float) -> None:
        granted = await self._budget.reserve(worst_usd)
        if granted and member.over:
            self._budget.release(worst_usd)
        elif granted:
            member.aside_usd.append(worst_usd)
        member.granted[number] = granted

    async def take_back(self, member: Member) -> None:
        """Give to the others what a worker has not asked to its end, and note what was in flight with one that died."""
        lost = [] if member.over else member.maybe_sent
        member.over = True
        self._losses.update(lost)
        # What kills one worker after the other is not given to a further one.
        member.drop(at for at in lost if self._losses[at] >= MOST_LOSSES)
        for worst_usd in member.aside_usd:
            self._budget.settle(worst_usd, None, may_be_billed=True)
        if not self.closing:
            self._handout.give_back(list(member.outstanding))
        made = []
        for trial in self._setup.plan.trials(lost):
            messages = self._setup.asks.messages_of(trial) if self._keeps_messages else []
            made.append((self._lost(trial, member), None, messages))
        for stop in await self._intake.keep_made(made):
            self._ends.end(stop)

    def _lost(self, trial: Trial, member: Member) -> TokenUsageAttempt:
        since_s = time.monotonic() - member.reported_at
        ends = self.closing or self._losses[trial.position] >= MOST_LOSSES
        error = CancelledError("the worker that asked was lost before the answer came; it may be billed")
        return TokenUsageAttempt(
            trial=trial, attempt=self._store.attempts_before(trial.position) + 1, session=self._session,
            status="call_error", error_type=type(error).__name__, error=str(error), started_at=time.time() - since_s,
            queue_s=0.0, wait_s=0.0, latency_s=since_s, retry_in_s=None if ends else 0.0, throttled=False,
            usage=UNKNOWN_USAGE, cost_usd=None, may_be_billed=True, finish_reason=None, model_returned=None,
            request_id=None, http_status=None, content=None,
        )  # fmt: skip
