"""One rate limiter per API key for the whole process: first come, first served, over all event loops and threads.

`RateLimiter` is the line in front of a `llmlab.pacing.Schedule`, which decides when the next request may leave. Its
state is plain numbers under a lock that is never held across an `await`; each event loop with waiters holds one timer,
however many wait.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import EllipsisType
from typing import ClassVar, Literal

from llmlab.errors import InputError, TooLongError
from llmlab.limits.schedule import Schedule, Slot, positive
from llmlab.records import Feedback

logger = logging.getLogger("llmlab.limits")

SUMMARY_S = 10.0
HISTORY_SECONDS = 6 * 3600
AUTO_START = 60.0


def fingerprint(api_key: str) -> str:
    """Short one-way name of a key, safe to print."""
    return "key-" + hashlib.sha256(api_key.encode("utf-8", "surrogatepass")).hexdigest()[:8]


@dataclass(slots=True, eq=False)
class _Lane:
    """The waiters of one event loop share its timer."""

    loop: asyncio.AbstractEventLoop
    waiting: int = 0
    timer: asyncio.TimerHandle | None = None
    due: float = math.inf


@dataclass(slots=True, eq=False)
class _Waiter:
    lane: _Lane
    future: asyncio.Future[Grant]
    tokens: float
    since: float
    queued: bool = True
    booked: bool = False


class _Room:
    """The limiter's lock; what there is to log is said after it is released, as a handler may do anything.

    Reentrant: inside, the garbage collector may end an abandoned coroutine that settles its grant.
    """

    __slots__ = ("depth", "lines", "lock")

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.depth = 0
        self.lines: list[tuple[int, str]] = []

    def __enter__(self) -> None:
        self.lock.acquire()
        self.depth += 1

    def __exit__(self, *exc_info: object) -> None:
        self.depth -= 1
        lines: list[tuple[int, str]] = []
        if self.lines and not self.depth:
            lines, self.lines = self.lines, lines
        self.lock.release()
        for level, line in lines:
            try:
                logger.log(level, line)
            except Exception:
                # A broken log handler is no reason to stop an experiment.
                continue


class _Ledger:
    """What the limiter granted: totals, a bounded history per second, and the ten-second summary."""

    def __init__(self) -> None:
        self.granted = self.throttled = self.refused = 0
        self.waited_s = 0.0
        self.history: deque[list[float]] = deque(maxlen=HISTORY_SECONDS)
        self._since = -math.inf
        self._before = (0, 0)

    def count(self, now: float, waited_s: float, throttled: bool) -> list[float]:
        """Count a grant; returns the second of the history it fell into."""
        second = math.floor(now)
        if not self.history or self.history[-1][0] != second:
            self.history.append([second, 0, 0, 0.0])
        self._add(self.history[-1], 1, throttled, waited_s)
        return self.history[-1]

    def take_back(self, grant: Grant) -> None:
        """It was never used: as if it had not been granted."""
        self._add(grant._second, -1, -grant.throttled, -grant.waited_s)

    def _add(self, second: list[float], granted: int, throttled: int, waited_s: float) -> None:
        self.granted += granted
        self.throttled += throttled
        self.waited_s += waited_s
        second[1] += granted
        second[2] += throttled
        second[3] += waited_s

    def summary(self, now: float, queue: int, limit: float | None) -> str | None:
        """One line when ten seconds with traffic are over."""
        elapsed = now - self._since
        # A grant a few milliseconds early still ends the ten seconds it rounds to.
        if elapsed < SUMMARY_S - 0.04:
            return None
        requests, throttled = self.granted - self._before[0], self.throttled - self._before[1]
        self._since, self._before = now, (self.granted, self.throttled)
        if requests <= 0:
            return None
        throttled = min(max(throttled, 0), requests)
        of = "unlimited" if limit is None else f"{limit:.12g}"
        return (
            f"Rate limiter summary (last {elapsed:.1f}s): {requests} requests, {throttled} throttled "
            f"({100 * throttled / requests:.1f}%), queue: {queue}/{of}"
        )


class Grant:
    """Leave to send one request now.

    Attributes
    ----------
    waited_s : float
        Seconds spent waiting for the limiter.
    throttled : bool
        Whether it had to wait at all.
    """

    __slots__ = ("_limiter", "_second", "_slot", "throttled", "waited_s")

    def __init__(self, limiter: RateLimiter, slot: Slot, second: list[float], waited_s: float, throttled: bool) -> None:
        self._limiter = limiter
        self._slot = slot
        self._second = second
        self.waited_s = waited_s
        self.throttled = throttled

    def __repr__(self) -> str:
        return f"Grant(waited_s={self.waited_s:.3f}, throttled={self.throttled})"

    def answered(self, tokens: float | None = None) -> None:
        """The answer is here: its slot leaves the window one period from now at the latest.

        Parameters
        ----------
        tokens : float, optional
            What was really used; replaces the reserved estimate. May be called late, or again.
        """
        self._limiter._answered(self._slot, tokens)

    def refused(self, retry_after_s: float | None = None) -> float:
        """The provider said 429: pause the whole key, and cut the rate once per episode.

        Parameters
        ----------
        retry_after_s : float, optional
            The provider's hint in seconds; nonsense is ignored.

        Returns
        -------
        float
            Seconds until the key sends again.
        """
        return self._limiter._refused(self._slot, retry_after_s)

    def cancel(self) -> None:
        """Nothing was sent: give the slot back. Ignored after `answered`, `refused` or `cancel`."""
        self._limiter._give_back(self)


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
        Shown in the repr; never a key.
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
        self.auto = isinstance(limit, str) and _is_auto(limit)
        start = AUTO_START if isinstance(limit, str) else limit
        self._schedule = Schedule(start, period_s=period_s, tokens=tokens, burst=burst, margin_s=margin_s)
        self.name = name
        self._clock = clock
        self._behind = 0.0
        self._last = -math.inf
        self._room = _Room()
        self._ledger = _Ledger()
        self._waiters: deque[_Waiter] = deque()
        self._lanes: dict[asyncio.AbstractEventLoop, _Lane] = {}
        self._due = -math.inf
        self._held: dict[asyncio.Task[object] | None, list[Grant]] = {}

    def __repr__(self) -> str:
        limits = f"{self.limit:.12g} requests" if self.limit is not None else "unlimited requests"
        if self.tokens is not None:
            limits += f", {self.tokens:.12g} tokens"
        name = f" {self.name}" if self.name else ""
        return f"<RateLimiter{name}: {limits} per {self.period_s:g} s, {self._ledger.granted} granted>"

    @property
    def limit(self) -> float | None:
        """Requests per period; set it at any time, waiters follow."""
        return self._schedule.requests.limit

    @limit.setter
    def limit(self, value: float | None) -> None:
        checked, raw = positive("limit", value), self._clock()
        with self._room:
            self._schedule.change(self._schedule.requests, checked, self._advance(raw))
            self._pump(raw)

    @property
    def tokens(self) -> float | None:
        """Tokens per period; set it at any time, waiters follow."""
        return self._schedule.tokens.limit

    @tokens.setter
    def tokens(self, value: float | None) -> None:
        checked, raw = positive("tokens", value), self._clock()
        with self._room:
            self._schedule.change(self._schedule.tokens, checked, self._advance(raw))
            self._pump(raw)

    @property
    def period_s(self) -> float:
        """Length of the window in seconds."""
        return self._schedule.period_s

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
        if not 0 <= tokens < math.inf:
            raise InputError(f"tokens must be 0 or more, not {tokens!r}.")
        most = self._schedule.tokens.limit
        if most is not None and tokens > most:
            raise TooLongError(
                f"about {tokens:,.0f} tokens, but the limit is {most:,.0f} per {self.period_s:g} s: "
                "shorten the text or raise tokens_per_minute"
            )
        loop = asyncio.get_running_loop()
        raw = self._clock()
        with self._room:
            now = self._advance(raw)
            if not self._waiters and self._schedule.ready_at(tokens, now) <= now:
                return self._book(tokens, now, now, 0.0, throttled=False)
            waiter = _Waiter(self._lane(loop), loop.create_future(), tokens, now)
            self._waiters.append(waiter)
            self._pump(raw)
        while True:
            try:
                grant = await waiter.future
                raw = self._clock()
            except (asyncio.CancelledError, Exception):
                self._leave(waiter)
                raise
            with self._room:
                # The clock runs from here, not from the grant: a busy loop may resume a waiter late.
                if self._schedule.sent(grant._slot, self._advance(raw)):
                    return grant
                # Its loop stood still for so long that others have its place: back into the line.
                self._ledger.take_back(grant)
                waiter = _Waiter(self._lane(loop), loop.create_future(), tokens, waiter.since)
                self._waiters.append(waiter)
                self._pump(raw)

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
            # After an error nobody knows whether it has arrived yet.
            grant.answered()

    def pause(self, seconds: float) -> None:
        """Send nothing for `seconds`, then go on paced; zero, negative, infinite and NaN are ignored."""
        if not 0 < seconds < math.inf:
            return
        raw = self._clock()
        with self._room:
            self._schedule.pause(self._advance(raw) + seconds)

    def learn(self, feedback: Feedback) -> None:
        """With `limit="auto"`, take the provider's own limits (per minute) from an answer's headers."""
        if not self.auto:
            return
        if feedback.limit_requests:
            limit = feedback.limit_requests * self.period_s / 60.0
            if limit != self.limit:
                self.limit = limit
        if feedback.limit_tokens:
            tokens = feedback.limit_tokens * self.period_s / 60.0
            if tokens != self.tokens:
                self.tokens = tokens

    def get_metrics(self) -> dict[str, float | int | None]:
        """What happened so far.

        Returns
        -------
        dict
            `total_requests` (grants), `throttled_requests` (grants that waited), `throttle_rate` (0 to 1),
            `avg_wait_time` (s, over all grants), `queue_size` (requests in the window), `limit` (of the window),
            `waiting` (in line now), `refused_requests` (429s), `paused_s` (until the key sends again),
            `rate_factor` (1 unless cut after refusals).
        """
        raw = self._clock()
        with self._room:
            now = self._advance(raw)
            ledger = self._ledger
            return {
                "total_requests": ledger.granted,
                "throttled_requests": ledger.throttled,
                "throttle_rate": ledger.throttled / ledger.granted if ledger.granted else 0.0,
                "avg_wait_time": ledger.waited_s / ledger.granted if ledger.granted else 0.0,
                "queue_size": self._schedule.in_window(now),
                "limit": self.limit,
                "waiting": sum(lane.waiting for lane in self._lanes.values()),
                "refused_requests": ledger.refused,
                "paused_s": max(0.0, self._schedule.paused_until - now),
                "rate_factor": self._schedule.factor(now),
            }

    def history(self) -> list[tuple[float, int, int, float]]:
        """Per second with traffic: (epoch seconds, granted, throttled, seconds waited); six hours of it at most."""
        raw = self._clock()
        with self._room:
            offset = time.time() - self._advance(raw)
            return [(second + offset, int(g), int(t), w) for second, g, t, w in self._ledger.history]

    def _answered(self, slot: Slot, tokens: float | None) -> None:
        raw = self._clock()
        with self._room:
            if self._schedule.answered(slot, tokens, self._advance(raw)):
                self._pump(raw)

    def _refused(self, slot: Slot, retry_after_s: float | None) -> float:
        raw = self._clock()
        with self._room:
            now = self._advance(raw)
            self._ledger.refused += 1
            begins = self._schedule.refused(slot, retry_after_s, now)
            wait = max(0.0, self._schedule.paused_until - now)
            if begins:
                share = 100 * self._schedule.factor(now)
                line = f"Refused (429): the key pauses {wait:.1f}s, then goes on at {share:.0f}% of its rate"
                self._room.lines.append((logging.WARNING, line))
            return wait

    def _give_back(self, grant: Grant) -> None:
        with self._room:
            if not self._schedule.give_back(grant._slot):
                return
            self._ledger.take_back(grant)
        raw = self._clock()
        with self._room:
            self._pump(raw)

    # Everything below runs under the lock.

    def _advance(self, raw: float) -> float:
        """The limiter's own time: follows the clock, but never goes back."""
        now = raw + self._behind
        if now < self._last:
            self._behind += self._last - now
            now = self._last
        self._last = now
        return now

    def _book(self, tokens: float, due: float, now: float, waited_s: float, *, throttled: bool) -> Grant:
        slot = self._schedule.book(tokens, due, now)
        line = self._ledger.summary(now, self._schedule.in_window(now), self.limit)
        if line:
            self._room.lines.append((logging.INFO, line))
        return Grant(self, slot, self._ledger.count(now, waited_s, throttled), waited_s, throttled)

    def _pump(self, raw: float) -> None:
        """Grant to the head of the line as long as it is ready, then set the timers."""
        if self._room.depth > 1:
            return
        now = self._advance(raw)
        while self._waiters:
            waiter = self._waiters[0]
            if waiter.future.done():
                self._waiters.popleft()
                continue
            if not waiter.lane.loop.is_running():
                self._park(self._waiters.popleft())
                continue
            ready = self._schedule.ready_at(waiter.tokens, now)
            if ready > now:
                self._due = ready
                break
            self._waiters.popleft()
            due = max(ready, self._due, waiter.since)
            self._due = -math.inf
            self._deliver(waiter, self._book(waiter.tokens, due, now, now - waiter.since, throttled=True))
        self._arm(now)

    def _deliver(self, waiter: _Waiter, grant: Grant) -> None:
        waiter.booked = True
        self._drop(waiter)
        if waiter.lane.loop is _running_loop():
            waiter.future.set_result(grant)
        elif not _post(waiter.lane.loop, _hand_over, waiter.future, grant):
            self._schedule.give_back(grant._slot)
            self._ledger.take_back(grant)

    def _lane(self, loop: asyncio.AbstractEventLoop) -> _Lane:
        lane = self._lanes.get(loop)
        if lane is None:
            lane = self._lanes[loop] = _Lane(loop)
        lane.waiting += 1
        return lane

    def _drop(self, waiter: _Waiter) -> None:
        if not waiter.queued:
            return
        waiter.queued = False
        lane = waiter.lane
        lane.waiting -= 1
        if lane.waiting == 0:
            self._lanes.pop(lane.loop, None)
            if lane.timer is not None:
                if lane.loop is _running_loop():
                    lane.timer.cancel()
                else:
                    _post(lane.loop, lane.timer.cancel)
                lane.timer = None

    def _arm(self, now: float) -> None:
        """Every loop with waiters wakes when the head of the line is due."""
        if not self._waiters:
            return
        here = _running_loop()
        for lane in self._lanes.values():
            if lane.due <= self._due:
                continue
            if lane.loop is here:
                if lane.timer is not None:
                    lane.timer.cancel()
                lane.due = self._due
                # A clock that stands still, or ticks coarsely, must not spin.
                lane.timer = lane.loop.call_later(max(0.001, self._due - now), self._wake, lane)
            elif lane.loop.is_running() and _post(lane.loop, self._wake, lane):
                lane.due = self._due

    def _park(self, waiter: _Waiter) -> None:
        """Its loop stands still or is closed: let the others pass; should it run again, it queues anew."""
        self._drop(waiter)
        _post(waiter.lane.loop, self._requeue, waiter)

    # Called by an event loop, without the lock.

    def _wake(self, lane: _Lane) -> None:
        try:
            raw = self._clock()
        except Exception:
            lane.timer = lane.loop.call_later(1.0, self._wake, lane)
            raise
        with self._room:
            if lane.timer is not None:
                lane.timer.cancel()
            lane.timer, lane.due = None, math.inf
            self._pump(raw)

    def _requeue(self, waiter: _Waiter) -> None:
        raw = self._clock()
        with self._room:
            if not waiter.future.done():
                waiter.lane, waiter.queued = self._lane(waiter.lane.loop), True
                self._waiters.append(waiter)
                self._pump(raw)

    def _leave(self, waiter: _Waiter) -> None:
        """A cancelled waiter takes nothing, also when its grant came in the same tick."""
        with self._room:
            self._drop(waiter)
            booked, first = waiter.booked, bool(self._waiters) and self._waiters[0] is waiter
        if booked and not waiter.future.cancelled():
            waiter.future.result().cancel()
        elif first:
            waiter.lane.loop.call_soon(self._wake, waiter.lane)


def _is_auto(limit: str) -> bool:
    if limit != "auto":
        raise InputError(f'limit must be a positive number, None (unlimited) or "auto", not {limit!r}.')
    return True


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _post(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *args: object) -> bool:
    """Call it in another thread's loop; returns whether that loop is still open."""
    try:
        loop.call_soon_threadsafe(callback, *args)
    except RuntimeError:
        return False
    return True


def _hand_over(future: asyncio.Future[Grant], grant: Grant) -> None:
    if future.done():
        grant.cancel()
    else:
        future.set_result(grant)


class RateLimiterRegistry:
    """All limiters of this process: one per endpoint and API key, for every experiment, loop and thread."""

    _limiters: ClassVar[dict[tuple[str | None, str], RateLimiter]] = {}
    _lock = threading.Lock()

    @classmethod
    def get_limiter(
        cls,
        api_key: str,
        requests_per_minute: float | Literal["auto"] | EllipsisType | None = ...,
        *,
        base_url: str | None = None,
        tokens_per_minute: float | EllipsisType | None = ...,
    ) -> RateLimiter:
        """The one limiter of this key; made on first use.

        Parameters
        ----------
        api_key : str
            Only its fingerprint is kept.
        requests_per_minute : float, "auto" or None
            60 for a new limiter if left out; a value given changes the limiter, also while others wait on it.
        base_url : str, optional
            The endpoint, as the same key may be used at several. Left out, the key's only limiter is meant.
        tokens_per_minute : float, optional
            A value given changes the limiter.

        Returns
        -------
        RateLimiter
        """
        name = fingerprint(api_key)
        base_url = base_url and str(base_url).rstrip("/")
        with cls._lock:
            limiter = cls._find(base_url, name)
            if limiter is None:
                start = 60.0 if isinstance(requests_per_minute, EllipsisType) else requests_per_minute
                tokens = None if isinstance(tokens_per_minute, EllipsisType) else tokens_per_minute
                limiter = RateLimiter(start, tokens=tokens, name=name)
                cls._limiters[base_url, name] = limiter
                return limiter
        if isinstance(requests_per_minute, str):
            limiter.auto = _is_auto(requests_per_minute)
        elif not isinstance(requests_per_minute, EllipsisType):
            limiter.limit = requests_per_minute
            limiter.auto = False
        if not isinstance(tokens_per_minute, EllipsisType):
            limiter.tokens = tokens_per_minute
        return limiter

    @classmethod
    def _find(cls, base_url: str | None, name: str) -> RateLimiter | None:
        exact = cls._limiters.get((base_url, name))
        if exact is not None:
            return exact
        if base_url is not None:
            # A limiter set up by key alone is adopted by the first endpoint that uses the key.
            adopted = cls._limiters.pop((None, name), None)
            if adopted is not None:
                cls._limiters[base_url, name] = adopted
            return adopted
        same_key = [limiter for (_, other), limiter in cls._limiters.items() if other == name]
        return same_key[0] if len(same_key) == 1 else None

    @classmethod
    def get_metrics(cls, api_key: str | None = None) -> dict[str, float | int | None]:
        """Metrics of one key, or of all keys together; the fields of `RateLimiter.get_metrics`."""
        name = None if api_key is None else fingerprint(api_key)
        with cls._lock:
            limiters = [limiter for (_, other), limiter in cls._limiters.items() if name in (None, other)]
        return _combined(limiter.get_metrics() for limiter in limiters)

    @classmethod
    def clear(cls) -> None:
        """Forget all limiters and their counts; running experiments keep theirs."""
        with cls._lock:
            cls._limiters.clear()


def _combined(metrics: Iterable[dict[str, float | int | None]]) -> dict[str, float | int | None]:
    """Counts add up, averages are over all grants, the limit is the sum, or `None` if any is unlimited."""
    every = list(metrics)

    def total(name: str) -> float:
        return sum(one[name] or 0 for one in every)

    granted = total("total_requests")
    waited = sum((one["avg_wait_time"] or 0) * (one["total_requests"] or 0) for one in every)
    return {
        "total_requests": int(granted),
        "throttled_requests": int(total("throttled_requests")),
        "throttle_rate": total("throttled_requests") / granted if granted else 0.0,
        "avg_wait_time": waited / granted if granted else 0.0,
        "queue_size": int(total("queue_size")),
        "limit": None if not every or any(one["limit"] is None for one in every) else total("limit"),
        "waiting": int(total("waiting")),
        "refused_requests": int(total("refused_requests")),
        "paused_s": max((one["paused_s"] or 0.0 for one in every), default=0.0),
        "rate_factor": min((one["rate_factor"] or 1.0 for one in every), default=1.0),
    }
