"""A thread that writes rows to an SQLite file: the event loop never waits for the disk.

It writes whole groups of rows with one `fsync` each.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmlab.errors import JournalError

GROUP = 1000
EXIT_S = 10.0
Rows = Iterable[tuple[str, tuple[Any, ...]]]
"""Statements, each with the values of one row."""


@dataclass(frozen=True, slots=True)
class _Due:
    """Rows to be written, made in the thread, and who waits for them."""

    rows: Callable[[], Rows]
    waiting: tuple[asyncio.Future[None], ...]


class Writer:
    """Writes what it is sent, in order, until it is released; then it closes the connection.

    Parameters
    ----------
    path : Path
        What messages name.
    connection : Connection
    order : sequence of str
        Statements that go before all others of a group, in the order in which one needs the other.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, order: Sequence[str]) -> None:
        self._path, self._connection, self._order = path, connection, order
        self._queue: queue.SimpleQueue[_Due | None] = queue.SimpleQueue()
        self._broken: str | None = None
        self._released = False
        self._thread = threading.Thread(target=self._write, name="llmlab-journal", daemon=True)

    @property
    def ended(self) -> str | None:
        """Why nothing more is written; `None` while it is."""
        return self._broken or (f"The journal {self._path} is closed" if self._released else None)

    def durable(self) -> asyncio.Future[None]:
        """To be sent with rows: done once they are on the disk; failed already if nothing can be written any more."""
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Not everyone waits for it: a failure that nobody looks at is told by the next attempt.
        durable.add_done_callback(lambda done: done.cancelled() or done.exception())
        if self.ended is not None:
            durable.set_exception(JournalError(self.ended))
        return durable

    def send(self, rows: Callable[[], Rows], *waiting: asyncio.Future[None]) -> None:
        """Queue rows; nothing happens after the release.

        Parameters
        ----------
        rows : callable
            Makes them, in the thread.
        *waiting : Future
            Of `durable`.
        """
        if self._released:
            return
        if self._thread.ident is None:
            self._thread.start()
            # A program that ends in the middle of a run still writes what is queued.
            atexit.register(self._at_exit)
        self._queue.put(_Due(rows, waiting))

    def release(self) -> None:
        """Write what is queued and close the connection, without waiting for it."""
        if self._released:
            return
        self._released = True
        if self._thread.ident is None:
            self._connection.close()
        else:
            self._queue.put(None)

    async def close(self) -> None:
        """Write what is queued and close the connection."""
        self.release()
        if self._thread.is_alive():
            await asyncio.get_running_loop().run_in_executor(None, self._thread.join)

    def _at_exit(self) -> None:
        self.release()
        self._thread.join(EXIT_S)

    # in the thread

    def _write(self) -> None:
        with contextlib.closing(self._connection):
            over = False
            while not over:
                group = self._next_group()
                over = group[-1] is None
                self._write_group([due for due in group if due is not None])
        atexit.unregister(self._at_exit)

    def _next_group(self) -> list[_Due | None]:
        """What is queued; ends with None after the release."""
        group = [self._queue.get()]
        while len(group) < GROUP and group[-1] is not None:
            try:
                group.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return group

    def _write_group(self, group: list[_Due]) -> None:
        if self._broken is None:
            try:
                with self._connection:
                    for statement, rows in self._by_statement(group).items():
                        self._connection.executemany(statement, rows)
            except Exception as error:
                # Whatever it is, those who wait for this thread must hear of it.
                self._broken = f"The journal {self._path} cannot be written any more: {error}"
        waiting = [durable for due in group for durable in due.waiting]
        if waiting:
            # A closed loop means that nobody waits any more.
            with contextlib.suppress(RuntimeError):
                waiting[0].get_loop().call_soon_threadsafe(_settle, waiting, self._broken)

    def _by_statement(self, group: list[_Due]) -> dict[str, list[tuple[Any, ...]]]:
        found: dict[str, list[tuple[Any, ...]]] = {statement: [] for statement in self._order}
        for due in group:
            for statement, values in due.rows():
                found.setdefault(statement, []).append(values)
        return found


def _settle(waiting: list[asyncio.Future[None]], broken: str | None) -> None:
    for durable in waiting:
        if durable.done():
            continue
        if broken is None:
            durable.set_result(None)
        else:
            durable.set_exception(JournalError(broken))
