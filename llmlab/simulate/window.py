"""The rate limit of a simulated provider, and what its headers say about it."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace

from llmlab.simulate.reply import Reply, refuse


class Window:
    """A strict sliding window: never more requests and tokens than the limits in any period.

    Parameters
    ----------
    limit, tokens : int or None
        Requests and tokens in any period; `None` is unlimited.
    period_s : float
        Seconds.

    Attributes
    ----------
    peak : int
        Most requests accepted in any one period.
    """

    def __init__(self, limit: int | None, tokens: int | None, period_s: float) -> None:
        self.limit, self.tokens, self.period_s = limit, tokens, period_s
        self.entries: deque[tuple[float, int, bool]] = deque()
        self.used_tokens = self.accepted = self.peak = 0

    def admit(self, at: float, tokens: int, count_refused: bool = False) -> float:
        """Seconds to wait, 0 if accepted; infinite if it can never fit."""
        while self.entries and at - self.entries[0][0] >= self.period_s:
            _, weight, accepted = self.entries.popleft()
            self.used_tokens -= weight
            self.accepted -= accepted
        leaves = -math.inf
        if self.limit is not None and len(self.entries) >= self.limit:
            leaves = self.entries[len(self.entries) - self.limit][0]
        if self.tokens is not None and self.used_tokens + tokens > self.tokens:
            excess = self.used_tokens + tokens - self.tokens
            for entered, weight, _ in self.entries:
                excess -= weight
                if excess <= 0:
                    leaves = max(leaves, entered)
                    break
            else:
                return math.inf
        wait_s = max(0.0, leaves + self.period_s - at)
        if not wait_s:
            self.entries.append((at, tokens, True))
            self.used_tokens += tokens
            self.accepted += 1
            self.peak = max(self.peak, self.accepted)
        elif count_refused:
            self.entries.append((at, 0, False))
        return wait_s

    def refusal(self, model: str, at: float, wait_s: float, tokens: int) -> Reply:
        """The 429 for a request that `admit` sent away."""
        if wait_s == math.inf:
            message = f"Request too large for {model} on tokens per min (TPM): Limit {self.tokens}, Requested {tokens}."
            return refuse(429, message, "tokens", "rate_limit_exceeded")
        full = self.limit is not None and len(self.entries) >= self.limit
        kind, limit = ("requests", self.limit) if full else ("tokens", self.tokens)
        message = (
            f"Rate limit reached for {model} (simulated) on {kind}: Limit {limit} in {self.period_s:g} s. "
            f"Please try again in {duration(wait_s)}."
        )
        hints = {"Retry-After": str(math.ceil(wait_s)), "retry-after-ms": str(math.ceil(wait_s * 1000))}
        reply = refuse(429, message, kind, "rate_limit_exceeded")
        return replace(reply, headers=hints | self.headers(at, wait_s))

    def headers(self, at: float, wait_s: float = 0.0) -> dict[str, str | None]:
        """`x-ratelimit-*`: limits per minute, what remains, and when there is room for one more."""
        oldest_s = self.entries[0][0] + self.period_s - at if self.entries else 0.0
        found: dict[str, str | None] = {}
        for name, limit, used in (
            ("requests", self.limit, len(self.entries)),
            ("tokens", self.tokens, self.used_tokens),
        ):
            if limit is not None:
                found[f"x-ratelimit-limit-{name}"] = str(max(1, round(limit * 60 / self.period_s)))
                found[f"x-ratelimit-remaining-{name}"] = str(max(0, limit - used))
                found[f"x-ratelimit-reset-{name}"] = duration(wait_s or oldest_s)
        return found


def duration(seconds: float) -> str:
    """Seconds as OpenAI writes them: "20ms", "1s", "1.5s", "6m0s", "1h0m0s"."""
    ms = math.ceil(seconds * 1000)
    if ms < 1000:
        return f"{ms}ms"
    minutes, ms = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{ms / 1000:g}s"
