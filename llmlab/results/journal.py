"""Durable attempts in one SQLite file: a dead kernel loses only what was in flight, and the same cell goes on.

A thread of its own writes whole batches with one `fsync` each: the event loop never waits for the disk. The file
knows whose it is: another experiment is refused, and what differs is named. One writer at a time holds it locked.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import queue
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from llmlab.errors import AttemptError, JournalError
from llmlab.records import TokenUsageAttempt, Trial
from llmlab.results import sqlite
from llmlab.results.cells import encode_id
from llmlab.results.sqlite import Entry, Failure

BATCH = 1000


class _Done:
    """Something that can be awaited and is over at once."""

    def __await__(self) -> Generator[Any, Any, None]:
        return
        yield


class NoJournal:
    """What stands for a journal where none is kept."""

    def read(self) -> Iterator[Entry]:
        """No attempts."""
        return iter(())

    def read_failures(self) -> Iterator[Failure]:
        """No failures."""
        return iter(())

    def put(self, attempt: TokenUsageAttempt, value: object) -> Awaitable[None]:
        """Nothing is kept."""
        return _Done()

    def put_failure(self, trial: Trial, error: AttemptError) -> None:
        """Nothing is kept."""

    async def close(self) -> None:
        """Nothing is open."""

    def release(self) -> None:
        """Nothing is open."""


class Journal:
    """A journal open for writing. Use `Journal.open`.

    Attributes
    ----------
    path : Path
    """

    def __init__(self, path: Path, connection: sqlite3.Connection, units: Mapping[str, int]) -> None:
        self.path = path
        self._connection = connection
        self._units = units
        # (statement, its values, the future of who waits for it).
        self._queue: queue.SimpleQueue[tuple[str, tuple[Any, ...], asyncio.Future[None]] | None] = queue.SimpleQueue()
        self._broken: str | None = None
        self._released = False
        self._thread: threading.Thread | None = None

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        identity: Mapping[str, str],
        units: pd.DataFrame,
        used: Iterable[str],
        keys: Callable[[], pd.DataFrame] | None,
        models: Iterable[str],
        prompts: Iterable[str | None],
        runs: int,
        description: Mapping[str, Any],
    ) -> Journal:
        """Open the journal of this experiment, or begin it.

        Parameters
        ----------
        identity : mapping
            What makes the experiment this one, in words: prompt, answer, request. More units, models or runs may be
            added later; these may not change.
        units : DataFrame
            The units' own columns, indexed by id.
        used : iterable of str
            The columns that the prompt depends on; a unit may not change in these.
        keys : callable or None
            Gives the key columns of the trials if they are not units × models × prompts × runs.

        Raises
        ------
        JournalError
            Another experiment's file, in use, not writable, damaged, or no journal at all.
        """
        path = Path(path)
        connection = sqlite.connect(path)
        try:
            # One transaction: whoever is killed in it leaves no half of a journal.
            connection.execute("BEGIN IMMEDIATE")
            if sqlite.is_fresh(connection):
                for statement in sqlite.SCHEMA:
                    connection.execute(statement)
                meta = {"format": sqlite.FORMAT, "identity": dict(identity), "description": dict(description)}
                connection.executemany("INSERT INTO meta VALUES (?, ?)", [(n, json.dumps(v)) for n, v in meta.items()])
            else:
                sqlite.check_identity(connection, path, identity)
            connection.execute(sqlite.FAILURES)
            for name in sqlite.columns_lacking(connection):
                connection.execute(f"ALTER TABLE attempts ADD COLUMN {name}")
            known = sqlite.sync_units(connection, path, units, list(used))
            sqlite.extend(connection, units, list(models), list(prompts), runs, keys)
            connection.commit()
        except sqlite3.Error as error:
            connection.close()
            raise JournalError(f"The journal {path} cannot be used: {error}.") from error
        except BaseException:
            connection.close()
            raise
        return cls(path, connection, known)

    def read(self) -> Iterator[Entry]:
        """All attempts in the file, in the order of writing.

        Raises
        ------
        JournalError
            It is damaged.
        """
        return sqlite.named_damage(sqlite.read_entries(self._connection), self.path)

    def read_failures(self) -> Iterator[Failure]:
        """The trials that ended without an attempt."""
        return sqlite.named_damage(sqlite.read_failures(self._connection), self.path)

    def put_failure(self, trial: Trial, error: AttemptError) -> None:
        """Queue the failure of a trial that was not sent."""
        row = (self._units[encode_id(trial.unit_id)], trial.model, trial.prompt or "", trial.run)
        self._put("INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?, ?)", (*row, type(error).__name__, str(error)))

    def put(self, attempt: TokenUsageAttempt, value: object) -> asyncio.Future[None]:
        """Queue one attempt; the future is done once it is on the disk.

        Raises
        ------
        JournalError
            From the future: the disk is full, or the file is gone. From then on nothing more is written.
        """
        return self._put(sqlite.INSERT, sqlite.row(self._units[encode_id(attempt.trial.unit_id)], attempt, value))

    def _put(self, statement: str, values: tuple[Any, ...]) -> asyncio.Future[None]:
        loop = asyncio.get_running_loop()
        durable: asyncio.Future[None] = loop.create_future()
        # Not everyone waits for it: a failure that nobody looks at is told by the next attempt.
        durable.add_done_callback(lambda done: done.cancelled() or done.exception())
        if self._broken is not None or self._released:
            durable.set_exception(JournalError(self._broken or f"The journal {self.path} is closed"))
            return durable
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name="llmlab-journal", daemon=True)
            self._thread.start()
        self._queue.put((statement, values, durable))
        return durable

    async def close(self) -> None:
        """Write what is queued and release the file."""
        self.release()
        if self._thread is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._thread.join)

    def release(self) -> None:
        """As `close`, without waiting for it."""
        if self._released:
            return
        self._released = True
        if self._thread is None:
            self._connection.close()
        else:
            self._queue.put(None)

    def _write(self) -> None:
        with contextlib.closing(self._connection):
            self._write_batches()

    def _write_batches(self) -> None:
        over = False
        while not over:
            batch = [self._queue.get()]
            while len(batch) < BATCH:
                try:
                    batch.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            over = None in batch
            entries = [entry for entry in batch if entry is not None]
            if not entries:
                continue
            if self._broken is None:
                try:
                    with self._connection:
                        for statement, alike in itertools.groupby(entries, key=lambda entry: entry[0]):
                            self._connection.executemany(statement, [values for _, values, _ in alike])
                except Exception as error:
                    # Whatever it is, those who wait for this thread must hear of it.
                    self._broken = f"The journal {self.path} cannot be written any more: {error}"
            settled = [durable for *_, durable in entries]
            try:
                settled[0].get_loop().call_soon_threadsafe(self._settle, settled, self._broken)
            except RuntimeError:
                # The loop is closed: nobody waits any more.
                continue

    @staticmethod
    def _settle(settled: list[asyncio.Future[None]], broken: str | None) -> None:
        for future in settled:
            if future.done():
                continue
            if broken is None:
                future.set_result(None)
            else:
                future.set_exception(JournalError(broken))
