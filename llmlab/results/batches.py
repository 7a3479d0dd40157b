"""The batches of a journal: what was handed to a provider's batch queue, noted before it was.

A kernel that dies finds its batches again: a line of a batch is known by the place of its attempt in the file, and a
batch is done when every line has its attempt. Nothing else is kept that could disagree with that.
"""

from __future__ import annotations

import sqlite3
import time
from dataclasses import dataclass

import numpy as np

from llmlab.results.sqlite import PLACES

TABLE = (
    "CREATE TABLE IF NOT EXISTS batches "
    "(nonce TEXT PRIMARY KEY, account TEXT, model TEXT, noted_at REAL, batch TEXT, places BLOB) WITHOUT ROWID"
)
NOTE = "INSERT INTO batches (nonce, account, model, noted_at, places) VALUES (?, ?, ?, ?, ?)"
SUBMITTED = "UPDATE batches SET batch = ? WHERE nonce = ?"
FORGET = "DELETE FROM batches WHERE nonce = ?"


@dataclass(frozen=True, slots=True)
class Line:
    """One request of a batch.

    Attributes
    ----------
    name : str
        Under which the provider gives its result back; unique in the file.
    position : int
        Which trial it asks.
    attempt : int
        Which attempt of the trial it is.
    """

    name: str
    position: int
    attempt: int


@dataclass(frozen=True, slots=True)
class NotedBatch:
    """What is or may be in a provider's queue.

    Attributes
    ----------
    nonce : str
        Tells it from every other batch; the provider is given it, too.
    account : str
        Tells whose queue it is in, and no key.
    model : str
    noted_at : float
        Seconds since the epoch.
    batch_id : str or None
        The provider's name for it; `None` if it is not known to have been created.
    lines : tuple of Line
        Those whose result has not been read.
    """

    nonce: str
    account: str
    model: str
    noted_at: float
    batch_id: str | None
    lines: tuple[Line, ...]


def line(trial: int, position: int, attempt: int) -> Line:
    """The line for an attempt at a trial of the file."""
    return Line(str(trial * PLACES + attempt), position, attempt)


def note(nonce: str, account: str, model: str, lines: tuple[Line, ...]) -> tuple[str, str, str, float, bytes]:
    """The values for `NOTE`."""
    return nonce, account, model, time.time(), np.array([int(one.name) for one in lines], "<i8").tobytes()


def read(connection: sqlite3.Connection, trials: np.ndarray) -> list[NotedBatch]:
    """The batches with lines of these trials that have no attempt yet.

    Parameters
    ----------
    trials : array of int
        Trials of the file, by position.
    """
    order = np.argsort(trials, kind="stable")
    known = trials[order]
    found = []
    rows = connection.execute("SELECT nonce, account, model, noted_at, batch, places FROM batches ORDER BY noted_at")
    for nonce, account, model, noted_at, batch_id, packed in rows.fetchall():
        places = np.frombuffer(packed, "<i8")
        at = np.searchsorted(known, places // PLACES).clip(max=max(0, len(known) - 1))
        mine = known[at] == places // PLACES if len(known) else np.zeros(len(places), bool)
        if not mine.any():
            continue
        between = (int(places.min()), int(places.max()))
        done = {
            place for (place,) in connection.execute("SELECT place FROM attempts WHERE place BETWEEN ? AND ?", between)
        }
        lines = tuple(
            Line(str(place), position, place % PLACES)
            for place, position in zip(places[mine].tolist(), order[at[mine]].tolist(), strict=True)
            if place not in done
        )
        if lines:
            found.append(NotedBatch(nonce, account, model, noted_at, batch_id, lines))
    return found
