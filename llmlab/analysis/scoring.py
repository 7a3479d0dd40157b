"""How right the predictions are. Frames in, frames out.

References
----------
Wilson, E. B. (1927), "Probable inference, the law of succession, and statistical inference", JASA 22.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from llmlab.analysis.agreement import bootstrap, consensus, label_codes
from llmlab.analysis.totals import NONE
from llmlab.errors import InputError
from llmlab.records import arm_columns

Gold = str | pd.Series | Mapping[Hashable, object]


@dataclass(frozen=True, slots=True)
class Score:
    """How right the predictions are.

    Attributes
    ----------
    summary : DataFrame
        Per model (× prompt) and `of` (each run, "all runs", "consensus"): `n`, `answered`, `accuracy` (unanswered is
        wrong), `low`, `high` (Wilson for one run and the consensus, bootstrap over units for all runs),
        `accuracy_answered`, `macro_f1`.
    per_category : DataFrame
        Per model and category over all runs: `precision`, `recall`, `f1`, `support`.
    confusion : DataFrame
        Counts: index (model, gold), columns the predicted label, and "(none)" for the unanswered.
    without_gold : int
        Units that have no gold label; they are left out.
    """

    summary: pd.DataFrame
    per_category: pd.DataFrame
    confusion: pd.DataFrame
    without_gold: int

    def __repr__(self) -> str:
        left_out = f"\n({self.without_gold} units without gold left out)" if self.without_gold else ""
        return self.summary.round(3).to_string(index=False) + left_out

    def _repr_html_(self) -> str:
        left_out = f"<p>{self.without_gold} units without gold left out</p>" if self.without_gold else ""
        return self.summary.round(3).to_html(index=False, border=0) + left_out


def gold_of(predictions: pd.DataFrame, gold: Gold) -> pd.Series:
    """The gold label of each row, aligned by unit id, never by position."""
    if isinstance(gold, str):
        if gold not in predictions.columns:
            raise InputError(f"gold={gold!r} is no column of predictions: {', '.join(predictions.columns)}.")
        return predictions[gold].astype(object)
    if isinstance(gold, pd.Series) and not gold.index.is_unique:
        raise InputError("gold has several labels for one unit id: its index must be unique.")
    if not isinstance(gold, (pd.Series, Mapping)):
        raise InputError(
            f"gold must be a column's name, a Series indexed by unit_id, or a mapping, not {type(gold).__name__}."
        )
    labels = gold if isinstance(gold, pd.Series) else pd.Series(dict(gold), dtype=object)
    found = labels.astype(object).reindex(predictions["unit_id"]).set_axis(predictions.index)
    if len(found) and found.isna().all():
        raise InputError("gold knows none of the unit ids: is it indexed by unit_id?")
    return found


def score(predictions: pd.DataFrame, gold: Gold, *, level: float = 0.95, seed: int = 0) -> Score:
    """Compare predictions with gold labels.

    Parameters
    ----------
    gold : str, Series or mapping
        A unit's column, or labels by unit id.
    """
    labels = label_codes(predictions["prediction"])[1]
    truth = gold_of(predictions, gold)
    if isinstance(predictions["prediction"].dtype, pd.CategoricalDtype):
        unknown = set(truth.dropna().unique()) - set(labels)
        if unknown:
            raise InputError(f"gold has labels that are no category: {', '.join(sorted(map(str, unknown)))}.")
    labels = labels.append(pd.Index([one for one in truth.dropna().unique() if one not in set(labels)], dtype=object))
    frame = predictions.assign(gold_=truth)
    without = frame.loc[truth.isna(), "unit_id"].nunique()
    frame = frame[truth.notna()]
    columns = arm_columns(predictions.columns)
    rows, categories, confusions = [], [], {}
    agreed = consensus(frame)
    agreed["gold_"] = agreed["unit_id"].map(frame.drop_duplicates("unit_id").set_index("unit_id")["gold_"])
    for name, part in frame.groupby(columns, sort=False, observed=True):
        arm = dict(zip(columns, name, strict=True))
        for run, one in part.groupby("run"):
            rows.append(arm | {"of": f"run {run}"} | _measured(one, labels, level))
        rng = np.random.default_rng(seed)
        right = is_right(part)
        # A unit's share of right answers, so that its runs stay together in a draw.
        weights = pd.DataFrame({"right": right, "asked": 1}).groupby(part["unit_id"], sort=False).sum().to_numpy(float)
        low, high = bootstrap(
            weights, lambda draws: draws[..., 0].sum(axis=-1) / draws[..., 1].sum(axis=-1), level, rng
        )
        rows.append(arm | {"of": "all runs"} | _measured(part, labels, level) | {"low": low, "high": high})
        mine = agreed[(agreed[columns] == list(name)).all(axis=1)]
        mine = mine.assign(status=np.where(mine["prediction"].notna(), "ok", "failed"))
        rows.append(arm | {"of": "consensus"} | _measured(mine, labels, level))
        matrix = _confusion(part, labels)
        confusions[" · ".join(map(str, name))] = matrix
        for label, values in zip(labels, _by_category(matrix, labels), strict=True):
            categories.append(
                arm | {"category": label} | dict(zip(("precision", "recall", "f1", "support"), values, strict=True))
            )
    measures = ["n", "answered", "accuracy", "low", "high", "accuracy_answered", "macro_f1"]
    return Score(
        pd.DataFrame(rows, columns=[*columns, "of", *measures]),
        pd.DataFrame(categories, columns=[*columns, "category", "precision", "recall", "f1", "support"]),
        pd.concat(confusions, names=["model", "gold"]) if confusions else pd.DataFrame(columns=[*labels, NONE]),
        int(without),
    )


def is_right(rows: pd.DataFrame) -> pd.Series:
    return (rows["prediction"].astype(object) == rows["gold_"]) & (rows["status"] == "ok")


def _measured(rows: pd.DataFrame, labels: pd.Index, level: float) -> dict[str, Any]:
    right, answered = is_right(rows), rows["status"] == "ok"
    low, high = wilson(float(right.sum()), len(rows), level)
    matrix = _confusion(rows, labels)
    # As in scikit-learn: over the labels that occur in gold or were predicted.
    occurs = matrix[labels].sum().to_numpy() + matrix.sum(axis=1).to_numpy() > 0
    f1 = [one[2] for one, there in zip(_by_category(matrix, labels), occurs, strict=True) if there]
    return {
        "n": len(rows),
        "answered": int(answered.sum()),
        "accuracy": float(right.mean()) if len(rows) else math.nan,
        "low": low,
        "high": high,
        "accuracy_answered": float(right[answered].mean()) if answered.any() else math.nan,
        "macro_f1": float(np.mean(f1)) if f1 else math.nan,
    }


def _confusion(rows: pd.DataFrame, labels: pd.Index) -> pd.DataFrame:
    said = rows["prediction"].astype(object).where(rows["status"] == "ok").fillna(NONE)
    table = pd.crosstab(rows["gold_"].rename("gold"), said.rename("predicted"))
    return table.reindex(index=labels, columns=[*labels, NONE], fill_value=0).rename_axis(
        index="gold", columns="predicted"
    )


def _by_category(matrix: pd.DataFrame, labels: pd.Index) -> Iterator[tuple[float, float, float, int]]:
    """(precision, recall, f1, support) of each label; over no cases precision is 0, as scikit-learn has it."""
    counts = matrix.to_numpy()
    for at in range(len(labels)):
        hit, said, support = counts[at, at], counts[:, at].sum(), counts[at].sum()
        yield (
            hit / said if said else 0.0,
            hit / support if support else 0.0,
            2 * hit / (said + support) if said + support else 0.0,
            int(support),
        )


def wilson(right: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share: `right` of `n`."""
    from statistics import NormalDist

    if not n:
        return math.nan, math.nan
    z = NormalDist().inv_cdf((1 + level) / 2)
    share, spread = right / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return max(0.0, centre - half), min(1.0, centre + half)
