"""Durable attempts in one SQLite file: a dead kernel loses only what was in flight, and the same cell goes on.

A thread of its own writes whole batches with one `fsync` each: the event loop never waits for the disk. The file
knows whose it is: another experiment is refused, and what differs is named. One writer at a time holds it locked.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import json
import os
import queue
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Generator, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from llmlab.errors import AttemptError, JournalError
from llmlab.records import ATTEMPT, ATTEMPT_STATUSES, TokenUsageAttempt, Trial

FORMAT = 1
BATCH = 1000
_Row = TypeVar("_Row")
_COLUMNS = ("unit", "model", "prompt", "run", *ATTEMPT.columns, "value")
_FAILURES = (
    "CREATE TABLE IF NOT EXISTS failures (unit, model, prompt, run, error_type, error, "
    "PRIMARY KEY (unit, model, prompt, run)) WITHOUT ROWID"
)
_INSERT = f"INSERT INTO attempts ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
_SCHEMA = (
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE units (unit INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, digest TEXT NOT NULL, row TEXT NOT NULL)",
    f"CREATE TABLE attempts (seq INTEGER PRIMARY KEY, {', '.join(_COLUMNS)}, "
    "UNIQUE (unit, model, prompt, run, attempt))",
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One attempt read back: whose it is, and the JSON of the value it gave."""

    attempt: TokenUsageAttempt
    value: str | None


@dataclass(frozen=True, slots=True)
class Failure:
    """A trial that ended without an attempt, read back; its position is not known yet."""

    trial: Trial
    error_type: str
    error: str


@dataclass(frozen=True, slots=True)
class Stored:
    """A whole journal: the trials it is about, its units, and all attempts in the order of writing."""

    units: pd.DataFrame
    keys: pd.DataFrame
    entries: list[Entry]
    failures: list[Failure]
    description: dict[str, Any]


def encode_id(unit_id: Hashable) -> str:
    """A unit's id as text that tells 1 from "1"."""
    if isinstance(unit_id, np.generic):
        unit_id = unit_id.item()
    if isinstance(unit_id, pd.Timestamp):
        return json.dumps({"time": unit_id.isoformat()})
    if isinstance(unit_id, tuple):
        return json.dumps({"tuple": [encode_id(part) for part in unit_id]})
    if not isinstance(unit_id, (str, int, float)):
        raise JournalError(
            f"A journal needs ids that are text, numbers or dates, not {type(unit_id).__name__}: {unit_id!r:.80}"
        )
    return json.dumps(unit_id)


def decode_id(text: str) -> Hashable:
    """The id behind `encode_id`."""
    value = json.loads(text)
    if isinstance(value, dict):
        if "time" in value:
            return pd.Timestamp(value["time"])
        return tuple(decode_id(part) for part in value["tuple"])
    return value


def digest(*parts: str) -> str:
    """Short fingerprint of what an experiment asks."""
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


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
        connection = _connect(path)
        try:
            # One transaction: whoever is killed in it leaves no half of a journal.
            connection.execute("BEGIN IMMEDIATE")
            if _is_fresh(connection):
                for statement in _SCHEMA:
                    connection.execute(statement)
                meta = {"format": FORMAT, "identity": dict(identity), "description": dict(description)}
                connection.executemany("INSERT INTO meta VALUES (?, ?)", [(n, json.dumps(v)) for n, v in meta.items()])
            else:
                _check_identity(connection, path, identity)
            connection.execute(_FAILURES)
            for name in _columns_lacking(connection):
                connection.execute(f"ALTER TABLE attempts ADD COLUMN {name}")
            known = _sync_units(connection, path, units, list(used))
            _extend(connection, units, list(models), list(prompts), runs, keys)
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
        return _named_damage(_entries(self._connection), self.path)

    def read_failures(self) -> Iterator[Failure]:
        """The trials that ended without an attempt."""
        return _named_damage(_failures(self._connection), self.path)

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
        return self._put(_INSERT, _row(self._units[encode_id(attempt.trial.unit_id)], attempt, value))

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


def read_journal(path: str | Path) -> Stored:
    """A whole journal, for its frames.

    Raises
    ------
    JournalError
        No such file, no journal, or in use by a running experiment.
    """
    path = Path(path)
    if not path.is_file():
        raise JournalError(f"There is no journal at {path}.")
    connection = _connect_to_read(path)
    try:
        meta = {name: json.loads(value) for name, value in connection.execute("SELECT name, value FROM meta")}
        rows = connection.execute("SELECT id, row FROM units ORDER BY unit").fetchall()
        ids = _typed([decode_id(one) for one, _ in rows], meta.get("index", "object"))
        index = pd.Index(ids, name="unit_id", tupleize_cols=False)
        cells = [json.loads(row) for _, row in rows]
        columns = {name: _typed([row.get(name) for row in cells], dtype) for name, dtype in meta["columns"].items()}
        units = pd.DataFrame(columns, index=range(len(index))).set_axis(index)
        trials = meta["trials"]
        if trials is None:
            each = itertools.product(meta["models"], meta["prompts"], range(1, meta["runs"] + 1))
            trials = [(one, *rest) for (one, _), rest in itertools.product(rows, each)]
        place = {one: at for at, (one, _) in enumerate(rows)}
        at = np.array([place[one] for one, *_ in trials], "int64")
        named = meta["prompts"] != [None]
        keys = pd.DataFrame(
            {
                "unit": at,
                "unit_id": pd.Series(index.take(at)).reset_index(drop=True),
                "model": pd.array([model for _, model, _, _ in trials], dtype="str"),
                **({"prompt": pd.array([prompt for _, _, prompt, _ in trials], dtype="str")} if named else {}),
                "run": np.array([run for *_, run in trials], "int64"),
            }
        )
        failures = list(_failures(connection))
        return Stored(units, keys, list(_entries(connection)), failures, meta["description"])
    except (sqlite3.Error, KeyError, ValueError, TypeError) as error:
        raise JournalError(f"The journal {path} is damaged: {error}.") from error
    finally:
        connection.close()


def _connect(path: Path) -> sqlite3.Connection:
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


def _connect_to_read(path: Path) -> sqlite3.Connection:
    try:
        return _connect(path)
    except JournalError:
        # Results are also read where nothing can be written; what is not in the main file yet would be missed there.
        waiting = path.with_name(f"{path.name}-wal")
        if (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)) or (
            waiting.exists() and waiting.stat().st_size
        ):
            raise
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)
        try:
            _check_owner(connection, path)
        except BaseException:
            connection.close()
            raise
        return connection


def _is_fresh(connection: sqlite3.Connection) -> bool:
    return not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]


def _check_owner(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse any file that is not ours, before anything in it is changed."""
    if _is_fresh(connection):
        return
    tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    form = None
    if {"meta", "units", "attempts"} <= tables:
        with contextlib.suppress(sqlite3.OperationalError):
            form = connection.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()
    if form is None:
        raise JournalError(
            f"{path} is an SQLite file, but no journal of llmlab; it is left as it is. Choose another file."
        )
    if form[0] != str(FORMAT):
        raise JournalError(f"{path} has format {form[0]}; this version reads {FORMAT}. Choose another file.")


def _check_identity(connection: sqlite3.Connection, path: Path, identity: Mapping[str, str]) -> None:
    meta = {name: json.loads(value) for name, value in connection.execute("SELECT name, value FROM meta")}
    for name in {**meta["identity"], **identity}:
        was, now = meta["identity"].get(name), identity.get(name)
        if was != now:
            raise JournalError(
                f"The journal {path} is another experiment's: its {name} is {was or 'not set'!s:.200}, "
                f"here it is {now or 'not set'!s:.200}. Choose another file, or go back to that {name}."
            )


def _sync_units(connection: sqlite3.Connection, path: Path, units: pd.DataFrame, used: list[str]) -> dict[str, int]:
    known = {one: (unit, was) for unit, one, was in connection.execute("SELECT unit, id, digest FROM units")}
    fresh = []
    ids = [encode_id(one) for one in units.index]
    if len(set(ids)) < len(ids):
        raise JournalError("Some ids are the same once they are written down; make them different.")
    texts = [[str(cell) for cell in units[name].array] for name in used]
    for at, one in enumerate(ids):
        now = digest(*(text[at] for text in texts))
        if one not in known:
            fresh.append((at, one, now))
        elif known[one][1] != now:
            raise JournalError(
                f"The journal {path} is another experiment's: unit {one} was asked with other values of "
                f"{', '.join(used)}. Choose another file."
            )
    if fresh:
        names = list(units.columns)
        columns = [units[name].tolist() for name in names]
        rows = [
            (one, now, json.dumps({name: _plain(column[at]) for name, column in zip(names, columns, strict=True)}))
            for at, one, now in fresh
        ]
        connection.executemany("INSERT INTO units (id, digest, row) VALUES (?, ?, ?)", rows)
    return {one: unit for unit, one in connection.execute("SELECT unit, id FROM units")}


def _extend(
    connection: sqlite3.Connection,
    units: pd.DataFrame,
    models: list[str],
    prompts: list[str | None],
    runs: int,
    keys: Callable[[], pd.DataFrame] | None,
) -> None:
    """Note the trials this file is about, together with those it was about before."""
    meta = {name: json.loads(value) for name, value in connection.execute("SELECT name, value FROM meta")}
    trials = None
    if keys is not None:
        picked = keys()
        names = picked["prompt"] if "prompt" in picked else [None] * len(picked)
        rows = zip(picked["unit_id"], picked["model"], names, picked["run"], strict=True)
        trials = [[encode_id(unit_id), model, prompt, int(run)] for unit_id, model, prompt, run in rows]
    if "models" in meta:
        models = list(dict.fromkeys([*meta["models"], *models]))
        runs = max(runs, meta["runs"])
        if trials is None or meta["trials"] is None:
            trials = None
        else:
            trials = [list(one) for one in dict.fromkeys(tuple(one) for one in [*meta["trials"], *trials])]
    columns = meta.get("columns", {}) | {name: _in_words(units[name].dtype) for name in units.columns}
    index = _in_words(units.index.dtype)
    facts = {"models": models, "prompts": prompts, "runs": runs, "trials": trials, "columns": columns, "index": index}
    connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", [(n, json.dumps(v)) for n, v in facts.items()])


def _in_words(dtype: Any) -> Any:
    """A column's type as JSON."""
    if isinstance(dtype, pd.CategoricalDtype):
        categories = [_plain(one) for one in dtype.categories]
        return {"of": str(dtype.categories.dtype), "categories": categories, "ordered": bool(dtype.ordered)}
    return str(dtype)


def _typed(cells: list[Any], dtype: Any) -> pd.Series:
    """Cells from JSON as they were; objects of a kind that JSON does not know stay text."""
    objects = np.empty(len(cells), object)
    objects[:] = cells
    column = pd.Series(objects, dtype=object)
    with contextlib.suppress(ValueError, TypeError):
        if isinstance(dtype, dict):
            categories = _typed(dtype["categories"], dtype["of"])
            known = pd.CategoricalDtype(pd.Index(categories), dtype["ordered"])
            return _typed(cells, dtype["of"]).astype(known)
        if dtype.startswith("datetime64"):
            column = pd.to_datetime(column, utc="," in dtype, format="ISO8601")
        return column.astype(dtype)
    return column


def _row(unit: int, attempt: TokenUsageAttempt, value: object) -> tuple[Any, ...]:
    cells = (
        unit,
        attempt.trial.model,
        attempt.trial.prompt or "",
        attempt.trial.run,
        *ATTEMPT.cells(attempt),
        _value(value) if attempt.status == "ok" else None,
    )
    return tuple(map(_storable, cells))


def _storable(value: Any) -> Any:
    """Text that SQLite takes: half a surrogate pair, which no UTF-8 has, goes in as bytes."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-8", "surrogatepass")
    return value


def _value(value: object) -> str | None:
    try:
        dump = getattr(value, "model_dump", None)
        return json.dumps(dump(mode="json") if dump else value, default=str)
    except Exception:
        # Dumping may be the user's own code; the value can be read again from the answer's text.
        return None


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (str, int, bool)) or value is None:
        return value
    if isinstance(value, float):
        return value if value == value else None
    if isinstance(value, (list, dict)):
        return json.loads(json.dumps(value, default=str))
    return None if value is pd.NA or value is pd.NaT else str(value)


def _named_damage(rows: Iterator[_Row], path: Path) -> Iterator[_Row]:
    """The same rows; what cannot be read becomes a `JournalError` that names the file."""
    try:
        yield from rows
    except (sqlite3.Error, KeyError, ValueError, TypeError) as error:
        raise JournalError(f"The journal {path} is damaged: {error}.") from error


def _entries(connection: sqlite3.Connection) -> Iterator[Entry]:
    ids = _ids(connection)
    lacking = _columns_lacking(connection)
    wanted = ", ".join(f"NULL AS {name}" if name in lacking else name for name in _COLUMNS)
    flags = [at for at, one in enumerate(ATTEMPT.columns.values()) if one.dtype == "bool"]
    status = list(ATTEMPT.columns).index("status")
    for row in connection.execute(f"SELECT {wanted} FROM attempts ORDER BY seq"):
        unit, model, prompt, run, *cells, value = map(_loaded, row)
        if cells[status] not in ATTEMPT_STATUSES:
            raise ValueError(f"an attempt has the status {cells[status]!r:.40}")
        for at in flags:
            cells[at] = bool(cells[at])
        yield Entry(ATTEMPT.build(Trial(-1, ids[unit], model, run, prompt or None), cells), value)


def _failures(connection: sqlite3.Connection) -> Iterator[Failure]:
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'failures'").fetchone():
        return
    ids = _ids(connection)
    for unit, model, prompt, run, *error in connection.execute("SELECT * FROM failures"):
        yield Failure(Trial(-1, ids[unit], model, run, prompt or None), *error)


def _ids(connection: sqlite3.Connection) -> dict[int, Hashable]:
    return {unit: decode_id(one) for unit, one in connection.execute("SELECT unit, id FROM units")}


def _columns_lacking(connection: sqlite3.Connection) -> set[str]:
    """Columns of attempts that this file was written without, by an earlier version."""
    return set(_COLUMNS) - {row[1] for row in connection.execute("PRAGMA table_info(attempts)")}


def _loaded(value: Any) -> Any:
    return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else value
