"""The numbers of a running experiment: told of every attempt, asked by the views."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from llmlab.analysis import Total
from llmlab.records import TokenUsageAttempt

RECENT_S = 10.0
ENOUGH = 5


@dataclass(frozen=True, slots=True)
class QueuedBatch:
    """One batch in the provider's queue.

    Attributes
    ----------
    number, of : int
        Which batch of how many, from 1.
    done, total : int
        Requests that are worked on, and all of them.
    submitted_at, ends_by : float or None
        Seconds since the epoch; `None` as long as it is not submitted.
    """

    number: int
    of: int
    done: int
    total: int
    submitted_at: float | None = None
    ends_by: float | None = None


@dataclass(slots=True)
class Tally:
    """Where an experiment stands. `record`, `finish` and `limits` are told what happened; everything else reads.

    Attributes
    ----------
    trials : int
        How many are to be asked.
    clock : callable
        Seconds that never run backwards.
    ok, failed : int
        Trials that ended.
    in_flight, waiting, retrying : int
        Attempts sent and not answered, attempts that wait for the limiter, and trials that wait for their next attempt.
    attempts, retries : int
        Attempts that ended, and how many of them are followed by another.
    prompt_tokens, completion_tokens, cost_usd : Total
        What the attempts used, and how many of them may have used more than is known.
    last_error : str
        What the last attempt that failed says; empty before the first.
    rate : float
        Requests per second that the limiter lets this experiment send; infinite without a limit.
    paused_s, paused_before_s : float
        Seconds until a paused key sends again, and seconds spent in pauses so far.
    batches : tuple of QueuedBatch
        What is in the provider's queue now.
    """

    trials: int
    clock: Callable[[], float] = time.monotonic
    ok: int = 0
    failed: int = 0
    in_flight: int = 0
    waiting: int = 0
    retrying: int = 0
    attempts: int = 0
    retries: int = 0
    throttled: int = 0
    waited_s: float = 0.0
    prompt_tokens: Total = field(default_factory=Total)
    completion_tokens: Total = field(default_factory=Total)
    cost_usd: Total = field(default_factory=Total)
    errors: Counter[str] = field(default_factory=Counter)
    last_error: str = ""
    rate: float = math.inf
    paused_s: float = 0.0
    paused_before_s: float = 0.0
    batches: tuple[QueuedBatch, ...] = ()
    started: float = field(init=False)
    recent: deque[tuple[float, bool, float]] = field(default_factory=deque)
    _looked: float = field(init=False)

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        """The experiment begins now."""
        self.started = self._looked = self.clock()

    def record(self, attempt: TokenUsageAttempt) -> None:
        """Count one attempt."""
        self.attempts += 1
        self.retries += attempt.retry_in_s is not None
        self.throttled += attempt.throttled
        self.waited_s += attempt.wait_s
        usage, billed = attempt.usage, attempt.may_be_billed
        self.prompt_tokens = self.prompt_tokens.plus(usage.prompt_tokens, billed)
        self.completion_tokens = self.completion_tokens.plus(usage.completion_tokens, billed)
        self.cost_usd = self.cost_usd.plus(attempt.cost_usd, billed)
        if attempt.error_type is not None:
            self.errors[attempt.error_type] += 1
            self.last_error = f"{attempt.error_type}: {attempt.error}"
        now = self.clock()
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
        now = self.clock()
        self.paused_before_s += min(self.paused_s, now - self._looked)
        self._looked, self.rate, self.paused_s = now, rate or math.inf, paused_s

    def _forget(self, now: float) -> None:
        recent = self.recent
        while recent and recent[0][0] < now - RECENT_S:
            recent.popleft()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return self.clock() - self.started

    @property
    def done(self) -> int:
        """Trials that ended."""
        return self.ok + self.failed

    @property
    def throttle_rate(self) -> float:
        """Share of the attempts of the last ten seconds that the limiter made wait."""
        self._forget(self.clock())
        return sum(throttled for _, throttled, _ in self.recent) / len(self.recent) if self.recent else 0.0

    @property
    def recent_wait_s(self) -> float:
        """Seconds that the attempts of the last ten seconds waited for the limiter, on average."""
        self._forget(self.clock())
        return sum(waited for _, _, waited in self.recent) / len(self.recent) if self.recent else 0.0

    @property
    def avg_wait_s(self) -> float:
        """Seconds that all attempts waited for the limiter, on average."""
        return self.waited_s / self.attempts if self.attempts else 0.0

    @property
    def projected_usd(self) -> float | None:
        """What all trials will have cost at the price so far; `None` if there is no telling."""
        if self.done < ENOUGH or self.cost_usd.unknown:
            return None
        return self.cost_usd.known * self.trials / self.done

    @property
    def eta_s(self) -> float | None:
        """Seconds to the end, as the limiter and the pace so far allow; `None` if there is no telling yet."""
        left = self.trials - self.done
        if left <= 0:
            return 0.0
        if self.batches:
            # Only the provider knows; it says when they end at the latest.
            return None
        enough = self.done >= ENOUGH
        per_trial = max(1.0, self.attempts / self.done) if enough else 1.0
        by_limit = left * per_trial / self.rate
        by_pace = 0.0
        if enough:
            active_s = max(0.0, self.elapsed_s - self.paused_before_s)
            # Behind a limiter the pace is that of sending: answers lag behind by a latency.
            sent = (self.attempts + self.in_flight) / per_trial if self.waiting else self.done
            by_pace = left * active_s / sent
        known = max(by_limit, by_pace)
        return known + self.paused_s if known else None
