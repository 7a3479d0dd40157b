"""The share of each label: as the model says, as people say of a sample, and corrected for the model's errors by both.

With f = 1 where the model's consensus is the label, y = 1 where the hand label is, π the probability with which a unit
came into the sheet: the corrected share is mean(λf) + the weighted mean of (y − λf) over the sheet. The λ of the
smallest variance is the difference between the share of y among units with f = 1 and among those with f = 0, and the
estimate is the same as estimating these two shares from the sheet and weighing them by how often f is 1 and 0 in all
units. Each of the two is a share of the model's errors; with few errors in the sheet its uncertainty is far from
normal, so it is drawn from a Beta distribution, as in Bayesian inference with a weak prior.

References
----------
Egami, N., Hinck, M., Stewart, B., Wei, H. (2023), "Using imperfect surrogates for downstream inference", arXiv
2306.04746. Angelopoulos, A., Duchi, J., Zrnic, T. (2023), "PPI++", arXiv 2311.01453. Särndal, C.-E., Swensson, B.,
Wretman, J. (1992), "Model Assisted Survey Sampling", ch. 6 and 7. Newcombe, R. (1998), "Interval estimation for the
difference between independent proportions", Statistics in Medicine 17.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from llmlab.analysis.gold import gold_of, own_column
from llmlab.analysis.intervals import check_level, effective_n, heaviness, wilson
from llmlab.analysis.sheet import read_sheet
from llmlab.analysis.votes import consensus, label_codes
from llmlab.errors import InputError
from llmlab.records import arm_columns

DRAWS = 10_000
ESTIMATES = ("naive", "by hand", "corrected")


@dataclass(frozen=True, slots=True)
class Coded:
    """The units of one arm, or of one group of it, and what people say about some of them.

    Attributes
    ----------
    said : ndarray of object
        The model's consensus of each unit; `None` where there is none.
    coded : ndarray of bool
        Which units people coded.
    label : ndarray of object
        What they say, of the coded units.
    weight : ndarray of float
        1 / probability, of the coded units.
    """

    said: np.ndarray
    coded: np.ndarray
    label: np.ndarray
    weight: np.ndarray

    def part(self, which: np.ndarray) -> Coded:
        """Some of the units."""
        return Coded(self.said[which], self.coded[which], self.label[which[self.coded]], self.weight[which[self.coded]])


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share, its interval, and how many more hand labels would halve the interval (NaN if none can)."""

    share: float
    low: float
    high: float
    more: float = math.nan


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
            found = {name: _three(coded.part(which), label, len(labels), beyond, level, rng) for name, which in groups}
            for name, which in groups:
                sizes = {"units": int(which.sum()), "coded": int((which & coded.coded).sum())}
                rows += [arm | row | sizes for row in _rows(label, name, found[name])]
            for (a, _), (b, _) in itertools.combinations(groups, 2):
                apart = {kind: _difference(found[a][kind], found[b][kind]) for kind in ESTIMATES}
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
        units = agreed[(agreed[columns].astype(str) == pd.Series(arm)).all(axis=1)].drop(columns=_VOTES)
        for label in labels:
            f = (coded.said == label).astype(float)
            y = (coded.label == label).astype(float)
            cells = [_cell(coded, label, f == said, beyond=False) for said in (0.0, 1.0)]
            slope = cells[1].hits - cells[0].hits if all(cell.n > 0 for cell in cells) else 0.0
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


_VOTES = ["prediction", "share", "answered", "runs", "tied", "entropy", "flip_rate"]
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


def _three(
    units: Coded, label: Any, labels: int, beyond: bool, level: float, rng: np.random.Generator
) -> dict[str, Estimate]:
    f = units.said == label
    share = float(f.mean()) if len(f) else math.nan
    naive = Estimate(share, *wilson(share, len(f), level))
    hand = _by_hand(units, label, beyond, level)
    return dict(zip(ESTIMATES, (naive, hand, _corrected(units, label, labels, beyond, level, rng, hand)), strict=True))


def _by_hand(units: Coded, label: Any, beyond: bool, level: float) -> Estimate:
    y = units.label == label
    if not len(y):
        return Estimate(math.nan, math.nan, math.nan)
    share = float(np.average(y, weights=units.weight))
    n = effective_n(units.weight, y, finite=not beyond)
    return Estimate(share, *wilson(share, n, level), _more(len(y), math.inf if beyond else len(units.said)))


@dataclass(frozen=True, slots=True)
class _Cell:
    """Units about which the model says the same: how many, the share of hits by hand, and on how many it rests."""

    size: int
    hits: float
    n: float


def _cell(units: Coded, label: Any, which: np.ndarray, *, beyond: bool) -> _Cell:
    here = which[units.coded]
    y, weight = units.label[here] == label, units.weight[here]
    if not len(y):
        return _Cell(int(which.sum()), math.nan, 0.0)
    share = float(np.average(y, weights=weight))
    # Errors are where y is not what the model says; of them all labels' errors tell how heavy they usually are.
    says = units.said[which][0] == label
    wrong = units.label != units.said[units.coded]
    all_weights = units.weight
    even = float((all_weights * (all_weights - (not beyond))).sum() / all_weights.sum())
    usual = heaviness(all_weights[wrong], even, float(all_weights.mean()), finite=not beyond)
    return _Cell(int(which.sum()), share, effective_n(weight, y != says, finite=not beyond, usual_hit=usual))


def _corrected(
    units: Coded, label: Any, labels: int, beyond: bool, level: float, rng: np.random.Generator, hand: Estimate
) -> Estimate:
    f = units.said == label
    cells = [_cell(units, label, which, beyond=beyond) for which in (f, ~f) if which.any()]
    if not cells or any(cell.n == 0 for cell in cells):
        # Nobody coded a unit of one kind: what the model says is of no use here.
        return hand
    prior = _prior(units, labels)
    total, drawn = len(f), np.zeros(DRAWS)
    weights = [np.full(DRAWS, cell.size / total) for cell in cells]
    if beyond and len(cells) == 2:
        weights[0] = rng.beta(cells[0].size + 0.5, cells[1].size + 0.5, DRAWS)
        weights[1] = 1 - weights[0]
    for cell, weight in zip(cells, weights, strict=True):
        certain = math.isinf(cell.n)
        hits, misses = (0.5, 0.5) if certain else (cell.n * cell.hits + prior, cell.n * (1 - cell.hits) + prior)
        drawn += weight * (cell.hits if certain else rng.beta(hits, misses, DRAWS))
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    share = sum(cell.size / total * cell.hits for cell in cells)
    fixed = float(np.var(weights[0]) * (cells[0].hits - cells[-1].hits) ** 2 / max(np.var(drawn), 1e-300))
    more = _more(len(units.label), math.inf if beyond else total, fixed)
    return Estimate(share, min(float(low), share), max(float(high), share), more)


def _prior(units: Coded, labels: int) -> float:
    """How many errors are added to each kind: a half; less where the sheet shows that there is less than one a kind."""
    wrong = units.label != units.said[units.coded]
    errors = units.weight[wrong].sum() / units.weight.mean()
    return min(0.5, (errors + 1) / (2 * max(1, labels)))


def _more(coded: int, units: float, fixed: float = 0.0) -> float:
    """How many more hand labels would halve the interval.

    Parameters
    ----------
    fixed : float
        Share of the variance that hand labels do not lessen.
    """
    wanted = (0.25 - fixed) / (1 - fixed) if fixed < 0.25 else math.nan
    return 1 / (wanted * (1 / coded - 1 / units) + 1 / units) - coded if coded < units else 0.0


def _difference(a: Estimate, b: Estimate) -> Estimate:
    """Of two shares in different units, b − a: Newcombe's interval out of the two."""
    apart = b.share - a.share
    low = apart - math.hypot(b.share - b.low, a.high - a.share)
    high = apart + math.hypot(b.high - b.share, a.share - a.low)
    return Estimate(apart, low, high)
