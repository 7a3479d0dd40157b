"""Which trials of a journal an experiment's trials are: those that sent the same, found by a digest of it."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from llmlab.results import cells, sqlite
from llmlab.results.book import Asks, digest, said
from llmlab.units import Plan

# A digest as two numbers, which sort and compare quickly.
_KEY = np.dtype([("first", "<u8"), ("second", "<u8")])


def find(connection: sqlite3.Connection, asks: Asks, parameters: Mapping[str, int]) -> np.ndarray:
    """By position: the trial in the file that sent the same; -1 if none did.

    A stored trial serves one trial of an experiment: of units with the same text, the same unit's first.
    """
    plan = asks.plan
    found = np.full(len(plan), -1, "int64")
    marks = ", ".join("?" * len(parameters))
    stored = connection.execute(
        "SELECT trial, digest, parameters, run FROM trials JOIN messages USING (message) "
        f"WHERE parameters IN ({marks}) ORDER BY trial",
        list(parameters.values()),
    ).fetchall()
    if not stored or not len(plan):
        return found
    trials, digests, sent_with, runs = zip(*stored, strict=True)
    have = _keys(np.frombuffer(b"".join(digests), _KEY), np.array(sent_with, "uint64"), np.array(runs, "uint64"))
    want, asked = _wanted(asks, parameters)
    order = np.argsort(have["first"], kind="stable")
    sorted_have = have["first"][order]
    left = np.searchsorted(sorted_have, want["first"], "left")
    right = np.searchsorted(sorted_have, want["first"], "right")
    _, inverse, times = np.unique(want["first"], return_inverse=True, return_counts=True)
    single = asked & (right - left == 1) & (times[inverse] == 1)
    at = np.flatnonzero(single)
    candidate = order[left[at]]
    same = have["second"][candidate] == want["second"][at]
    found[at[same]] = np.array(trials, "int64")[candidate[same]]
    several: dict[tuple[int, int], tuple[list[int], list[int]]] = {}
    for position in np.flatnonzero(asked & (right > left) & ~single).tolist():
        key = tuple(want[position].tolist())
        if key not in several:
            rows = order[left[position] : right[position]]
            several[key] = ([trials[row] for row in rows if tuple(have[row].tolist()) == key], [])
        several[key][1].append(position)
    _share_out(connection, plan, several.values(), found)
    return found


def _wanted(asks: Asks, parameters: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """The key of each trial by position, and which of them ask something at all."""
    unit, model, prompt, run = asks.plan.layout.columns()
    names = list(asks.messages)
    which = pd.factorize(np.array([*names, *prompt], dtype=object), use_na_sentinel=False)[0][len(names) :]
    # Messages are the same for all models and runs: each is rendered once, and dropped.
    pairs, pair = np.unique(unit * len(names) + which, return_inverse=True)
    joined, asked = bytearray(), np.zeros(len(pairs), bool)
    renders = [asks.messages[name] for name in names]
    for at, number in enumerate(pairs.tolist()):
        row, name = divmod(number, len(names))
        data = said(renders[name], row)
        asked[at] = data is not None
        joined += digest(data or b"")
    digests = np.frombuffer(bytes(joined), _KEY)
    with_ = pd.Series(model).map(dict(parameters)).to_numpy("uint64")
    return _keys(digests[pair], with_, run.astype("uint64")), asked[pair]


def _keys(digests: np.ndarray, parameters: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Sixteen bytes for each trial, of its messages' digest, its parameters and its run."""
    keys = digests.copy()
    # Odd factors spread the small numbers over all bits, so that none of them meets another.
    keys["first"] ^= parameters * np.uint64(0x9E3779B97F4A7C15) + runs * np.uint64(0xC2B2AE3D27D4EB4F)
    keys["second"] ^= parameters * np.uint64(0x165667B19E3779F9) + runs * np.uint64(0x27D4EB2F165667C5)
    return keys


def _share_out(
    connection: sqlite3.Connection, plan: Plan, groups: Iterable[tuple[list[int], list[int]]], found: np.ndarray
) -> None:
    """Give stored trials to positions that sent the same: the same unit's first, then answered ones."""
    ids = plan.units.frame.index
    for stored, positions in groups:
        marks = ", ".join("?" * len(stored))
        query = f"SELECT unit, trial FROM trials WHERE trial IN ({marks}) ORDER BY trial"
        by_unit: dict[str, list[int]] = defaultdict(list)
        for unit, trial in connection.execute(query, stored):
            by_unit[unit].append(trial)
        left = []
        for position in positions:
            own = by_unit[cells.encode_id(ids[plan.unit_of(position)])]
            if own:
                found[position] = own.pop(0)
            else:
                left.append(position)
        rest = [trial for trials in by_unit.values() for trial in trials]
        rest.sort(key=lambda trial: (not _is_answered(connection, trial), trial))
        for position, trial in zip(left, rest, strict=False):
            found[position] = trial


def _is_answered(connection: sqlite3.Connection, trial: int) -> bool:
    query = "SELECT status FROM attempts WHERE place BETWEEN ? AND ? ORDER BY place DESC LIMIT 1"
    row = connection.execute(query, (trial * sqlite.PLACES, (trial + 1) * sqlite.PLACES - 1)).fetchone()
    return row is not None and row[0] == "ok"
