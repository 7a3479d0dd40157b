"""`RateLimiter`: whoever sends a request asks it first, from any event loop and thread.

When the next request may leave is decided by `llmlab.limits.schedule.Schedule`, which is plain numbers; who waits is
kept by `llmlab.limits.waiters.Waiters`; `llmlab.limits.grants.Grants` joins the two under one lock.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import EllipsisType
from typing import Literal

from llmlab.errors import InputError, TooLongError
from llmlab.limits.grants import Grant, Grants
from llmlab.limits.lock import Lock
from llmlab.limits.schedule import Schedule, positive
from llmlab.limits.shared import enlist
from llmlab.records import Feedback

AUTO_START = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LimiterSettings:
    """The parameters of a `RateLimiter`, from which another process can make one that counts together with it."""

    limit: float | Literal["auto"] | None
    tokens: float | None
    period_s: float
    burst: float
    margin_s: float
    name: str


class RateLimiter:
    """A strict and paced limit on requests, and optionally tokens, per period.

    Parameters
    ----------
    limit : float, "auto" or None
        Requests per `period_s`; `None` is unlimited; "auto" starts at 60 and takes the provider's own
        `x-ratelimit-limit-requests` from the first answer.
    period_s : float
        Length of the window in seconds.
    tokens : float, optional
        Tokens per `period_s`.
    burst : float
        Requests that may leave at once after a rest; 1 paces evenly, `burst=limit` is the plain sliding window.
    margin_s : float
        Longest time in seconds from sending to arrival that the strict window allows for.
    name : str
        Shown in the repr; never a key. Limiters of one name count together once `share_limits` was called.
    clock : callable
        Monotonic seconds.

    Raises
    ------
    InputError
        A limit, period, burst or margin that is zero, negative or NaN.

    Examples
    --------
    >>> limiter = RateLimiter(60)
    >>> async def ask():
    ...     async with limiter:
    ...         ...  # send one request
    """

    def __init__(
        self,
        limit: float | Literal["auto"] | None,
        *,
        period_s: float = 60.0,
        tokens: float | None = None,
        burst: float = 1,
        margin_s: float = 1.0,
        name: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.auto, self.name = _is_auto(limit), name
        start = AUTO_START if isinstance(limit, str) else limit
        self._schedule = Schedule(start, period_s=period_s, tokens=tokens, burst=burst, margin_s=margin_s)
        self._lock = Lock(clock)
        self._grants = Grants(self._schedule, self._lock)
        if name:
            self._share_as(name)
        self._held: dict[asyncio.Task[object] | None, list[Grant]] = {}

    def __reduce__(self) -> str:
        raise TypeError("A RateLimiter counts in one process: make one in the other, and share_limits() in both.")

    def __repr__(self) -> str:
        limits = f"{self.limit:.12g} requests" if self.limit is not None else "unlimited requests"
        if self.tokens is not None:
            limits += f", {self.tokens:.12g} tokens"
        name = f" {self.name}" if self.name else ""
        return f"<RateLimiter{name}: {limits} per {self.period_s:g} s, {self._grants.metrics.granted} granted>"

    @property
    def limit(self) -> float | None:
        """Requests per period; set it at any time, waiters follow."""
        return self._schedule.requests.limit

    @limit.setter
    def limit(self, value: float | None) -> None:
        self._grants.change(self._schedule.requests, positive("limit", value))

    @property
    def tokens(self) -> float | None:
        """Tokens per period; set it at any time, waiters follow."""
        return self._schedule.tokens.limit

    @tokens.setter
    def tokens(self, value: float | None) -> None:
        self._grants.change(self._schedule.tokens, positive("tokens", value))

    @property
    def period_s(self) -> float:
        """Length of the window in seconds."""
        return self._schedule.period_s

    @property
    def per_minute(self) -> float | None:
        """The limit in requests per minute."""
        return None if self.limit is None else self.limit * 60 / self.period_s

    def change(
        self,
        limit: float | Literal["auto"] | EllipsisType | None = ...,
        tokens: float | EllipsisType | None = ...,
    ) -> None:
        """Set the limits given, keep those left out (`...`); with "auto" the limit stays until an answer tells it."""
        if not isinstance(limit, EllipsisType):
            auto = _is_auto(limit)
            if not isinstance(limit, str):
                self.limit = limit
            self.auto = auto
        if not isinstance(tokens, EllipsisType):
            self.tokens = tokens

    async def acquire(self, tokens: float = 0) -> Grant:
        """Wait until one request may be sent; then send it at once.

        Parameters
        ----------
        tokens : float
            Estimated tokens of the call, reserved until `Grant.answered` settles them.

        Raises
        ------
        InputError
            Tokens that are negative, infinite or NaN.
        TooLongError
            More tokens than a whole period allows: it could never be sent.
        """
        self._check_weight(tokens)
        loop = asyncio.get_running_loop()
        with self._lock.timed() as now:
            if not self._grants.waiters and self._grants.ready_at(tokens, now) <= now:
                return self._grants.book(tokens, now, now, now, throttled=False)
            since, waiter = now, self._grants.waiters.add(loop, tokens, now, now)
        while True:
            try:
                grant = await waiter.future
                with self._lock.timed() as now:
                    if self._grants.leaves(grant, now):
                        return grant
                    waiter = self._grants.waiters.add(loop, tokens, since, now)
            except (asyncio.CancelledError, Exception):
                self._grants.waiters.leave(waiter)
                raise

    async def __aenter__(self) -> Grant:
        grant = await self.acquire()
        self._held.setdefault(asyncio.current_task(), []).append(grant)
        return grant

    async def __aexit__(self, *exc_info: object) -> None:
        task = asyncio.current_task()
        grants = self._held[task]
        grant = grants.pop()
        if not grants:
            del self._held[task]
        if exc_info[0] is None:
            # After an error nobody knows whether the request has arrived yet.
            grant.answered()

    def pause(self, seconds: float) -> None:
        """Send nothing for `seconds`, then go on paced; zero, negative, infinite and NaN are ignored."""
        if 0 < seconds < math.inf:
            self._grants.pause(seconds)

    def learn(self, feedback: Feedback) -> None:
        """With `limit="auto"`, take the provider's own limits (per minute) from an answer's headers."""
        if not self.auto:
            return
        for name, per_minute in (("limit", feedback.limit_requests), ("tokens", feedback.limit_tokens)):
            if per_minute and per_minute * self.period_s / 60.0 != getattr(self, name):
                setattr(self, name, per_minute * self.period_s / 60.0)

    def get_metrics(self) -> dict[str, float | int | None]:
        """What happened so far.

        Returns
        -------
        dict
            `total_requests` (grants), `throttled_requests` (grants that waited), `throttle_rate` (0 to 1),
            `avg_wait_time` (s, over all grants), `refused_requests` (429s), `queue_size` (requests in the window),
            `limit` (of the window), `waiting` (for a grant, now), `paused_s` (until the key sends again),
            `rate_factor` (1 unless cut after refusals), `processes` (that share the key, with this one).
        """
        return self._grants.state()

    def ready_in_s(self) -> float:
        """Seconds until the limit lets the next request leave; 0 if it could leave now."""
        return self._grants.ready_in_s()

    def history(self) -> list[tuple[float, int, int, float]]:
        """Per second with traffic: (epoch seconds, granted, throttled, seconds waited); six hours of it at most."""
        with self._lock.timed() as now:
            return self._grants.metrics.history(time.time() - now)

    def _share_as(self, name: str) -> None:
        enlist(self._grants, name, self.period_s)

    def _check_weight(self, tokens: float) -> None:
        if not 0 <= tokens < math.inf:
            raise InputError(f"tokens must be 0 or more, not {tokens!r}.")
        most = self.tokens
        if most is not None and tokens > most:
            raise TooLongError(
                f"about {tokens:,.0f} tokens, but the limit is {most:,.0f} per {self.period_s:g} s: "
                "shorten the text or raise tokens_per_minute"
            )


def settings_of(limiter: RateLimiter) -> LimiterSettings:
    """What another process needs to make a limiter like this one; what was sent and refused is not in it."""
    schedule = limiter._schedule
    return LimiterSettings(
        limit="auto" if limiter.auto else limiter.limit, tokens=limiter.tokens, period_s=limiter.period_s,
        burst=schedule.burst, margin_s=schedule.margin_s, name=limiter.name,
    )  # fmt: skip


def _is_auto(limit: object) -> bool:
    if isinstance(limit, str) and limit != "auto":
        raise InputError(f'limit must be a positive number, None (unlimited) or "auto", not {limit!r}.')
    return limit == "auto"
