"""A reply → its record: tokens, parse, price; in the journal before it counts, then in store and tally."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from llmlab.analysis import label_logprob
from llmlab.display import Tally
from llmlab.engine.queue import Asked
from llmlab.engine.repeats import NOTE, Completions
from llmlab.engine.request import RequestWriter
from llmlab.engine.setup import Setup
from llmlab.engine.verdict import Next, Stop
from llmlab.errors import AttemptError, JournalError, ParseError
from llmlab.parsing import thinking_in
from llmlab.records import Reply, TokenUsageAttempt, Trial
from llmlab.results import Journal, NoJournal, Store

# An attempt, the prediction that it gave, and what was sent about the unit.
Made = tuple[TokenUsageAttempt, object, list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Course:
    """How a request went, apart from its reply.

    Attributes
    ----------
    started_at : float
        When it was sent, or its batch was submitted; seconds since the epoch.
    latency_s : float
        Seconds from then to the reply, or to the end of the batch.
    worst_usd : float
        US dollars that were put aside for it.
    answer_form : str or None
        How the form of the answer was asked for; `None` if that is not known.
    tier : str or None
        The tier at which it is priced if the reply names none.
    queue_s, wait_s : float
        Seconds that it waited for a slot, and for the limiter.
    throttled : bool
        Whether the limiter let it wait.
    """

    started_at: float
    latency_s: float
    worst_usd: float
    answer_form: str | None
    tier: str | None
    queue_s: float = 0.0
    wait_s: float = 0.0
    throttled: bool = False


@dataclass(frozen=True, slots=True)
class Read:
    """A reply that has been read.

    Attributes
    ----------
    value : object
        The prediction, if there is no error.
    reply : Reply
        With what was noticed while reading.
    error : AttemptError or None
        Of the call, or of reading its answer.
    bugs : tuple of Exception
        What the user's own code raised.
    """

    value: object
    reply: Reply
    error: AttemptError | None = None
    bugs: tuple[Exception, ...] = ()


class Intake:
    """Takes in the replies of one run.

    Parameters
    ----------
    setup : Setup
    store, journal, tally : Store, Journal or NoJournal, Tally
        Where attempts are kept.
    writer : RequestWriter
        Its budget is settled, and its estimate of tokens learns.
    """

    def __init__(
        self, setup: Setup, store: Store, journal: Journal | NoJournal, tally: Tally, writer: RequestWriter
    ) -> None:
        self._setup, self._writer = setup, writer
        self._store, self._journal, self._tally = store, journal, tally
        self._completions = Completions()

    def read(self, trial: Trial, reply: Reply) -> Read:
        """Read the answer in a reply."""
        if self._completions.is_repeated(trial, reply.served.completion_id):
            reply = replace(reply, notes=(*reply.notes, NOTE))
        if reply.error is not None:
            return Read(None, reply, reply.error)
        try:
            parsed = self._setup.parser.parse(reply.content, reply.finish_reason)
        except ParseError as error:
            return Read(None, reply, error)
        except Exception as raised:
            return Read(None, reply, ParseError(f"{type(raised).__name__}: {raised}"), (raised,))
        if parsed.notes:
            reply = replace(reply, notes=reply.notes + parsed.notes)
        return Read(parsed.value, reply)

    async def keep(self, asked: Asked, course: Course, read: Read, follows: Next) -> Next:
        """Keep an attempt; returns what follows, which is also that the run ends if the journal cannot keep it."""
        attempt = self._attempt(asked, course, read, follows.retry_in_s)
        self._writer.tokens.learn(attempt.trial.model, attempt.usage)
        self._writer.budget.settle(course.worst_usd, attempt.cost_usd, may_be_billed=attempt.may_be_billed)
        try:
            await self._journal.put(attempt, read.value, asked.messages)
        except JournalError as failure:
            follows = replace(follows, stop=(*follows.stop, _unwritten(failure)))
        finally:
            # Also when cancelled here: what is queued is written before the journal closes.
            self._book(attempt, read.value)
        return follows

    async def keep_made(self, made: Sequence[Made]) -> tuple[Stop, ...]:
        """Keep attempts that another process made; returns what ends with them."""
        try:
            for written in [self._journal.put(*one) for one in made]:
                await written
        except JournalError as failure:
            return (_unwritten(failure),)
        finally:
            for attempt, value, _ in made:
                self._book(attempt, value)
        return ()

    def keep_interrupted(self, asked: Asked, course: Course, error: AttemptError) -> None:
        """Keep an attempt of which no reply came, without waiting for the disk."""
        attempt = self._attempt(asked, course, Read(None, Reply(error=error), error), None)
        self._journal.put(attempt, None, asked.messages)
        self._book(attempt, None)

    def keep_unsent(self, trial: Trial, error: AttemptError) -> None:
        """The trial has ended without an attempt."""
        self._store.fail(trial, error)
        self._journal.put_failure(trial, error)
        self._tally.finish(ok=False)

    def _attempt(self, asked: Asked, course: Course, read: Read, retry_in_s: float | None) -> TokenUsageAttempt:
        reply, error = read.reply, read.error
        served = reply.served
        tier = served.service_tier or course.tier
        return TokenUsageAttempt(
            trial=asked.trial,
            attempt=asked.before + asked.tried,
            session=self._journal.session,
            status="ok" if error is None else "parse_error" if isinstance(error, ParseError) else "call_error",
            error_type=None if error is None else type(error).__name__,
            error=None if error is None else str(error),
            started_at=course.started_at,
            queue_s=course.queue_s,
            wait_s=course.wait_s,
            latency_s=course.latency_s,
            retry_in_s=retry_in_s,
            throttled=course.throttled,
            usage=reply.usage,
            cost_usd=self._setup.price_list.cost_usd(asked.trial.model, reply.usage, tier),
            may_be_billed=reply.may_be_billed,
            finish_reason=reply.finish_reason,
            model_returned=reply.model_returned,
            provider=served.provider,
            system_fingerprint=served.system_fingerprint,
            service_tier=served.service_tier,
            answer_form=course.answer_form,
            request_id=reply.request_id,
            http_status=reply.http_status,
            content=reply.content,
            reasoning=(served.reasoning or thinking_in(reply.content)) if self._setup.keep_reasoning else None,
            label_logprob=label_logprob(served.tokens, read.value) if error is None else None,
            notes=reply.notes,
        )

    def _book(self, attempt: TokenUsageAttempt, value: object) -> None:
        """Store and tally take the attempt together, so that their counts are the same."""
        self._store.record(attempt, value)
        self._tally.record(attempt)
        if attempt.retry_in_s is None:
            self._tally.finish(ok=attempt.status == "ok")


def _unwritten(failure: JournalError) -> Stop:
    return Stop(f"{failure}; what was answered is here in memory")


def judged(read: Read, judge: Callable[[], Next]) -> Next:
    """What follows; the attempt is kept also if the user's own code fails, such as a function for the wait."""
    if read.bugs:
        return Next(bugs=read.bugs)
    try:
        return judge()
    except Exception as raised:
        return Next(bugs=(raised,))
