"""Results in a folder: a journal of one session, and both frames as files for other programs.

::

    folder/
      results.sqlite                           what `load_results` reads
      predictions.parquet | predictions.csv    one row per trial
      attempts.parquet    | attempts.csv       one row per HTTP attempt

Objects (dicts, lists, tuples) stand as JSON in the frames' files.
"""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import json
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from llmlab.errors import InputError
from llmlab.results import cells, columns

FILE = "results.sqlite"
FORMATS = ("parquet", "csv")
FRAMES = ("predictions", "attempts")
_OLD = "meta.json"
_OURS = {FILE, _OLD, *(f"{name}.{kind}" for name in FRAMES for kind in FORMATS)}


def save(
    folder: str | Path,
    write: Callable[[Path], None],
    frames: Mapping[str, pd.DataFrame],
    format: Literal["parquet", "csv"] | None = None,
) -> Path:
    """Write results to a folder: all of them or, when anything fails, nothing.

    Parameters
    ----------
    folder : path
        Made if it does not exist. Results saved there before are replaced, other files in it are kept.
    write : callable
        Writes the journal to the path that it is given.
    frames : mapping
        `predictions` and `attempts`.
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
    has_pyarrow = importlib.util.find_spec("pyarrow") is not None
    if format == "parquet" and not has_pyarrow:
        raise InputError('format="parquet" needs the package pyarrow: pip install pyarrow, or use format="csv".')
    kind = format or ("parquet" if has_pyarrow else "csv")
    folder = Path(folder).resolve()
    _check_target(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex(4)
    new, old = (folder.with_name(f".{folder.name}.{token}.{end}") for end in ("new", "old"))
    try:
        new.mkdir()
        write(new / FILE)
        for name, frame in frames.items():
            _write_frame(frame, new / f"{name}.{kind}")
        for one in new.iterdir():
            with one.open("rb+") as file:
                os.fsync(file.fileno())
        _swap(new, folder, old)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return folder


def file_in(path: Path) -> Path:
    """The journal that `path` means: itself, or the one in a folder of results.

    Raises
    ------
    InputError
        A folder without results, or with those of llmlab 0.1.
    """
    if not path.is_dir() or (path / FILE).is_file():
        return path / FILE if path.is_dir() else path
    if _is_old(path):
        raise InputError(
            f"The results in {path} were saved by llmlab 0.1: load them with it, or read predictions and attempts with "
            "pandas; rows of predictions can be given to run_experiment."
        )
    raise InputError(f"The folder {path} holds no results: they are written by results.save(folder).")


def _is_old(folder: Path) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return "llmlab_results" in json.loads((folder / _OLD).read_text(encoding="utf-8"))
    return False


def _check_target(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"save() needs a folder, and {folder} is a file.")
    if folder.is_dir() and any(folder.iterdir()) and not ((folder / FILE).is_file() or _is_old(folder)):
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


def _write_frame(frame: pd.DataFrame, path: Path) -> None:
    plain: dict[str, Any] = {}
    for name in frame.columns:
        column = frame[name]
        plain[cells.whole(name)] = column if cells.is_native(column) else columns.strings(_texts(column))
    table = pd.DataFrame(plain, copy=False)
    if path.suffix == ".csv":
        # A lone carriage return within a text ends a row for many readers, unless the text is quoted.
        table.to_csv(path, index=False, lineterminator="\n", encoding="utf-8", quoting=csv.QUOTE_NONNUMERIC)
    else:
        table.to_parquet(path, index=False, engine="pyarrow")


def _texts(column: pd.Series) -> list[str | None]:
    """Categories by their names, objects as JSON; text stays what it is."""
    values = cells.objects(column)
    return [one if one is None or isinstance(one, str) else json.dumps(cells.encode(one)) for one in values]
