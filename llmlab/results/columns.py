"""The columns of both frames, how a column of attempts is kept in memory, and how pandas arrays are built."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np
import pandas as pd

from llmlab.declaration import Column, Declaration
from llmlab.pandas_versions import text_array
from llmlab.records import ATTEMPT, STATUSES
from llmlab.results.cells import whole

_KEY = {
    "unit_id": Column("as given", "the unit's id"),
    "model": Column("str", "the model asked"),
    "run": Column("int64", "which repeat, from 1"),
}
UNKNOWN = -1
Documented = TypeVar("Documented", bound=Callable[..., Any])


def attempt_columns(declared: Declaration = ATTEMPT) -> dict[str, Column]:
    """The columns of `attempts`, in order. With several prompts, `prompt` (str) stands after `model`."""
    return _KEY | declared.columns


def prediction_columns(declared: Declaration = ATTEMPT) -> dict[str, Column]:
    """The columns of `predictions`, in order; the answer's fields and the unit's own columns follow `prediction`."""
    summed = {name: one for name, one in declared.columns.items() if one.summed is not None}
    return {
        **_KEY,
        "prediction": Column("category, str or object", "the category, the text, or what parse made; NA unless ok"),
        "status": Column("str", "ok, failed or not_run", choices=STATUSES),
        "confidence": Column("Float64", "how sure the answer is, 0 to 1; NA if nothing tells"),
        "confidence_from": Column(
            "str",
            "logprobs: the probability of the whole label; runs: the share of the unit's answered runs that gave it",
            choices=("logprobs", "runs"),
        ),
        "error_type": Column("str", "class of the error of the last attempt; NA if ok or never asked"),
        "error": Column("str", "what it says, in one line"),
        "attempts": Column("int64", "HTTP attempts, failed ones too"),
        **{name: Column(_nullable_type(one.dtype), one.summed or "") for name, one in summed.items()},
        "finished_at": Column("datetime64[us, UTC]", "when the last attempt ended"),
    }


def _nullable_type(dtype: str) -> str:
    return dtype[0].upper() + dtype[1:]


ATTEMPT_COLUMNS = attempt_columns()
PREDICTION_COLUMNS = prediction_columns()


def describe(columns: Mapping[str, Column]) -> str:
    """A text with a line for each column: name, dtype, meaning."""
    meant = {name: one.meaning[:1].upper() + one.meaning[1:] for name, one in columns.items()}
    return "\n".join(f"{name} : {one.dtype}\n    {meant[name]}." for name, one in columns.items())


def documented(columns: Mapping[str, Column]) -> Callable[[Documented], Documented]:
    """Decorate a function whose frame has these columns: they become a part of its docstring."""

    def add(function: Documented) -> Documented:
        lines = describe(columns).replace("\n", "\n        ")
        function.__doc__ = f"{function.__doc__}\n\n        Returns\n        -------\n        {lines}\n        "
        return function

    return add


# how a column of attempts is kept


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
        self._values.append(UNKNOWN if value is None else value)

    def extend(self, values: Sequence[int | None]) -> None:
        self._values.extend(_numbers("q", values, UNKNOWN))

    def value(self, at: int) -> int | None:
        value = self._values[at]
        return None if value == UNKNOWN else value

    def numbers(self) -> np.ndarray:
        return np.array(self._values, "int64")

    def array(self, rows: np.ndarray) -> Any:
        values = self.numbers()[rows]
        return counts(values) if self._dtype == "Int64" else values

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
        return nullable(values) if self._dtype == "Float64" else times(values)

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
        self._codes: dict[str | None, int] = {None: UNKNOWN}
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
        return None if code == UNKNOWN else self._texts[code]

    def array(self, rows: np.ndarray) -> Any:
        return named(np.array(self._values, "int32")[rows], self._texts)

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
        return strings(list(map(self._values.__getitem__, rows.tolist())))

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


# pandas arrays


def strings(texts: Sequence[str | None]) -> Any:
    """Texts as pandas keeps them; half a surrogate pair becomes a question mark."""
    try:
        return text_array(texts)
    except UnicodeEncodeError:
        # Half a surrogate pair fits no column of text; the journal keeps it as it was.
        return text_array([t if t is None else whole(t) for t in texts])


def named(codes: np.ndarray, names: Sequence[str]) -> Any:
    """The text behind each code; NA where it is -1."""
    return strings([*names, None]).take(codes)


def counts(values: np.ndarray) -> Any:
    """Whole numbers with NA where they are -1."""
    unknown = values == UNKNOWN
    return pd.arrays.IntegerArray(np.where(unknown, 0, values), unknown)


def nullable(values: np.ndarray) -> Any:
    """Floats with NA where they are NaN."""
    unknown = np.isnan(values)
    return pd.arrays.FloatingArray(np.where(unknown, 0.0, values), unknown)


def times(seconds: np.ndarray) -> Any:
    """Seconds since the epoch as UTC times to the microsecond."""
    known = np.nan_to_num(seconds * 1e6, nan=0.0).astype("int64").astype("datetime64[us]")
    known[np.isnan(seconds)] = np.datetime64("NaT")
    return pd.DatetimeIndex(known).tz_localize("UTC").array


def as_objects(values: Iterable[Any]) -> np.ndarray:
    """One object per cell, also where the objects are lists."""
    values = list(values)
    objects = np.empty(len(values), object)
    objects[:] = values
    return objects


def inferred(values: Sequence[Any]) -> Any:
    """The nullable type that holds them, as whole numbers stay whole beside failed trials; else objects."""
    kinds = {type(value) for value in values if value is not None}
    return strings(values) if kinds == {str} else pd.array(as_objects(values))


def frame(columns: Mapping[str, Any]) -> pd.DataFrame:
    """Columns as they are: pandas would guess what objects are, and fail over half a surrogate pair."""
    return pd.DataFrame(
        {
            name: pd.Series(column, dtype=object) if pd.api.types.is_object_dtype(column.dtype) else column
            for name, column in columns.items()
        },
        copy=False,
    )


def free(name: str, taken: Iterable[str]) -> str:
    """`name`, or the name with underscores if another column has it already."""
    while name in taken:
        name += "_"
    return name
