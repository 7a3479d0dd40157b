"""One attempt from its messages to its record: budget, grant, call, tokens, parse; and what follows.

    Asked ─render→ body ─budget, limiter→ Grant ─send→ Reply ─parse→ value ─record→ TokenUsageAttempt → store, journal

An attempt acts on nothing beyond itself: it returns what follows, and the run acts on that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from llmlab.analysis import label_logprob
from llmlab.client import ChatClient
from llmlab.display import Tally
from llmlab.engine.budget import budget_of
from llmlab.engine.estimate import TokenEstimate, completion_limit
from llmlab.engine.pricing import tier_asked
from llmlab.engine.queue import Asked
from llmlab.engine.repeats import NOTE, Completions
from llmlab.engine.retry import CROWDED_PAUSE_S
from llmlab.engine.setup import Setup
from llmlab.engine.verdict import Next, Sent, Stop, Verdicts
from llmlab.errors import (
    AttemptError,
    CancelledError,
    JournalError,
    OverloadedError,
    ParseError,
    RateLimitError,
    TrialError,
)
from llmlab.limits import Grant, RateLimiter
from llmlab.parsing import thinking_in
from llmlab.records import Reply, TokenUsageAttempt, Trial
from llmlab.results import Journal, NoJournal, Store


@dataclass(slots=True)
class _Call:
    """One request, beside what the verdict needs to know of it."""

    sent: Sent
    worst_usd: float
    grant: Grant
    queue_s: float
    started_at: float = field(default_factory=time.time)
    latency_s: float = 0.0


class Attempts:
    """Carries out the attempts of one run, and keeps what they teach about the endpoint.

    Every attempt is in `store` and `tally` when `carry_out` returns, and in the journal before it counts.
    """

    def __init__(
        self, setup: Setup, client: ChatClient, store: Store, journal: Journal | NoJournal, tally: Tally
    ) -> None:
        self._setup, self._client = setup, client
        self._store, self._journal, self._tally = store, journal, tally
        self._verdicts = Verdicts(setup)
        self.outages = self._verdicts.outages
        self._completions = Completions()
        self._tokens = TokenEstimate()
        self._budget = budget_of(setup, store, self._worst_usd)

    async def carry_out(self, asked: Asked) -> Next:
        """Make one attempt at a trial.

        Raises
        ------
        asyncio.CancelledError
            From outside. If `asked.sent`, the attempt is recorded; otherwise nothing has happened.
        Exception
            What the user's own prompt raises; nothing was sent.
        """
        setup, trial = self._setup, asked.trial
        queue_s = max(0.0, time.monotonic() - asked.ready_at)
        try:
            asked.messages = setup.asks.messages_of(trial)
            form = self._verdicts.forms.of(trial.model, trial.position)
            body = setup.body_of(trial) | {"messages": asked.messages + asked.correction} | form
            worst_usd = self._worst_usd(trial.model, body)
            if not await self._budget.reserve(worst_usd):
                reason = self._budget.refusal(worst_usd, is_limited=completion_limit(body) is not None)
                return Next(stop=(Stop(reason),))
            grant = await self._granted(trial.model, body, worst_usd)
        except TrialError as error:
            self._store.fail(trial, error)
            self._journal.put_failure(trial, error)
            self._tally.finish(ok=False)
            return Next()
        call = _Call(self._verdicts.sent(trial.model, body, form), worst_usd, grant, queue_s)
        reply = await self._send(asked, call)
        return await self._take_in(asked, call, reply)

    # before the request

    def _worst_usd(self, model: str, body: dict[str, Any]) -> float:
        """US dollars that the call may cost at most; 0 where no cap asks for it."""
        if self._setup.max_cost_usd is None:
            return 0.0
        tokens, tier = self._tokens.worst(model, body), tier_asked(body)
        return self._setup.price_list.estimate_usd(model, *tokens, tier=tier) or 0.0

    async def _granted(self, model: str, body: dict[str, Any], worst_usd: float) -> Grant:
        limiter = self._setup.limiters.of(model)
        self._tally.waiting += 1
        try:
            most = limiter.tokens
            return await limiter.acquire(0 if most is None else self._tokens.reserve(model, body, most))
        except BaseException:
            self._budget.release(worst_usd)
            raise
        finally:
            self._tally.waiting -= 1

    # the request

    async def _send(self, asked: Asked, call: _Call) -> Reply:
        asked.sent = True
        asked.tried += 1
        self._tally.in_flight += 1
        start = time.perf_counter()
        try:
            reply = await self._client.send(call.sent.body)
        except asyncio.CancelledError:
            call.latency_s = time.perf_counter() - start
            error = CancelledError("the run ended before the answer came; it may be billed")
            attempt = self._attempt(asked, call, Reply(error=error), error, None)
            self._journal.put(attempt, None, asked.messages)
            self._book(attempt, None)
            raise
        except Exception:
            # The messages are no JSON: nothing was sent.
            call.grant.cancel()
            raise
        finally:
            self._tally.in_flight -= 1
        call.latency_s = time.perf_counter() - start
        return reply

    # after the reply

    async def _take_in(self, asked: Asked, call: _Call, reply: Reply) -> Next:
        """Read the reply, see what follows, and keep the attempt."""
        value, reply, error, bugs = self._read(reply)
        if self._completions.is_repeated(asked.trial, reply.served.completion_id):
            reply = replace(reply, notes=(*reply.notes, NOTE))
        follows = Next(bugs=bugs)
        if not bugs:
            try:
                follows = self._verdicts.judge(asked, call.sent, reply, error, self._tally.in_flight)
            except Exception as raised:
                # The wait may be the user's own function; the attempt is kept all the same.
                follows = Next(bugs=(raised,))
        self._tell_limiter(self._setup.limiters.of(asked.trial.model), call.grant, reply, error, follows)
        attempt = self._attempt(asked, call, reply, error, follows.retry_in_s, value)
        self._tokens.learn(attempt.trial.model, attempt.usage)
        self._budget.settle(call.worst_usd, attempt.cost_usd, may_be_billed=attempt.may_be_billed)
        try:
            await self._journal.put(attempt, value, asked.messages)
        except JournalError as failure:
            stop = Stop(f"{failure}; what was answered is here in memory")
            follows = replace(follows, stop=(*follows.stop, stop))
        finally:
            # Also when cancelled here: what is queued is written before the journal closes.
            self._book(attempt, value)
        return follows

    def _read(self, reply: Reply) -> tuple[object, Reply, AttemptError | None, tuple[Exception, ...]]:
        """(value, reply with the parser's notes, error, what the user's own code raised)."""
        if reply.error is not None:
            return None, reply, reply.error, ()
        try:
            parsed = self._setup.parser.parse(reply.content, reply.finish_reason)
        except ParseError as error:
            return None, reply, error, ()
        except Exception as raised:
            return None, reply, ParseError(f"{type(raised).__name__}: {raised}"), (raised,)
        if parsed.notes:
            reply = replace(reply, notes=reply.notes + parsed.notes)
        return parsed.value, reply, None, ()

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

    def _attempt(
        self,
        asked: Asked,
        call: _Call,
        reply: Reply,
        error: AttemptError | None,
        retry_in_s: float | None,
        value: object = None,
    ) -> TokenUsageAttempt:
        served = reply.served
        return TokenUsageAttempt(
            trial=asked.trial,
            attempt=asked.before + asked.tried,
            session=self._journal.session,
            status="ok" if error is None else "parse_error" if isinstance(error, ParseError) else "call_error",
            error_type=None if error is None else type(error).__name__,
            error=None if error is None else str(error),
            started_at=call.started_at,
            queue_s=call.queue_s,
            wait_s=call.grant.waited_s,
            latency_s=call.latency_s,
            retry_in_s=retry_in_s,
            throttled=call.grant.throttled,
            usage=reply.usage,
            cost_usd=self._setup.price_list.cost_usd(
                asked.trial.model, reply.usage, served.service_tier or tier_asked(call.sent.body)
            ),
            may_be_billed=reply.may_be_billed,
            finish_reason=reply.finish_reason,
            model_returned=reply.model_returned,
            provider=served.provider,
            system_fingerprint=served.system_fingerprint,
            service_tier=served.service_tier,
            answer_form=_form_in_words(call.sent.body),
            request_id=reply.request_id,
            http_status=reply.http_status,
            content=reply.content,
            reasoning=(served.reasoning or thinking_in(reply.content)) if self._setup.keep_reasoning else None,
            label_logprob=label_logprob(served.tokens, value) if error is None else None,
            notes=reply.notes,
        )

    def _book(self, attempt: TokenUsageAttempt, value: object) -> None:
        """Store and tally take the attempt together, so that their counts are the same."""
        self._store.record(attempt, value)
        self._tally.record(attempt)
        if attempt.retry_in_s is None:
            self._tally.finish(ok=attempt.status == "ok")


def carry_over(trials: Iterable[Trial], store: Store) -> Iterator[Asked]:
    """The trials as they are when a run begins."""
    began = time.monotonic()
    return (Asked(trial, store.attempts_before(trial.position), began) for trial in trials)


def _form_in_words(body: Mapping[str, Any]) -> str:
    """How the form of the answer was asked for."""
    form = body.get("response_format")
    return str(form.get("type")) if isinstance(form, Mapping) else "text"
