"""The records that travel through llmlab, frozen, and the one declaration of every field of an attempt.

A `Trial` is asked, a `Reply` comes back, an attempt is recorded as a `TokenUsageAttempt`, and a finished trial is a
`PredictionCategoryTokens`. Unknown is `None`, never 0.

The table in memory, the journal's columns, the frames, their empty forms, the saved files and the documentation of the
columns are all made from the fields of `TokenUsageAttempt`, by `llmlab.declaration`: a new field is one line there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

from llmlab.declaration import Declaration, column
from llmlab.errors import AttemptError

STATUSES = ("ok", "failed", "not_run")
ATTEMPT_STATUSES = ("ok", "parse_error", "call_error")
BATCH = "batch"
"""The service tier of what a provider's batch queue gave."""
TRIAL_KEY = ("unit_id", "model", "prompt", "experiment", "label", "run")
# Columns of the key that are there only where several were asked, combined or counted apart.
OPTIONAL_KEY = ("prompt", "experiment", "label")


def trial_key(columns: Iterable[str]) -> list[str]:
    """The columns of a frame that tell its trials apart: those of `TRIAL_KEY` that it has.

    A column of `OPTIONAL_KEY` is llmlab's if it stands right after another column of the key; a user's own one of that
    name stands further right.

    Parameters
    ----------
    columns : iterable of str
        The columns of `predictions`, `attempts`, or a frame made from one of them.
    """
    names = list(columns)
    key: list[str] = []
    for before, name in zip([None, *names], names, strict=False):
        if name in TRIAL_KEY and name not in key and (name not in OPTIONAL_KEY or before in key):
            key.append(name)
    return sorted(key, key=TRIAL_KEY.index)


def arm_columns(columns: Iterable[str]) -> list[str]:
    """The columns of a frame that tell apart what is compared: the trial key without `unit_id` and `run`."""
    return [name for name in trial_key(columns) if name not in ("unit_id", "run")]


def own_columns(columns: Iterable[str]) -> list[str]:
    """The columns of `predictions` that are the answer's fields, the unit's own, or were added to the frame later."""
    names = list(columns)
    return [*names[names.index("prediction") + 1 : names.index("status")], *names[names.index("finished_at") + 1 :]]


def trial_status(answered: bool, failed_unsent: bool, attempts: int, another_due: bool) -> str:
    """What became of a trial.

    Parameters
    ----------
    answered : bool
        It has a prediction.
    failed_unsent : bool
        It ended without any attempt, as a blank text does.
    attempts : int
        How many were made.
    another_due : bool
        The last attempt failed, and the next one was still to come when the run ended.
    """
    if answered:
        return "ok"
    if failed_unsent or (attempts and not another_due):
        return "failed"
    return "not_run"


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
    cache_write_tokens : int or None
        Part of `prompt_tokens`, written to the provider's cache, which some charge more for.
    cost_usd : float or None
        The provider's own price of the call (OpenRouter), in US dollars.
    """

    prompt_tokens: int | None = column(
        "Int64", "as the provider reported it; NA if it did not", default=None,
        summed="sum over all attempts that reported any; NA if none did",
    )  # fmt: skip
    completion_tokens: int | None = column(
        "Int64", "likewise; reasoning included", default=None, summed="likewise; reasoning included"
    )
    reasoning_tokens: int | None = column(
        "Int64", "likewise; part of completion_tokens", default=None, summed="likewise; part of completion_tokens"
    )
    cached_tokens: int | None = column(
        "Int64", "likewise; part of prompt_tokens", default=None, summed="likewise; part of prompt_tokens"
    )
    total_tokens: int | None = column("Int64", "likewise", default=None, summed="likewise")
    cost_usd: float | None = None
    cache_write_tokens: int | None = column(
        "Int64", "likewise; part of prompt_tokens, written to the provider's cache", default=None,
        summed="likewise; part of prompt_tokens",
    )  # fmt: skip


TOKENS = tuple(one.name for one in dataclasses.fields(Usage) if "column" in one.metadata)
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
class SaidToken:
    """One token of an answer: its text, the natural logarithm of its probability, and alternatives with theirs."""

    text: str
    logprob: float
    others: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Served:
    """What an answer tells beside its text and its tokens.

    Attributes
    ----------
    provider, system_fingerprint, service_tier : str or None
        Who served it (OpenRouter), in which configuration, at which tier.
    reasoning : str or None
        The model's thinking, where it stands apart from the answer.
    tokens : tuple of SaidToken
        Empty unless `logprobs` were asked for.
    completion_id : str or None
        The provider's id of the completion, the same if it is given out again.
    """

    provider: str | None = None
    system_fingerprint: str | None = None
    service_tier: str | None = None
    reasoning: str | None = None
    tokens: tuple[SaidToken, ...] = ()
    completion_id: str | None = None


NOT_TOLD = Served()


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
    served : Served
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
    served: Served = NOT_TOLD

    @property
    def may_be_billed(self) -> bool:
        """Whether the provider may charge for it: it answered with 2xx, or its answer was lost."""
        answered = self.http_status is not None and 200 <= self.http_status < 300
        return answered or (self.error is not None and self.error.may_be_billed)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUsageAttempt:
    """One HTTP attempt and its tokens: a row of `Results.attempts`, whose columns say what each field means.

    `None` is NA in the frame; `started_at` is in seconds since the epoch (UTC), `notes` is a tuple.
    """

    trial: Trial
    attempt: int = column("int64", "from 1, over all attempts this trial ever had")
    session: int = column("int64", "which call of run_experiment, or rerun of it, made and paid for it", default=1)
    status: str = column("str", "ok, parse_error or call_error", choices=ATTEMPT_STATUSES)
    error_type: str | None = column("str", "class of the error; NA if ok", repeated=True)
    error: str | None = column("str", "what it says, in one line")
    started_at: float = column("datetime64[us, UTC]", "when it was sent")
    queue_s: float = column("float64", "seconds waited for a concurrency slot")
    wait_s: float = column(
        "float64",
        "seconds waited for the rate limiter",
        summed="seconds waited for the rate limiter, sum over attempts",
    )
    latency_s: float = column(
        "float64", "seconds from sending to the whole answer",
        summed="seconds from sending to the whole answer, sum over attempts; NA if none was sent",
    )  # fmt: skip
    retry_in_s: float | None = column("Float64", "seconds until the next attempt; NA if this was the last")
    throttled: bool = column("bool", "whether the limiter made it wait")
    usage: Usage = field(metadata={"record": Usage})
    cost_usd: float | None = column(
        "Float64", "the provider's own price, else the list price; NA if unknown", summed="likewise, US dollars"
    )
    may_be_billed: bool = column("bool", "whether the provider may have charged for it", default=False)
    finish_reason: str | None = column("str", "why the model stopped", repeated=True)
    model_returned: str | None = column("str", "the model that answered", repeated=True)
    provider: str | None = column("str", "who served it, where a router says so", default=None, repeated=True)
    system_fingerprint: str | None = column("str", "the configuration it was served in", default=None, repeated=True)
    service_tier: str | None = column("str", "the tier it was served at", default=None, repeated=True)
    answer_form: str | None = column(
        "str", "how the form of the answer was asked for: json_schema, json_object or text", default=None, repeated=True
    )
    request_id: str | None = column("str", "the provider's id of this request")
    http_status: int | None = column("Int64", "NA if no HTTP answer came")
    content: str | None = column("str", "the raw text of the answer, also where it did not parse")
    reasoning: str | None = column("str", "the model's thinking; only with keep_reasoning=True", default=None)
    label_logprob: float | None = column(
        "Float64", "log probability of the label's tokens; only with logprobs=True", default=None
    )
    notes: tuple[str, ...] = column(
        "str", "what was odd or repaired, separated by '; '", default=(), repeated=True, joined=True
    )


ATTEMPT = Declaration(TokenUsageAttempt)


@dataclass(frozen=True, slots=True)
class PredictionCategoryTokens:
    """The outcome of one trial: its prediction, and every attempt with its tokens.

    Attributes
    ----------
    trial : Trial
    prediction : object or None
        The category, the pydantic model or what `parse` made of the text; `None` if the trial has no answer.
    attempts : tuple of TokenUsageAttempt
        In order, failed ones too.
    status : {"ok", "failed", "not_run"}
        By the rule of `trial_status`.
    """

    trial: Trial
    prediction: object | None
    attempts: tuple[TokenUsageAttempt, ...] = ()
    status: str = "not_run"

    @property
    def total_tokens(self) -> int | None:
        """Tokens of all attempts; `None` if no attempt reported any."""
        known = [a.usage.total_tokens for a in self.attempts if a.usage.total_tokens is not None]
        return sum(known) if known else None
