"""When models that do not answer are tried again."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable


class Probes:
    """The probes of models that are on hold: one at a time for each set of models.

    Parameters
    ----------
    start : callable
        Sends a probe of a set of models; returns whether there was a trial to send.
    """

    def __init__(self, start: Callable[[frozenset[str]], bool]) -> None:
        self._loop = asyncio.get_running_loop()
        self._start = start
        # Sets of models with the timer of their next probe, also while that is on its way.
        self._timers: dict[frozenset[str], asyncio.TimerHandle] = {}

    @property
    def next_s(self) -> float:
        """Seconds until the next one; infinite if none is due."""
        due = [timer.when() - self._loop.time() for timer in self._timers.values()]
        return max(0.0, min(due, default=math.inf))

    def begin(self, models: frozenset[str], in_s: float) -> None:
        """Send one in so many seconds, unless one is due or on its way."""
        if models not in self._timers:
            self._timers[models] = self._loop.call_later(in_s, self._due, models)

    def over(self, models: frozenset[str]) -> None:
        """The probe of these models has ended."""
        del self._timers[models]

    def cancel(self) -> None:
        """Send none any more."""
        for timer in self._timers.values():
            timer.cancel()

    def _due(self, models: frozenset[str]) -> None:
        if not self._start(models):
            del self._timers[models]
