"""The columns of both frames, and how their pandas arrays are built."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

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
    known[np.isnan(seconds)] = np.datetime64("NaT", "us")
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
