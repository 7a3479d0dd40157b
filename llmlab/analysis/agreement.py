"""How far raters agree: the runs of each model, its consensus, and people. Frames in, frames out.

Intervals come from drawing units, not answers: the runs of a unit are not independent.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from llmlab.analysis.fields import row_per_label
from llmlab.analysis.gold import as_labels, human_labels, is_label
from llmlab.analysis.reliability import MEASURED, Measure, Scale, measured
from llmlab.analysis.votes import label_codes, votes
from llmlab.errors import InputError
from llmlab.records import arm_columns

Humans = str | Sequence[str] | pd.DataFrame


def agreement(
    predictions: pd.DataFrame,
    *,
    humans: Humans = (),
    measure: Measure = "nominal",
    by: Literal["label"] | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """How far raters agree, beyond chance.

    Parameters
    ----------
    humans : str, list of str, or DataFrame
        Columns with people's labels: of the units, or of a frame with the column `unit_id`, such as a sheet.
    measure : {"nominal", "ordinal", "interval"}
        Whether labels are only different, or in order, or numbers whose distances count.
    by : "label", optional
        Each label on its own: given or not given.
    level : float
        Of the intervals, 0 to 1.

    Returns
    -------
    DataFrame
        One row per group of raters, named in `raters`: the people among themselves; the runs of each model (× prompt);
        its consensus with each person; its consensus with the people's majority; all runs and people. Columns: the
        model's (NA for people and for all), `label` if asked for, `raters`, `runs` (how many raters), `units` (rated
        at least twice), `complete_units` (rated by all), `unanimous` (share of `units` whose ratings are all the
        same), `krippendorff_alpha` (over `units`; ratings may be missing), `fleiss_kappa` (nominal) and `cohen_kappa`
        (two raters; weighted quadratically unless nominal), both over `complete_units`, each with its interval, and
        `notes`. Where all ratings are one label, agreement is 1.0, and noted.
    """
    if by not in (None, "label"):
        raise InputError(f'by={by!r}: choose "label", or leave it out.')
    people = human_labels(predictions, humans)
    if by == "label" and "label" not in arm_columns(predictions.columns):
        labels = label_codes(predictions["prediction"])[1]
        people = as_labels(people, predictions["prediction"], "a human's column")
        predictions = row_per_label(predictions, labels)
    columns = arm_columns(predictions.columns)
    rows = []
    if "label" in columns:
        for label, part in predictions.groupby("label", sort=False, observed=True):
            yes = people.map(lambda cell, label=label: is_label(cell, label)).astype(object)
            rows += [{"label": label} | row for row in _rows(part.drop(columns="label"), yes, measure, level, seed)]
    else:
        rows += _rows(predictions, people, measure, level, seed)
    return pd.DataFrame(rows, columns=[*columns, "raters", "runs", *MEASURED])


def _rows(
    predictions: pd.DataFrame, people: pd.DataFrame, measure: Measure, level: float, seed: int
) -> Iterator[dict[str, Any]]:
    prediction = predictions["prediction"]
    people = as_labels(people, prediction, "a human's column")
    labels, ordered = _labels(prediction, people)
    scale = Scale.of(labels, measure, ordered=ordered)
    codes = people.apply(
        lambda column: pd.Series(scale.labels.get_indexer(pd.Index(column, dtype=object)), people.index)
    )
    persons = codes.to_numpy("int64").reshape(len(people), people.shape[1])
    names, ids = list(people.columns), people.index

    def row(raters: str, table: np.ndarray, arm: dict[str, Any] | None = None) -> dict[str, Any]:
        return (arm or {}) | {"raters": raters, "runs": table.shape[1]} | measured(table, scale, level, seed)

    arms = list(votes(predictions))
    tables = [_recoded(arm.table, arm.labels, scale).reindex(ids, fill_value=-1).to_numpy() for arm in arms]
    if len(names) > 1:
        yield row(", ".join(names), persons)
    for arm, table in zip(arms, tables, strict=True):
        yield row("runs", table, arm.arm)
    majority = majority_codes(persons)
    for arm, table in zip(arms, tables, strict=True):
        agreed = majority_codes(table)
        for at, name in enumerate(names):
            yield row(f"consensus, {name}", np.column_stack([agreed, persons[:, at]]), arm.arm)
    for arm, table in zip(arms, tables, strict=True):
        if len(names) > 1:
            agreed = majority_codes(table)
            yield row("consensus, majority of the humans", np.column_stack([agreed, majority]), arm.arm)
    if names:
        yield row("all runs and humans", np.column_stack([*tables, persons]))


def majority_codes(table: np.ndarray) -> np.ndarray:
    """The most frequent code of each unit, the first of equally frequent ones; -1 where there is none."""
    if not table.shape[1]:
        return np.full(len(table), -1)
    alike = (table[:, :, None] == table[:, None, :]).sum(axis=2)
    times = np.where(table >= 0, alike, 0)
    most = times.max(axis=1, keepdims=True)
    found = np.where(times == most, table, np.iinfo("int64").max).min(axis=1)
    return np.where(most[:, 0] > 0, found, -1)


def _labels(prediction: pd.Series, people: pd.DataFrame) -> tuple[pd.Index, bool]:
    """All labels that raters gave, and whether they stand in an order."""
    labels = label_codes(prediction)[1]
    known = set(map(repr, labels))
    more = dict.fromkeys(one for one in itertools.chain.from_iterable(people.to_numpy()) if not pd.isna(one))
    closed = isinstance(prediction.dtype, pd.CategoricalDtype)
    return labels.append(pd.Index([one for one in more if repr(one) not in known], dtype=object)), closed


def _recoded(table: pd.DataFrame, labels: pd.Index, scale: Scale) -> pd.DataFrame:
    """Codes of `labels` as codes of the scale."""
    known = {repr(label): code for code, label in enumerate(scale.labels)}
    place = np.array([*(known[repr(label)] for label in labels), -1], "int64")
    return pd.DataFrame(place[table.to_numpy()], index=table.index)
