"""How often each label was given, with intervals over units. Frames in, frames out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from llmlab.analysis.intervals import DRAWS, check_level, different
from llmlab.analysis.votes import label_codes


def distribution(
    predictions: pd.DataFrame, by: Sequence[str] = (), *, level: float = 0.95, seed: int = 0
) -> pd.DataFrame:
    """The share of each label among the answers.

    Each unit counts once: of its answered runs, each has an equal part of it.

    Parameters
    ----------
    predictions : DataFrame
    by : sequence of str
        Columns whose values are told apart, such as `model` or a unit's own column.
    level : float
        Of the intervals, between 0 and 1.
    seed : int
        Of the units drawn for the intervals (percentile bootstrap).

    Returns
    -------
    DataFrame
        A row per group × label, labels in their given order: the columns `by`, `label`, `share`, `low`, `high`
        (0 to 1), `units` (with an answer, in the group).
    """
    check_level(level)
    codes, labels = label_codes(predictions["prediction"])
    answered = (codes >= 0) & predictions["status"].eq("ok").to_numpy(bool)
    frame = predictions.loc[answered, ["unit_id", *by]].assign(code=codes[answered])
    rng = np.random.default_rng(seed)
    parts = []
    groups = frame.groupby(list(by), sort=False, observed=True) if by else [((), frame)]
    for name, rows in groups:
        unit, ids = pd.factorize(rows["unit_id"].to_numpy(object))
        cell = unit * len(labels) + rows["code"].to_numpy()
        times = np.bincount(cell, minlength=len(ids) * len(labels)).reshape(-1, len(labels))
        shares = times / times.sum(axis=1, keepdims=True)
        # Units that answered alike are drawn together.
        kinds, many = different(shares)
        draws = rng.multinomial(len(shares), many / max(1, len(shares)), DRAWS) @ kinds / max(1, len(shares))
        low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
        table = {**dict(zip(by, name, strict=True)), "label": list(labels), "share": shares.mean(axis=0)}
        parts.append(pd.DataFrame(table | {"low": low, "high": high, "units": len(shares)}))
    columns = [*by, "label", "share", "low", "high", "units"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)
