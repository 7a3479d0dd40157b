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
import importlib.util
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from llmlab.errors import InputError
from llmlab.records import TOKENS, TokenUsageAttempt, Trial, Usage, notes_from_text
from llmlab.results.cells import as_texts, decode, encode, escaped, from_texts, is_native, is_text, objects, unescaped

VERSION = 1
META = "meta.json"
FORMATS = ("parquet", "csv")
_FRAMES = ("predictions", "attempts")
_OURS = {META, *(f"{name}.{kind}" for name in _FRAMES for kind in FORMATS)}


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
        rows = zip(*(objects(self.attempts[name]) for name in names), strict=True)
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
        values = objects(self.predictions["prediction"])
        return {at: values[at] for at in np.flatnonzero(ok).tolist()}

    def errors(self) -> dict[int, tuple[str, str]]:
        """What ended the failed trials, by position."""
        failed = np.flatnonzero(self.predictions["status"] == "failed").tolist()
        kinds, texts = objects(self.predictions["error_type"]), objects(self.predictions["error"])
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
        "description": encode(dict(description or {})),
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
        return Saved(predictions, attempts, own, meta["stopped"], decode(meta["description"]))
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
        if kind == "parquet" and is_native(column):
            cells, how = column.array, str(column.dtype)
        else:
            cells, how = as_texts(column)
            cells = pd.array([escaped(cell) for cell in cells] if kind == "csv" else cells, dtype="str")
        columns[escaped(name) if is_text(name) else f"column {at}"] = cells
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
            cells = objects(column)
            columns[name] = from_texts([unescaped(cell) for cell in cells] if kind == "csv" else cells, how)
    return pd.DataFrame(columns, index=table.index, copy=False)
