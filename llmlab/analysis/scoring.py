"""How right the predictions are. Frames in, frames out."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from llmlab.analysis.gold import Gold, gold_of
from llmlab.analysis.intervals import bootstrap_of_sums, effective_n, wilson
from llmlab.analysis.reliability import Measure, Scale
from llmlab.analysis.sheet import weighed
from llmlab.analysis.totals import NONE
from llmlab.analysis.votes import consensus, label_codes
from llmlab.records import arm_columns

MEASURED = ["n", "answered", "accuracy", "low", "high", "accuracy_answered", "macro_f1"]
ORDERED = ["mean_absolute_error", "rank_correlation"]


@dataclass(frozen=True, slots=True)
class Score:
    """How right the predictions are.

    Attributes
    ----------
    summary : DataFrame
        Per model (× prompt) and `of` (each run, "all runs", "consensus"): `n`, `answered`, `accuracy` (unanswered is
        wrong), `low`, `high` (Wilson for one run and the consensus, bootstrap over units for all runs),
        `accuracy_answered`, `macro_f1`; of labels in order also `mean_absolute_error` and `rank_correlation`
        (Spearman), over what was answered. With a sheet all but `n` and `answered` are weighted by 1/probability.
    per_category : DataFrame
        Per model and category over all runs: `precision`, `recall`, `f1`, `support`. Of several labels per unit one
        row for each label, then "micro" (all decisions together) and "macro" (the mean over the labels).
    confusion : DataFrame
        Counts (of a sheet: sums of weights): index (model, gold), columns the predicted label, and "(none)" for the
        unanswered.
    without_gold : int
        Units that have no gold label; they are left out.
    notes : tuple of str
        What else was left out, and why.
    """

    summary: pd.DataFrame
    per_category: pd.DataFrame
    confusion: pd.DataFrame
    without_gold: int
    notes: tuple[str, ...] = ()

    def _left_out(self) -> list[str]:
        without = f"{self.without_gold} units without gold left out"
        return [without] * bool(self.without_gold) + list(self.notes)

    def __repr__(self) -> str:
        return "\n".join([self.summary.round(3).to_string(index=False), *(f"({one})" for one in self._left_out())])

    def _repr_html_(self) -> str:
        table = self.summary.round(3).to_html(index=False, border=0)
        return table + "".join(f"<p>{one}</p>" for one in self._left_out())


def score(
    predictions: pd.DataFrame,
    gold: Gold,
    *,
    measure: Measure = "nominal",
    level: float = 0.95,
    seed: int = 0,
) -> Score:
    """Compare predictions with gold labels.

    Parameters
    ----------
    gold : str, Series, mapping or DataFrame
        A unit's column, labels by unit id, or a sheet with its labels filled in, which is weighted by 1/probability.
    measure : {"nominal", "ordinal", "interval"}
        Of labels in order, how far wrong ones are off is measured too.
    """
    gold, weights, notes = weighed(predictions, gold)
    truth = gold_of(predictions, gold)
    labels = label_codes(predictions["prediction"])[1]
    closed = isinstance(predictions["prediction"].dtype, pd.CategoricalDtype)
    labels = labels.append(pd.Index([one for one in truth.dropna().unique() if one not in set(labels)], dtype=object))
    scale = Scale.of(labels, measure, ordered=closed)
    frame = predictions.assign(gold_=truth, weight_=weights)
    without = frame.loc[truth.isna(), "unit_id"].nunique()
    frame = frame[truth.notna()]
    columns = arm_columns(predictions.columns)
    rows, categories, confusions = [], [], {}
    agreed = _agreed(frame)
    for name, part in frame.groupby(columns, sort=False, observed=True):
        arm = dict(zip(columns, name, strict=True))
        for run, one in part.groupby("run"):
            rows.append(arm | {"of": f"run {run}"} | _measured(one, scale, level))
        low, high = _interval(part, level, seed)
        rows.append(arm | {"of": "all runs"} | _measured(part, scale, level) | {"low": low, "high": high})
        mine = agreed[(agreed[columns] == list(name)).all(axis=1)]
        rows.append(arm | {"of": "consensus"} | _measured(mine, scale, level))
        matrix = _confusion(part, labels)
        confusions[" · ".join(map(str, name))] = matrix
        categories += [arm | row for row in _by_category(matrix, labels)]
    measures = MEASURED if measure == "nominal" else [*MEASURED, *ORDERED]
    per_category = pd.DataFrame(categories, columns=[*columns, "category", "precision", "recall", "f1", "support"])
    return Score(
        pd.DataFrame(rows, columns=[*columns, "of", *measures]),
        _of_labels(per_category, confusions) if "label" in columns else per_category,
        pd.concat(confusions, names=["model", "gold"]) if confusions else pd.DataFrame(columns=[*labels, NONE]),
        int(without),
        notes,
    )


def _agreed(frame: pd.DataFrame) -> pd.DataFrame:
    """The consensus of each unit beside its gold label."""
    agreed = consensus(frame)
    of_unit = frame.drop_duplicates(["unit_id", *arm_columns(frame.columns)]).reset_index(drop=True)
    agreed["gold_"], agreed["weight_"] = of_unit["gold_"].astype(object), of_unit["weight_"]
    return agreed.assign(status=np.where(agreed["prediction"].notna(), "ok", "failed"))


def is_right(rows: pd.DataFrame) -> pd.Series:
    """Whether each prediction is the label in `gold_`; what is unanswered is not."""
    return (rows["prediction"].astype(object) == rows["gold_"]) & (rows["status"] == "ok")


def _interval(rows: pd.DataFrame, level: float, seed: int) -> tuple[float, float]:
    """Of the accuracy over all runs: a unit's runs stay together in a draw."""
    sums = pd.DataFrame({"right": is_right(rows) * rows["weight_"], "asked": rows["weight_"]})
    by_unit = sums.groupby(rows["unit_id"], sort=False).sum().to_numpy(float)
    return bootstrap_of_sums(by_unit, lambda draws: draws[..., 0] / draws[..., 1], level, seed)


def _measured(rows: pd.DataFrame, scale: Scale, level: float) -> dict[str, Any]:
    right, answered, weights = is_right(rows), rows["status"] == "ok", rows["weight_"]
    accuracy = _mean(right, weights)
    low, high = wilson(accuracy, effective_n(weights.to_numpy(float), right.to_numpy(bool)), level)
    matrix = _confusion(rows, scale.labels)
    # As in scikit-learn: over the labels that occur in gold or were predicted.
    occurs = matrix.iloc[:, :-1].sum().to_numpy() + matrix.sum(axis=1).to_numpy() > 0
    f1 = [row["f1"] for row, there in zip(_by_category(matrix, scale.labels), occurs, strict=True) if there]
    found = {
        "n": len(rows),
        "answered": int(answered.sum()),
        "accuracy": accuracy,
        "low": low,
        "high": high,
        "accuracy_answered": _mean(right[answered], weights[answered]),
        "macro_f1": float(np.mean(f1)) if f1 else math.nan,
    }
    return found if scale.measure == "nominal" else found | _apart(rows[answered], scale)


def _apart(rows: pd.DataFrame, scale: Scale) -> dict[str, float]:
    """How far the answers are from gold on the scale."""
    numbers = isinstance(scale.labels[0], int | float | np.number) if len(scale.labels) else False
    at = scale.labels.to_numpy(float) if numbers else np.arange(len(scale.labels), dtype=float)
    said, meant = (at[scale.labels.get_indexer(pd.Index(rows[name], dtype=object))] for name in ("prediction", "gold_"))
    weights = rows["weight_"].to_numpy(float)
    off = float(np.average(np.abs(said - meant), weights=weights)) if len(rows) else math.nan
    x, y = (_ranks(values, weights) for values in (said, meant))
    spread = np.cov(np.stack([x, y]), aweights=weights, ddof=0) if len(rows) else np.zeros((2, 2))
    varies = spread[0, 0] > 0 and spread[1, 1] > 0
    return {
        "mean_absolute_error": off,
        "rank_correlation": float(spread[0, 1] / math.sqrt(spread[0, 0] * spread[1, 1])) if varies else math.nan,
    }


def _ranks(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Middle ranks; an answer of weight two counts as two."""
    kinds, at = np.unique(values, return_inverse=True)
    sizes = np.bincount(at, weights, minlength=len(kinds))
    return (sizes.cumsum() - sizes / 2)[at]


def _mean(right: pd.Series, weights: pd.Series) -> float:
    return float(np.average(right, weights=weights)) if len(right) else math.nan


def _confusion(rows: pd.DataFrame, labels: pd.Index) -> pd.DataFrame:
    said = rows["prediction"].astype(object)
    said = said.where((rows["status"] == "ok") & said.notna(), NONE)
    truth = rows["gold_"].rename("gold")
    if (rows["weight_"] == 1).all():
        table = pd.crosstab(truth, said.rename("predicted"))
    else:
        table = pd.crosstab(truth, said.rename("predicted"), values=rows["weight_"], aggfunc="sum").fillna(0.0)
    return table.reindex(index=labels, columns=[*labels, NONE], fill_value=0).rename_axis(
        index="gold", columns="predicted"
    )


def _by_category(matrix: pd.DataFrame, labels: pd.Index) -> Iterator[dict[str, Any]]:
    """Precision, recall, F1 and support of each label; over no cases precision is 0, as scikit-learn has it."""
    counts = matrix.to_numpy()
    for at, label in enumerate(labels):
        hit, said, support = counts[at, at], counts[:, at].sum(), counts[at].sum()
        yield _rates(label, hit, said, support)


def _rates(label: object, hit: float, said: float, support: float) -> dict[str, Any]:
    return {
        "category": label,
        "precision": float(hit / said) if said else 0.0,
        "recall": float(hit / support) if support else 0.0,
        "f1": float(2 * hit / (said + support)) if said + support else 0.0,
        "support": support,
    }


def _of_labels(per_category: pd.DataFrame, confusions: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Of several labels per unit: how well each label is found, then micro and macro over them."""
    given = per_category[per_category["category"].astype(bool)].drop(columns="category")
    # The second row and column are True.
    tables = [matrix.to_numpy() for matrix in confusions.values()]
    hits = [(table[1, 1], table[:, 1].sum(), table[1].sum()) for table in tables]
    counts = pd.DataFrame(hits, index=given.index)
    columns = [name for name in arm_columns(["unit_id", *per_category.columns]) if name != "label"]
    rows = []
    for name, part in given.groupby(columns, sort=False, observed=True):
        arm = dict(zip(columns, name, strict=True))
        each = part[["label", "precision", "recall", "f1", "support"]].rename(columns={"label": "category"})
        rows += [arm | row for row in each.to_dict("records")]
        rows.append(arm | _rates("micro", *counts.loc[part.index].sum()))
        means = part[["precision", "recall", "f1"]].mean().to_dict()
        rows.append(arm | {"category": "macro"} | means | {"support": part["support"].sum()})
    return pd.DataFrame(rows, columns=[*columns, "category", "precision", "recall", "f1", "support"])
