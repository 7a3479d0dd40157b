"""How a record declares its fields as columns, once for the table, the journal, the frames and their documentation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from typing import Any

BETWEEN = "; "


@dataclass(frozen=True, slots=True)
class Column:
    """How a field of an attempt is kept and shown.

    Attributes
    ----------
    dtype : str
        Of the frame's column; it also says how the field is kept: as whole numbers, floats, yes or no, or text.
    meaning : str
        What a user reads about it.
    repeated : bool
        Whether it is text of which few different ones occur, so that each is kept once.
    choices : tuple of str
        All texts it can be, if they are known beforehand.
    summed : str or None
        What its sum over the attempts of a trial means, if `predictions` has that sum.
    joined : bool
        Whether a record holds several texts (a tuple), and a cell one, with "; " between them.
    """

    dtype: str
    meaning: str
    repeated: bool = False
    choices: tuple[str, ...] = ()
    summed: str | None = None
    joined: bool = False


def column(dtype: str, meaning: str, *, default: Any = dataclasses.MISSING, **more: Any) -> Any:
    """Declare a field of an attempt: its `Column`, and its default if it has one."""
    return field(default=default, metadata={"column": Column(dtype, meaning, **more)})


@dataclass(frozen=True)
class Declaration:
    """The columns that the fields of a record declare; fields of records in it stand in their place.

    Parameters
    ----------
    record : type
        A dataclass of which some fields are made by `column`, and others hold records, as their metadata `record` says.
    """

    record: type

    def __reduce__(self) -> tuple[type, tuple[type]]:
        # What is worked out from the class is worked out again.
        return Declaration, (self.record,)

    @cached_property
    def columns(self) -> dict[str, Column]:
        """Every column by name, in the frame's order."""
        return {name: one for name, one, _ in self._fields}

    @cached_property
    def cells(self) -> Callable[[Any], tuple[Any, ...]]:
        """Takes a record and gives its values in the order of `columns`."""
        take = attrgetter(*(name if inner is None else f"{inner}.{name}" for _, _, (inner, name) in self._fields))
        joined = tuple(at for at, one in enumerate(self.columns.values()) if one.joined)

        def cells(record: Any) -> tuple[Any, ...]:
            values = list(take(record))
            for at in joined:
                values[at] = BETWEEN.join(values[at]) or None
            return tuple(values)

        return cells

    def build(self, cells: Sequence[Any], **others: Any) -> Any:
        """The record behind `cells`, with its other fields."""
        inner: dict[str, dict[str, Any]] = {}
        plain = dict(others)
        for (name, one, (within, _)), value in zip(self._fields, cells, strict=True):
            fields = plain if within is None else inner.setdefault(within, {})
            fields[name] = tuple(value.split(BETWEEN) if value else ()) if one.joined else value
        for one in dataclasses.fields(self.record):
            if one.name in inner:
                plain[one.name] = one.metadata["record"](**inner[one.name])
        return self.record(**plain)

    @cached_property
    def _fields(self) -> list[tuple[str, Column, tuple[str | None, str]]]:
        return list(_declared(self.record))


def _declared(record: type, within: str | None = None) -> Iterator[tuple[str, Column, tuple[str | None, str]]]:
    """(column's name, column, (name of the record within, field's name)) of every declared field."""
    for one in dataclasses.fields(record):
        if "record" in one.metadata:
            yield from _declared(one.metadata["record"], one.name)
        elif "column" in one.metadata:
            yield one.name, one.metadata["column"], (within, one.name)
