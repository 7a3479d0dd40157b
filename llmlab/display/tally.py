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


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the engine knows of the next seconds.

    Attributes
    ----------
    rate : float
        Requests per second that the limiter lets this experiment send; infinite without a limit.
    paused_s : float
        Seconds until a paused key sends again.
    next_grant_s : float
        Seconds until the limiter lets the next request leave.
    next_retry_s, last_retry_s : float
        Seconds until the first and the last of the trials that wait for a retry are asked again.
    next_probe_s : float
        While the provider does not answer: seconds until it is tried again; infinite otherwise.
    slots : float
        Most requests in flight at once.
    """

    rate: float = math.inf
    paused_s: float = 0.0
    next_grant_s: float = 0.0
    next_retry_s: float = 0.0
    last_retry_s: float = 0.0
    next_probe_s: float = math.inf
    slots: float = math.inf


@dataclass(slots=True)
class Tally:
    """Where an experiment stands. `record`, `finish` and `look` are told what happened; everything else reads.

    Attributes
    ----------
    trials : int
        How many are to be asked.
    clock : callable
        Seconds that never run backwards.
    before : int
        Trials of the experiment that were answered before, and are not asked.
    from_book : bool
        Whether a journal told of these.
    title : str
        What is asked, for whoever looks at several experiments.
    ok, failed : int
        Trials that ended.
    in_flight, waiting, retrying : int
        Attempts sent and not answered, attempts that wait for the limiter, and trials that wait for their next attempt.
    attempts, unusable : int
        Attempts that ended, and how many of them gave no usable answer.
    reached : bool
        Whether any server has answered.
    prompt_tokens, completion_tokens, cost_usd : Total
        What the attempts used, and how many of them may have used more than is known.
    last_error : str
        What the last attempt that failed says; empty before the first.
    outlook : Outlook
        What the engine knows of the next seconds.
    paused_before_s : float
        Seconds spent in pauses and outages so far.
    batches : tuple of QueuedBatch
        What is in the provider's queue now.
    """

    trials: int
    clock: Callable[[], float] = time.monotonic
    before: int = 0
    from_book: bool = False
    title: str = ""
    ok: int = 0
    failed: int = 0
    in_flight: int = 0
    waiting: int = 0
    retrying: int = 0
    attempts: int = 0
    unusable: int = 0
    reached: bool = False
    throttled: int = 0
    waited_s: float = 0.0
    latency_s: float = 0.0
    prompt_tokens: Total = field(default_factory=Total)
    completion_tokens: Total = field(default_factory=Total)
    cost_usd: Total = field(default_factory=Total)
    errors: Counter[str] = field(default_factory=Counter)
    last_error: str = ""
    outlook: Outlook = field(default_factory=Outlook)
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
        self.unusable += attempt.status != "ok"
        self.reached = self.reached or attempt.http_status is not None
        self.throttled += attempt.throttled
        self.waited_s += attempt.wait_s
        self.latency_s += attempt.latency_s
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

    def look(self, outlook: Outlook) -> None:
        """Take what the engine knows of the next seconds; told a few times a second."""
        now = self.clock()
        # In an outage nothing but probes is sent, however long it lasts.
        held_s = math.inf if self.outlook.next_probe_s < math.inf else self.outlook.paused_s
        self.paused_before_s += min(held_s, now - self._looked)
        self._looked, self.outlook = now, outlook

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
    def total(self) -> int:
        """All trials: those to be asked, and those that were answered before."""
        return self.trials + self.before

    @property
    def answered(self) -> int:
        """Trials that have an answer, now or from before."""
        return self.ok + self.before

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
        ahead = self.outlook
        if ahead.next_probe_s < math.inf:
            return None
        enough = self.done >= ENOUGH
        per_trial = max(1.0, self.attempts / self.done) if enough else 1.0
        by_limit = left * per_trial / ahead.rate
        # Nothing leaves before the window of the last minute has room again.
        window_s = ahead.next_grant_s if by_limit and not ahead.paused_s else 0.0
        by_pace = 0.0
        if enough:
            active_s = max(0.0, self.elapsed_s - self.paused_before_s)
            # Behind a limiter the pace is that of sending: answers lag behind by a latency.
            sent = (self.attempts + self.in_flight) / per_trial if self.waiting else self.done
            by_pace = left * active_s / sent
        known = max(by_limit + window_s, by_pace)
        if self.retrying:
            known = max(known, ahead.last_retry_s + self.latency_s / max(1, self.attempts))
        return known + ahead.paused_s if known else None
