"""Whether the labels that a model is sure of are right as often as it is sure.

References
----------
Guo, C., Pleiss, G., Sun, Y., Weinberger, K. (2017), "On calibration of modern neural networks", ICML, sec. 2 (expected
calibration error).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from llmlab.analysis.gold import Gold, gold_of
from llmlab.analysis.intervals import bootstrap, effective_n, wilson
from llmlab.analysis.sheet import weighed
from llmlab.analysis.votes import consensus
from llmlab.errors import InputError
from llmlab.records import arm_columns

BINS = 10


@dataclass(frozen=True, slots=True)
class Calibration:
    """How right the consensus of a unit is, by how sure it is.

    Attributes
    ----------
    summary : DataFrame
        Per model (× prompt): `units`, `confidence` (mean), `accuracy`, `error` (expected calibration error: the mean
        distance between confidence and accuracy over the bins), `low`, `high` (bootstrap over units).
    bins : DataFrame
        Per model and bin of confidence: `above`, `up_to`, `units`, `confidence` (mean), `accuracy`, `low`, `high`
        (Wilson).
    thresholds : DataFrame
        Per model and threshold: `threshold`, `kept` (share of the units with at least this confidence), `accuracy`
        among them, `low`, `high` (Wilson), `units`.
    notes : tuple of str
        What was left out.
    """

    summary: pd.DataFrame
    bins: pd.DataFrame
    thresholds: pd.DataFrame
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        tables = [self.summary, self.thresholds]
        shown = [table.round(3).to_string(index=False) for table in tables]
        return "\n\n".join([*shown, *(f"({one})" for one in self.notes)])

    def _repr_html_(self) -> str:
        tables = [self.summary, self.thresholds]
        shown = [table.round(3).to_html(index=False, border=0) for table in tables]
        return "".join([*shown, *(f"<p>{one}</p>" for one in self.notes)])


def calibration(predictions: pd.DataFrame, gold: Gold, *, level: float = 0.95, seed: int = 0) -> Calibration:
    """Compare how sure the consensus of each unit is with how often it is right.

    Parameters
    ----------
    gold : str, Series, mapping or DataFrame
        As for `score`.

    Raises
    ------
    InputError
        Nothing tells how sure the answers are.
    """
    gold, weights, notes = weighed(predictions, gold)
    columns = arm_columns(predictions.columns)
    units = consensus(predictions)
    first = predictions.drop_duplicates(["unit_id", *columns])
    units["gold_"] = gold_of(first, gold).to_numpy(object)
    units["weight_"] = weights[first.index].to_numpy(float)
    known = units["gold_"].notna() & units["confidence"].notna()
    unsure = int((units["gold_"].notna() & units["confidence"].isna()).sum())
    units = units[known]
    if not len(units):
        raise InputError(
            "Nothing tells how sure these answers are: ask with logprobs=True, or several runs of each unit."
        )
    if unsure:
        notes = (*notes, f"{unsure} units left out whose confidence is unknown")
    rows, bins, thresholds = [], [], []
    for name, part in units.groupby(columns, sort=False, observed=True):
        arm = dict(zip(columns, name, strict=True))
        sure = part["confidence"].to_numpy(float)
        right = (part["prediction"].astype(object) == part["gold_"]).to_numpy(bool)
        weight = part["weight_"].to_numpy(float)
        values = np.column_stack([sure, right, weight])
        low, high = bootstrap(values, _error, level, np.random.default_rng(seed))
        means = {"confidence": np.average(sure, weights=weight), "accuracy": np.average(right, weights=weight)}
        rows.append(arm | {"units": len(part)} | means | {"error": _error(values).item(), "low": low, "high": high})
        at = _bin(sure)
        for one in np.unique(at):
            inside = at == one
            mean = {"confidence": np.average(sure[inside], weights=weight[inside])}
            ends = {"above": one / BINS, "up_to": (one + 1) / BINS}
            bins.append(arm | ends | mean | _accuracy(right[inside], weight[inside], level))
        for threshold in _thresholds(sure):
            kept = sure >= threshold
            share = {"threshold": threshold, "kept": weight[kept].sum() / weight.sum()}
            thresholds.append(arm | share | _accuracy(right[kept], weight[kept], level))
    return Calibration(pd.DataFrame(rows), pd.DataFrame(bins), pd.DataFrame(thresholds), notes)


def _bin(sure: np.ndarray) -> np.ndarray:
    return np.clip(np.ceil(sure * BINS - 1e-9).astype(int) - 1, 0, BINS - 1)


def _error(values: np.ndarray) -> np.ndarray:
    """Expected calibration error of (…, units, 3): confidence, right, weight."""
    sure, right, weight = values[..., 0], values[..., 1], values[..., 2]
    at = _bin(sure)
    total = np.zeros(values.shape[:-2])
    for one in range(BINS):
        total += np.abs(((right - sure) * weight * (at == one)).sum(axis=-1))
    return total / weight.sum(axis=-1)


def _thresholds(sure: np.ndarray) -> np.ndarray:
    """Where keeping begins: every confidence that occurs, or of many an even choice."""
    found = np.unique(sure)
    return found if len(found) <= BINS else np.quantile(found, np.linspace(0, 1, BINS + 1)[:-1], method="lower")


def _accuracy(right: np.ndarray, weight: np.ndarray, level: float) -> dict[str, float]:
    accuracy = float(np.average(right, weights=weight)) if len(right) else math.nan
    low, high = wilson(accuracy, effective_n(weight, right), level)
    return {"accuracy": accuracy, "low": low, "high": high, "units": len(right)}
