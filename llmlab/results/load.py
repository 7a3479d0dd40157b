"""The one loader: a journal, or a folder that was saved → the same results; and the list of a journal's sessions."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from llmlab.errors import EmptyInputError, InputError
from llmlab.records import Trial
from llmlab.results import book, cells, columns, digests, old, reading, sqlite
from llmlab.results.book import Asks
from llmlab.results.folder import file_in
from llmlab.results.reading import AsKept, Reading
from llmlab.results.results import Results
from llmlab.results.store import Call, Store
from llmlab.units import Plan

NOT_ENDED = "the kernel or the machine stopped; run the experiment again with this journal: only the rest is asked"


@dataclass(frozen=True, slots=True)
class KeptMessages:
    """What was sent about each unit, compressed as the file has it."""

    said: dict[int, bytes]

    def render(self, unit: int) -> list[dict[str, Any]]:
        """The messages of the unit in row `unit`."""
        if unit not in self.said:
            raise EmptyInputError("nothing was sent about this unit")
        return digests.said_again(self.said[unit])


@dataclass(frozen=True, slots=True)
class InFile:
    """What a session sent, read from its file when it is wanted.

    Attributes
    ----------
    path : Path
    plan : Plan
    trials : array of int
        The trials in the file, by position.
    description : dict
    """

    path: Path
    plan: Plan
    trials: np.ndarray
    description: dict[str, Any]

    def messages(self, trial: Trial) -> list[dict[str, Any]]:
        """What was sent for one trial."""
        with _reading(self.path) as connection:
            query = "SELECT said FROM trials JOIN messages USING (message) WHERE trial = ?"
            row = connection.execute(query, (int(self.trials[trial.position]),)).fetchone()
        if row is None:
            raise EmptyInputError("nothing was sent")
        return digests.said_again(row[0])

    def asks(self) -> Asks:
        """All that was sent."""
        said: dict[str | None, dict[int, bytes]] = {name: {} for name in self.plan.prompts}
        models: dict[str, Any] = {}
        with _reading(self.path) as connection:
            parameters = {
                number: json.loads(text)
                for number, text in connection.execute("SELECT parameters, said FROM parameters")
            }
            query = "SELECT trial, parameters, said FROM trials JOIN messages USING (message)"
            sent = {trial: (number, data) for trial, number, data in connection.execute(query)}
        for trial, stored in zip(self.plan.trials(), self.trials.tolist(), strict=True):
            if stored in sent:
                number, data = sent[stored]
                said[trial.prompt].setdefault(self.plan.unit_of(trial.position), data)
                models.setdefault(trial.model, parameters[number])
        return Asks(self.plan, {name: KeptMessages(one) for name, one in said.items()}, models, self.description)

    def portable(self) -> InFile:
        """What can be pickled of it."""
        return self


def load_results(path: str | Path, *, session: int | None = None) -> Results:
    """The results in a journal, or in a folder written by `Results.save`.

    Parameters
    ----------
    path : path
        The file given as `journal=`, or the folder.
    session : int, optional
        Which call, as `llmlab.experiments(path)` numbers them; default: the last.

    Returns
    -------
    Results
        The same frames as when it ran; an answer with fields is a dict. To ask again, run the experiment with the same
        journal.

    Raises
    ------
    JournalError
        No such file, no journal, damaged, or in use.
    InputError
        The folder holds no results; there is no such session.
    """
    path = file_in(Path(path))
    with _reading(path) as connection:
        row = _session_row(connection, path, session)
        units = book.read_units(connection, json.loads(row["units"]))
        plan = book.read_plan(units, row["keys"])
        trials = book.read_trials(row["trials"])
        description = cells.decode(json.loads(row["description"]))
        store = _read_store(connection, trials, row["session"])
        return Results(
            keys=plan.keys(),
            units=units,
            store=store,
            stopped=row["stopped"] if row["ended_at"] is not None else NOT_ENDED,
            description=description,
            sent=InFile(path.absolute(), plan, trials, description),
        )


def experiments(path: str | Path) -> pd.DataFrame:
    """The sessions in a journal: one row per call.

    Parameters
    ----------
    path : path
        The file given as `journal=`, or a folder written by `Results.save`.

    Returns
    -------
    DataFrame
        Indexed by `session`: `started_at` (UTC), `models`, `prompts` (in words), `units`, `trials`, `answered` (also
        from earlier sessions), `attempts`, `total_tokens` and `cost_usd` (of this session alone; NA if nobody knows
        them), `stopped` (NA if every trial had its turn).

    Raises
    ------
    JournalError
        No such file, no journal, damaged, or in use.
    """
    path = file_in(Path(path))
    with _reading(path) as connection:
        made = {
            session: (count, tokens, cost)
            for session, count, tokens, cost in connection.execute(
                "SELECT session, count(*), sum(total_tokens), sum(cost_usd) FROM attempts GROUP BY session"
            )
        }
        rows = []
        for row in _rows(connection, "SELECT * FROM sessions ORDER BY session"):
            description = cells.decode(json.loads(row["description"]))
            trials = book.read_trials(row["trials"])
            attempts, tokens, cost = made.get(row["session"], (0, 0, 0.0))
            answered = row["answered"]
            if answered is None:
                answered = len(_read_store(connection, trials, row["session"]).answered)
            rows.append(
                {
                    "session": row["session"],
                    "started_at": row["started_at"],
                    "models": ", ".join(description.get("models") or ()),
                    "prompts": book.prompts_in_words(description),
                    "units": book.count_units(row["keys"]),
                    "trials": len(trials),
                    "answered": answered,
                    "attempts": attempts,
                    "total_tokens": tokens,
                    "cost_usd": cost,
                    "stopped": row["stopped"] if row["ended_at"] is not None else NOT_ENDED,
                }
            )
    return _listed(rows)


def _listed(rows: list[dict[str, Any]]) -> pd.DataFrame:
    made = pd.DataFrame(rows, columns=["session", "started_at", *_SAID])
    frame = pd.DataFrame({"started_at": columns.times(made["started_at"].to_numpy(float))}, index=made["session"])
    for name, dtype in _SAID.items():
        cell = made[name].tolist()
        frame[name] = columns.strings(cell) if dtype == "str" else pd.Series(cell, dtype=dtype).array
    return frame


_SAID = {
    "models": "str", "prompts": "str", "units": "int64", "trials": "int64", "answered": "int64", "attempts": "int64",
    "total_tokens": "Int64", "cost_usd": "Float64", "stopped": "str",
}  # fmt: skip


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    """The file, or what an old one would be carried over to; what cannot be read is named as damage."""
    connection = sqlite.connect_to_read(path)
    try:
        with sqlite.damage_is_named(path):
            if old.is_old(connection):
                with contextlib.closing(sqlite3.connect(":memory:")) as new:
                    old.carry_over(connection, new)
                    yield new
            else:
                yield connection
    finally:
        connection.close()


def _rows(connection: sqlite3.Connection, query: str, *values: Any) -> list[dict[str, Any]]:
    found = connection.execute(query, values)
    names = [one[0] for one in found.description]
    return [dict(zip(names, row, strict=True)) for row in found]


def _session_row(connection: sqlite3.Connection, path: Path, session: int | None) -> dict[str, Any]:
    numbers = [number for (number,) in connection.execute("SELECT session FROM sessions ORDER BY session")]
    wanted = numbers[-1] if session is None else session
    if wanted not in numbers:
        raise InputError(f"{path} has no session {session!r}; it has {numbers[0]} to {numbers[-1]}.")
    return _rows(connection, "SELECT * FROM sessions WHERE session = ?", int(wanted))[0]


def _read_store(connection: sqlite3.Connection, trials: np.ndarray, session: int) -> Store:
    query = "SELECT place, status, error_type, error, value FROM readings WHERE session = ?"
    others = {
        place: Reading(status, error_type, error, json=value)
        for place, status, error_type, error, value in connection.execute(query, (session,))
    }
    chunks = sqlite.read_attempts(connection, trials, session)
    store = reading.fill(Store(), chunks, AsKept(others, session))
    query = "SELECT position, attempts, error_type, error FROM failures WHERE session = ?"
    for position, attempts, *error in connection.execute(query, (session,)):
        # An attempt that came after it counts more.
        if store.attempts_before(position) <= attempts:
            store.fail_as(position, *error)
    for skipped in book.read_skipped(connection, session):
        store.skip(*skipped)
    store.call = Call(session, from_book=True)
    return store
