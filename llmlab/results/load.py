"""Results in a folder: both frames as Parquet, or as CSV without pyarrow, and what they mean in `meta.json`.

::

    folder/
      predictions.parquet | predictions.csv    one row per trial
      attempts.parquet    | attempts.csv       one row per HTTP attempt
      meta.json                                format version, dtypes, categories, description, why it stopped

Both kinds can be read without llmlab. Objects (dicts, lists, tuples) stand there as JSON. In CSV an empty cell is a
missing value, and a text that is empty, starts with a backslash, or holds what CSV readers change (NUL, carriage
returns) is a backslash and its JSON: ``\\"a\\rb"``.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.util
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from llmlab.errors import InputError
from llmlab.records import TOKENS, TokenUsageAttempt, Trial, Usage, notes_from_text

VERSION = 1
META = "meta.json"
FORMATS = ("parquet", "csv")
_FRAMES = ("predictions", "attempts")
_OURS = {META, *(f"{name}.{kind}" for name in _FRAMES for kind in FORMATS)}
_TAG = "$"
# A Timestamp is a datetime, and a datetime is a date: the narrowest first.
_TIMES: dict[str, Any] = {"timestamp": pd.Timestamp, "datetime": datetime.datetime, "date": datetime.date}


@dataclass(frozen=True, slots=True)
class Saved:
    """What a folder holds.

    Attributes
    ----------
    predictions, attempts : DataFrame
        As they were saved.
    unit_columns : dict
        The units' own columns: their names, and under which ones they stand in `predictions`.
    stopped : str or None
    description : dict
    """

    predictions: pd.DataFrame
    attempts: pd.DataFrame
    unit_columns: dict[str, str]
    stopped: str | None
    description: dict[str, Any]

    def keys(self) -> pd.DataFrame:
        """Columns `unit` (row number in `units`), `unit_id`, `model`, (`prompt`,) `run` of all trials."""
        unit = pd.factorize(self.predictions["unit_id"])[0].astype("int64")
        return self.predictions[self._key].assign(unit=unit)[["unit", *self._key]]

    def units(self) -> pd.DataFrame:
        """The units' own columns, one row per unit, indexed by `unit_id`."""
        first = ~self.keys()["unit"].duplicated()
        ids = self.predictions.loc[first, "unit_id"]
        own = self.predictions.loc[first, list(self.unit_columns.values())]
        units = own.set_axis(pd.Index(list(self.unit_columns), dtype=own.columns.dtype), axis=1)
        return units.set_axis(pd.Index(ids, name="unit_id", dtype=ids.dtype, tupleize_cols=False))

    def records(self) -> Iterator[TokenUsageAttempt]:
        """The attempts as records."""
        names = list(self.attempts.columns)
        trials = {trial.key: trial for trial in self._trials(self.predictions)}
        rows = zip(*(_objects(self.attempts[name]) for name in names), strict=True)
        for trial, row in zip(self._trials(self.attempts), rows, strict=True):
            cell = dict(zip(names, row, strict=True))
            usage = Usage(**{name: cell.pop(name) for name in TOKENS})
            notes = notes_from_text(cell["notes"])
            for name in self._key:
                del cell[name]
            cell |= {"started_at": cell["started_at"].timestamp(), "notes": notes}
            yield TokenUsageAttempt(trial=trials[trial.key], usage=usage, **cell)  # type: ignore[arg-type]

    def values(self) -> dict[int, Any]:
        """The predictions by position."""
        ok = (self.predictions["status"] == "ok").to_numpy()
        values = _objects(self.predictions["prediction"])
        return {at: values[at] for at in np.flatnonzero(ok).tolist()}

    def errors(self) -> dict[int, tuple[str, str]]:
        """What ended the failed trials, by position."""
        failed = np.flatnonzero(self.predictions["status"] == "failed").tolist()
        kinds, texts = _objects(self.predictions["error_type"]), _objects(self.predictions["error"])
        return {at: (kinds[at], texts[at]) for at in failed}

    @property
    def _key(self) -> list[str]:
        prompts = ["prompt"] if self.description.get("prompts") else []
        return ["unit_id", "model", *prompts, "run"]

    def _trials(self, frame: pd.DataFrame) -> Iterator[Trial]:
        prompts = frame["prompt"] if "prompt" in self._key else [None] * len(frame)
        rows = zip(frame["unit_id"], frame["model"], frame["run"], prompts, strict=True)
        return (Trial(at, *row) for at, row in enumerate(rows))


def save(
    folder: str | Path,
    predictions: pd.DataFrame,
    attempts: pd.DataFrame,
    *,
    unit_columns: Mapping[str, str],
    stopped: str | None = None,
    description: Mapping[str, Any] | None = None,
    format: Literal["parquet", "csv"] | None = None,
) -> Path:
    """Write results to a folder: all of them or, when anything fails, nothing.

    Parameters
    ----------
    folder : path
        Made if it does not exist. Results saved there before are replaced, other files in it are kept.
    predictions, attempts : DataFrame
        As `Results` has them.
    unit_columns : mapping
        Names of the units' own columns, and under which ones they stand in `predictions`.
    stopped : str, optional
    description : mapping, optional
    format : {"parquet", "csv"}, optional
        Default: Parquet if pyarrow is installed.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        The folder is a file, or holds something else than results.
    """
    if format not in (None, *FORMATS):
        raise InputError(f'format must be "parquet" or "csv", not {format!r}.')
    if format == "parquet" and not _has_pyarrow():
        raise InputError('format="parquet" needs the package pyarrow: pip install pyarrow, or use format="csv".')
    kind = format or ("parquet" if _has_pyarrow() else "csv")
    folder = Path(folder).resolve()
    _check_target(folder)
    meta: dict[str, Any] = {
        "llmlab_results": VERSION,
        "format": kind,
        "stopped": stopped,
        "units": list(unit_columns),
        "units_as": list(unit_columns.values()),
        "description": _encode(dict(description or {})),
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex(4)
    new, old = (folder.with_name(f".{folder.name}.{token}.{end}") for end in ("new", "old"))
    try:
        new.mkdir()
        for name, frame in zip(_FRAMES, (predictions, attempts), strict=True):
            meta[name] = _write(frame, new / f"{name}.{kind}", kind)
        (new / META).write_text(json.dumps(meta, indent=1), encoding="utf-8")
        for one in new.iterdir():
            with one.open("rb+") as file:
                os.fsync(file.fileno())
        _swap(new, folder, old)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return folder


def load_folder(folder: str | Path) -> Saved:
    """Read what `save` wrote.

    Raises
    ------
    InputError
        No results are saved there, by a newer llmlab, or they are damaged.
    """
    folder = Path(folder)
    meta = _meta(folder)
    if meta is None:
        raise InputError(f"The folder {folder} holds no results: they are written by results.save(folder).")
    if meta["llmlab_results"] != VERSION:
        raise InputError(f"The results in {folder} were saved by another version of llmlab: update it to read them.")
    kind = str(meta.get("format"))
    if kind == "parquet" and not _has_pyarrow():
        raise InputError(f"The results in {folder} are Parquet files, which needs pyarrow: pip install pyarrow.")
    try:
        predictions, attempts = (_read(folder / f"{name}.{kind}", kind, meta[name]) for name in _FRAMES)
        # Before, they were the last columns.
        shown = meta.get("units_as", list(predictions.columns[predictions.shape[1] - len(meta["units"]) :]))
        own = dict(zip(meta["units"], shown, strict=True))
        return Saved(predictions, attempts, own, meta["stopped"], _decode(meta["description"]))
    except (OSError, LookupError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"The results in {folder} are damaged: {error}.") from error


def _has_pyarrow() -> bool:
    return importlib.util.find_spec("pyarrow") is not None


def _meta(folder: Path) -> dict[str, Any] | None:
    with contextlib.suppress(OSError, ValueError):
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        return meta if isinstance(meta, dict) and "llmlab_results" in meta else None
    return None


def _check_target(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"save() needs a folder, and {folder} is a file.")
    if folder.is_dir() and any(folder.iterdir()) and _meta(folder) is None:
        raise InputError(f"The folder {folder} holds something else than results: choose another, or a new one in it.")


def _swap(new: Path, folder: Path, old: Path) -> None:
    if not folder.exists():
        new.rename(folder)
        return
    folder.rename(old)
    try:
        for one in old.iterdir():
            if one.name not in _OURS:
                one.rename(new / one.name)
        new.rename(folder)
    except BaseException:
        for one in new.iterdir():
            if one.name not in _OURS:
                one.rename(old / one.name)
        old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _write(frame: pd.DataFrame, path: Path, kind: str) -> list[list[Any]]:
    """Write a frame; returns each column's name and how it is to be read."""
    columns, kinds = {}, []
    for at, name in enumerate(frame.columns):
        column = frame[name]
        if kind == "parquet" and _is_native(column):
            cells, how = column.array, str(column.dtype)
        else:
            cells, how = _texts(column)
            cells = pd.array([_escaped(cell) for cell in cells] if kind == "csv" else cells, dtype="str")
        columns[_escaped(name) if _is_text(name) else f"column {at}"] = cells
        kinds.append([name, how])
    table = pd.DataFrame(columns, copy=False)
    if kind == "csv":
        table.to_csv(path, index=False, lineterminator="\n", encoding="utf-8")
    else:
        table.to_parquet(path, index=False, engine="pyarrow")
    return kinds


def _read(path: Path, kind: str, kinds: list[list[Any]]) -> pd.DataFrame:
    if kind == "csv":
        table = pd.read_csv(path, dtype="str", keep_default_na=False, na_values=[""], encoding="utf-8")
    else:
        table = pd.read_parquet(path, engine="pyarrow")
    if table.shape[1] != len(kinds):
        raise ValueError(f"{path.name} has {table.shape[1]} columns, not {len(kinds)}")
    columns = {}
    for at, (name, how) in enumerate(kinds):
        column = table.iloc[:, at]
        if kind == "parquet" and isinstance(how, str):
            columns[name] = column.astype(pd.api.types.pandas_dtype(how))
        else:
            cells = _objects(column)
            columns[name] = _column([_unescaped(cell) for cell in cells] if kind == "csv" else cells, how)
    return pd.DataFrame(columns, index=table.index, copy=False)


def _is_text(text: str) -> bool:
    """Whether UTF-8 can hold it: not half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _escaped(text: str | None) -> str | None:
    if text is None or (text and text[0] != "\\" and "\r" not in text and "\0" not in text):
        return text
    return "\\" + json.dumps(text)


def _unescaped(text: str | None) -> str | None:
    return json.loads(text[1:]) if text is not None and text[0] == "\\" else text


def _is_native(column: pd.Series) -> bool:
    """Whether Parquet holds it as it is."""
    if isinstance(column.dtype, pd.StringDtype):
        return all(map(_is_text, column.dropna()))
    return _is_plain(column.dtype) and column.dtype != "float16"


def _is_plain(dtype: Any) -> bool:
    """Whether it is a number, a truth value or a time, and its name says all about it."""
    odd = isinstance(dtype, (pd.CategoricalDtype, pd.ArrowDtype, pd.SparseDtype))
    with contextlib.suppress(TypeError):
        return not odd and dtype.kind in "biufM" and pd.api.types.pandas_dtype(str(dtype)) == dtype
    return False


def _objects(column: pd.Series) -> list[Any]:
    """The cells as Python has them; missing ones are None, but in columns of objects as they are."""
    values = column.tolist()
    if column.dtype == object:
        return values
    return [None if missing else value for value, missing in zip(values, column.isna(), strict=True)]


def _texts(column: pd.Series) -> tuple[list[str | None], Any]:
    """A column as texts, and how to read them: a dtype's name, or a mapping for categories and objects."""
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        cells, how = _texts(pd.Series(dtype.categories))
        known = [*cells, None]
        return [known[code] for code in column.cat.codes], {"of": how, "categories": cells, "ordered": dtype.ordered}
    values = _objects(column)
    if isinstance(dtype, pd.StringDtype) and all(_is_text(value) for value in values if value is not None):
        return values, str(dtype)
    if not _is_plain(dtype):
        return [None if value is None else json.dumps(_encode(value)) for value in values], {"json": str(dtype)}
    write = {"f": repr, "M": pd.Timestamp.isoformat}.get(dtype.kind, str)
    return [None if value is None else write(value) for value in values], str(dtype)


def _column(cells: list[str | None], how: Any) -> pd.Series:
    """The column behind `_texts`."""
    if isinstance(how, dict) and "of" in how:
        categories = pd.Index(_column(how["categories"], how["of"]), tupleize_cols=False)
        place = {cell: at for at, cell in enumerate(how["categories"])}
        codes = [-1 if cell is None else place[cell] for cell in cells]
        return pd.Series(pd.Categorical.from_codes(codes, categories, ordered=how["ordered"]))
    if isinstance(how, dict):
        objects = np.empty(len(cells), object)
        objects[:] = [None if cell is None else _decode(json.loads(cell)) for cell in cells]
        column = pd.Series(objects, dtype=object)
        with contextlib.suppress(ValueError, TypeError):
            return column.astype(how["json"])
        return column
    dtype: Any = pd.api.types.pandas_dtype(how)
    if isinstance(dtype, pd.StringDtype):
        return pd.Series(cells, dtype=dtype)
    if dtype.kind == "M":
        times = pd.to_datetime(pd.Series(cells, dtype=object), utc=True, format="ISO8601")
        return (times if isinstance(dtype, pd.DatetimeTZDtype) else times.dt.tz_localize(None)).astype(dtype)
    read: Any = {"b": "True".__eq__, "f": float}.get(dtype.kind, int)
    missing = np.nan if isinstance(dtype, np.dtype) else pd.NA
    return pd.Series([missing if cell is None else read(cell) for cell in cells], dtype=dtype)


def _encode(value: Any) -> Any:
    """A value as JSON has it, and what JSON does not know under a tag. The rest becomes text."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Enum):
        return _encode(value.value)
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if value is pd.NA or value is pd.NaT:
        return {_TAG + "missing": "NA" if value is pd.NA else "NaT"}
    if isinstance(value, (list, tuple)):
        items = [_encode(item) for item in value]
        return items if isinstance(value, list) else {_TAG + "tuple": items}
    if isinstance(value, Mapping):
        if all(isinstance(name, str) and not name.startswith(_TAG) for name in value):
            return {name: _encode(item) for name, item in value.items()}
        return {_TAG + "pairs": [[_encode(name), _encode(item)] for name, item in value.items()]}
    for name, kind in _TIMES.items():
        if isinstance(value, kind):
            return {_TAG + name: value.isoformat()}
    with contextlib.suppress(Exception):
        return _encode(value.model_dump(mode="json"))
    return str(value)


def _decode(value: Any) -> Any:
    """The value behind `_encode`."""
    name: str
    inner: Any
    if isinstance(value, list):
        return [_decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    name, inner = next(iter(value.items())) if value else ("", None)
    if not name.startswith(_TAG):
        return {name: _decode(item) for name, item in value.items()}
    name = name.removeprefix(_TAG)
    if name == "missing":
        return pd.NA if inner == "NA" else pd.NaT
    if name == "tuple":
        return tuple(_decode(item) for item in inner)
    if name == "pairs":
        return {_decode(key): _decode(item) for key, item in inner}
    kind = _TIMES[name]
    return pd.Timestamp(inner) if kind is pd.Timestamp else kind.fromisoformat(inner)
