"""The words of the house: what passes along the line, frozen.

A `Trial` is asked, a `Reply` comes back, an attempt is recorded as a `TokenUsageAttempt`, and a finished trial is a
`PredictionCategoryTokens`. Unknown is `None`, never 0.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from llmlab.errors import AttemptError

STATUSES = ("ok", "failed", "not_run")
ATTEMPT_STATUSES = ("ok", "parse_error", "call_error")
TOKENS = ("prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens", "total_tokens")


def notes_as_text(notes: tuple[str, ...]) -> str | None:
    """Notes as one cell; `None` if there are none."""
    return "; ".join(notes) or None


def notes_from_text(text: str | None) -> tuple[str, ...]:
    """The notes behind `notes_as_text`."""
    return tuple(text.split("; ")) if text else ()


@dataclass(frozen=True, slots=True)
class Trial:
    """One unit asked once of one model.

    Attributes
    ----------
    position : int
        Place in the input order, from 0; unique in an experiment.
    unit_id : Hashable
    model : str
    run : int
        Which repeat, from 1.
    prompt : str or None
        Name of the prompt, if there are several.
    """

    position: int
    unit_id: Hashable
    model: str
    run: int
    prompt: str | None = None

    @property
    def key(self) -> tuple[Hashable, str, str | None, int]:
        """What makes it this trial, in every run of the experiment."""
        return self.unit_id, self.model, self.prompt, self.run


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the provider reported them; `None` where it did not say.

    Attributes
    ----------
    prompt_tokens, completion_tokens, total_tokens : int or None
    reasoning_tokens : int or None
        Part of `completion_tokens`.
    cached_tokens : int or None
        Part of `prompt_tokens`.
    cost_usd : float or None
        The provider's own price of the call (OpenRouter), in US dollars.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    cached_tokens: int | None = None
    total_tokens: int | None = None
    cost_usd: float | None = None


UNKNOWN_USAGE = Usage()


@dataclass(frozen=True, slots=True)
class Feedback:
    """What the provider's headers say about its limits, as plain numbers.

    Attributes
    ----------
    retry_after_s : float or None
        Seconds until the next request may be sent; only after a refusal.
    limit_requests, limit_tokens : float or None
        The provider's own limits, per minute unless it says otherwise.
    """

    retry_after_s: float | None = None
    limit_requests: float | None = None
    limit_tokens: float | None = None


NO_FEEDBACK = Feedback()


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back for one attempt: the tokens always, the text or an error.

    Attributes
    ----------
    content : str or None
        The answer's text; kept also when `error` is set.
    usage : Usage
    error : AttemptError or None
    finish_reason, model_returned, request_id : str or None
    http_status : int or None
    notes : tuple of str
        What was odd or repaired.
    feedback : Feedback
    """

    content: str | None = None
    usage: Usage = UNKNOWN_USAGE
    error: AttemptError | None = None
    finish_reason: str | None = None
    model_returned: str | None = None
    request_id: str | None = None
    http_status: int | None = None
    notes: tuple[str, ...] = ()
    feedback: Feedback = NO_FEEDBACK

    @property
    def may_be_billed(self) -> bool:
        """Whether the provider may charge for it: it answered with 2xx, or its answer was lost."""
        answered = self.http_status is not None and 200 <= self.http_status < 300
        return answered or (self.error is not None and self.error.may_be_billed)


@dataclass(frozen=True, slots=True)
class TokenUsageAttempt:
    """One HTTP attempt and its tokens: a row of `Results.attempts`.

    Attributes
    ----------
    attempt : int
        From 1, counted over all attempts this trial ever had.
    status : {"ok", "parse_error", "call_error"}
    error_type, error : str or None
    started_at : float
        When it was sent, seconds since the epoch (UTC).
    queue_s, wait_s, latency_s : float
        Seconds waited for a slot and for the limiter, and from sending to the whole answer.
    retry_in_s : float or None
        Seconds until the next attempt; `None` if this was the last.
    throttled : bool
        Whether the limiter made it wait.
    content : str or None
        The answer's raw text, kept also where it did not parse.
    """

    trial: Trial
    attempt: int
    status: str
    error_type: str | None
    error: str | None
    started_at: float
    queue_s: float
    wait_s: float
    latency_s: float
    retry_in_s: float | None
    throttled: bool
    usage: Usage
    cost_usd: float | None
    finish_reason: str | None
    model_returned: str | None
    request_id: str | None
    http_status: int | None
    content: str | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PredictionCategoryTokens:
    """The outcome of one trial: its prediction, and every attempt with its tokens.

    Attributes
    ----------
    trial : Trial
    prediction : object or None
        The category, the pydantic model or what `parse` made of the text; `None` if the trial failed.
    attempts : tuple of TokenUsageAttempt
        In order, failed ones too.
    failed_unsent : bool
        Whether it failed before anything was sent, as a blank text does.
    """

    trial: Trial
    prediction: object | None
    attempts: tuple[TokenUsageAttempt, ...] = field(default_factory=tuple)
    failed_unsent: bool = False

    @property
    def status(self) -> str:
        """`ok` if the last attempt was, `failed` otherwise, `not_run` if it never had its turn."""
        if self.failed_unsent:
            return "failed"
        if not self.attempts:
            return "not_run"
        return "ok" if self.attempts[-1].status == "ok" else "failed"

    @property
    def total_tokens(self) -> int | None:
        """Tokens of all attempts; `None` if no attempt reported any."""
        known = [a.usage.total_tokens for a in self.attempts if a.usage.total_tokens is not None]
        return sum(known) if known else None
