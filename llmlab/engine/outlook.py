"""What the views are told of the next seconds: the limiter's rate and room, and when retries and probes are due."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence

from llmlab.display import Outlook
from llmlab.limits import RateLimiter


def outlook(
    limiters: Sequence[RateLimiter],
    *,
    waiting: int,
    retries_due: Iterable[float],
    slots: float,
    next_probe_s: float = math.inf,
) -> Outlook:
    """What is known of the next seconds.

    Parameters
    ----------
    limiters : sequence of RateLimiter
    waiting : int
        Requests of this experiment that wait for them.
    retries_due : iterable of float
        When trials are to be asked again, by `time.monotonic`.
    slots : float
        Most requests in flight at once.
    next_probe_s : float
        Seconds until the provider is tried again, if it does not answer.
    """
    metrics = [limiter.get_metrics() for limiter in limiters]
    rate = sum(_rate(limiter, its) for limiter, its in zip(limiters, metrics, strict=True))
    # Experiments on one key wait in one line: each gets its share of the rate.
    rate *= waiting / max(sum(its["waiting"] or 0 for its in metrics), waiting) if waiting else 1.0
    due = [max(0.0, at - time.monotonic()) for at in retries_due]
    return Outlook(
        rate=rate,
        paused_s=min(its["paused_s"] or 0.0 for its in metrics),
        next_grant_s=min(limiter.ready_in_s() for limiter in limiters),
        next_retry_s=min(due, default=0.0),
        last_retry_s=max(due, default=0.0),
        next_probe_s=next_probe_s,
        slots=slots,
    )


def _rate(limiter: RateLimiter, metrics: Mapping[str, float | int | None]) -> float:
    """Requests per second that this process may expect of it; other processes on the key get as many."""
    if limiter.limit is None:
        return math.inf
    return limiter.limit / limiter.period_s * (metrics["rate_factor"] or 1.0) / (metrics["processes"] or 1)
