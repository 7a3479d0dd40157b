"""(error, attempt) → seconds to wait, or never; and which errors stop the whole run. Decides; the story sleeps."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from llmlab.errors import (
    AttemptError,
    FatalError,
    InputError,
    ParseError,
    QuotaError,
    RateLimitError,
    RefusalError,
    TransientError,
    TrialError,
)

SAME_ERRORS_STOP = 5
MOST_REFUSALS = 50


def linear(attempt: int) -> float:
    """The default wait: 0, 20, 40 … seconds after attempt 1, 2, 3 …"""
    return 20.0 * (attempt - 1)


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows a failed attempt.

    Attributes
    ----------
    retry_in_s : float or None
        Seconds until it is asked again; `None` ends the trial.
    stop : AttemptError or None
        Set if the whole run stops, to the error that says why.
    """

    retry_in_s: float | None = None
    stop: AttemptError | None = None


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a failed attempt is repeated, and after how long.

    Parameters
    ----------
    max_retries : int
        Most attempts per trial, the first included.
    wait : callable
        Attempt number (from 1) → seconds before the next one. A tenacity `wait_*` strategy works too.
    parse_retries : int, optional
        How often an unreadable answer is asked again, at once; as often as `max_retries` allows if left out.
    billed_retries : int
        How often a call is repeated that may have been billed without an answer (silence, a cut connection).
    max_wait_s : float
        If the provider asks for a longer wait than this, the run stops instead.

    Examples
    --------
    >>> RetryPolicy.exponential(base_s=0.5, longest_s=30.0, max_retries=5)  # doctest: +SKIP
    """

    max_retries: int = 3
    wait: Callable[[Any], float] = field(default=linear)
    parse_retries: int | None = None
    billed_retries: int = 1
    max_wait_s: float = 600.0

    def __post_init__(self) -> None:
        for name, least in (("max_retries", 1), ("parse_retries", 0), ("billed_retries", 0)):
            value = getattr(self, name)
            if value is None and name == "parse_retries":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"{name} must be a whole number of at least {least}, not {value!r}.")
        if not callable(self.wait):
            raise InputError("wait must be a callable from the attempt number to seconds.")
        if not isinstance(self.max_wait_s, (int, float)) or not self.max_wait_s >= 0:
            raise InputError(f"max_wait_s must be 0 or more seconds, not {self.max_wait_s!r}.")

    @classmethod
    def exponential(cls, *, base_s: float = 0.5, longest_s: float = 60.0, **settings: Any) -> RetryPolicy:
        """Exponential back-off with full jitter: a random wait up to `base_s`, 2 × `base_s`, 4 × … `longest_s`."""
        from tenacity import wait_random_exponential

        return cls(wait=wait_random_exponential(multiplier=base_s, max=longest_s), **settings)

    def decide(
        self, error: AttemptError, attempt: int, *, unpaid: int = 0, billed: int = 0, unread: int = 0
    ) -> Decision:
        """What follows this error.

        Parameters
        ----------
        error : AttemptError
        attempt : int
            Number of this attempt in its trial, from 1.
        unpaid : int
            Attempts before it that were refused (429) while others got through: congestion uses up no retry.
        billed, unread : int
            Attempts so far, this one included, that may have been billed in vain, and that could not be read.
        """
        if isinstance(error, FatalError):
            return Decision(stop=error)
        hint = error.retry_after_s
        if hint is not None and hint > self.max_wait_s and isinstance(error, TransientError):
            return Decision(
                stop=QuotaError(f"{error} — it asks to wait {hint:,.0f} s, longer than max_wait_s={self.max_wait_s:g}")
            )
        if (
            isinstance(error, (TrialError, RefusalError))
            or attempt - unpaid >= self.max_retries
            or unpaid > MOST_REFUSALS
        ):
            return Decision()
        if isinstance(error, ParseError):
            allowed = self.max_retries if self.parse_retries is None else self.parse_retries
            return Decision(0.0 if unread <= allowed else None)
        if error.may_be_billed and billed > self.billed_retries:
            return Decision()
        if hint is not None:
            return Decision(hint)
        if isinstance(error, RateLimitError):
            # The limiter pauses the whole key: the trial queues behind that pause, not behind its own.
            return Decision(0.0)
        return Decision(self.wait_s(attempt - unpaid))

    def wait_s(self, attempt: int) -> float:
        """Seconds to wait after attempt number `attempt`."""
        tenacity = sys.modules.get("tenacity")
        if tenacity is not None and isinstance(self.wait, tenacity.wait.wait_base):
            state = tenacity.RetryCallState(retry_object=None, fn=None, args=(), kwargs={})
            state.attempt_number = attempt
            seconds = float(self.wait(state))
        else:
            seconds = float(self.wait(attempt))
        if not 0 <= seconds < math.inf:
            raise InputError(f"wait must give 0 or more seconds, not {seconds!r} for attempt {attempt}.")
        return seconds
