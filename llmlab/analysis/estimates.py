"""A share three times: as the model says, as people say of a sample, and corrected for the model's errors by both.

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

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmlab.analysis.intervals import effective_n, heaviness, wilson

DRAWS = 5_000
# Of few cases so much of one is lost by estimating their share; chosen, with `_prior`, by simulation:
# tests/benchmarks/coverage.py checks it.
LOST = 0.5
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


def three(
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
class Cell:
    """Units about which the model says the same: how many, the share of hits by hand, and on how many it rests."""

    size: int
    hits: float
    n: float


def cell_of(units: Coded, label: Any, which: np.ndarray, *, beyond: bool) -> Cell:
    here = which[units.coded]
    y, weight = units.label[here] == label, units.weight[here]
    if not len(y):
        return Cell(int(which.sum()), math.nan, 0.0)
    share = float(np.average(y, weights=weight))
    # Errors are where people say something else than the model.
    says = units.said[which][0] == label
    usual = _heaviness(units, finite=not beyond)[0]
    n = effective_n(weight, y != says, finite=not beyond, usual_hit=usual)
    # The share is estimated from the same few cases.
    return Cell(int(which.sum()), share, n * (1 - LOST / max(1.5, len(y))))


def _heaviness(units: Coded, *, finite: bool) -> tuple[float, float]:
    """How heavy errors are, of all labels together, and how heavy they would be if they were spread evenly."""
    weight = units.weight
    wrong = units.label != units.said[units.coded]
    even = float((weight * (weight - finite)).sum() / weight.sum())
    return heaviness(weight[wrong], even, float(weight.mean()), finite=finite), even


def _corrected(
    units: Coded, label: Any, labels: int, beyond: bool, level: float, rng: np.random.Generator, hand: Estimate
) -> Estimate:
    f = units.said == label
    cells = [cell_of(units, label, which, beyond=beyond) for which in (f, ~f) if which.any()]
    if not cells or any(cell.n == 0 for cell in cells):
        # Nobody coded a unit of one kind: what the model says is of no use here.
        return hand
    prior = _prior(units, f, labels, finite=not beyond)
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


def _prior(units: Coded, f: np.ndarray, labels: int, *, finite: bool) -> float:
    """How many errors are added to each kind, seen or not.

    A half; less where the sheet shows that there is less than one a kind, or that they are where most units were coded.
    """
    wrong = units.label != units.said[units.coded]
    errors = units.weight[wrong].sum() / units.weight.mean()
    of_this = max(1 / max(1, labels), float(f.mean()))
    heavy, even = _heaviness(units, finite=finite)
    unseen = min(1.0, heavy / even) if even > 0 else 1.0
    return min(0.5, (errors + 1) / 2 * of_this) * unseen**2


def _more(coded: int, units: float, fixed: float = 0.0) -> float:
    """How many more hand labels would halve the interval.

    Parameters
    ----------
    fixed : float
        Share of the variance that hand labels do not lessen.
    """
    wanted = (0.25 - fixed) / (1 - fixed) if fixed < 0.25 else math.nan
    return 1 / (wanted * (1 / coded - 1 / units) + 1 / units) - coded if coded < units else 0.0


def difference(a: Estimate, b: Estimate) -> Estimate:
    """Of two shares in different units, b − a: Newcombe's interval out of the two."""
    apart = b.share - a.share
    low = apart - math.hypot(b.share - b.low, a.high - a.share)
    high = apart + math.hypot(b.high - b.share, a.share - a.low)
    return Estimate(apart, low, high)
