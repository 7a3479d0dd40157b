"""What the views are told of the next seconds: the limiter's rate and room, and when retries and probes are due."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

from llmlab.display import Outlook
from llmlab.limits import RateLimiter


def outlook(
    limiter: RateLimiter,
    *,
    waiting: int,
    retries_due: Iterable[float],
    slots: float,
    next_probe_s: float = math.inf,
) -> Outlook:
    """What is known of the next seconds.

    Parameters
    ----------
    limiter : RateLimiter
    waiting : int
        Requests of this experiment that wait for it.
    retries_due : iterable of float
        When trials are to be asked again, by `time.monotonic`.
    slots : float
        Most requests in flight at once.
    next_probe_s : float
        Seconds until the provider is tried again, if it does not answer.
    """
    metrics = limiter.get_metrics()
    rate = math.inf
    if limiter.limit is not None:
        rate = limiter.limit / limiter.period_s * (metrics["rate_factor"] or 1.0)
        # Experiments on one key wait in one line: each gets its share of the rate.
        rate *= waiting / max(metrics["waiting"] or 0, waiting) if waiting else 1.0
    due = [max(0.0, at - time.monotonic()) for at in retries_due]
    return Outlook(
        rate=rate,
        paused_s=metrics["paused_s"] or 0.0,
        next_grant_s=limiter.ready_in_s(),
        next_retry_s=min(due, default=0.0),
        last_retry_s=max(due, default=0.0),
        next_probe_s=next_probe_s,
        slots=slots,
    )
