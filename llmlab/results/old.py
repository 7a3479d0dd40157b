"""Journals of llmlab 0.1: read, and carried over when they are first written to.

Such a file is one experiment's, and knows it by its prompt in words, by the source of callables, and by `str` of the
cells. Its answers serve an experiment that is the same by that rule; from then on they are known by what was sent.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import itertools
import json
import sqlite3
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from llmlab.prompts import Messages
from llmlab.results import book, cells, digests, sqlite
from llmlab.results.book import Asks
from llmlab.units import Picked, Plan, Units


def is_old(connection: sqlite3.Connection) -> bool:
    """Whether the file has the format of llmlab 0.1."""
    return not sqlite.is_fresh(connection) and sqlite.read_meta(connection)["format"] == 1


def carry_over(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Write what an old file holds as one session of a new one; both may be the same file."""
    meta = sqlite.read_meta(source)
    units = source.execute("SELECT unit, id, digest, row FROM units ORDER BY unit").fetchall()
    attempts = _rows(source, "SELECT * FROM attempts ORDER BY unit, model, prompt, run, attempt")
    failures = []
    if source.execute("SELECT 1 FROM sqlite_master WHERE name = 'failures'").fetchone():
        failures = source.execute("SELECT * FROM failures").fetchall()
    if source is target:
        for table in ("meta", "units", "attempts", "failures"):
            target.execute(f"DROP TABLE IF EXISTS {table}")
    sqlite.create(target)
    plan, keys = _plan(meta, units)
    description = meta["description"] | {"models": meta["models"]}
    session = book.begin(target, Asks(plan, {}, {}, description), np.arange(1, len(plan) + 1))
    trial = {key: at for at, key in enumerate(keys, 1)}
    names = sqlite.attempt_columns()
    rows = []
    for row in attempts:
        number = trial[row["unit"], row["model"], row["prompt"], row["run"]]
        known = row | {"place": number * sqlite.PLACES + row["attempt"], "session": session.number}
        rows.append(tuple(known.get(name) for name in names))
    target.executemany(sqlite.insert_attempt(), rows)
    target.executemany(
        "INSERT INTO failures VALUES (?, ?, 0, ?, ?)",
        [(session.number, trial[tuple(key)] - 1, error_type, error) for *key, error_type, error in failures],
    )
    began, ended = target.execute("SELECT min(started_at), max(started_at + latency_s) FROM attempts").fetchone()
    target.execute("UPDATE sessions SET started_at = ?, ended_at = ?", (began, ended or 0.0))
    sqlite.write_meta(
        target,
        next_trial=len(plan) + 1,
        carried={"identity": meta["identity"], "units": {one: was for _, one, was, _ in units}},
    )


def adopt(connection: sqlite3.Connection, asks: Asks, parameters: Mapping[str, int], found: np.ndarray) -> None:
    """Let the answers of an old file serve the same experiment, by the old rule; they get digests of what is sent."""
    carried = sqlite.read_meta(connection).get("carried")
    if carried is None or not _is_the_same(connection, carried["identity"], asks):
        return
    row = connection.execute("SELECT units, keys FROM sessions ORDER BY session LIMIT 1").fetchone()
    plan = book.read_plan(book.read_units(connection, json.loads(row[0])), row[1])
    taken = {trial for (trial,) in connection.execute("SELECT trial FROM trials")}
    then = {(encode_id(t.unit_id), t.model, t.prompt, t.run): at for at, t in enumerate(plan.trials(), 1)}
    frame = asks.plan.units.frame
    used = list(dict.fromkeys(name for one in asks.messages.values() if isinstance(one, Messages) for name in one.used))
    texts = [[str(cell) for cell in frame[name].array] for name in used]
    for trial in asks.plan.trials(np.flatnonzero(found < 0).tolist()):
        unit, row_of = encode_id(trial.unit_id), asks.plan.unit_of(trial.position)
        at = then.get((unit, trial.model, trial.prompt, trial.run))
        if at is None or at in taken or carried["units"][unit] != _fingerprint(*(text[row_of] for text in texts)):
            continue
        said = digests.said(asks.messages[trial.prompt], row_of)
        if said is None:
            continue
        found[trial.position] = at
        connection.execute(book.MESSAGES, (digests.digest(said), digests.pack(said)))
        known = (at, parameters[trial.model], trial.run, cells.encode_id(trial.unit_id), digests.digest(said))
        connection.execute(book.TRIALS, known)


def identity(prompt: object, parse: object) -> dict[str, str]:
    """What told experiments apart."""
    return {"prompt": _in_words(prompt), "parse": "" if parse is None else _in_words(parse)}


def _is_the_same(connection: sqlite3.Connection, then: Mapping[str, str], asks: Asks) -> bool:
    now = asks.identity()
    row = connection.execute("SELECT description FROM sessions ORDER BY session LIMIT 1").fetchone()
    description = cells.decode(json.loads(row[0]))
    form = [description.get(name) or None for name in ("categories", "fields")]
    request = [dict(one["request"]) for one in asks.parameters.values()]
    simulated = [one["endpoint"] == book.SIMULATED for one in asks.parameters.values()]
    return (
        now.get("prompt") == then["prompt"]
        and form == [asks.description.get(name) or None for name in ("categories", "fields")]
        and (not now.get("parse") or now["parse"] == then["answer"])
        and all(json.dumps(one, sort_keys=True, default=str) == then["request"] for one in request)
        and set(simulated) == {"model" in then}
    )


def _in_words(thing: object) -> str:
    """A prompt, schema or callable as text that changes when it does."""
    if isinstance(thing, Mapping) and any(callable(one) or isinstance(one, (list, tuple)) for one in thing.values()):
        return json.dumps({name: _in_words(one) for name, one in thing.items()}, sort_keys=True)
    if callable(thing):
        try:
            source = inspect.getsource(thing)
        except (OSError, TypeError):
            source = repr(getattr(thing, "__code__", thing.__class__))
        return f"{getattr(thing, '__qualname__', 'callable')} {_fingerprint(source)}"
    return thing if isinstance(thing, str) else json.dumps(thing, sort_keys=True, default=str)


def _fingerprint(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _rows(connection: sqlite3.Connection, query: str) -> list[dict[str, Any]]:
    found = connection.execute(query)
    names = [one[0] for one in found.description]
    return [dict(zip(names, row, strict=True)) for row in found]


def _plan(meta: Mapping[str, Any], rows: list[tuple[int, str, str, str]]) -> tuple[Plan, list[tuple[Any, ...]]]:
    """The trials, and the key of each in the old tables."""
    ids = _typed([_decode_id(one) for _, one, _, _ in rows], meta.get("index", "object"))
    index = pd.Index(ids, name="unit_id", tupleize_cols=False)
    own = [json.loads(row) for *_, row in rows]
    columns = {name: _typed([row.get(name) for row in own], dtype) for name, dtype in meta["columns"].items()}
    units = pd.DataFrame(columns, index=range(len(index))).set_axis(index)
    trials = meta["trials"]
    if trials is None:
        each = itertools.product(meta["models"], meta["prompts"], range(1, meta["runs"] + 1))
        trials = [(one, *rest) for (_, one, _, _), rest in itertools.product(rows, each)]
    place = {one: at for at, (_, one, _, _) in enumerate(rows)}
    unit = np.array([place[one] for one, *_ in trials], "int64")
    model, prompt = (np.empty(len(trials), object) for _ in range(2))
    model[:], prompt[:] = [one[1] for one in trials], [one[2] for one in trials]
    picked = Picked(unit, model, prompt, np.array([one[3] for one in trials], "int64"))
    keys = [(rows[at][0], name, called or "", run) for at, (_, name, called, run) in zip(unit, trials, strict=True)]
    return Plan(Units(units), picked, tuple(meta["prompts"])), keys


def encode_id(unit_id: Hashable) -> str:
    """A unit's id as the old files have it."""
    if isinstance(unit_id, np.generic):
        unit_id = unit_id.item()
    if isinstance(unit_id, pd.Timestamp):
        return json.dumps({"time": unit_id.isoformat()})
    if isinstance(unit_id, tuple):
        return json.dumps({"tuple": [encode_id(part) for part in unit_id]})
    return json.dumps(unit_id, default=str)


def _decode_id(text: str) -> Hashable:
    value = json.loads(text)
    if isinstance(value, dict):
        if "time" in value:
            return pd.Timestamp(value["time"])
        return tuple(_decode_id(part) for part in value["tuple"])
    return value


def _typed(values: list[Any], dtype: Any) -> pd.Series:
    """Cells from JSON as they were; objects of a kind that JSON does not know stay text."""
    objects = np.empty(len(values), object)
    objects[:] = values
    column = pd.Series(objects, dtype=object)
    with contextlib.suppress(ValueError, TypeError):
        if isinstance(dtype, dict):
            categories = _typed(dtype["categories"], dtype["of"])
            known = pd.CategoricalDtype(pd.Index(categories), dtype["ordered"])
            return _typed(values, dtype["of"]).astype(known)
        if dtype.startswith("datetime64"):
            column = pd.to_datetime(column, utc="," in dtype, format="ISO8601")
        return column.astype(dtype)
    return column
