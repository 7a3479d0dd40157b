"""One attempt from its messages to its record: budget, grant, call, tokens, parse; and what follows.

    Asked ─render→ body ─budget, limiter→ Grant ─send→ Reply ─parse→ value ─record→ TokenUsageAttempt → store, journal

An attempt acts on nothing beyond itself: it returns what follows, and the run acts on that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from llmlab.analysis import label_logprob
from llmlab.client import AnswerForms, ChatClient
from llmlab.display import Tally
from llmlab.engine.budget import budget_of
from llmlab.engine.estimate import TokenEstimate, completion_limit
from llmlab.engine.pricing import tier_asked
from llmlab.engine.setup import Setup
from llmlab.errors import (
    AttemptError,
    CancelledError,
    JournalError,
    OverloadedError,
    ParseError,
    RateLimitError,
    RequestError,
    TrialError,
)
from llmlab.limits import Grant
from llmlab.parsing import thinking_in
from llmlab.records import Reply, TokenUsageAttempt, Trial
from llmlab.results import Journal, NoJournal, Store

SAME_ERRORS_STOP = 5
CROWDED_PAUSE_S = 0.25


@dataclass(slots=True, eq=False)
class Asked:
    """A trial while it is asked, and what its attempts in this run have come to.

    Attributes
    ----------
    trial : Trial
    before : int
        Attempts of earlier runs.
    ready_at : float
        Since when it could have been sent, by `time.monotonic`.
    sent : bool
        Whether the present attempt has left for the provider.
    tried : int
        Attempts of this run.
    uncounted : int
        Those among them that use up no retry.
    billed, unread : int
        Those that may have been billed without an answer, and those whose answer could not be read.
    messages : list of messages
        What is sent about the unit.
    correction : list of messages
        What is added to them to say what was wrong with the last answer.
    """

    trial: Trial
    before: int
    ready_at: float
    sent: bool = False
    tried: int = 0
    uncounted: int = 0
    billed: int = 0
    unread: int = 0
    messages: list[dict[str, Any]] = field(default_factory=list)
    correction: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Next:
    """What follows an attempt.

    Attributes
    ----------
    retry_in_s : float or None
        Seconds until the trial is asked again; `None` if it has ended.
    stop : str or None
        Why the whole run stops, if it does.
    narrow : bool
        Whether too many requests were in flight at a time.
    widen : bool
        Whether an answer came, so that there may be room for more.
    sent_at : float
        When it was sent, by `time.monotonic`.
    bugs : tuple of Exception
        What the user's own code raised.
    """

    retry_in_s: float | None = None
    stop: str | None = None
    narrow: bool = False
    widen: bool = False
    sent_at: float = 0.0
    bugs: tuple[Exception, ...] = ()


@dataclass(slots=True)
class _Sent:
    """What is known about one request beside its reply."""

    body: dict[str, Any]
    form: dict[str, Any]
    worst_usd: float
    grant: Grant
    queue_s: float
    answered_before: int
    started_at: float = field(default_factory=time.time)
    began: float = field(default_factory=time.monotonic)
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
        self._forms = AnswerForms(None if "response_format" in setup.body else setup.parser.schema)
        self._tokens = TokenEstimate()
        self._budget = budget_of(setup, store, self._worst_usd)
        self._answered = 0
        self._reached = False
        self._same = ("", 0)

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
            form = self._forms.of(trial.model)
            body = setup.body | {"model": trial.model, "messages": asked.messages + asked.correction} | form
            worst_usd = self._worst_usd(trial.model, body)
            if not await self._budget.reserve(worst_usd):
                return Next(stop=self._budget.refusal(worst_usd, is_limited=completion_limit(body) is not None))
            grant = await self._granted(trial.model, body, worst_usd)
        except TrialError as error:
            self._store.fail(trial, error)
            self._journal.put_failure(trial, error)
            self._tally.finish(ok=False)
            return Next()
        sent = _Sent(body, form, worst_usd, grant, queue_s, self._answered)
        reply = await self._send(asked, sent)
        return await self._take_in(asked, sent, reply)

    # before the request

    def _worst_usd(self, model: str, body: dict[str, Any]) -> float:
        """US dollars that the call may cost at most; 0 where no cap asks for it."""
        if self._setup.max_cost_usd is None:
            return 0.0
        tokens, tier = self._tokens.worst(model, body), tier_asked(body)
        return self._setup.price_list.estimate_usd(model, *tokens, tier=tier) or 0.0

    async def _granted(self, model: str, body: dict[str, Any], worst_usd: float) -> Grant:
        limiter = self._setup.rate_limiter
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

    async def _send(self, asked: Asked, sent: _Sent) -> Reply:
        asked.sent = True
        asked.tried += 1
        self._tally.in_flight += 1
        start = time.perf_counter()
        try:
            reply = await self._client.send(sent.body)
        except asyncio.CancelledError:
            sent.latency_s = time.perf_counter() - start
            error = CancelledError("the run ended before the answer came; it may be billed")
            attempt = self._attempt(asked, sent, Reply(error=error), error, None)
            self._journal.put(attempt, None, asked.messages)
            self._book(attempt, None)
            raise
        except Exception:
            # The messages are no JSON: nothing was sent.
            sent.grant.cancel()
            raise
        finally:
            self._tally.in_flight -= 1
        sent.latency_s = time.perf_counter() - start
        return reply

    # after the reply

    async def _take_in(self, asked: Asked, sent: _Sent, reply: Reply) -> Next:
        """Read the reply, decide what follows, and keep the attempt."""
        self._reached = self._reached or reply.http_status is not None
        value, reply, error, bugs = self._read(reply)
        follows = self._tell_limiter(asked, sent, reply, error)
        if error is not None and not bugs:
            try:
                follows = self._what_follows(asked, sent, reply, error, follows)
            except Exception as raised:
                # The wait may be the user's own function; the attempt is kept all the same.
                bugs = (raised,)
        attempt = self._attempt(asked, sent, reply, error, follows.retry_in_s, value)
        self._tokens.learn(attempt.trial.model, attempt.usage)
        self._budget.settle(sent.worst_usd, attempt.cost_usd, may_be_billed=attempt.may_be_billed)
        try:
            await self._journal.put(attempt, value, asked.messages)
        except JournalError as failure:
            follows = replace(follows, stop=f"{failure}; what was answered is here in memory")
        finally:
            # Also when cancelled here: what is queued is written before the journal closes.
            self._book(attempt, value)
        return replace(follows, bugs=bugs) if bugs else follows

    def _read(self, reply: Reply) -> tuple[object, Reply, AttemptError | None, tuple[Exception, ...]]:
        """(value, reply with the parser's notes, error, what the user's own code raised)."""
        if reply.error is not None:
            return None, reply, reply.error, ()
        self._answered += 1
        try:
            parsed = self._setup.parser.parse(reply.content, reply.finish_reason)
        except ParseError as error:
            return None, reply, error, ()
        except Exception as raised:
            return None, reply, ParseError(f"{type(raised).__name__}: {raised}"), (raised,)
        if parsed.notes:
            reply = replace(reply, notes=reply.notes + parsed.notes)
        return parsed.value, reply, None, ()

    def _tell_limiter(self, asked: Asked, sent: _Sent, reply: Reply, error: AttemptError | None) -> Next:
        """Settle the grant. A wait that the provider asks for holds for the whole key, unless it ends the run."""
        limiter = self._setup.rate_limiter
        hint_s = None if error is None else error.retry_after_s
        if hint_s is not None and hint_s > self._setup.policy.max_wait_s:
            hint_s = None
        if isinstance(error, RateLimitError):
            # A 429 while other requests are served means too many at once: pause briefly, and use up no retry.
            crowded = limiter.limit is None and self._tally.in_flight > 0
            sent.grant.refused(CROWDED_PAUSE_S if crowded and hint_s is None else hint_s)
            asked.uncounted += crowded or self._answered > sent.answered_before
            return Next(narrow=limiter.limit is None, sent_at=sent.began)
        sent.grant.answered(reply.usage.total_tokens)
        limiter.learn(reply.feedback)
        if isinstance(error, OverloadedError) and hint_s is not None:
            limiter.pause(hint_s)
        return _WIDEN

    def _what_follows(self, asked: Asked, sent: _Sent, reply: Reply, error: AttemptError, follows: Next) -> Next:
        """Whether the trial is asked again, and whether the run stops."""
        if self._forms.rejected(asked.trial.model, sent.form, error):
            # Found out once per model; the trial is asked with a simpler form at no cost of a retry.
            asked.uncounted += 1
            return replace(follows, retry_in_s=0.0)
        if self._setup.reask_with_error and isinstance(error, ParseError) and reply.content:
            asked.correction = _correction(reply.content, error)
        asked.billed += error.may_be_billed
        asked.unread += isinstance(error, ParseError)
        decision = self._setup.policy.decide(
            error, asked.tried, unpaid=asked.uncounted, billed=asked.billed, unread=asked.unread
        )
        stop = None
        if decision.stop is not None or (error.fatal_at_first and not self._reached):
            stop = str(decision.stop or error)
        elif decision.retry_in_s is None:
            stop = self._all_the_same(error)
        return replace(follows, retry_in_s=decision.retry_in_s, stop=stop)

    def _all_the_same(self, error: AttemptError) -> str | None:
        """The same refusal of the first requests will meet all; a long or offensive text says nothing of the others."""
        if self._answered or not isinstance(error, RequestError):
            return None
        what, times = self._same
        now = f"{type(error).__name__}: {error}"
        self._same = (now, times + 1 if what == now else 1)
        if self._same[1] < SAME_ERRORS_STOP:
            return None
        return f"the first {SAME_ERRORS_STOP} trials failed the same way: {error}"

    def _attempt(
        self,
        asked: Asked,
        sent: _Sent,
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
            started_at=sent.started_at,
            queue_s=sent.queue_s,
            wait_s=sent.grant.waited_s,
            latency_s=sent.latency_s,
            retry_in_s=retry_in_s,
            throttled=sent.grant.throttled,
            usage=reply.usage,
            cost_usd=self._setup.price_list.cost_usd(
                asked.trial.model, reply.usage, served.service_tier or tier_asked(sent.body)
            ),
            may_be_billed=reply.may_be_billed,
            finish_reason=reply.finish_reason,
            model_returned=reply.model_returned,
            provider=served.provider,
            system_fingerprint=served.system_fingerprint,
            service_tier=served.service_tier,
            answer_form=_form_in_words(sent.body),
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


_WIDEN = Next(widen=True)


def carry_over(trials: Iterable[Trial], store: Store) -> Iterable[Asked]:
    """The trials as they are when a run begins."""
    began = time.monotonic()
    return (Asked(trial, store.attempts_before(trial.position), began) for trial in trials)


def _form_in_words(body: Mapping[str, Any]) -> str:
    """How the form of the answer was asked for."""
    form = body.get("response_format")
    return str(form.get("type")) if isinstance(form, Mapping) else "text"


def _correction(content: str, error: ParseError) -> list[dict[str, Any]]:
    """What a repeated question adds: the answer that could not be read, and why."""
    return [
        {"role": "assistant", "content": content},
        {"role": "user", "content": f"That answer cannot be used: {error} Answer again, in the form asked for."},
    ]
