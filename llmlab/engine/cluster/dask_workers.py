"""The workers of a dask cluster: all that is known of dask here."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from llmlab.engine.cluster.errand import Helper
from llmlab.engine.cluster.travel import Kit, Orders, Report, Sealed

T = TypeVar("T")
PATIENCE_S = 10.0
# Before the other tasks that wait for a worker.
PRIORITY = 10


class ClientClosed(OSError):
    """It will not come back."""


class Hand(Protocol):
    """What a worker offers: `Helper`, as dask gives it from afar."""

    def begin(self, kit: Sealed[Kit]) -> Awaitable[None]:
        """Begin a run."""
        ...

    def exchange(self, orders: Sealed[Orders]) -> Awaitable[Sealed[Report]]:
        """Pass on orders, and fetch a report."""
        ...


class Hired:
    """A worker that takes part in an experiment.

    Parameters
    ----------
    workers : Workers
    hand : Hand
    """

    def __init__(self, workers: Workers, hand: Hand) -> None:
        self._workers, self._hand = workers, hand

    async def begin(self, kit: Sealed[Kit]) -> None:
        """Begin a run there."""
        await self._workers.there(lambda: self._hand.begin(kit))

    async def exchange(self, orders: Sealed[Orders]) -> Sealed[Report]:
        """Give orders, and get a report."""
        return await self._workers.there(lambda: self._hand.exchange(orders))


class Workers:
    """The workers that a dask client knows.

    Parameters
    ----------
    client : distributed.Client
        Synchronous or not; what is asked of it is asked in its own event loop.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    async def addresses(self) -> set[str]:
        """Where workers are at present.

        Raises
        ------
        OSError
            The scheduler cannot be reached.
        """
        if self._client.status == "closed":
            raise ClientClosed("the dask client is closed")
        async with asyncio.timeout(PATIENCE_S):
            return set(await self.there(self._client.nthreads))

    async def hire(self, address: str) -> Hired:
        """Have a worker take part."""
        return Hired(self, await self.there(lambda: self._submit(address)))

    async def _submit(self, address: str) -> Hand:
        # An actor belongs to the client that is current when it is opened.
        with self._client.as_current():
            return await self._client.submit(
                Helper, key=f"llmlab-{secrets.token_hex(8)}", actor=True, pure=False, retries=0, priority=PRIORITY,
                workers=[address], allow_other_workers=False,
            )  # fmt: skip

    async def there(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call something in the client's event loop, and wait for what it gives."""

        async def within() -> T:
            return await call()

        loop = self._client.loop.asyncio_loop
        if loop is asyncio.get_running_loop():
            return await within()
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(within(), loop))
