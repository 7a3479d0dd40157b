"""What a reply means: for its trial, for its model, for the run, and for how many may be sent at once.

Nothing is done here but to count; what follows is returned.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from llmlab.client import Again, AnswerForms
from llmlab.engine.complaints import Complaints
from llmlab.engine.outage import Away, Mark, Outages
from llmlab.engine.queue import Asked
from llmlab.engine.retry import Decision
from llmlab.engine.setup import Setup
from llmlab.errors import AttemptError, CancelledError, ParseError, RateLimitError, TimeoutError
from llmlab.records import Reply

RECENT = 20
SPARED = 5
CROWDED_SHARE = 0.2
_NOBODY: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Stop:
    """What ends before its time.

    Attributes
    ----------
    reason : str
    models : frozenset of str
        The models whose trials are not asked any more; empty for the whole run.
    error_type : str
        Class of the error that ends a model.
    away : bool
        Whether it ends because nobody could be reached from here.
    """

    reason: str
    models: frozenset[str] = _NOBODY
    error_type: str = ""
    away: bool = False


@dataclass(frozen=True, slots=True)
class Next:
    """What follows an attempt.

    Attributes
    ----------
    retry_in_s : float or None
        Seconds until the trial is asked again; `None` if it has ended.
    stop : tuple of Stop
        What ends with it; usually nothing.
    room : float or None
        How many requests the provider seems to work on, if too many were in flight.
    widen : bool
        Whether an answer came, so that there may be room for more.
    hold, release : frozenset of str
        Models that are away, and models that are back.
    probe_in_s : float
        Seconds until the first probe of the models on hold.
    sent_at : float
        When it was sent, by `time.monotonic`.
    bugs : tuple of Exception
        What the user's own code raised.
    """

    retry_in_s: float | None = None
    stop: tuple[Stop, ...] = ()
    room: float | None = None
    widen: bool = False
    hold: frozenset[str] = _NOBODY
    release: frozenset[str] = _NOBODY
    probe_in_s: float = 0.0
    sent_at: float = 0.0
    bugs: tuple[Exception, ...] = ()


@dataclass(frozen=True, slots=True)
class Sent:
    """What was known when a request was sent.

    Attributes
    ----------
    body : dict
    form : dict
        The part of it that asks for the answer's form.
    mark : Mark
    answered : int
        Answers of this run until then.
    at : float
        When, by `time.monotonic`.
    """

    body: dict[str, Any]
    form: dict[str, Any]
    mark: Mark
    answered: int
    at: float = field(default_factory=time.monotonic)


class Verdicts:
    """Judges the replies of one run, and keeps what they teach about the endpoint.

    Parameters
    ----------
    clock : callable
        Seconds that never run backwards.
    """

    def __init__(self, setup: Setup, clock: Callable[[], float] = time.monotonic) -> None:
        self._policy, self._reask_with_error = setup.policy, setup.reask_with_error
        self._limiters = setup.limiters
        self._certain = setup.body.get("temperature") == 0
        self._clock = clock
        self.forms = AnswerForms(setup.parser.schema, setup.body)
        self.outages = Outages(setup.models, setup.policy.outage_s, clock)
        self._complaints = Complaints()
        self._answers = 0
        self._elsewhere = False  # whether other processes have got an answer
        # Of the last replies of each model: which refused for want of room.
        self._refused = {model: deque([False], maxlen=RECENT) for model in setup.models}
        self._refused_since = math.inf
        self._reached = False

    def sent(self, model: str, body: dict[str, Any], form: dict[str, Any]) -> Sent:
        """To be made when a request is sent."""
        return Sent(body, form, self.outages.mark(model), self._answers, self._clock())

    def hear(self, answered: Mapping[str, str | None]) -> None:
        """Other processes of this experiment have got answers: of which models, and how their form was asked for."""
        for model, kind in answered.items():
            self._elsewhere = self._reached = True
            self._complaints.answered(model)
            self.forms.answered(model, self.forms.named(kind))

    def judge(self, asked: Asked, sent: Sent, reply: Reply, error: AttemptError | None, in_flight: int) -> Next:
        """What follows.

        Parameters
        ----------
        error : AttemptError or None
            Of the call, or of reading its answer.
        in_flight : int
            Requests in flight beside it.

        Raises
        ------
        Exception
            What the user's own `wait` raises.
        """
        release = self._heard(sent, reply)
        self._refused[sent.mark.model].append(isinstance(error, RateLimitError) or _is_away(reply))
        if error is None or isinstance(error, ParseError):
            self._answers += 1
            self._complaints.answered(sent.mark.model)
            self.forms.answered(sent.mark.model, sent.form)
            self._refused_since = math.inf
        if error is None:
            return Next(widen=True, release=release)
        if error.ends_once_answered is not None and (self._answers or self._elsewhere):
            error.ends = error.ends_once_answered
        if self.forms.rejected(sent.mark.model, sent.form, error, asked.trial.position) is not Again.NO:
            # The trial is asked with a simpler form, at no cost of a retry.
            asked.uncounted += 1
            return Next(retry_in_s=0.0, release=release)
        follows = self._about_trial(asked, sent, reply, error, in_flight)
        return replace(follows, release=release, sent_at=sent.at)

    def judge_line(self, asked: Asked, form: dict[str, Any], reply: Reply, error: AttemptError | None) -> Next:
        """What follows what the batch queue gave for a trial; it tells nothing of limits and of who is away.

        Raises what `judge` raises.

        Parameters
        ----------
        form : dict
            The part of the request that asked for the answer's form.
        """
        model, position = asked.trial.model, asked.trial.position
        if error is None or isinstance(error, ParseError):
            self._answers += 1
            self._complaints.answered(model)
            self.forms.answered(model, form)
        if error is None:
            return Next()
        rejected = self.forms.rejected(model, form, error, position, together=True) is not Again.NO
        if isinstance(error, CancelledError) or rejected:
            asked.uncounted += 1
            return Next(retry_in_s=0.0)
        if isinstance(error, ParseError):
            follows = self._about_text(asked, reply, error)
        else:
            # A queue that took none of the batch uses up no retry.
            asked.uncounted += isinstance(error, RateLimitError) and reply.http_status is None
            follows = self._decide(asked, error)
        # Hours have passed: there is nothing to wait for.
        return follows if follows.retry_in_s is None else replace(follows, retry_in_s=0.0)

    def _heard(self, sent: Sent, reply: Reply) -> frozenset[str]:
        """Take in that a server answered, if one did; the models that are back."""
        if reply.http_status is None:
            return _NOBODY
        self._reached = True
        return self.outages.heard(sent.mark, away=_is_away(reply))

    def _about_trial(self, asked: Asked, sent: Sent, reply: Reply, error: AttemptError, in_flight: int) -> Next:
        if isinstance(error, ParseError):
            return self._about_text(asked, reply, error)
        if isinstance(error, RateLimitError):
            return self._about_refusal(asked, sent, error, in_flight)
        if _is_away(reply):
            return self._about_absence(asked, sent, reply, error, in_flight)
        decision = self._decide(asked, error)
        room = None
        if isinstance(error, TimeoutError) and error.may_be_billed:
            # So many were answered while it waited: more in flight than that must come too late.
            room = max(self._answers - sent.answered, 1) if self._answers > sent.answered else in_flight + 1
        return replace(decision, room=room)

    def _about_text(self, asked: Asked, reply: Reply, error: ParseError) -> Next:
        """An answer that could not be read."""
        asked.unread += 1
        said_before, asked.unreadable = asked.unreadable, reply.content or ""
        if self._certain and reply.content and reply.content == said_before:
            # At temperature 0 it would say so a third time.
            return Next(widen=True)
        if self._reask_with_error and reply.content:
            asked.correction = _correction(reply.content, error)
        return replace(self._decide(asked, error), widen=True)

    def _crowded(self, model: str, in_flight: int) -> bool:
        """Whether too many are sent at once: a good part of the last replies was refused, and others are worked on.

        A refusal now and then, whatever its reason, says nothing about how many there is room for.
        """
        recent = self._refused[model]
        return in_flight > 0 and sum(recent) >= CROWDED_SHARE * len(recent)

    def _about_refusal(self, asked: Asked, sent: Sent, error: RateLimitError, in_flight: int) -> Next:
        """A 429. While other requests are worked on it uses up no retry."""
        unhinted = self._limiters.of(sent.mark.model).limit is None or error.retry_after_s is None
        asked.uncounted += (in_flight > 0 and unhinted) or self._answers > sent.answered
        now = self._clock()
        self._refused_since = min(self._refused_since, now)
        refused_s = now - self._refused_since
        if refused_s > self._policy.max_wait_s and not in_flight:
            reason = f"every request has been refused for {refused_s:,.0f} s, nothing was answered: {error}"
            return replace(self._decide(asked, error), stop=(Stop(reason),))
        crowded = unhinted and self._crowded(sent.mark.model, in_flight)
        return replace(self._decide(asked, error), room=in_flight + 1 if crowded else None)

    def _about_absence(self, asked: Asked, sent: Sent, reply: Reply, error: AttemptError, in_flight: int) -> Next:
        """Nobody was there for it: an outage, a full queue, or its own failure."""
        answered = reply.http_status is not None
        crowded, others = answered and self._crowded(sent.mark.model, in_flight), self.outages.got_through(sent.mark)
        alone = self._policy_says(asked, error)
        if alone.stop is None and not (crowded and others):
            last = alone.retry_in_s is None and not asked.doubted
            away = self.outages.failed(sent.mark, error, answered=answered, last=last)
            if away is not None:
                return self._in_outage(asked, error, away, last=last)
        # Others are worked on, or were: there may just have been no room for it.
        if crowded or (answered and (in_flight or others) and asked.uncounted < SPARED):
            asked.uncounted += 1
            return replace(self._decide(asked, error, crowded=True), room=in_flight + 1 if crowded else None)
        return self._decide(asked, error)

    def _in_outage(self, asked: Asked, error: AttemptError, away: Away, *, last: bool) -> Next:
        asked.doubted = asked.doubted or last
        asked.in_outage += 1
        if away.stop:
            models = _NOBODY if away.everyone else away.models
            stop = Stop(away.stop, models, type(error).__name__, away=True)
            return Next(retry_in_s=away.probe_in_s, stop=(stop,))
        return Next(retry_in_s=away.probe_in_s, hold=away.models, probe_in_s=away.probe_in_s)

    def _policy_says(self, asked: Asked, error: AttemptError, *, crowded: bool = False) -> Decision:
        return self._policy.decide(
            error,
            asked.tried - asked.in_outage,
            uncounted=asked.uncounted,
            billed=asked.billed,
            unread=asked.unread,
            crowded=crowded,
        )

    def _decide(self, asked: Asked, error: AttemptError, *, crowded: bool = False) -> Next:
        """By the policy; with what ends beside the trial."""
        asked.billed += error.may_be_billed
        decision = self._policy_says(asked, error, crowded=crowded)
        model = frozenset({asked.trial.model})
        if decision.stop is not None:
            models = model if decision.stop.ends == "model" else _NOBODY
            return Next(stop=(Stop(str(decision.stop), models, type(decision.stop).__name__),))
        if error.fatal_at_first and not self._reached:
            return Next(stop=(Stop(str(error), away=True),))
        reason = self._complaints.stop(asked.trial.model, error) if decision.retry_in_s is None else ""
        if reason:
            return Next(stop=(Stop(reason, model, type(error).__name__),))
        return Next(retry_in_s=decision.retry_in_s)


def _is_away(reply: Reply) -> bool:
    """Whether nobody worked on the request; a failure that used tokens was worked on."""
    return reply.error is not None and reply.error.away and reply.usage.total_tokens is None


def _correction(content: str, error: ParseError) -> list[dict[str, Any]]:
    """What a repeated question adds: the answer that could not be read, and why."""
    return [
        {"role": "assistant", "content": content},
        {"role": "user", "content": f"That answer cannot be used: {error} Answer again, in the form asked for."},
    ]
