"""A thread that writes to a journal's file: whole batches with one `fsync` each, so that the event loop never waits."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmlab.errors import JournalError
from llmlab.records import TokenUsageAttempt

BATCH = 1000
EXIT_S = 10.0


@dataclass(frozen=True, slots=True)
class Entry:
    """What the thread is to write, and who waits for it."""

    attempt: TokenUsageAttempt
    value: object
    # Empty unless it is the trial's first attempt in this session.
    messages: list[dict[str, Any]]
    waiting: tuple[asyncio.Future[None], ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a small table, for which nobody waits."""

    statement: str
    values: tuple[Any, ...]


class Writer:
    """Writes what it is sent, in that order, until it is released.

    Parameters
    ----------
    connection : sqlite3.Connection
        Used by the thread alone from the first `send` on, and closed by it.
    path : Path
        Of the file, for messages.
    rows : callable
        What was sent → the rows for each SQL statement, in the order in which one needs the other. Called in the
        thread.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        path: Path,
        rows: Callable[[list[Entry | Row]], dict[str, list[tuple[Any, ...]]]],
    ) -> None:
        self._connection, self._path, self._rows = connection, path, rows
        self._queue: queue.SimpleQueue[Entry | Row | None] = queue.SimpleQueue()
        self._broken: str | None = None
        self._released = False
        self._thread = threading.Thread(target=self._write, name="llmlab-journal", daemon=True)

    @property
    def ended(self) -> str | None:
        """Why nothing more is written; `None` while it is."""
        return self._broken or (f"The journal {self._path} is closed" if self._released else None)

    def send(self, what: Entry | Row) -> None:
        """Queue what is to be written; nothing happens once it is released."""
        if self._released:
            return
        if self._thread.ident is None:
            self._thread.start()
            # A program that ends in the middle of a run still writes what is queued.
            atexit.register(self._at_exit)
        self._queue.put(what)

    def release(self) -> None:
        """Write what is queued and release the file, without waiting for it."""
        if self._released:
            return
        self._released = True
        if self._thread.ident is None:
            self._connection.close()
        else:
            self._queue.put(None)

    async def close(self) -> None:
        """Write what is queued and release the file."""
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
                batch = self._next_batch()
                over = batch[-1] is None
                self._write_batch([one for one in batch if one is not None])
        atexit.unregister(self._at_exit)

    def _next_batch(self) -> list[Entry | Row | None]:
        """What is queued; ends with None once the journal is released."""
        batch = [self._queue.get()]
        while len(batch) < BATCH and batch[-1] is not None:
            try:
                batch.append(self._queue.get_nowait())
            except queue.Empty:
                break
        return batch

    def _write_batch(self, batch: list[Entry | Row]) -> None:
        if self._broken is None:
            try:
                with self._connection:
                    for statement, rows in self._rows(batch).items():
                        self._connection.executemany(statement, rows)
            except Exception as error:
                # Whatever it is, those who wait for this thread must hear of it.
                self._broken = f"The journal {self._path} cannot be written any more: {error}"
        waiting = [durable for one in batch if isinstance(one, Entry) for durable in one.waiting]
        if waiting:
            # A closed loop means that nobody waits any more.
            with contextlib.suppress(RuntimeError):
                waiting[0].get_loop().call_soon_threadsafe(_settle, waiting, self._broken)


def _settle(waiting: list[asyncio.Future[None]], broken: str | None) -> None:
    for durable in waiting:
        if durable.done():
            continue
        if broken is None:
            durable.set_result(None)
        else:
            durable.set_exception(JournalError(broken))
