"""Kept attempts → a store: each answer's text is read by a parser again, or its prediction taken as it was kept."""

from __future__ import annotations

import contextlib
import gc
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from llmlab.errors import ParseError
from llmlab.results import cells
from llmlab.results.store import Store

_MEMO = 20_000


@dataclass(slots=True)
class Chunk:
    """Some kept attempts, column by column, those of a trial in order.

    Attributes
    ----------
    place : array of int
        Which rows they are where they are kept.
    position : array of int
        Position of each one's trial.
    columns : dict of list
        The fields of the attempts.
    values : list
        The predictions as JSON; `None` where there is none.
    revived : set of int
        Rows that were unreadable when they came and are readable now.
    read_in : int
        The session that read them so; 0 if it has made no attempt yet.
    """

    place: np.ndarray
    position: np.ndarray
    columns: dict[str, list[Any]]
    values: list[Any]
    revived: set[int] = field(default_factory=set)
    read_in: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """What one text says to a reader."""

    status: str
    error_type: str | None = None
    error: str | None = None
    value: Any = None
    json: str | None = None


def row_of(reading: Reading) -> tuple[str | None, ...]:
    """A reading as a journal keeps it."""
    return reading.status, reading.error_type, reading.error, reading.json


class Parser(Protocol):
    """Reads answers."""

    def parse(self, text: str | None, finish_reason: str | None) -> Any:
        """The answer, or a `ParseError`."""
        ...


class Anew:
    """Reads every kept text by a parser.

    Attributes
    ----------
    changed : list
        (place, reading) of the attempts that now read otherwise than they were kept.
    """

    def __init__(self, parser: Parser) -> None:
        self._parser = parser
        self._memo: dict[tuple[str | None, str | None], Reading] = {}
        self.changed: list[tuple[int, Reading]] = []

    def __call__(self, chunk: Chunk) -> None:
        """Change the chunk's values, and what it says of those that read otherwise."""
        columns, known = chunk.columns, self._memo
        rows = zip(columns["status"], columns["error_type"], columns["content"], columns["finish_reason"], strict=True)
        for at, (status, error_type, content, finish_reason) in enumerate(rows):
            # What a provider or a model declined was never read; without a text there is nothing to read.
            if status == "call_error" or error_type == "RefusalError":
                continue
            reading = known.get((content, finish_reason)) or self._read(content, finish_reason)
            if reading.status == "ok":
                old, chunk.values[at] = chunk.values[at], reading.value
                if status == "ok" and old == reading.json:
                    continue
                if status != "ok":
                    chunk.revived.add(at)
            elif status != "ok":
                continue
            columns["status"][at], columns["error_type"][at] = reading.status, reading.error_type
            columns["error"][at] = reading.error
            self.changed.append((int(chunk.place[at]), reading))

    def _read(self, content: str | None, finish_reason: str | None) -> Reading:
        try:
            value = self._parser.parse(content, finish_reason).value
            reading = Reading("ok", value=value, json=cells.in_json(value))
        except ParseError as error:
            reading = Reading("parse_error", type(error).__name__, str(error))
        if len(self._memo) < _MEMO:
            # Labels repeat; other texts hardly do.
            self._memo[content, finish_reason] = reading
        return reading


class AsKept:
    """Takes every prediction as it was kept.

    Parameters
    ----------
    others : mapping
        Readings that count instead, by place.
    session : int
        The session whose readings these are.
    """

    def __init__(self, others: dict[int, Reading], session: int) -> None:
        self._others = others
        self._session = session
        self._memo: dict[str, Any] = {}

    def __call__(self, chunk: Chunk) -> None:
        """Change the chunk's values from JSON to what it says."""
        columns, chunk.read_in = chunk.columns, self._session
        if self._others:
            for at, place in enumerate(chunk.place.tolist()):
                other = self._others.get(place)
                if other is not None:
                    if other.status == "ok" and columns["status"][at] != "ok":
                        chunk.revived.add(at)
                    columns["status"][at], columns["error_type"][at] = other.status, other.error_type
                    columns["error"][at], chunk.values[at] = other.error, other.json
        known = self._memo
        chunk.values = [
            None if status != "ok" else known[value] if value in known else self._value(value, content)
            for status, value, content in zip(columns["status"], chunk.values, columns["content"], strict=True)
        ]

    def _value(self, text: str | None, content: str | None) -> Any:
        if text is None:
            # It could not be written down: the text is what there is.
            return content
        value = cells.decode(json.loads(text))
        if len(self._memo) < _MEMO and isinstance(value, (str, int, float, bool)):
            self._memo[text] = value
        return value


def fill(store: Store, chunks: Iterable[Chunk], read: Callable[[Chunk], None]) -> Store:
    """Take kept attempts into a store."""
    with _nothing_collected():
        for chunk in chunks:
            read(chunk)
            store.extend(chunk.position, chunk.columns, chunk.values, chunk.revived, chunk.read_in)
    return store


@contextlib.contextmanager
def _nothing_collected() -> Iterator[None]:
    """Rows that come by the million make the garbage collector walk through all of them, and none is garbage."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def reread(store: Store, parser: Parser, size: int = 10_000) -> Store:
    """The same attempts, with every answer's text read by another parser."""
    table = store.table
    order = table.order()
    names = list(table.declared.columns)

    def chunks() -> Iterable[Chunk]:
        for begin in range(0, len(order), size):
            rows = order[begin : begin + size]
            columns = {name: [table.value(name, at) for at in rows.tolist()] for name in names}
            position = np.array(table.position, "int64")[rows]
            yield Chunk(rows, position, columns, [None] * len(rows))

    other = fill(Store(table.declared), chunks(), Anew(parser))
    for position, error in store.unsent.items():
        other.fail_as(position, *error)
    for skipped in store.skipped:
        other.skip(*skipped)
    other.call = store.call
    return other
