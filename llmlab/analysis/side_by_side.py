"""Unit, answers of the runs, consensus and gold in one row: a table to read, not to compute with."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import pandas as pd

from llmlab.analysis.gold import Gold, gold_of, own_column
from llmlab.analysis.votes import consensus, wide
from llmlab.errors import InputError
from llmlab.records import arm_columns, own_columns


def side_by_side(
    predictions: pd.DataFrame, gold: Gold | None = None, *, columns: Sequence[str] = (), length: int = 80
) -> pd.DataFrame:
    """The answers of a unit side by side, to look at.

    Parameters
    ----------
    predictions : DataFrame
        `Results.predictions`.
    gold : str, Series, mapping or DataFrame, optional
        A unit's column, the right labels by unit id, or a sheet.
    columns : sequence of str
        Which of the unit's columns are shown.
    length : int
        Texts are cut to so many characters, at least 2, and their line breaks are blanks.

    Returns
    -------
    DataFrame
        One row per unit × model × prompt in input order: `unit_id`; `model`, `prompt` and `label` where there are
        several; the unit's columns; `run_1` … `run_R`, the answers; `consensus` of several runs and its `confidence`
        (0 to 1), as in `consensus`; `gold` where it is given.

    Raises
    ------
    InputError
        There is no such column, or `length` is below 2.
    """
    if length < 2:
        raise InputError(f"length must be at least 2 characters, not {length!r}.")
    own = own_columns(predictions.columns)
    for name in columns:
        own_column(predictions, name, "columns")
    runs, agreed = wide(predictions), consensus(predictions)
    key = ["unit_id", *arm_columns(predictions.columns)]
    answers = [name for name in runs.columns[len(key) :] if name not in own and name.startswith("run_")]
    arms = [name for name in key[1:] if predictions[name].nunique() > 1]
    shown = runs[["unit_id", *arms]].copy()
    for name in [*columns, *answers]:
        shown[name] = _cut(runs[name], length)
    if len(answers) > 1:
        shown["consensus"] = _cut(agreed["prediction"], length)
    if agreed["confidence"].notna().any():
        shown["confidence"] = agreed["confidence"]
    if gold is not None:
        right = dict(zip(_rows(predictions, key), gold_of(predictions, gold), strict=True))
        shown["gold"] = [right[row] for row in _rows(runs, key)]
    return shown


def _rows(frame: pd.DataFrame, columns: list[str]) -> list[tuple[Hashable, ...]]:
    return list(zip(*(frame[name] for name in columns), strict=True))


def _cut(column: pd.Series, length: int) -> pd.Series:
    """The column with texts of one line and at most `length` characters; categories and other values stay."""
    if isinstance(column.dtype, pd.CategoricalDtype) or not column.map(lambda cell: isinstance(cell, str)).any():
        return column
    return column.map(lambda cell: _cut_text(cell, length) if isinstance(cell, str) else cell)


def _cut_text(text: str, length: int) -> str:
    line = " ".join(text[: 4 * length].split())
    whole = len(line) <= length and len(text) <= 4 * length
    return line if whole else line[: length - 1].rstrip() + "…"
