"""Which trials of a journal an experiment's trials are: those that sent the same, found by a digest of it."""

from __future__ import annotations

import itertools
import sqlite3
from collections import defaultdict
from collections.abc import Mapping

import numpy as np
import pandas as pd

from llmlab.results import cells, sqlite
from llmlab.results.book import Asks
from llmlab.results.digests import digest, said_of_many
from llmlab.units import Plan

MOST_AT_ONCE = 10_000
# A digest as two numbers, which sort and compare quickly.
_KEY = np.dtype([("first", "<u8"), ("second", "<u8")])


def find(connection: sqlite3.Connection, asks: Asks, parameters: Mapping[str, int]) -> np.ndarray:
    """By position: the trial in the file that sent the same; -1 if none did.

    A stored trial serves one trial of an experiment: of units with the same text, the same unit's first.
    """
    found = np.full(len(asks.plan), -1, "int64")
    trials, have = _stored(connection, parameters)
    if not len(trials) or not len(found):
        return found
    want, asked = _wanted(asks, parameters)
    numbers = _numbers(np.concatenate([have, want]))
    stored, sought = numbers[: len(have)], numbers[len(have) :]
    many = int(numbers.max()) + 1
    kept, times = np.bincount(stored, minlength=many), np.bincount(sought[asked], minlength=many)
    only = np.full(many, -1, "int64")
    only[stored] = trials
    at = np.flatnonzero(asked & (kept[sought] == 1) & (times[sought] == 1))
    found[at] = only[sought[at]]
    several = (kept > 0) & (times > 0) & (kept + times > 2)
    if several.any():
        mine, left = several[stored], np.flatnonzero(asked & several[sought])
        _share_out(connection, asks.plan, (stored[mine], trials[mine]), (sought[left], left), found)
    return found


def _stored(connection: sqlite3.Connection, parameters: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """The trials in the file that were sent with these parameters, and the key of each."""
    marks = ", ".join("?" * len(parameters))
    query = f"SELECT trial, message, parameters, run FROM trials WHERE parameters IN ({marks}) ORDER BY trial"
    rows = itertools.chain.from_iterable(connection.execute(query, list(parameters.values())))
    trials, message, sent_with, run = np.fromiter(rows, "int64").reshape(-1, 4).T
    numbers, digests = [], bytearray()
    for number, one in connection.execute("SELECT message, digest FROM messages ORDER BY message"):
        numbers.append(number)
        digests += one
    at = np.searchsorted(np.array(numbers, "int64"), message)
    return trials, _keys(np.frombuffer(bytes(digests), _KEY)[at], sent_with.astype("uint64"), run.astype("uint64"))


def _numbers(keys: np.ndarray) -> np.ndarray:
    """A number from 0 for each key, the same for the same."""
    first, second = (pd.factorize(keys[name])[0] for name in ("first", "second"))
    return pd.factorize(first * (second.max() + 1) + second)[0]


def _wanted(asks: Asks, parameters: Mapping[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """The key of each trial by position, and which of them ask something at all."""
    unit, model, prompt, run = asks.plan.layout.columns()
    names = list(asks.messages)
    which = pd.factorize(np.array([*names, *prompt], dtype=object), use_na_sentinel=False)[0][len(names) :]
    # Messages are the same for all models and runs: each is rendered once, and dropped.
    pairs, pair = np.unique(unit * len(names) + which, return_inverse=True)
    joined, asked = bytearray(), np.zeros(len(pairs), bool)
    said = [said_of_many(messages) for messages in asks.messages.values()]
    for at, number in enumerate(pairs.tolist()):
        row, name = divmod(number, len(names))
        data = said[name](row)
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
    connection: sqlite3.Connection,
    plan: Plan,
    stored: tuple[np.ndarray, np.ndarray],
    sought: tuple[np.ndarray, np.ndarray],
    found: np.ndarray,
) -> None:
    """Give stored trials to positions that sent the same: the same unit's first, then answered ones.

    Parameters
    ----------
    stored, sought : tuple of arrays
        Numbers of the keys, and the trials in the file or the positions that have them.
    """
    ids = plan.units.frame.index
    units = _units_of(connection, stored[1].tolist())
    free: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for number, trial in zip(*(one.tolist() for one in stored), strict=True):
        free[number][units[trial]].append(trial)
    left = defaultdict(list)
    for number, position in zip(*(one.tolist() for one in sought), strict=True):
        own = free[number][cells.encode_id(ids[plan.unit_of(position)])]
        if own:
            found[position] = own.pop(0)
        else:
            left[number].append(position)
    for number, positions in left.items():
        rest = [trial for trials in free[number].values() for trial in trials]
        rest.sort(key=lambda trial: (not _is_answered(connection, trial), trial))
        for position, trial in zip(positions, rest, strict=False):
            found[position] = trial


def _units_of(connection: sqlite3.Connection, trials: list[int]) -> dict[int, str]:
    """The unit that asked each of these trials first."""
    found: dict[int, str] = {}
    for begin in range(0, len(trials), MOST_AT_ONCE):
        some = trials[begin : begin + MOST_AT_ONCE]
        marks = ", ".join("?" * len(some))
        found |= dict(connection.execute(f"SELECT trial, unit FROM trials WHERE trial IN ({marks})", some))
    return found


def _is_answered(connection: sqlite3.Connection, trial: int) -> bool:
    query = "SELECT status FROM attempts WHERE place BETWEEN ? AND ? ORDER BY place DESC LIMIT 1"
    row = connection.execute(query, (trial * sqlite.PLACES, (trial + 1) * sqlite.PLACES - 1)).fetchone()
    return row is not None and row[0] == "ok"
