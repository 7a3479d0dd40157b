"""Models side by side: how right, at what price, how fast. Frames in, frames out."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from llmlab.analysis.gold import Gold, gold_of
from llmlab.analysis.intervals import bootstrap, effective_n, wilson
from llmlab.analysis.scoring import is_right
from llmlab.analysis.sheet import weighed
from llmlab.analysis.totals import Total, unknown
from llmlab.analysis.votes import consensus, unanimous
from llmlab.records import arm_columns

_Interval = tuple[float | None, float | None, float | None]
UNKNOWN: _Interval = (None, None, None)


def compare(
    predictions: pd.DataFrame,
    attempts: pd.DataFrame,
    gold: Gold | None = None,
    *,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Models side by side.

    Parameters
    ----------
    predictions, attempts : DataFrame
        Attempts about other units than those of `predictions` do not count.
    gold : str, Series, mapping or DataFrame, optional
        A unit's column, labels by unit id, or a sheet with its labels filled in, which is weighted by 1/probability.

    Returns
    -------
    DataFrame
        One row per model (× prompt): `units`, `answers`, `failed`, `parse_errors` (attempts); `cost_usd`,
        `cost_usd_per_1000_units` and `total_tokens` (NA where any amount is unknown), `unknown_cost` (attempts that may
        have been charged at an unknown price), `mean_latency_s`, `median_latency_s`, `unanimous`.

        With gold also these, each with its interval in `…_low` and `…_high` (of `accuracy`: `low` and `high`). They
        come from drawing units, both models' runs of a unit together; that of `majority` is Wilson's.

        - `accuracy`: the share of right answers over all runs; unanswered is wrong.
        - `difference`: of the accuracy, to the first row.
        - `cost_usd_per_correct`: US dollars for each right answer.
        - `extra_usd_per_correct`: what each answer costs that this model gets right beyond the first row. NA if it
          costs no more than the first, infinite if it may not be right more often.
        - `majority`: the accuracy of the consensus; `majority_gain`: how much more that is than `accuracy`, that of one
          run; `majority_usd_per_correct`: what each answer costs that is right because the other runs were asked, too.
          NA of a single run.
    """
    columns = arm_columns(predictions.columns)
    labels, weights, notes = (None, 1.0, ()) if gold is None else weighed(predictions, gold)
    truth = None if labels is None else gold_of(predictions, labels)
    frame = predictions if truth is None else predictions.assign(gold_=truth, weight_=weights)
    attempts = attempts[attempts["unit_id"].isin(predictions["unit_id"])]
    rows, first = [], None
    arms = frame.groupby(columns, sort=False, observed=True)
    for (name, part), share in zip(arms, unanimous(predictions), strict=True):
        mine = attempts[(attempts[columns] == list(name)).all(axis=1)]
        row: dict[str, Any] = dict(zip(columns, name, strict=True)) | {
            "units": part["unit_id"].nunique(),
            "answers": int((part["status"] == "ok").sum()),
            "failed": int((part["status"] == "failed").sum()),
            "parse_errors": int((mine["status"] == "parse_error").sum()),
        }
        if truth is not None:
            units = _by_unit(part, mine)
            row |= _how_right(units, first, level, seed)
            first = units if first is None else first
        rows.append(row | _amounts(mine, row["units"]) | {"unanimous": share})
    table = pd.DataFrame(rows)
    table.attrs["notes"] = list(notes or predictions.attrs.get("notes", ()))
    whole, real = ("total_tokens",), [name for name in table if str(name).startswith(_NULLABLE)]
    return table.astype({name: "Int64" for name in whole if name in table} | dict.fromkeys(real, "Float64"))


_NULLABLE = ("cost_usd", "difference", "extra_usd", "majority")


def _amounts(attempts: pd.DataFrame, units: int) -> dict[str, Any]:
    """What was spent and used, and how long an answer took."""
    cost = Total.of(attempts, "cost_usd")
    return {
        "cost_usd": cost.exact,
        "unknown_cost": cost.unknown,
        "cost_usd_per_1000_units": None if cost.exact is None else 1000 * cost.exact / units,
        "total_tokens": Total.of(attempts, "total_tokens").exact,
        "mean_latency_s": float(attempts["latency_s"].mean()),
        "median_latency_s": float(attempts["latency_s"].median()),
    }


def _by_unit(rows: pd.DataFrame, attempts: pd.DataFrame) -> pd.DataFrame:
    """Of each unit with gold: its `weight`, `runs`, `right` (share of them), `majority` (0 or 1), `cost` of one run.

    A cost is NaN if any of it is unknown.
    """
    known = rows[rows["gold_"].notna()]
    units = known.drop_duplicates("unit_id").set_index("unit_id")
    agreed = consensus(known).set_index("unit_id")["prediction"].astype(object)
    runs = known.groupby("unit_id", sort=False).size()
    spent = attempts[["unit_id"]].assign(cost=attempts["cost_usd"], lacks=unknown(attempts, "cost_usd"))
    spent = spent.groupby("unit_id", sort=False).agg({"cost": "sum", "lacks": "any"})
    cost = spent["cost"].astype(float).mask(spent["lacks"])
    return pd.DataFrame(
        {
            "weight": units["weight_"].astype(float),
            "runs": runs,
            "right": is_right(known).groupby(known["unit_id"], sort=False).mean(),
            "majority": (agreed == units["gold_"]).astype(float),
            "cost": cost.reindex(units.index, fill_value=0.0) / runs,
        }
    ).reindex(units.index)


def _how_right(units: pd.DataFrame, first: pd.DataFrame | None, level: float, seed: int) -> dict[str, Any]:
    """Accuracy, its difference to the first model's, the majority's, and what right answers cost."""
    weight, right, cost = (units[name].to_numpy(float) for name in ("weight", "right", "cost"))
    accuracy, low, high = _mean(weight, right, level, seed)
    row = {"accuracy": accuracy, "low": low, "high": high}
    difference, extra = UNKNOWN, UNKNOWN
    if first is not None:
        both = units.join(first.add_suffix("_first"), how="inner")
        better = (both["right"] - both["right_first"]).to_numpy(float)
        dearer = (both["cost"] - both["cost_first"]).to_numpy(float)
        difference = _mean(both["weight"].to_numpy(float), better, level, seed)
        extra = _price(both["weight"].to_numpy(float), dearer, better, level, seed)
    row |= _named("difference", difference)
    row |= _named("cost_usd_per_correct", _price(weight, cost, right, level, seed))
    row |= _named("extra_usd_per_correct", extra)
    majority, gain, price = UNKNOWN, UNKNOWN, UNKNOWN
    if len(units) and units["runs"].max() > 1:
        voted = units["majority"].to_numpy(float)
        share = float(np.average(voted, weights=weight))
        majority = (share, *wilson(share, effective_n(weight, voted == 1), level))
        gain = _mean(weight, voted - right, level, seed)
        price = _price(weight, cost * (units["runs"].to_numpy() - 1), voted - right, level, seed)
    row |= _named("majority", majority) | _named("majority_gain", gain) | _named("majority_usd_per_correct", price)
    return row


def _named(name: str, found: _Interval) -> dict[str, float | None]:
    return dict(zip((name, f"{name}_low", f"{name}_high"), found, strict=True))


def _mean(weight: np.ndarray, values: np.ndarray, level: float, seed: int) -> _Interval:
    """The weighted mean over units, and its interval."""
    if not len(values):
        return math.nan, math.nan, math.nan
    sums = np.stack([weight * values, weight], axis=1)
    return float(np.average(values, weights=weight)), *_ratios(sums, level, seed)


def _price(weight: np.ndarray, cost: np.ndarray, gained: np.ndarray, level: float, seed: int) -> _Interval:
    """US dollars for each answer that is gained, and the interval.

    It is the reciprocal of the answers gained per dollar, which has no pole where nothing is gained.
    """
    if not len(cost) or np.isnan(cost).any() or (weight * cost).sum() <= 0:
        return UNKNOWN
    sums = np.stack([weight * gained, weight * cost], axis=1)
    low, high = _ratios(sums, level, seed)
    per_dollar = (sums[:, 0].sum() / sums[:, 1].sum(), high, low)
    found = [1 / one if one > 0 else math.inf for one in per_dollar]
    return found[0], found[1], found[2]


def _ratios(sums: np.ndarray, level: float, seed: int) -> tuple[float, float]:
    """The interval of the ratio of two sums over drawn units."""
    rng = np.random.default_rng(seed)

    def ratio(draws: np.ndarray) -> np.ndarray:
        drawn = draws.sum(axis=-2)
        return drawn[..., 0] / np.maximum(drawn[..., 1], 1e-300)

    return bootstrap(sums, ratio, level, rng)
