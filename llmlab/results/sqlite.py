"""The journal's file: its connection and its tables.

A file of somebody else's is refused before anything in it is changed. One kernel at a time holds it, locked.

::

    sessions    one row per call: when, what it asked, which trials, why it stopped
    trials      one row per trial that was sent: its parameters, its messages, its run, the unit that asked it first
    parameters  what was sent beside the messages: endpoint, model, settings, schema of the answer
    messages    what was sent, compressed, once for all trials that sent it
    attempts    one row per attempt; the fields are those of `records.TokenUsageAttempt`
    readings    where a session read kept texts otherwise than the session that paid for them
    failures    trials of a session that ended without an attempt
    skipped     trials of a session that were not asked, and why
    batches     what was handed to a provider's batch queue
    cells       pieces of the units' columns, once for all sessions that have them
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from llmlab.declaration import Declaration
from llmlab.errors import JournalError, LlmlabError
from llmlab.records import ATTEMPT, ATTEMPT_STATUSES, TokenUsageAttempt
from llmlab.results import cells
from llmlab.results.reading import Chunk
from llmlab.results.table import MOST_ATTEMPTS

T = TypeVar("T")
FORMAT = 2
# A place in `attempts` is trial * PLACES + attempt: the attempts of a trial, and the trials of a session, lie together.
PLACES = MOST_ATTEMPTS
# More rows at once do not stay in the processor's cache.
BATCH = 2000
_SCHEMA = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE sessions (session INTEGER PRIMARY KEY, started_at REAL, ended_at REAL, stopped TEXT, "
    "description TEXT, units TEXT, keys BLOB, trials BLOB, answered INTEGER)",
    "CREATE TABLE parameters (parameters INTEGER PRIMARY KEY, digest BLOB UNIQUE, said TEXT)",
    "CREATE TABLE messages (message INTEGER PRIMARY KEY, digest BLOB UNIQUE, said BLOB)",
    "CREATE TABLE trials (trial INTEGER PRIMARY KEY, parameters INTEGER, message INTEGER, run INTEGER, unit TEXT)",
    "CREATE TABLE readings (session INTEGER, place INTEGER, status TEXT, error_type TEXT, error TEXT, value TEXT, "
    "PRIMARY KEY (session, place)) WITHOUT ROWID",
    "CREATE TABLE failures (session INTEGER, position INTEGER, attempts INTEGER, error_type TEXT, "
    "error TEXT, PRIMARY KEY (session, position)) WITHOUT ROWID",
    "CREATE TABLE cells (digest BLOB PRIMARY KEY, data BLOB) WITHOUT ROWID",
)


def attempt_columns(declared: Declaration = ATTEMPT) -> list[str]:
    """The columns of the table `attempts`."""
    return ["place", *declared.columns, "value"]


def insert_attempt(declared: Declaration = ATTEMPT) -> str:
    """The statement that writes an attempt; what was interrupted after it was written may come a second time."""
    names = attempt_columns(declared)
    return f"INSERT OR IGNORE INTO attempts ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"


def create(connection: sqlite3.Connection, declared: Declaration = ATTEMPT) -> None:
    """Make the tables of an empty file."""
    for statement in _SCHEMA:
        connection.execute(statement)
    rest = ", ".join(attempt_columns(declared)[1:])
    connection.execute(f"CREATE TABLE attempts (place INTEGER PRIMARY KEY, {rest})")
    # Tells a file from another that was put in its place.
    write_meta(connection, format=FORMAT, book=os.urandom(8).hex(), next_trial=1)


def add_columns(connection: sqlite3.Connection, declared: Declaration = ATTEMPT) -> None:
    """Give a file of an earlier version the fields of attempts that are new."""
    for name in columns_lacking(connection, declared):
        connection.execute(f"ALTER TABLE attempts ADD COLUMN {name}")


def columns_lacking(connection: sqlite3.Connection, declared: Declaration = ATTEMPT) -> list[str]:
    """Fields of attempts that this file was written without."""
    known = {row[1] for row in connection.execute("PRAGMA table_info(attempts)")}
    return [name for name in attempt_columns(declared) if name not in known]


def read_meta(connection: sqlite3.Connection) -> dict[str, Any]:
    """What the file says of itself."""
    return {name: json.loads(value) for name, value in connection.execute("SELECT name, value FROM meta")}


def write_meta(connection: sqlite3.Connection, **meta: Any) -> None:
    """Change what the file says of itself."""
    rows = [(name, json.dumps(value)) for name, value in meta.items()]
    connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", rows)


def with_damage_named(rows: Iterable[T], path: Path) -> Iterator[T]:
    """The same rows; what goes wrong while one is read, but not while it is used, is named as damage."""
    left = iter(rows)
    while True:
        with damage_is_named(path):
            try:
                row = next(left)
            except StopIteration:
                return
        yield row


@contextlib.contextmanager
def damage_is_named(path: Path) -> Iterator[None]:
    """While this lasts, what cannot be read becomes a `JournalError` that names the file."""
    try:
        yield
    except LlmlabError:
        raise
    except (sqlite3.Error, LookupError, ValueError, TypeError, AttributeError, zlib.error) as error:
        raise JournalError(f"The journal {path} is damaged: {error}.") from error


def connect(path: Path) -> sqlite3.Connection:
    """Open the file for writing, locked.

    Raises
    ------
    JournalError
        In use, not writable, somebody else's, of a newer format, or no file.
    """
    if not path.parent.is_dir():
        raise JournalError(f"The folder of the journal does not exist: {path.parent}")
    if path.exists() and not path.is_file():
        raise JournalError(f"The journal needs a file, and {path} is none.")
    try:
        connection = sqlite3.connect(path, timeout=0, check_same_thread=False)
        try:
            # Held until closed, also through a crash of ours; SQLite then needs no shared memory either.
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
            connection.execute("BEGIN IMMEDIATE")
            _check_owner(connection, path)
            connection.execute("COMMIT")
            mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
            if mode != "wal":
                # Network drives cannot do it.
                connection.execute("PRAGMA journal_mode=DELETE")
            connection.execute("PRAGMA synchronous=FULL")
        except BaseException:
            connection.close()
            raise
        return connection
    except sqlite3.Error as error:
        said = str(error)
        if "locked" in said or "busy" in said:
            raise JournalError(
                f"The journal {path} is in use by another kernel or a running experiment: "
                "stop that one first, or choose another file."
            ) from error
        if "not a database" in said or "malformed" in said:
            raise JournalError(
                f"{path} is no journal of llmlab, or is damaged; it is left as it is. Choose another file."
            ) from error
        raise JournalError(f"The journal {path} cannot be opened for writing: {said}.") from error


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Open the file for reading, also where nothing can be written.

    Raises
    ------
    JournalError
        No such file, in use, somebody else's, or of a newer format.
    """
    if not path.is_file():
        raise JournalError(f"There is no journal at {path}.")
    try:
        return connect(path)
    except JournalError:
        # What is not in the main file yet would be missed where nothing can be written.
        waiting = path.with_name(f"{path.name}-wal")
        effective = {"effective_ids": True} if os.access in os.supports_effective_ids else {}
        writable = all(os.access(one, os.W_OK, **effective) for one in (path, path.parent))
        if writable or (waiting.exists() and waiting.stat().st_size):
            raise
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)
        try:
            _check_owner(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection


def is_fresh(connection: sqlite3.Connection) -> bool:
    """Whether the file holds nothing yet."""
    return not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]


def _check_owner(connection: sqlite3.Connection, path: Path) -> None:
    if is_fresh(connection):
        return
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    form = None
    if {"meta", "attempts"} <= tables and tables & {"units", "sessions"}:
        with contextlib.suppress(sqlite3.OperationalError):
            form = connection.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()
    if form is None:
        raise JournalError(
            f"{path} is an SQLite file, but no journal of llmlab; it is left as it is. Choose another file."
        )
    if form[0] not in ("1", str(FORMAT)):
        raise JournalError(
            f"{path} has format {form[0]}, and this version of llmlab reads up to {FORMAT}: update llmlab, "
            "or choose another file."
        )


# attempts


def row_of(trial: int, attempt: TokenUsageAttempt, value: object, declared: Declaration = ATTEMPT) -> tuple[Any, ...]:
    """An attempt as a row of the table; its value as JSON."""
    read = cells.in_json(value) if attempt.status == "ok" else None
    row = (trial * PLACES + attempt.attempt, *declared.cells(attempt), read)
    return tuple(map(cells.storable, row))


def read_attempts(
    connection: sqlite3.Connection, trials: np.ndarray, until: int, declared: Declaration = ATTEMPT
) -> Iterator[Chunk]:
    """The attempts of these trials, in order.

    Parameters
    ----------
    trials : array of int
        Trials by position.
    until : int
        The last session whose attempts count.
    """
    lacking = columns_lacking(connection, declared)
    names = attempt_columns(declared)
    wanted = ", ".join(f"NULL AS {name}" if name in lacking else name for name in names)
    query = f"SELECT {wanted} FROM attempts WHERE place BETWEEN ? AND ? ORDER BY place"
    order = np.argsort(trials, kind="stable")
    sorted_trials = trials[order]
    for first, last in _ranges(sorted_trials):
        rows = connection.execute(query, (first * PLACES, (last + 1) * PLACES - 1))
        while batch := rows.fetchmany(BATCH):
            columns = dict(zip(names, map(list, zip(*batch, strict=True)), strict=True))
            strange = set(columns["status"]).difference(ATTEMPT_STATUSES)
            if strange:
                raise ValueError(f"an attempt has the status {strange.pop()!r:.40}")
            place = np.array(columns.pop("place"), "int64")
            at = np.searchsorted(sorted_trials, place // PLACES).clip(max=len(sorted_trials) - 1)
            mine = (sorted_trials[at] == place // PLACES) & (np.array(columns["session"], "int64") <= until)
            if not mine.all():
                columns = {name: list(itertools.compress(cell, mine)) for name, cell in columns.items()}
            values = columns.pop("value")
            yield Chunk(place[mine], order[at[mine]], columns, values)


def _ranges(trials: np.ndarray) -> list[tuple[int, int]]:
    """The trials as few stretches without wide gaps: reading a row too much is cheaper than a query too much."""
    if not len(trials):
        return []
    ends = np.flatnonzero(np.diff(trials) > max(1000, len(trials) // 50))
    firsts, lasts = trials[np.r_[0, ends + 1]], trials[np.r_[ends, len(trials) - 1]]
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))
