"""The journal's file: its connection, its tables, and reading it.

A file of another's is refused before anything in it is changed. One kernel at a time holds it, locked.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import sqlite3
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from llmlab.errors import JournalError
from llmlab.records import ATTEMPT, ATTEMPT_STATUSES, TokenUsageAttempt, Trial
from llmlab.results.cells import decode_id, encode_id, plain, storable, type_in_words, typed, value_in_json

FORMAT = 1
_Row = TypeVar("_Row")
_COLUMNS = ("unit", "model", "prompt", "run", *ATTEMPT.columns, "value")
FAILURES = (
    "CREATE TABLE IF NOT EXISTS failures (unit, model, prompt, run, error_type, error, "
    "PRIMARY KEY (unit, model, prompt, run)) WITHOUT ROWID"
)
INSERT = f"INSERT INTO attempts ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
SCHEMA = (
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


def digest(*parts: str) -> str:
    """Short fingerprint of what an experiment asks."""
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


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
        ids = typed([decode_id(one) for one, _ in rows], meta.get("index", "object"))
        index = pd.Index(ids, name="unit_id", tupleize_cols=False)
        cells = [json.loads(row) for _, row in rows]
        columns = {name: typed([row.get(name) for row in cells], dtype) for name, dtype in meta["columns"].items()}
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
        failures = list(read_failures(connection))
        return Stored(units, keys, list(read_entries(connection)), failures, meta["description"])
    except (sqlite3.Error, KeyError, ValueError, TypeError) as error:
        raise JournalError(f"The journal {path} is damaged: {error}.") from error
    finally:
        connection.close()


def connect(path: Path) -> sqlite3.Connection:
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
        return connect(path)
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


def is_fresh(connection: sqlite3.Connection) -> bool:
    return not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]


def _check_owner(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse any file that is not ours, before anything in it is changed."""
    if is_fresh(connection):
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


def check_identity(connection: sqlite3.Connection, path: Path, identity: Mapping[str, str]) -> None:
    meta = {name: json.loads(value) for name, value in connection.execute("SELECT name, value FROM meta")}
    for name in {**meta["identity"], **identity}:
        was, now = meta["identity"].get(name), identity.get(name)
        if was != now:
            raise JournalError(
                f"The journal {path} is another experiment's: its {name} is {was or 'not set'!s:.200}, "
                f"here it is {now or 'not set'!s:.200}. Choose another file, or go back to that {name}."
            )


def sync_units(connection: sqlite3.Connection, path: Path, units: pd.DataFrame, used: list[str]) -> dict[str, int]:
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
            (one, now, json.dumps({name: plain(column[at]) for name, column in zip(names, columns, strict=True)}))
            for at, one, now in fresh
        ]
        connection.executemany("INSERT INTO units (id, digest, row) VALUES (?, ?, ?)", rows)
    return {one: unit for unit, one in connection.execute("SELECT unit, id FROM units")}


def extend(
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
    columns = meta.get("columns", {}) | {name: type_in_words(units[name].dtype) for name in units.columns}
    index = type_in_words(units.index.dtype)
    facts = {"models": models, "prompts": prompts, "runs": runs, "trials": trials, "columns": columns, "index": index}
    connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", [(n, json.dumps(v)) for n, v in facts.items()])


def row(unit: int, attempt: TokenUsageAttempt, value: object) -> tuple[Any, ...]:
    cells = (
        unit,
        attempt.trial.model,
        attempt.trial.prompt or "",
        attempt.trial.run,
        *ATTEMPT.cells(attempt),
        value_in_json(value) if attempt.status == "ok" else None,
    )
    return tuple(map(storable, cells))


def named_damage(rows: Iterator[_Row], path: Path) -> Iterator[_Row]:
    """The same rows; what cannot be read becomes a `JournalError` that names the file."""
    try:
        yield from rows
    except (sqlite3.Error, KeyError, ValueError, TypeError) as error:
        raise JournalError(f"The journal {path} is damaged: {error}.") from error


def read_entries(connection: sqlite3.Connection) -> Iterator[Entry]:
    ids = _ids(connection)
    lacking = columns_lacking(connection)
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


def read_failures(connection: sqlite3.Connection) -> Iterator[Failure]:
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'failures'").fetchone():
        return
    ids = _ids(connection)
    for unit, model, prompt, run, *error in connection.execute("SELECT * FROM failures"):
        yield Failure(Trial(-1, ids[unit], model, run, prompt or None), *error)


def _ids(connection: sqlite3.Connection) -> dict[int, Hashable]:
    return {unit: decode_id(one) for unit, one in connection.execute("SELECT unit, id FROM units")}


def columns_lacking(connection: sqlite3.Connection) -> set[str]:
    """Columns of attempts that this file was written without, by an earlier version."""
    return set(_COLUMNS) - {row[1] for row in connection.execute("PRAGMA table_info(attempts)")}


def _loaded(value: Any) -> Any:
    return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else value
