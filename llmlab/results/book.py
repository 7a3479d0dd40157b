"""The lab book: any number of sessions in one file, and answers found by what was sent.

What was sent is known by two digests, of the messages and of the parameters (endpoint, model, settings, schema of the
answer), and the number of the run. Source code, `repr` and `str` of the user's objects do not matter.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from llmlab.records import Trial
from llmlab.results import cells, columns, sqlite
from llmlab.results.digests import Renders, canonical, digest, pack, said_of_many
from llmlab.results.store import Store
from llmlab.units import Grid, Picked, Plan, Units

SIMULATED = "a simulated provider"
MESSAGES = "INSERT OR IGNORE INTO messages (digest, said) VALUES (?, ?)"
TRIALS = "INSERT OR IGNORE INTO trials SELECT ?, ?, message, ?, ? FROM messages WHERE digest = ?"
FAILURES = "INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?, ?)"
READINGS = "INSERT OR REPLACE INTO readings VALUES (?, ?, ?, ?, ?, ?)"
SKIPPED_TABLE = "CREATE TABLE IF NOT EXISTS skipped (session INTEGER, positions BLOB, error_type TEXT, error TEXT)"
SKIPPED = "INSERT INTO skipped VALUES (?, ?, ?, ?)"
END = "UPDATE sessions SET ended_at = ?, stopped = ?, answered = ? WHERE session = ?"


@dataclass(frozen=True, slots=True)
class Asks:
    """What an experiment asks, as far as its answers depend on it.

    Attributes
    ----------
    plan : Plan
        Its trials.
    messages : mapping
        The messages of each unit, by the prompt's name.
    parameters : mapping
        What is sent beside them, by model: endpoint, model, settings, schema of the answer.
    description : mapping
        The experiment in words, for a reader.
    identity : callable
        What told experiments apart for llmlab 0.1, whose files are carried over; see `old.identity`.
    """

    plan: Plan
    messages: Mapping[str | None, Renders]
    parameters: Mapping[str, Mapping[str, Any]]
    description: Mapping[str, Any]
    identity: Callable[[], Mapping[str, str]] = dict

    def messages_of(self, trial: Trial) -> list[dict[str, Any]]:
        """What is sent for one trial."""
        return self.messages[trial.prompt].render(self.plan.unit_of(trial.position))


@dataclass(frozen=True, slots=True)
class Session:
    """A session in the file.

    Attributes
    ----------
    number : int
        From 1.
    trials : array of int
        By position: which row of the table `trials` it is, or will be once something was sent.
    """

    number: int
    trials: np.ndarray


def begin(connection: sqlite3.Connection, asks: Asks, trials: np.ndarray, number: int = 1) -> Session:
    """Note a new session.

    Parameters
    ----------
    trials : array of int
        The trials that the file has already, by position; -1 for those that are new.
    number : int, optional
        The session's number, if no higher one is in the file.
    """
    at = sqlite.read_meta(connection)["next_trial"]
    new = np.flatnonzero(trials < 0)
    trials[new] = at + np.arange(len(new))
    sqlite.write_meta(connection, next_trial=at + len(new))
    number = max(number, 1 + connection.execute("SELECT coalesce(max(session), 0) FROM sessions").fetchone()[0])
    connection.execute(
        "INSERT INTO sessions (session, started_at, description, units, keys, trials) VALUES (?, ?, ?, ?, ?, ?)",
        (
            number,
            time.time(),
            json.dumps(cells.encode(dict(asks.description))),
            json.dumps(_note_units(connection, asks.plan.units.frame)),
            zlib.compress(json.dumps(_layout(asks.plan)).encode(), 1),
            _packed(trials),
        ),
    )
    return Session(number, trials)


def ending(session: int, stopped: str | None, answered: int) -> tuple[Any, ...]:
    """The values for `END`: how a session ended."""
    return time.time(), stopped, answered, session


def skipped(session: int, positions: np.ndarray, error_type: str, error: str) -> tuple[Any, ...]:
    """The values for `SKIPPED`: trials that were not asked, and why."""
    return session, _packed(positions), error_type, cells.storable(error)


def read_skipped(connection: sqlite3.Connection, session: int) -> list[tuple[np.ndarray, str, str]]:
    """The trials that a session did not ask: their positions, and the class of the error and its text."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'skipped'").fetchone():
        # A file of an earlier version.
        return []
    query = "SELECT positions, error_type, error FROM skipped WHERE session = ?"
    return [(read_trials(packed), *error) for packed, *error in connection.execute(query, (session,))]


def note_parameters(connection: sqlite3.Connection, parameters: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Keep what is sent beside the messages; returns the row for each model."""
    found = {}
    for model, said in parameters.items():
        data = canonical(said)
        text = cells.storable(data.decode("utf-8", "surrogatepass"))
        connection.execute("INSERT OR IGNORE INTO parameters (digest, said) VALUES (?, ?)", (digest(data), text))
        row = connection.execute("SELECT parameters FROM parameters WHERE digest = ?", (digest(data),)).fetchone()
        found[model] = row[0]
    return found


def write(path: Path, asks: Asks, store: Store, stopped: str | None) -> None:
    """Write a new file with one session: these results."""
    connection = sqlite.connect(path)
    with contextlib.closing(connection), connection:
        sqlite.create(connection, store.table.declared)
        number = max(store.table.numbers("session").tolist(), default=1)
        trials = np.full(len(asks.plan), -1, "int64")
        parameters = note_parameters(connection, asks.parameters)
        session = begin(connection, asks, trials, number)
        order = store.table.order()
        sent = np.unique(np.array(store.table.position, "int64")).tolist()
        said = {name: said_of_many(messages) for name, messages in asks.messages.items()}
        for trial in asks.plan.trials(sent):
            data = said[trial.prompt](asks.plan.unit_of(trial.position)) if said else None
            if data is not None and trial.model in parameters:
                connection.execute(MESSAGES, (digest(data), pack(data)))
                known = (int(session.trials[trial.position]), parameters[trial.model], trial.run)
                connection.execute(TRIALS, (*known, cells.encode_id(trial.unit_id), digest(data)))
        rows = (_row(store, at, session.trials, asks.plan) for at in order.tolist())
        connection.executemany(sqlite.insert_attempt(store.table.declared), rows)
        unsent = store.unsent.items()
        failed = [(number, at, store.attempts_before(at), *map(cells.storable, error)) for at, error in unsent]
        connection.executemany(FAILURES, failed)
        connection.execute(SKIPPED_TABLE)
        connection.executemany(SKIPPED, [skipped(number, *one) for one in store.skipped])
        connection.execute(END, ending(number, stopped, len(store.answered)))


def _row(store: Store, at: int, trials: np.ndarray, plan: Plan) -> tuple[Any, ...]:
    position = store.table.position[at]
    attempt = store.table.row(at, next(plan.trials([position])))
    return sqlite.row_of(int(trials[position]), attempt, store.value(position), store.table.declared)


# units and layout


def _layout(plan: Plan) -> dict[str, Any]:
    layout = plan.layout
    if isinstance(layout, Grid):
        return {"units": layout.units, "models": layout.models, "prompts": layout.prompts, "runs": layout.runs}
    unit, model, prompt, run = layout.columns()
    rows = {"unit": unit.tolist(), "model": list(model), "prompt": list(prompt), "run": run.tolist()}
    return {"rows": rows, "prompts": plan.prompts}


def _note_units(connection: sqlite3.Connection, frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Keep the units' columns, the ids first; returns where their pieces are."""
    noted = []
    for name, column in [("unit_id", pd.Series(frame.index)), *((name, frame[name]) for name in frame.columns)]:
        how, pieces = cells.pack(column)
        digests = [digest(piece) for piece in pieces]
        rows = zip(digests, pieces, strict=True)
        connection.executemany("INSERT OR IGNORE INTO cells VALUES (?, ?)", rows)
        noted.append({"name": name, "how": how, "pieces": [one.hex() for one in digests]})
    return noted


def read_units(connection: sqlite3.Connection, noted: list[dict[str, Any]]) -> pd.DataFrame:
    """The units' own columns, indexed by their ids."""

    def read(one: dict[str, Any]) -> pd.Series:
        query = "SELECT data FROM cells WHERE digest = ?"
        pieces = [connection.execute(query, (bytes.fromhex(piece),)).fetchone()[0] for piece in one["pieces"]]
        return cells.unpack(one["how"], pieces)

    ids = read(noted[0])
    index = pd.Index(ids, name="unit_id", dtype=ids.dtype, tupleize_cols=False)
    own = columns.frame({one["name"]: read(one).array for one in noted[1:]})
    return own.reindex(range(len(index))).set_axis(index) if own.empty else own.set_axis(index)


def read_plan(units: pd.DataFrame, packed: bytes) -> Plan:
    """The trials of a session."""
    noted = json.loads(zlib.decompress(packed))
    prompts = tuple(noted["prompts"])
    if "rows" not in noted:
        return Plan(Units(units), Grid(noted["units"], tuple(noted["models"]), prompts, noted["runs"]), prompts)
    rows = noted["rows"]
    model, prompt = (np.array(rows[name], dtype=object) for name in ("model", "prompt"))
    picked = Picked(np.array(rows["unit"], "int64"), model, prompt, np.array(rows["run"], "int64"))
    return Plan(Units(units), picked, prompts)


def count_units(packed: bytes) -> int:
    """How many units a session asked about."""
    noted = json.loads(zlib.decompress(packed))
    return len(set(noted["rows"]["unit"])) if "rows" in noted else noted["units"]


def prompts_in_words(description: Mapping[str, Any]) -> str:
    """The prompts of an experiment in one line."""
    prompts = description.get("prompts") or {None: description.get("prompt") or ""}
    if not isinstance(prompts, Mapping):
        return ", ".join(prompts)
    return ", ".join(
        _in_words(text) if name is None else f"{name}: {_in_words(text)}" for name, text in prompts.items()
    )


def _in_words(prompt: Any) -> str:
    return prompt if isinstance(prompt, str) else " / ".join(str(message["content"]) for message in prompt)


def _packed(numbers: np.ndarray) -> bytes:
    return zlib.compress(np.diff(numbers, prepend=0).astype("<i8").tobytes(), 1)


def read_trials(packed: bytes) -> np.ndarray:
    """By position: the row in the table `trials`; or the positions of trials that were skipped."""
    return np.cumsum(np.frombuffer(zlib.decompress(packed), "<i8"))
