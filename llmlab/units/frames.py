"""Any table that a user may hold → a frame of pandas."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from llmlab.errors import InputError
from llmlab.pandas_versions import own_copy, text_array

# The methods by which tables of other libraries become pandas: dask; polars' lazy frames; polars, Arrow, Hugging Face,
# cudf; modin; Spark; BigQuery; DuckDB. The first that an object has is called.
_CONVERSIONS = ("compute", "collect", "to_pandas", "_to_pandas", "toPandas", "to_dataframe", "df")
# A table may take two steps: a lazy one is first computed.
_MOST_STEPS = 3


def converted(units: object) -> object:
    """A table of another library as pandas, by its own conversion; anything else as it is.

    Raises
    ------
    InputError
        The conversion fails.
    """
    for _ in range(_MOST_STEPS):
        method = next((name for name in _CONVERSIONS if callable(getattr(units, name, None))), None)
        if method is None or isinstance(units, (pd.DataFrame, pd.Series, type)):
            return units
        kind = type(units)
        # As floats, whole numbers in a column with gaps would be sent as 1.0.
        exact = method == "to_pandas" and kind.__module__.startswith(("polars", "pyarrow"))
        try:
            units = getattr(units, method)(**({"integer_object_nulls": True} if exact else {}))
        except Exception as error:
            raise InputError(
                f"units is a {kind.__module__.partition('.')[0]} {kind.__name__}, which its own {method}() could not "
                f"turn into a frame of pandas ({type(error).__name__}: {error}): convert it first."
            ) from error
    return units


def as_frame(units: object) -> pd.DataFrame:
    """The units as a frame of pandas with unique names that are text.

    Raises
    ------
    InputError
        It is no table, cannot be converted, or has columns that no prompt could name.
    """
    units = converted(units)
    if isinstance(units, pd.DataFrame):
        frame = own_copy(units)
        names = [name for name in frame.columns if not isinstance(name, str)]
        if names:
            raise InputError(f"Column names must be text, not {names[0]!r}.")
        if not frame.columns.is_unique:
            raise InputError(f"The column {frame.columns[frame.columns.duplicated()][0]!r} stands twice in units.")
        return frame
    if isinstance(units, pd.Series):
        name = units.name if isinstance(units.name, str) else "text"
        frame = units.rename(name).to_frame()
        if name != "text":
            frame["text"] = frame[name]
        return frame
    # A set has another order in every process.
    if isinstance(units, (str, bytes, Mapping, set, frozenset)) or not isinstance(units, Iterable):
        raise InputError(
            f"units must be a DataFrame, a Series, a list of texts or a list of mappings, not {type(units).__name__}."
            + (" Of columns make a table: pd.DataFrame(units)." if isinstance(units, Mapping) else "")
        )
    if getattr(getattr(units, "dtype", None), "names", None):
        return as_frame(pd.DataFrame(units))  # a structured array of numpy
    rows = list(units)
    if not rows:
        return pd.DataFrame({"text": text_array([])})
    if set(map(type, rows)) == {str}:
        # Spares pandas the guess, which takes longer than all else for a million texts.
        with contextlib.suppress(UnicodeEncodeError):
            return pd.DataFrame({"text": text_array(rows)})
    if all(isinstance(row, Mapping) for row in rows):
        return _tolerant_frame([dict(row) for row in rows])
    for place, row in enumerate(rows):
        if isinstance(row, (Mapping, list, tuple, bytes)) or (
            not isinstance(row, str) and not pd.api.types.is_scalar(row)
        ):
            raise InputError(f"units[{place}] is a {type(row).__name__}: a list holds texts only or mappings only.")
    return _tolerant_frame({"text": rows})


def _tolerant_frame(data: Any) -> pd.DataFrame:
    try:
        frame = pd.DataFrame(data)
    except UnicodeEncodeError:
        # Half a surrogate pair fits no column of text.
        frame = pd.DataFrame(data, dtype=object)
    return as_frame(frame)
