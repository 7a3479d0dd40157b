"""One tally folded over attempts: where an experiment stands, and its numbers in words."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field

from llmlab.records import TokenUsageAttempt

RECENT_S = 10.0
ENOUGH = 5


@dataclass(slots=True)
class Tally:
    """Where an experiment stands. `record`, `finish` and `limits` are told what happened; everything else reads.

    Attributes
    ----------
    trials : int
        How many are to be asked.
    ok, failed : int
        Trials that ended.
    in_flight, waiting, retrying : int
        Attempts sent and not answered, in line for the limiter, and trials waiting for their next attempt.
    attempts, retries : int
        Attempts that ended, and how many of them are followed by another.
    rate : float or None
        Requests per second that the limiter lets this experiment send; `None` is unlimited.
    paused_s, paused_before_s : float
        Seconds until a paused key sends again, and seconds spent in pauses so far.
    """

    trials: int
    ok: int = 0
    failed: int = 0
    in_flight: int = 0
    waiting: int = 0
    retrying: int = 0
    attempts: int = 0
    retries: int = 0
    throttled: int = 0
    waited_s: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0
    unpriced: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    last_error: str | None = None
    started: float = field(default_factory=time.monotonic)
    rate: float | None = None
    paused_s: float = 0.0
    paused_before_s: float = 0.0
    recent: deque[tuple[float, bool, float]] = field(default_factory=deque)
    _looked: float | None = None

    def record(self, attempt: TokenUsageAttempt) -> None:
        """Count one attempt."""
        self.attempts += 1
        self.retries += attempt.retry_in_s is not None
        self.throttled += attempt.throttled
        self.waited_s += attempt.wait_s
        self.prompt_tokens += attempt.usage.prompt_tokens or 0
        self.completion_tokens += attempt.usage.completion_tokens or 0
        if attempt.cost_usd is not None:
            self.cost_usd += attempt.cost_usd
        elif attempt.usage.total_tokens is not None:
            self.unpriced += 1
        if attempt.error_type is not None:
            self.errors[attempt.error_type] += 1
            self.last_error = f"{attempt.error_type}: {attempt.error}"
        now = time.monotonic()
        self.recent.append((now, attempt.throttled, attempt.wait_s))
        self._forget(now)

    def finish(self, ok: bool) -> None:
        """Count one trial that ended."""
        if ok:
            self.ok += 1
        else:
            self.failed += 1

    def limits(self, *, rate: float | None, paused_s: float) -> None:
        """Take what the limiter allows now; told a few times a second."""
        now = time.monotonic()
        if self._looked is not None:
            self.paused_before_s += min(self.paused_s, now - self._looked)
        self._looked, self.rate, self.paused_s = now, rate, paused_s

    def _forget(self, now: float) -> None:
        recent = self.recent
        while recent and recent[0][0] < now - RECENT_S:
            recent.popleft()

    @property
    def done(self) -> int:
        """Trials that ended."""
        return self.ok + self.failed

    @property
    def throttle_rate(self) -> float:
        """Share of the attempts of the last ten seconds that the limiter made wait."""
        self._forget(time.monotonic())
        return sum(throttled for _, throttled, _ in self.recent) / len(self.recent) if self.recent else 0.0

    @property
    def recent_wait_s(self) -> float:
        """Seconds that the attempts of the last ten seconds waited for the limiter, on average."""
        self._forget(time.monotonic())
        return sum(waited for _, _, waited in self.recent) / len(self.recent) if self.recent else 0.0

    @property
    def avg_wait_s(self) -> float:
        """Seconds that all attempts waited for the limiter, on average."""
        return self.waited_s / self.attempts if self.attempts else 0.0

    @property
    def projected_usd(self) -> float | None:
        """What all trials will have cost at the price so far; `None` if there is no telling."""
        if self.done < ENOUGH or self.unpriced:
            return None
        return self.cost_usd * self.trials / self.done

    @property
    def eta_s(self) -> float | None:
        """Seconds to the end, as the limiter and the pace so far allow; `None` if there is no telling yet."""
        left = self.trials - self.done
        if left <= 0:
            return 0.0
        enough = self.done >= ENOUGH
        per_trial = max(1.0, self.attempts / self.done) if enough else 1.0
        by_limit = left * per_trial / self.rate if self.rate else 0.0
        by_pace = 0.0
        if enough:
            active_s = max(0.0, time.monotonic() - self.started - self.paused_before_s)
            # Behind a limiter the pace is that of sending: answers lag behind by a latency.
            sent = (self.attempts + self.in_flight) / per_trial if self.waiting else self.done
            by_pace = left * active_s / sent
        known = max(by_limit, by_pace)
        return known + self.paused_s if known else None


def money(tally: Tally) -> str:
    """What is spent so far; unknown prices are named, not added as 0."""
    if tally.unpriced and not tally.cost_usd:
        return "cost unknown"
    return f"${tally.cost_usd:,.4f}" + (f" + {tally.unpriced} of unknown price" if tally.unpriced else "")


def duration(seconds: float) -> str:
    """Seconds as `42 s`, `12:30` or `1:02:03`."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
