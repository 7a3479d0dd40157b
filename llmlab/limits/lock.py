"""The lock of a limiter, together with the limiter's own time and what it has to log."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable

logger = logging.getLogger("llmlab.limits")


class Lock:
    """Guards the numbers of one limiter; it is never held across an `await`.

    It is reentrant: while it is held, the garbage collector may end an abandoned coroutine that settles its grant.
    Messages are logged after the release, because a log handler may do anything, also ask this limiter.

    Parameters
    ----------
    clock : callable
        Monotonic seconds. It may raise; then the lock is not taken and nothing changes.
    """

    __slots__ = ("_behind_s", "_depth", "_last", "_lock", "_messages", "_timed", "clock")

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._lock = threading.RLock()
        self._depth = 0
        self._behind_s = 0.0
        self._last = -math.inf
        self._messages: list[tuple[int, str]] = []
        self._timed = _Timed(self)

    def __enter__(self) -> None:
        self._lock.acquire()
        self._depth += 1

    def __exit__(self, *exc_info: object) -> None:
        self._depth -= 1
        messages: list[tuple[int, str]] = []
        if self._messages and not self._depth:
            messages, self._messages = self._messages, messages
        self._lock.release()
        for level, message in messages:
            try:
                logger.log(level, message)
            except Exception:
                # A broken log handler is no reason to stop an experiment.
                continue

    def timed(self) -> _Timed:
        """What `with` holds the lock by, and gets the time of."""
        return self._timed

    @property
    def nested(self) -> bool:
        """Whether the holder took it a second time: what is being changed below is only half done."""
        return self._depth > 1

    def log(self, level: int, message: str) -> None:
        """Log it as soon as the lock is free."""
        self._messages.append((level, message))

    def advance(self, raw: float) -> float:
        """The limiter's time: it follows the clock, whose reading is `raw`, but never goes back."""
        now = raw + self._behind_s
        if now < self._last:
            self._behind_s += self._last - now
            now = self._last
        self._last = now
        return now


class _Timed:
    """A lock whose `with` gives the time."""

    __slots__ = ("_lock",)

    def __init__(self, lock: Lock) -> None:
        self._lock = lock

    def __enter__(self) -> float:
        raw = float(self._lock.clock())
        self._lock.__enter__()
        return self._lock.advance(raw)

    def __exit__(self, *exc_info: object) -> None:
        self._lock.__exit__()
