"""Models side by side: how right, at what price, how fast. Frames in, frames out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from llmlab.analysis.gold import Gold, gold_of
from llmlab.analysis.intervals import bootstrap
from llmlab.analysis.scoring import is_right
from llmlab.analysis.totals import Total
from llmlab.analysis.votes import unanimous
from llmlab.records import arm_columns


def compare(
    predictions: pd.DataFrame,
    attempts: pd.DataFrame,
    gold: Gold | None = None,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Models side by side.

    Returns
    -------
    DataFrame
        One row per model (× prompt): `units`, `answers`, `failed`, `parse_errors` (attempts), with gold `accuracy`,
        `low`, `high` (bootstrap over units) and `difference`, `difference_low`, `difference_high` (paired over the
        units, to the first row); `cost_usd`, `cost_usd_per_1000_units`, `cost_usd_per_correct` and `total_tokens` (NA
        where any amount is unknown), `unknown_cost` (attempts that may have been charged at an unknown price),
        `mean_latency_s`, `median_latency_s`, `unanimous`.
    """
    columns = arm_columns(predictions.columns)
    frame = predictions if gold is None else predictions.assign(gold_=gold_of(predictions, gold))
    rows, first = [], None
    arms = frame.groupby(columns, sort=False, observed=True)
    for (name, part), share in zip(arms, unanimous(predictions), strict=True):
        mine = attempts[(attempts[columns] == list(name)).all(axis=1)]
        units = part["unit_id"].nunique()
        total = Total.of(mine, "cost_usd")
        cost = total.exact
        row: dict[str, Any] = dict(zip(columns, name, strict=True)) | {
            "units": units,
            "answers": int((part["status"] == "ok").sum()),
            "failed": int((part["status"] == "failed").sum()),
            "parse_errors": int((mine["status"] == "parse_error").sum()),
        }
        correct, spent = 0, None
        if gold is not None:
            known = part[part["gold_"].notna()]
            right = is_right(known)
            by_unit, correct = right.groupby(known["unit_id"], sort=False).mean(), int(right.sum())
            spent = Total.of(mine[mine["unit_id"].isin(known["unit_id"])], "cost_usd").exact
            rng = np.random.default_rng(seed)
            low, high = bootstrap(by_unit.to_numpy(), lambda draws: draws.mean(axis=-1), level, rng)
            row |= {"accuracy": float(by_unit.mean()), "low": low, "high": high}
            if first is None:
                first = by_unit
                row |= {"difference": None, "difference_low": None, "difference_high": None}
            else:
                paired = (by_unit - first.reindex(by_unit.index)).dropna().to_numpy()
                low, high = bootstrap(paired, lambda draws: draws.mean(axis=-1), level, np.random.default_rng(seed))
                row |= {"difference": float(paired.mean()), "difference_low": low, "difference_high": high}
        rows.append(
            row
            | {
                "cost_usd": cost,
                "unknown_cost": total.unknown,
                "cost_usd_per_1000_units": None if cost is None else 1000 * cost / units,
                "cost_usd_per_correct": spent / correct if spent is not None and correct else None,
                "total_tokens": Total.of(mine, "total_tokens").exact,
                "mean_latency_s": float(mine["latency_s"].mean()),
                "median_latency_s": float(mine["latency_s"].median()),
                "unanimous": share,
            }
        )
    table = pd.DataFrame(rows)
    table.attrs["notes"] = list(predictions.attrs.get("notes", ()))
    if "total_tokens" in table:
        table["total_tokens"] = table["total_tokens"].astype("Int64")
    for name in (
        "cost_usd",
        "cost_usd_per_1000_units",
        "cost_usd_per_correct",
        "difference",
        "difference_low",
        "difference_high",
    ):
        if name in table:
            table[name] = table[name].astype("Float64")
    return table
