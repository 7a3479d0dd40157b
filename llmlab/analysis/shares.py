"""The share of each label, and an outcome for regressions, corrected for the model's errors by a sheet."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from llmlab.analysis.estimates import ESTIMATES, Coded, Estimate, cell_of, difference, three
from llmlab.analysis.gold import gold_of, own_column
from llmlab.analysis.intervals import check_level
from llmlab.analysis.sheet import read_sheet
from llmlab.analysis.votes import CONSENSUS_COLUMNS, consensus, label_codes
from llmlab.errors import InputError
from llmlab.records import arm_columns


def shares(
    predictions: pd.DataFrame,
    gold: pd.DataFrame,
    *,
    by: str | None = None,
    beyond: bool = False,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """The share of each label, three times: naive, by hand, and corrected.

    Parameters
    ----------
    gold : DataFrame
        A sheet with its labels filled in.
    by : str, optional
        A column of the units: the shares in each of its groups, and the differences between them.
    beyond : bool
        Whether it is about the population that these units come from, and not about these units alone.
    level : float
        Of the intervals, 0 to 1.

    Returns
    -------
    DataFrame
        One row per model (× prompt) × group × label × estimate: the model's columns, `by` ("b − a" for a difference),
        `label`, `estimate` ("naive": the model's labels as if they were true, "by hand": the sheet alone, "corrected":
        both), `share`, `low`, `high`, `units`, `coded` (by hand) and `more_to_halve`: how many more hand labels would
        halve the interval. `attrs["notes"]` says what was left out.
    """
    check_level(level)
    arms, notes = _arms(predictions, gold, by)
    rows = []
    for arm, coded, groups, labels in arms:
        rng = np.random.default_rng(seed)
        for label in labels:
            found = {name: three(coded.part(which), label, len(labels), beyond, level, rng) for name, which in groups}
            for name, which in groups:
                sizes = {"units": int(which.sum()), "coded": int((which & coded.coded).sum())}
                rows += [arm | row | sizes for row in _rows(label, name, found[name])]
            for (a, _), (b, _) in itertools.combinations(groups, 2):
                apart = {kind: difference(found[a][kind], found[b][kind]) for kind in ESTIMATES}
                rows += [arm | row for row in _rows(label, f"{b} − {a}", apart)]
    measures = ["label", "estimate", "share", "low", "high", "units", "coded", "more_to_halve"]
    frame = pd.DataFrame(rows, columns=list(dict.fromkeys([*arm_columns(predictions.columns), "group", *measures])))
    frame = frame.astype(dict.fromkeys(("units", "coded", "more_to_halve"), "Int64"))
    frame = frame.drop(columns="group") if by is None else frame.rename(columns={"group": by})
    frame.attrs["notes"] = [*predictions.attrs.get("notes", ()), *notes]
    return frame


def corrected(predictions: pd.DataFrame, gold: pd.DataFrame) -> pd.DataFrame:
    """The units with an outcome that is corrected for the model's errors, for a regression of one's own.

    Parameters
    ----------
    gold : DataFrame
        A sheet with its labels filled in.

    Returns
    -------
    DataFrame
        One row per unit × model (× prompt) × label: `unit_id`, the model's columns, `label`, `predicted` (whether it is
        the model's consensus, 0 or 1), `coded` (whether it is the hand label; NA if not coded), `outcome` and the
        unit's columns. The mean of `outcome` is the corrected share; regress `outcome`, which is not confined to 0 to
        1, with robust standard errors.
    """
    agreed = consensus(predictions)
    arms, _ = _arms(predictions, gold, None)
    columns = arm_columns(predictions.columns)
    parts = []
    for arm, coded, _, labels in arms:
        mine = (agreed[columns].astype(str) == pd.Series(arm)).all(axis=1)
        units = agreed[mine].drop(columns=list(CONSENSUS_COLUMNS))
        for label in labels:
            f = (coded.said == label).astype(float)
            y = (coded.label == label).astype(float)
            cells = [cell_of(coded, label, f == said) for said in (0.0, 1.0)]
            slope = cells[1].hits - cells[0].hits if all(len(cell.odd) for cell in cells) else 0.0
            outcome = slope * f
            # Weights that add up to the number of units, so that the mean is the corrected share.
            outcome[coded.coded] += coded.weight * len(f) / coded.weight.sum() * (y - slope * f[coded.coded])
            by_hand = np.full(len(f), np.nan)
            by_hand[coded.coded] = y
            made = {"label": label} if "label" not in columns else {}
            made |= {"predicted": f.astype(int), "coded": pd.array(by_hand, dtype="Float64").astype("Int64")}
            front = units[["unit_id", *columns]].assign(**made, outcome=outcome)
            parts.append(front.join(units.drop(columns=[one for one in front if one in units])))
    return pd.concat(parts, ignore_index=True)


_Arm = tuple[dict[str, Any], Coded, list[tuple[Any, np.ndarray]], list[Any]]


def _arms(predictions: pd.DataFrame, gold: pd.DataFrame, by: str | None) -> tuple[list[_Arm], tuple[str, ...]]:
    """For each arm its units, the groups among them, and the labels whose shares are asked."""
    if not isinstance(gold, pd.DataFrame):
        raise InputError("gold must be a sheet: what results.sheet() gave, with the column label filled in.")
    sheet = read_sheet(gold, predictions["unit_id"])
    columns = arm_columns(predictions.columns)
    frame = predictions.assign(gold_=gold_of(predictions, sheet.labels))
    if by is not None:
        frame["group_"] = own_column(predictions, by, "by")
    labels = list(label_codes(predictions["prediction"])[1])
    if not isinstance(predictions["prediction"].dtype, pd.CategoricalDtype):
        labels += [one for one in frame["gold_"].dropna().unique() if one not in set(labels)]
    agreed = consensus(predictions)
    first = frame.drop_duplicates(["unit_id", *columns]).reset_index(drop=True)
    found = []
    for name, mine in first.groupby(columns, sort=False, observed=True):
        at = mine.index
        coded = mine["gold_"].notna().to_numpy(bool)
        weight = 1 / mine.loc[coded, "unit_id"].map(sheet.probability).to_numpy(float)
        said = agreed.loc[at, "prediction"].astype(object).to_numpy()
        units = Coded(said, coded, mine.loc[coded, "gold_"].to_numpy(object), weight)
        groups: list[tuple[Any, np.ndarray]] = [(None, np.ones(len(mine), bool))]
        if by is not None:
            values = mine["group_"]
            groups = [(one, values.eq(one).to_numpy(bool)) for one in sorted(values.dropna().unique(), key=str)]
        arm = dict(zip(columns, name, strict=True))
        found.append((arm, units, groups, [True] if "label" in columns else labels))
    return found, sheet.notes


def _rows(label: Any, group: Any, found: dict[str, Estimate]) -> Iterator[dict[str, Any]]:
    for kind, one in found.items():
        row = {"group": group, "label": label, "estimate": kind, "share": one.share, "low": one.low, "high": one.high}
        yield row | {"more_to_halve": None if math.isnan(one.more) else math.ceil(one.more)}
