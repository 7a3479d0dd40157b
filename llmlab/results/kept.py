"""How the columns of the attempts are kept in memory, so that many of them take little of it."""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from llmlab.declaration import Column
from llmlab.results import columns


class Kept(Protocol):
    """The values of one column, in the order of recording; only ever added to."""

    def append(self, value: Any) -> None:
        """Add a value."""
        ...

    def extend(self, values: Sequence[Any]) -> None:
        """Add values, as a journal's file has them."""
        ...

    def value(self, at: int) -> Any:
        """The value in row `at`."""
        ...

    def array(self, rows: np.ndarray) -> Any:
        """A pandas array of the values in these rows."""
        ...

    def copy(self) -> Kept:
        """The same values, independent of those to come."""
        ...


class _Integers:
    """Whole numbers in eight bytes each; -1 stands for an unknown one."""

    def __init__(self, dtype: str) -> None:
        self._dtype = dtype
        self._values = array("q")

    def append(self, value: int | None) -> None:
        self._values.append(columns.UNKNOWN if value is None else value)

    def extend(self, values: Sequence[int | None]) -> None:
        self._values.extend(_numbers("q", values, columns.UNKNOWN))

    def value(self, at: int) -> int | None:
        value = self._values[at]
        return None if value == columns.UNKNOWN else value

    def numbers(self) -> np.ndarray:
        return np.array(self._values, "int64")

    def array(self, rows: np.ndarray) -> Any:
        values = self.numbers()[rows]
        return columns.counts(values) if self._dtype == "Int64" else values

    def copy(self) -> _Integers:
        other = _Integers(self._dtype)
        other._values = self._values[:]
        return other


class _Floats:
    """Floats in eight bytes each; NaN stands for an unknown one. Times are seconds since the epoch."""

    def __init__(self, dtype: str) -> None:
        self._dtype = dtype
        self._values = array("d")

    def append(self, value: float | None) -> None:
        self._values.append(math.nan if value is None else value)

    def extend(self, values: Sequence[float | None]) -> None:
        self._values.extend(_numbers("d", values, math.nan))

    def value(self, at: int) -> float | None:
        value = self._values[at]
        return None if math.isnan(value) else value

    def numbers(self) -> np.ndarray:
        return np.array(self._values, "float64")

    def array(self, rows: np.ndarray) -> Any:
        values = self.numbers()[rows]
        if self._dtype == "float64":
            return values
        return columns.nullable(values) if self._dtype == "Float64" else columns.times(values)

    def copy(self) -> _Floats:
        other = _Floats(self._dtype)
        other._values = self._values[:]
        return other


class _Flags:
    """Yes or no in one byte each."""

    def __init__(self) -> None:
        self._values = bytearray()

    def append(self, value: bool) -> None:
        self._values.append(value)

    def extend(self, values: Sequence[int | None]) -> None:
        self._values.extend(map(bool, values))

    def value(self, at: int) -> bool:
        return bool(self._values[at])

    def array(self, rows: np.ndarray) -> Any:
        return np.array(self._values, "uint8")[rows].astype(bool)

    def copy(self) -> _Flags:
        other = _Flags()
        other._values = self._values[:]
        return other


class _Repeated:
    """Texts of which few are different: each is kept once, and its number in four bytes for every row."""

    def __init__(self, choices: Sequence[str] = ()) -> None:
        self._choices = tuple(choices)
        self._texts: list[str] = list(choices)
        self._codes: dict[str | None, int] = {None: columns.UNKNOWN}
        self._codes |= {text: code for code, text in enumerate(self._texts)}
        self._values = array("i")

    def append(self, value: str | None) -> None:
        if value not in self._codes:
            self._add(value)
        self._values.append(self._codes[value])

    def extend(self, values: Sequence[str | bytes | None]) -> None:
        texts = _whole_texts(values)
        distinct = set(texts)
        for value in distinct.difference(self._codes):
            self._add(value)
        if len(distinct) == 1:
            self._values.extend(array("i", [self._codes[distinct.pop()]]) * len(texts))
        else:
            self._values.extend(map(self._codes.__getitem__, texts))

    def _add(self, value: str | None) -> None:
        if value is None or self._choices:
            raise ValueError(f"{value!r:.40} is none of {', '.join(self._choices)}")
        self._codes[value] = len(self._texts)
        self._texts.append(value)

    def value(self, at: int) -> str | None:
        code = self._values[at]
        return None if code == columns.UNKNOWN else self._texts[code]

    def array(self, rows: np.ndarray) -> Any:
        return columns.named(np.array(self._values, "int32")[rows], self._texts)

    def copy(self) -> _Repeated:
        other = _Repeated(self._choices)
        other._texts, other._codes = self._texts[:], dict(self._codes)
        other._values = self._values[:]
        return other


class _Texts:
    """Texts as they are."""

    def __init__(self) -> None:
        self._values: list[str | None] = []

    def append(self, value: str | None) -> None:
        self._values.append(value)

    def extend(self, values: Sequence[str | bytes | None]) -> None:
        self._values.extend(_whole_texts(values))

    def value(self, at: int) -> str | None:
        return self._values[at]

    def array(self, rows: np.ndarray) -> Any:
        return columns.strings(list(map(self._values.__getitem__, rows.tolist())))

    def copy(self) -> _Texts:
        other = _Texts()
        other._values = self._values[:]
        return other


def _numbers(kind: str, values: Sequence[Any], unknown: float) -> array:
    """Numbers of this type code of `array`, with `unknown` where there is `None`."""
    try:
        return array(kind, values)
    except TypeError:
        return array(kind, [unknown if value is None else value for value in values])


def _whole_texts(values: Sequence[Any]) -> Sequence[str | None]:
    """The texts; one with half a surrogate pair is kept as bytes in a journal."""
    if bytes not in set(map(type, values)):
        return values
    return [value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else value for value in values]


def kept(column: Column) -> Kept:
    """Where the values of such a column go."""
    if column.dtype in ("int64", "Int64"):
        return _Integers(column.dtype)
    if column.dtype == "bool":
        return _Flags()
    if column.dtype == "str":
        return _Repeated(column.choices) if column.repeated or column.choices else _Texts()
    return _Floats(column.dtype)
