"""Calls about the batch queue are repeated until they succeed, or the wait is over."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from llmlab.errors import CancelledError, TransientError

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 60.0
_T = TypeVar("_T")


class Patience:
    """Repeats calls that fail for a while.

    Parameters
    ----------
    outage_s : float
        Seconds after which a call is given up, unless it is made patiently.
    grace_s : float
        Seconds that a call on its way is given after `end`.
    """

    def __init__(self, outage_s: float, grace_s: float) -> None:
        self.outage_s, self._grace_s = outage_s, grace_s
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
            The last failure, one that will not pass, or that the wait is over.
        """
        began, wait_s = time.monotonic(), FIRST_WAIT_S
        while True:
            try:
                return await self._unless_over(call)
            except TransientError as error:
                late = time.monotonic() - began > self.outage_s
                if (late and not for_ever) or self.is_over:
                    raise
                await self.sleep(min(error.retry_after_s or wait_s, max(self.outage_s, FIRST_WAIT_S)))
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    async def _unless_over(self, call: Callable[[], Awaitable[_T]]) -> _T:
        over = asyncio.ensure_future(self._over.wait())
        calling = asyncio.ensure_future(call())
        try:
            await asyncio.wait({calling, over}, return_when=asyncio.FIRST_COMPLETED)
            if not calling.done():
                await asyncio.wait({calling}, timeout=self._grace_s)
            if not calling.done():
                raise CancelledError("the run ended before the batch queue answered")
            return calling.result()
        finally:
            over.cancel()
            calling.cancel()
            await asyncio.gather(over, calling, return_exceptions=True)
