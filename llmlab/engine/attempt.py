"""One attempt from its messages to its record: budget, grant, call; what the reply says; and what follows.

    Asked ─render→ Request ─budget, limiter→ Grant ─send→ Reply ─parse→ value ─keep→ TokenUsageAttempt → store, journal

An attempt acts on nothing beyond itself: it returns what follows, and the run acts on that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from llmlab.client import ChatClient
from llmlab.display import Tally
from llmlab.engine.budget import MakeBudget, budget_of
from llmlab.engine.intake import Course, Intake, judged
from llmlab.engine.queue import Asked
from llmlab.engine.request import Request, RequestWriter
from llmlab.engine.retry import CROWDED_PAUSE_S
from llmlab.engine.setup import Setup
from llmlab.engine.verdict import Next, Sent, Verdicts
from llmlab.errors import AttemptError, CancelledError, OverloadedError, RateLimitError, TrialError
from llmlab.limits import Grant, RateLimiter
from llmlab.records import Reply
from llmlab.results import Journal, NoJournal, Store


@dataclass(slots=True)
class _Call:
    """A request that is sent."""

    request: Request
    sent: Sent
    grant: Grant
    queue_s: float
    started_at: float = field(default_factory=time.time)
    latency_s: float = 0.0

    def course(self) -> Course:
        request, grant = self.request, self.grant
        return Course(
            self.started_at, self.latency_s, request.worst_usd, request.answer_form, request.tier,
            self.queue_s, grant.waited_s, grant.throttled,
        )  # fmt: skip


class Attempts:
    """Carries out the attempts of one run, and keeps what they teach about the endpoint.

    Every attempt is in `store` and `tally` when `carry_out` returns, and in the journal before it counts.

    Attributes
    ----------
    outages : Outages
    forms : AnswerForms
    writer : RequestWriter
    intake : Intake
    """

    def __init__(
        self,
        setup: Setup,
        client: ChatClient,
        store: Store,
        journal: Journal | NoJournal,
        tally: Tally,
        make_budget: MakeBudget = budget_of,
    ) -> None:
        self._setup, self._client, self._tally = setup, client, tally
        self._verdicts = Verdicts(setup)
        self.outages, self.forms = self._verdicts.outages, self._verdicts.forms
        self.writer = RequestWriter(setup, store, self.forms, make_budget)
        self.intake = Intake(setup, store, journal, tally, self.writer)

    async def carry_out(self, asked: Asked) -> Next:
        """Make one attempt at a trial.

        Raises
        ------
        asyncio.CancelledError
            From outside. If `asked.sent`, the attempt is recorded; otherwise nothing has happened.
        Exception
            What the user's own prompt raises; nothing was sent.
        """
        queue_s = max(0.0, time.monotonic() - asked.ready_at)
        try:
            request = self.writer.write(asked)
            if not await self.writer.budget.reserve(request.worst_usd):
                return Next(stop=(self.writer.no_room(request),))
            grant = await self._granted(asked, request)
        except TrialError as error:
            self.intake.keep_unsent(asked.trial, error)
            return Next()
        sent = self._verdicts.sent(asked.trial.model, request.body, request.form)
        call = _Call(request, sent, grant, queue_s)
        reply = await self._send(asked, call)
        read = self.intake.read(asked.trial, reply)
        in_flight = self._tally.in_flight
        follows = judged(read, lambda: self._verdicts.judge(asked, call.sent, read.reply, read.error, in_flight))
        self._tell_limiter(self._setup.limiters.of(asked.trial.model), call.grant, read.reply, read.error, follows)
        return await self.intake.keep(asked, call.course(), read, follows)

    async def take_line(self, asked: Asked, course: Course, reply: Reply) -> Next:
        """Take in what the batch queue gave for a trial, like the reply to a call; its cost was put aside before."""
        asked.tried += 1
        reply = replace(reply, served=replace(reply.served, service_tier=course.tier))
        read = self.intake.read(asked.trial, reply)
        form = self.forms.named(course.answer_form)
        follows = judged(read, lambda: self._verdicts.judge_line(asked, form, read.reply, read.error))
        return await self.intake.keep(asked, course, read, follows)

    def hear(self, answered: Mapping[str, str | None]) -> None:
        """Other processes of this experiment have got answers: of which models, and how their form was asked for."""
        self._verdicts.hear(answered)

    async def _granted(self, asked: Asked, request: Request) -> Grant:
        model = asked.trial.model
        limiter = self._setup.limiters.of(model)
        self._tally.waiting += 1
        asked.waits = True
        try:
            most = limiter.tokens
            tokens = 0 if most is None else self.writer.tokens.reserve(model, request.body, most)
            return await limiter.acquire(tokens)
        except BaseException:
            self.writer.budget.release(request.worst_usd)
            raise
        finally:
            self._tally.waiting -= 1
            asked.waits = False

    async def _send(self, asked: Asked, call: _Call) -> Reply:
        asked.sent = True
        asked.tried += 1
        self._tally.in_flight += 1
        start = time.perf_counter()
        try:
            reply = await self._client.send(call.request.body)
        except asyncio.CancelledError:
            call.latency_s = time.perf_counter() - start
            error = CancelledError("the run ended before the answer came; it may be billed")
            self.intake.keep_interrupted(asked, call.course(), error)
            raise
        except Exception:
            # The messages are no JSON: nothing was sent.
            call.grant.cancel()
            raise
        finally:
            self._tally.in_flight -= 1
        call.latency_s = time.perf_counter() - start
        return reply

    def _tell_limiter(
        self, limiter: RateLimiter, grant: Grant, reply: Reply, error: AttemptError | None, follows: Next
    ) -> None:
        """Settle the grant. A wait that the provider asks for holds for the whole key, unless it ends something."""
        hint_s = None if error is None else error.retry_after_s
        if hint_s is not None and hint_s > self._setup.policy.max_wait_s:
            hint_s = None
        if isinstance(error, RateLimitError):
            crowded = follows.room is not None and self._tally.in_flight > 0
            grant.refused(CROWDED_PAUSE_S if crowded and hint_s is None else hint_s)
            return
        grant.answered(reply.usage.total_tokens)
        limiter.learn(reply.feedback)
        if isinstance(error, OverloadedError) and hint_s is not None and not follows.hold:
            limiter.pause(hint_s)
