"""What a sliding window holds, by the time at which each request leaves it: plain numbers in sorted arrays."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left

COMPACT_AT = 512


class Window:
    """Requests and tokens that still count.

    Parameters
    ----------
    grain_s : float
        Times of leaving are rounded up to a multiple of this, so that what leaves together is one entry. 0 keeps them
        exact.
    """

    __slots__ = ("_first", "_leaves_at", "_requests", "_tokens", "grain_s", "requests", "tokens")

    def __init__(self, grain_s: float = 0.0) -> None:
        self.grain_s = grain_s
        self.requests = 0
        self.tokens = 0.0
        self._leaves_at = array("d")
        self._requests = array("I")
        self._tokens = array("d")
        self._first = 0

    def __len__(self) -> int:
        return len(self._leaves_at) - self._first

    @property
    def first_leaves_at(self) -> float:
        """When the first entry leaves; infinite if there is none."""
        return self._leaves_at[self._first] if self else math.inf

    def rounded(self, leaves_at: float) -> float:
        """The time under which `add` will enter what leaves at this time."""
        return math.ceil(leaves_at / self.grain_s) * self.grain_s if self.grain_s else leaves_at

    def add(self, leaves_at: float, requests: int, tokens: float) -> float:
        """Enter what counts until `leaves_at`; returns the time under which it stands."""
        leaves_at = self.rounded(leaves_at)
        at = bisect_left(self._leaves_at, leaves_at, self._first)
        if at == len(self._leaves_at) or self._leaves_at[at] != leaves_at:
            self._leaves_at.insert(at, leaves_at)
            self._requests.insert(at, 0)
            self._tokens.insert(at, 0.0)
        self._change(at, requests, tokens)
        return leaves_at

    def take_out(self, leaves_at: float, requests: int, tokens: float) -> bool:
        """Remove what stands under this time; returns whether it was still there."""
        at = bisect_left(self._leaves_at, leaves_at, self._first)
        if at == len(self._leaves_at) or self._leaves_at[at] != leaves_at:
            return False
        self._change(at, -requests, -tokens)
        if not self._requests[at] and abs(self._tokens[at]) < 1e-6:
            del self._leaves_at[at], self._requests[at], self._tokens[at]
        return True

    def _change(self, at: int, requests: int, tokens: float) -> None:
        self._requests[at] += requests
        self._tokens[at] += tokens
        self.requests += requests
        self.tokens += tokens

    def expire(self, now: float) -> None:
        """Let go what has left."""
        leaves_at, first = self._leaves_at, self._first
        while first < len(leaves_at) and leaves_at[first] <= now:
            self.requests -= self._requests[first]
            self.tokens -= self._tokens[first]
            first += 1
        self._first = first
        if first == len(leaves_at):
            self.requests, self.tokens = 0, 0.0
        if first > COMPACT_AT or first == len(leaves_at):
            del self._leaves_at[:first], self._requests[:first], self._tokens[:first]
            self._first = 0

    def left_by(self, requests: float, tokens: float) -> float:
        """When so many requests and tokens will have left; if there are not as many, when all will have."""
        for at in range(self._first, len(self._leaves_at)):
            requests -= self._requests[at]
            tokens -= self._tokens[at]
            if requests <= 0 and tokens <= 0:
                return self._leaves_at[at]
        return self._leaves_at[-1] if self else -math.inf

    def entries(self) -> tuple[array[float], array[int], array[float]]:
        """Times of leaving, requests and tokens, in order."""
        return self._leaves_at[self._first :], self._requests[self._first :], self._tokens[self._first :]

    def restore(
        self,
        leaves_at: array[float],
        requests: array[int],
        weights: array[float],
        all_requests: int,
        all_tokens: float,
    ) -> None:
        """Hold exactly what `entries` gave."""
        self._leaves_at, self._requests, self._tokens, self._first = leaves_at, requests, weights, 0
        self.requests, self.tokens = all_requests, all_tokens
