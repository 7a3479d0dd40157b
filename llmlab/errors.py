"""The exception tree, by whose fault it is and what follows from it.

::

    LlmlabError
    ├── InputError (ValueError)     yours: raised before anything is sent
    ├── JournalError                the file's: raised before anything is sent
    ├── ExperimentStopped           on_stop="raise": carries `.results`
    └── AttemptError                one HTTP attempt failed: a row, never an exception that loses the others
        ├── CallError               no answer came
        │   ├── CancelledError          in flight when the run was stopped; may have been billed
        │   ├── TransientError      → ask again after a wait
        │   │   ├── RateLimitError      429: the whole key waits
        │   │   ├── OverloadedError     5xx, 409, 425, 498: the provider has no capacity
        │   │   ├── TimeoutError        408, 524, silence; may have been billed
        │   │   ├── ConnectionError     no connection, or it broke
        │   │   └── BadResponseError    a 200 that is no completion
        │   ├── TrialError          → this trial ends, the others go on
        │   │   ├── TooLongError        longer than the model's context or the whole limit
        │   │   ├── ModerationError     refused by a content filter
        │   │   ├── EmptyInputError     nothing to ask
        │   │   └── RequestError        400, 422: this request is not understood
        │   └── FatalError          → every trial would fail the same way: the run ends, or only the model (`ends`)
        │       ├── AuthenticationError bad or revoked key
        │       ├── CreditError         no credit, key limit, billing
        │       ├── QuotaError          a day's quota is used up, or the wait is longer than allowed
        │       ├── ModelNotFoundError  no such model
        │       └── ConfigError         wrong base_url, parameter, schema, region, certificate
        └── ParseError              an answer came and is paid for; its text could not be read → ask again at once
            ├── EmptyAnswerError    no text
            ├── TruncatedError      cut off (finish_reason "length", an open <think>)
            ├── InvalidLabelError   a label that is none of the categories, or more than one
            ├── ValidationError     valid JSON that the response_model refuses
            └── RefusalError        the model declined; not asked again

The column `error_type` of both frames holds the class's name.
All of them pickle, and none holds a key, a header or a web page.
"""

import builtins
import copy
import sysconfig
import traceback
from pathlib import Path
from types import TracebackType
from typing import Literal

Ends = Literal["attempt", "trial", "model", "run"]
# Parameters that hold the text of one trial; a complaint about them says nothing of the others.
OF_ONE_TRIAL = {
    "messages", "message", "prompt", "input", "inputs", "input_tokens", "contents", "content", "text", "image",
    "image_url",
}  # fmt: skip


def calling_part(frames: TracebackType | None) -> TracebackType | None:
    """The frames of a traceback that lead to the first call of llmlab, without IPython's own."""
    if frames is None or _package(frames) == "llmlab":
        return None
    rest = calling_part(frames.tb_next)
    if _package(frames) in ("IPython", "ipykernel"):
        return rest
    return TracebackType(rest, frames.tb_frame, frames.tb_lasti, frames.tb_lineno)


def called_part(frames: TracebackType | None) -> TracebackType | None:
    """The frames of the user's code that llmlab called, such as `parse`; all frames if it called none at the end."""
    called, rest = frames, frames
    while rest is not None:
        called = rest.tb_next if _package(rest) == "llmlab" else called
        rest = rest.tb_next
    if called is None:
        return frames
    file = Path(called.tb_frame.f_code.co_filename)
    installed = any(file.is_relative_to(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib"))
    return frames if installed else called


def _package(frames: TracebackType) -> str:
    return str(frames.tb_frame.f_globals.get("__name__", "")).partition(".")[0]


class LlmlabError(Exception):
    """Base of everything llmlab raises on purpose."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows of it: the user's line and the message, and not how llmlab found out."""
        from IPython.core.getipython import get_ipython

        # A copy does not carry the errors that it came from: what they say is in the message.
        alone, frames = copy.copy(self), calling_part(self.__traceback__)
        shell = get_ipython()
        if shell is None or frames is None:
            return traceback.format_exception(type(self), alone, frames)
        return shell.InteractiveTB.structured_traceback(type(self), alone, frames)


class InputError(LlmlabError, ValueError):
    """The call cannot work as written; nothing was sent."""


class JournalError(LlmlabError):
    """The journal cannot be used: another experiment's, locked, damaged or not writable."""


class ExperimentStopped(LlmlabError):
    """The run ended early and `on_stop="raise"` was given.

    Attributes
    ----------
    results : llmlab.Results or None
        Everything that was answered until then.
    """

    def __init__(self, message: str = "", results: object = None) -> None:
        super().__init__(message)
        self.results = results


class AttemptError(LlmlabError):
    """One attempt failed.

    Attributes
    ----------
    retry_after_s : float or None
        The provider's own hint how long to wait, in seconds.
    param : str or None
        The request parameter the provider complains about.
    may_be_billed : bool
        Whether tokens may have been used that nobody reported.
    fatal_at_first : bool
        Whether it means a wrong setting, and stops the run, as long as no server has answered.
    away : bool
        Whether nobody was there to work on the request: no connection could be made, a gateway found no server behind
        it, the model loads, or its queue is full.
    about_settings : bool
        Whether the provider names a parameter as wrong which all requests of the model have in common.
    ends : {"attempt", "trial", "model", "run"} or None
        The smallest thing that ends with it; the attempt alone, or `None`, if the trial may be asked again.
    ends_once_answered : {"attempt", "trial", "model", "run"} or None
        The same as soon as this run has got an answer, where that tells more: a web page with status 405 is about the
        address as long as nothing was answered, and about this text afterwards.
    """

    retry_after_s: float | None = None
    param: str | None = None
    may_be_billed: bool = False
    fatal_at_first: bool = False
    away: bool = False
    ends: Ends | None = None
    ends_once_answered: Ends | None = None
    about_settings: bool = False


class CallError(AttemptError):
    """No answer came."""


class CancelledError(CallError):
    """The run was stopped before the answer came."""

    may_be_billed = True


class TransientError(CallError):
    """May succeed when asked again."""


class RateLimitError(TransientError):
    """The provider's rate limit was met (429)."""


class OverloadedError(TransientError):
    """The provider has no capacity at the moment (5xx and kin)."""


class TimeoutError(TransientError, builtins.TimeoutError):
    """No complete answer within the deadline; it may have been billed."""


class ConnectionError(TransientError, builtins.ConnectionError):
    """No connection could be made, or it broke."""


class BadResponseError(TransientError):
    """A reply that is no chat completion."""


class TrialError(CallError):
    """This trial cannot succeed; the others can."""

    ends = "trial"


class TooLongError(TrialError):
    """The prompt is longer than the model's context, or than the whole limit."""


class ModerationError(TrialError):
    """A content filter refused the prompt or the answer."""


class EmptyInputError(TrialError):
    """The unit has nothing to ask about (blank texts, a picture that cannot be read); nothing was sent."""


class RequestError(TrialError):
    """The provider does not accept this request."""


class FatalError(CallError):
    """Every trial would fail the same way, or every trial of the model."""

    ends = "run"


class AuthenticationError(FatalError):
    """The key is missing, wrong or revoked."""


class CreditError(FatalError):
    """No credit, a spending limit, or billing is not active."""


class QuotaError(FatalError):
    """A day's quota is used up, or the provider asks for a longer wait than allowed; other models may have theirs."""

    ends = "model"


class ModelNotFoundError(FatalError):
    """The endpoint has no such model, or this key may not use it."""

    ends = "model"


class ConfigError(FatalError):
    """The endpoint is wrong for every trial, or a parameter or the schema for every trial of the model."""


class ParseError(AttemptError):
    """The answer's text could not be read."""


class EmptyAnswerError(ParseError):
    """The answer has no text."""


class TruncatedError(ParseError):
    """The answer was cut off before its end."""


class InvalidLabelError(ParseError):
    """The answer is none of the categories, or more than one."""


class ValidationError(ParseError):
    """The answer is JSON, and the response model refuses it."""


class RefusalError(ParseError):
    """The model declined to answer."""


def __dir__() -> list[str]:
    return [name for name, one in globals().items() if isinstance(one, type) and issubclass(one, LlmlabError)]
