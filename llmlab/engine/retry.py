"""What follows a failed attempt: another one after a wait, the end of its trial, or the end of the run.

This module decides and returns its decision; the engine waits and stops.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llmlab.errors import (
    AttemptError,
    InputError,
    ParseError,
    QuotaError,
    RateLimitError,
    RefusalError,
    TransientError,
)

MOST_REFUSALS = 50
CROWDED_PAUSE_S = 0.25


def default_wait_s(attempt: int) -> float:
    """Seconds to wait after attempt 1, 2, 3 …: 0, 20, 40 …"""
    return 20.0 * (attempt - 1)


@dataclass(frozen=True, slots=True)
class _Exponential:
    """A random wait below a bound that doubles with each attempt; a class, so that policies can be pickled."""

    base_s: float
    longest_s: float

    def __call__(self, attempt: int) -> float:
        # From the 1,000th doubling on the power is no float any more.
        bound = self.base_s * 2.0 ** min(attempt - 1, 900)
        return random.uniform(0.0, min(self.longest_s, bound))


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows a failed attempt.

    Attributes
    ----------
    retry_in_s : float or None
        Seconds until the trial is asked again; `None` ends it.
    stop : AttemptError or None
        The error for which the whole run stops, if it does.
    """

    retry_in_s: float | None = None
    stop: AttemptError | None = None


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a failed attempt is repeated, and after how long.

    Parameters
    ----------
    max_retries : int
        Most attempts per trial, the first one included.
    wait : callable
        Number of the failed attempt (from 1) → seconds until the next one. The default waits 0, 20, 40 … s.
    parse_retries : int, optional
        How often a trial with an unreadable answer is asked again, at once; as often as `max_retries` allows if left
        out.
    billed_retries : int
        How often a call is repeated that may have been billed without an answer (a timeout, a cut connection).
    max_wait_s : float
        If the provider asks for a longer wait than this, or refuses everything for so long, the run stops instead.
    outage_s : float
        How long the run waits for a provider that is away (no connection, 502, 503, 504, 529, a model that loads), with
        one request at a time to see if it is back. This uses up no retry. A provider that was never there is waited for
        with retries only.

    Examples
    --------
    Ten attempts per trial, one second apart:

    >>> RetryPolicy(max_retries=10, wait=lambda attempt: 1.0).wait_s(3)
    1.0

    A random wait of at most 0.5, 1, 2 … 30 s:

    >>> policy = RetryPolicy.exponential(base_s=0.5, longest_s=30.0, max_retries=5)
    >>> 0 <= policy.wait_s(2) <= 1.0
    True
    """

    max_retries: int = 3
    wait: Callable[[int], float] = default_wait_s
    parse_retries: int | None = None
    billed_retries: int = 1
    max_wait_s: float = 600.0
    outage_s: float = 600.0

    def __post_init__(self) -> None:
        for name, least in (("max_retries", 1), ("parse_retries", 0), ("billed_retries", 0)):
            value = getattr(self, name)
            if value is None and name == "parse_retries":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(f"{name} must be a whole number of at least {least}, not {value!r}.")
        if not callable(self.wait):
            raise InputError("wait must be a callable from the attempt number to seconds.")
        for name in ("max_wait_s", "outage_s"):
            value = getattr(self, name)
            if not isinstance(value, (int, float)) or not value >= 0:
                raise InputError(f"{name} must be 0 or more seconds, not {value!r}.")

    @classmethod
    def exponential(cls, *, base_s: float = 0.5, longest_s: float = 60.0, **settings: Any) -> RetryPolicy:
        """A policy whose wait is random, below a bound of `base_s`, 2 × `base_s`, 4 × … up to `longest_s` seconds.

        Parameters
        ----------
        base_s, longest_s : float
            Bound of the first wait, and of all waits, in seconds.
        **settings
            The other parameters of `RetryPolicy`.
        """
        for name, value in (("base_s", base_s), ("longest_s", longest_s)):
            if not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise InputError(f"{name} must be 0 or more seconds, not {value!r}.")
        return cls(wait=_Exponential(base_s, longest_s), **settings)

    def decide(
        self,
        error: AttemptError,
        attempt: int,
        *,
        uncounted: int = 0,
        billed: int = 0,
        unread: int = 0,
        crowded: bool = False,
    ) -> Decision:
        """What follows this error.

        Parameters
        ----------
        error : AttemptError
        attempt : int
            Number of this attempt in its trial, from 1.
        uncounted : int
            Attempts so far, this one included, that use up no retry: too many were sent at once.
        billed, unread : int
            Attempts so far, this one included, that may have been billed in vain, and that could not be read.
        crowded : bool
            Whether this one only met too many others: it is asked again soon.
        """
        if error.ends in ("model", "run"):
            return Decision(stop=error)
        hint = error.retry_after_s
        if hint is not None and hint > self.max_wait_s and isinstance(error, TransientError):
            return Decision(
                stop=QuotaError(f"{error} — it asks to wait {hint:,.0f} s, longer than max_wait_s={self.max_wait_s:g}")
            )
        counted = attempt - uncounted
        if error.ends == "trial" or isinstance(error, RefusalError) or uncounted > MOST_REFUSALS:
            return Decision()
        if counted >= self.max_retries and not crowded:
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
        return Decision(CROWDED_PAUSE_S if crowded else self.wait_s(counted))

    def wait_s(self, attempt: int) -> float:
        """Seconds to wait after attempt number `attempt`."""
        seconds = float(self.wait(attempt))
        if not 0 <= seconds < math.inf:
            raise InputError(f"wait must give 0 or more seconds, not {seconds!r} for attempt {attempt}.")
        return seconds
