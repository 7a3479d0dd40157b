"""Calls about the batch queue are repeated until they succeed, or the wait is over."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from llmlab.errors import TransientError

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 60.0
_T = TypeVar("_T")


class Patience:
    """Repeats calls that fail for a while.

    Parameters
    ----------
    outage_s : float
        Seconds after which a call is given up, unless it is made patiently.
    """

    def __init__(self, outage_s: float) -> None:
        self._outage_s = outage_s
        self._over = asyncio.Event()

    @property
    def is_over(self) -> bool:
        """Whether nothing is waited for any more."""
        return self._over.is_set()

    def end(self) -> None:
        """Wait for nothing any more."""
        self._over.set()

    async def sleep(self, seconds: float) -> None:
        """Wait, but not beyond the end."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), seconds)

    async def until_done(self, call: Callable[[], Awaitable[_T]], *, for_ever: bool = False) -> _T:
        """Call until it succeeds, as long as an outage is waited for; or for ever, where hours are waited anyway.

        Raises
        ------
        AttemptError
            The last failure, or one that will not pass.
        """
        began, wait_s = time.monotonic(), FIRST_WAIT_S
        while True:
            try:
                return await call()
            except TransientError as error:
                late = time.monotonic() - began > self._outage_s
                if (late and not for_ever) or self.is_over:
                    raise
                await self.sleep(error.retry_after_s or wait_s)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)
