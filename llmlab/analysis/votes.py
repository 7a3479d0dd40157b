"""What the repeats of a unit say: votes, majorities and the consensus. Frames in, frames out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from llmlab.errors import InputError
from llmlab.pandas_versions import TEXT, text_array
from llmlab.records import arm_columns, own_columns, trial_key

BY_LOGPROBS, BY_RUNS = "logprobs", "runs"
"""What a confidence comes from."""

_MEASURES = {
    "share": "Float64", "answered": "int64", "runs": "int64", "tied": "bool", "entropy": "Float64",
    "flip_rate": "Float64", "confidence": "Float64", "confidence_from": TEXT,
}  # fmt: skip
CONSENSUS_COLUMNS = ("prediction", *_MEASURES)
"""What `consensus` tells of a unit, between the model's columns and the unit's own."""


@dataclass(frozen=True, slots=True)
class Votes:
    """The answers of one arm (a model, or a model with a prompt).

    Attributes
    ----------
    arm : dict
        The arm's columns and values.
    counts : ndarray of int, units × labels
        How many runs of a unit gave a label.
    table : DataFrame
        Label code by unit (rows) and run (columns); -1 where a run has no answer.
    labels : Index
    asked : Series of int
        Runs asked per unit.
    sure : ndarray of float, units × runs
        The probability that the model gave to its label, where `logprobs` told it; else NaN.
    """

    arm: dict[str, str]
    counts: np.ndarray
    table: pd.DataFrame
    labels: pd.Index
    asked: pd.Series
    sure: np.ndarray


def votes(predictions: pd.DataFrame) -> Iterator[Votes]:
    """Each arm's answers in the order of `predictions`.

    Raises
    ------
    InputError
        A unit has the same run twice.
    """
    _check_runs(predictions)
    codes, labels = label_codes(predictions["prediction"])
    codes[(predictions["status"] != "ok").to_numpy(bool)] = -1
    columns = arm_columns(predictions.columns)
    coded = predictions[["unit_id", "run", *columns]].assign(code=codes, sure=_told(predictions))
    for name, rows in coded.groupby(columns, sort=False, observed=True):
        ids = rows["unit_id"].unique()
        table = rows.pivot(index="unit_id", columns="run", values="code").reindex(ids)
        sure = rows.pivot(index="unit_id", columns="run", values="sure").reindex(ids).to_numpy(float)
        asked = table.notna().sum(axis=1)
        table = table.fillna(-1).astype("int64")
        values = table.to_numpy()
        counts = (values[:, :, None] == np.arange(len(labels))).sum(axis=1)
        yield Votes(dict(zip(columns, map(str, name), strict=True)), counts, table, labels, asked, sure)


def _with_numbered_ids(predictions: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Those columns with a number for each unit's id, to group by: half a surrogate pair fits no index of texts."""
    return predictions[columns].assign(unit_id=pd.factorize(predictions["unit_id"].to_numpy(object))[0])


def _check_runs(predictions: pd.DataFrame) -> None:
    key = trial_key(predictions.columns)
    twice = _with_numbered_ids(predictions, key).duplicated()
    if twice.any():
        row = predictions.loc[twice.to_numpy(bool), key].iloc[0].to_dict()
        raise InputError(
            f"{', '.join(f'{name} {value!r}' for name, value in row.items())} stands more than once in these rows. "
            "Rows of several experiments are told apart by llmlab.combine(march=a, now=b)."
        )


def _told(predictions: pd.DataFrame) -> np.ndarray:
    """The probability of each label where logprobs told it; else NaN."""
    if "confidence_from" not in predictions:
        return np.full(len(predictions), np.nan)
    told = predictions["confidence_from"].eq(BY_LOGPROBS).fillna(False).to_numpy(bool)
    return np.where(told, predictions["confidence"].to_numpy(float, na_value=np.nan), np.nan)


def label_codes(prediction: pd.Series) -> tuple[np.ndarray, pd.Index]:
    """The code of each answer (-1: none), and the labels behind the codes.

    Labels stand in the given order; of free values those that occur, in order of appearance. Answers without a hash,
    as lists, are the same label if they print the same.
    """
    if isinstance(prediction.dtype, pd.CategoricalDtype):
        return prediction.cat.codes.to_numpy("int64"), pd.Index(prediction.cat.categories, dtype=object)
    values = prediction.astype(object)
    missing = values.isna().to_numpy(bool)
    try:
        codes = pd.factorize(values)[0]
    except TypeError:
        codes = pd.factorize(values.map(repr).where(~missing))[0]
    codes = np.where(missing, -1, codes)
    first = np.unique(codes, return_index=True)[1][int(missing.any()) :]
    return codes, pd.Index(values.to_numpy()[first], dtype=object)


def majorities(predictions: pd.DataFrame) -> pd.DataFrame:
    """How far the runs of each unit agree: the one rule for it.

    Returns
    -------
    DataFrame
        One row per unit × arm in input order: `unit_id`, the arm's columns, `answered` (runs with an answer), `most`
        (how many of them gave the unit's most frequent label), `agree` (whether all did; NA with fewer than two).
    """
    pair, codes, labels = voted(predictions)
    columns = ["unit_id", *arm_columns(predictions.columns)]
    table = predictions.loc[~pd.Series(pair, index=predictions.index).duplicated(), columns].reset_index(drop=True)
    answers = codes >= 0
    # A number for each unit × arm × label, so that their votes are counted in one pass.
    kinds, times = np.unique(pair[answers] * max(1, len(labels)) + codes[answers], return_counts=True)
    most = np.zeros(len(table), "int64")
    np.maximum.at(most, kinds // max(1, len(labels)), times)
    answered = np.bincount(pair[answers], minlength=len(table))
    agree = pd.arrays.BooleanArray(most == answered, answered < 2)
    return table.assign(answered=answered.astype("int64"), most=most, agree=agree)


def unanimous(predictions: pd.DataFrame) -> list[float]:
    """For each arm, the share of the units with two or more answers whose answers are all the same; NaN if none has."""
    found = majorities(predictions)
    by_arm = found.groupby(arm_columns(predictions.columns), sort=False, observed=True)["agree"]
    return by_arm.mean().astype("Float64").to_numpy(float, na_value=math.nan).tolist()


def consensus(
    predictions: pd.DataFrame, *, ties: Literal["first", "NA", "random"] = "first", seed: int = 0
) -> pd.DataFrame:
    """The majority label of each unit.

    Parameters
    ----------
    predictions : DataFrame
    ties : {"first", "NA", "random"}
        Among labels with equally many runs: the first in the categories' order, none, or one drawn with `seed`.

    Returns
    -------
    DataFrame
        One row per unit × model (× prompt) in input order: `unit_id`, `model`, `prediction`, `share` (of the answered
        runs), `answered`, `runs`, `tied`, `entropy` (bits), `flip_rate` (share of pairs of runs that differ),
        `confidence` and `confidence_from`: "logprobs", the mean probability of this label over the answered runs (of a
        run with another label it is taken as 0), or else "runs", the share; NA of a single run; then the unit's own
        columns.
    """
    if ties not in ("first", "NA", "random"):
        raise InputError(f'ties must be "first", "NA" or "random", not {ties!r}.')
    rng = np.random.default_rng(seed)
    parts = []
    for arm in votes(predictions):
        answered = arm.counts.sum(axis=1)
        most = arm.counts.max(axis=1, initial=0)
        winners = (arm.counts == most[:, None]) & (most > 0)[:, None]
        tied = winners.sum(axis=1) > 1
        weights = rng.random(winners.shape) if ties == "random" else 1.0
        chosen = (winners * weights).argmax(axis=1) if winners.size else most
        missing = (most == 0) | (tied & (ties == "NA"))
        shares = arm.counts / np.maximum(answered, 1)[:, None]
        logs = np.log2(shares, where=shares > 0, out=np.zeros_like(shares))
        pairs = answered * (answered - 1)
        same = (arm.counts * (arm.counts - 1)).sum(axis=1)
        known = answered > 0
        confidence, source = _confidence(arm, np.where(missing, -1, chosen), answered)
        parts.append(
            pd.DataFrame(
                {
                    "unit_id": arm.table.index,
                    **arm.arm,
                    "prediction": _labels(np.where(missing, -1, chosen), arm.labels, predictions["prediction"]),
                    "share": nullable(np.where(known, most / np.maximum(answered, 1), np.nan)),
                    "answered": answered.astype("int64"),
                    "runs": arm.asked.to_numpy().astype("int64"),
                    "tied": tied,
                    "entropy": nullable(np.where(known, np.abs((shares * logs).sum(axis=1)), np.nan)),
                    "flip_rate": nullable(np.where(pairs > 0, 1 - same / np.maximum(pairs, 1), np.nan)),
                    "confidence": nullable(confidence),
                    "confidence_from": text_array(source),
                }
            )
        )
    frame = _in_input_order(parts, predictions) if parts else _no_consensus(predictions)
    return _with_unit_columns(frame, predictions)


def _in_input_order(parts: list[pd.DataFrame], predictions: pd.DataFrame) -> pd.DataFrame:
    """The rows of all arms in the order in which unit and arm first stand in `predictions`."""
    columns = ["unit_id", *arm_columns(predictions.columns)]
    frame = pd.concat(parts, ignore_index=True)
    number = np.zeros(len(predictions) + len(frame), "int64")
    for name in columns:
        both = np.concatenate([predictions[name].to_numpy(object), frame[name].to_numpy(object)])
        codes, values = pd.factorize(both, use_na_sentinel=False)
        if name != "unit_id":
            # An arm's values are texts in the parts.
            codes = pd.factorize(np.array(list(map(str, values)), dtype=object))[0][codes]
        # Numbers go by first appearance, which is that in `predictions`.
        number = pd.factorize(number * len(values) + codes)[0]
    return frame.iloc[np.argsort(number[len(predictions) :], kind="stable")].reset_index(drop=True)


def _confidence(arm: Votes, chosen: np.ndarray, answered: np.ndarray) -> tuple[np.ndarray, list[str | None]]:
    """How sure each unit's label is, and what tells it."""
    codes = arm.table.to_numpy()
    told = ((codes < 0) | ~np.isnan(arm.sure)).all(axis=1) & (answered > 0)
    mine = (codes == chosen[:, None]) & (codes >= 0)
    by_logprobs = np.where(mine, np.nan_to_num(arm.sure), 0.0).sum(axis=1) / np.maximum(answered, 1)
    by_runs = np.where(answered > 1, mine.sum(axis=1) / np.maximum(answered, 1), np.nan)
    confidence = np.where(chosen < 0, np.nan, np.where(told, by_logprobs, by_runs))
    source = [
        None if np.isnan(one) else BY_LOGPROBS if by else BY_RUNS for one, by in zip(confidence, told, strict=True)
    ]
    return confidence, source


def voted(predictions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, pd.Index]:
    """For each row the number of its unit × arm and the code of its label (-1: no answer); and the labels."""
    codes, labels = label_codes(predictions["prediction"])
    codes = np.where(predictions["status"].eq("ok").to_numpy(bool), codes, -1)
    columns = ["unit_id", *arm_columns(predictions.columns)]
    numbered = _with_numbered_ids(predictions, columns)
    return numbered.groupby(columns, sort=False, observed=True, dropna=False).ngroup().to_numpy(), codes, labels


def wide(predictions: pd.DataFrame) -> pd.DataFrame:
    """One row per unit × model (× prompt): `run_1` … `run_R` with the labels, then the unit's own columns."""
    parts = []
    for arm in votes(predictions):
        runs = {
            f"run_{run}": _labels(arm.table[run].to_numpy(), arm.labels, predictions["prediction"]) for run in arm.table
        }
        parts.append(pd.DataFrame({"unit_id": arm.table.index, **arm.arm, **runs}))
    frame = (
        _in_input_order(parts, predictions) if parts else predictions[["unit_id", *arm_columns(predictions.columns)]]
    )
    return _with_unit_columns(frame, predictions)


def _labels(codes: np.ndarray, labels: pd.Index, like: pd.Series) -> Any:
    if isinstance(like.dtype, pd.CategoricalDtype):
        return pd.Categorical.from_codes(codes, dtype=like.dtype)
    values = labels.append(pd.Index([None], dtype=object)).take(np.where(codes < 0, len(labels), codes))
    return pd.Series(values, dtype=like.dtype).array


def nullable(values: np.ndarray) -> Any:
    """Floats with NA where they are NaN."""
    unknown = np.isnan(values)
    return pd.arrays.FloatingArray(np.where(unknown, 0.0, values), unknown)


def _no_consensus(predictions: pd.DataFrame) -> pd.DataFrame:
    frame = predictions[["unit_id", *arm_columns(predictions.columns), "prediction"]].iloc[:0].copy()
    for name, dtype in _MEASURES.items():
        frame[name] = pd.Series([], dtype=dtype)
    return frame.reset_index(drop=True)


def _with_unit_columns(frame: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """Join what `predictions` holds after its declared columns, by unit id."""
    own = own_columns(predictions.columns)
    unit = pd.Series(pd.factorize(predictions["unit_id"])[0], index=predictions.index)
    own = [name for name in own if _is_constant(predictions[name], unit)]
    units = predictions.drop_duplicates("unit_id").set_index("unit_id")[own]
    columns = {name if name not in frame else f"{name}_": units[name].reindex(frame["unit_id"]).array for name in own}
    return frame.assign(**columns)


def _is_constant(column: pd.Series, unit: pd.Series) -> bool:
    """Whether it says the same in all rows of a unit; cells may be lists."""
    column = column.map(repr) if column.dtype == object else column
    return bool(column.groupby(unit, sort=False).nunique(dropna=False).le(1).all())
