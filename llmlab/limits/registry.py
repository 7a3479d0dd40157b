"""The one limiter of each API key, which every experiment, event loop and thread of this process finds here."""

from __future__ import annotations

import hashlib
import threading
from types import EllipsisType
from typing import ClassVar, Literal

from llmlab.limits.limiter import AUTO_START, RateLimiter
from llmlab.limits.metrics import combined


def fingerprint(api_key: str) -> str:
    """Short one-way name of a key, safe to print."""
    return "key-" + hashlib.sha256(api_key.encode("utf-8", "surrogatepass")).hexdigest()[:8]


class RateLimiterRegistry:
    """All limiters of this process, for every experiment, loop and thread.

    There is one per endpoint and API key, and one more for each model of that key that has a limit of its own.
    """

    _limiters: ClassVar[dict[tuple[str | None, str, str | None], RateLimiter]] = {}
    _lock = threading.Lock()

    @classmethod
    def get_limiter(
        cls,
        api_key: str,
        requests_per_minute: float | Literal["auto"] | EllipsisType | None = ...,
        *,
        base_url: str | None = None,
        tokens_per_minute: float | EllipsisType | None = ...,
        model: str | None = None,
    ) -> RateLimiter:
        """The one limiter of this key, or of one of its models; made on first use.

        Parameters
        ----------
        api_key : str
            Only its fingerprint is kept.
        requests_per_minute : float, "auto" or None
            A value given changes the limiter, also while others wait on it. Left out (`...`), the limiter keeps what
            it has; a new one starts at 60, that of a model at the limit of its key.
        base_url : str, optional
            The endpoint, as the same key may be used at several. Left out, the key's only limiter is meant.
        tokens_per_minute : float, optional
            A value given changes the limiter. Left out (`...`), it keeps what it has; a new one counts no tokens.
        model : str, optional
            A model whose requests are limited apart from the others of the key.

        Returns
        -------
        RateLimiter

        Raises
        ------
        InputError
            A limit that is zero, negative, NaN or no number.
        """
        name = fingerprint(api_key)
        base_url = base_url and str(base_url).rstrip("/")
        with cls._lock:
            limiter = cls._find(base_url, name, model)
            if limiter is None:
                start = requests_per_minute
                if isinstance(start, EllipsisType):
                    start = cls._start(base_url, name) if model is not None else AUTO_START
                tokens = None if isinstance(tokens_per_minute, EllipsisType) else tokens_per_minute
                limiter = RateLimiter(start, tokens=tokens, name=name if model is None else f"{name} {model}")
                cls._keep(base_url, name, model, limiter)
                return limiter
        limiter.change(requests_per_minute, tokens_per_minute)
        return limiter

    @classmethod
    def _start(cls, base_url: str | None, name: str) -> float | Literal["auto"] | None:
        """With which limit a model of this key starts."""
        key = cls._find(base_url, name, None)
        if key is None:
            return AUTO_START
        return "auto" if key.auto else key.limit

    @classmethod
    def _find(cls, base_url: str | None, name: str, model: str | None) -> RateLimiter | None:
        limiter = cls._limiters.get((base_url, name, model))
        if limiter is not None:
            return limiter
        if base_url is not None:
            # Set up by key alone, before its endpoint was known.
            limiter = cls._limiters.pop((None, name, model), None)
            if limiter is not None:
                cls._keep(base_url, name, model, limiter)
            return limiter
        same = [limiter for (_, *other), limiter in cls._limiters.items() if other == [name, model]]
        return same[0] if len(same) == 1 else None

    @classmethod
    def _keep(cls, base_url: str | None, name: str, model: str | None, limiter: RateLimiter) -> None:
        cls._limiters[base_url, name, model] = limiter
        limiter._share_as(" ".join(filter(None, (name, base_url, model))))

    @classmethod
    def get_metrics(cls, api_key: str | None = None) -> dict[str, float | int | None]:
        """Metrics of one key with all its models, or of all keys; the fields of `RateLimiter.get_metrics`."""
        name = None if api_key is None else fingerprint(api_key)
        with cls._lock:
            limiters = [limiter for (_, other, _), limiter in cls._limiters.items() if name in (None, other)]
        return combined(limiter.get_metrics() for limiter in limiters)

    @classmethod
    def clear(cls) -> None:
        """Forget all limiters and their counts; running experiments keep theirs."""
        with cls._lock:
            cls._limiters.clear()
