"""A share three times: as the model says, as people say of a sample, and corrected for the model's errors by both.

With f = 1 where the model's consensus is the label, y = 1 where the hand label is, π the probability with which a unit
came into the sheet: the corrected share is mean(λf) + the weighted mean of (y − λf) over the sheet. The λ of the
smallest variance is the difference between the share of y among units with f = 1 and among those with f = 0, and the
estimate is the same as estimating these two shares from the sheet and weighing them by how often f is 1 and 0 in all
units ("chain rule", Hofer et al.).

Each of the two is a share of the model's errors. With few errors in the sheet its uncertainty is far from normal, so it
is drawn: how often the units that nobody coded are errors has a Beta distribution, with half an error of either kind
added as Jeffreys' prior does, and how many of them are is drawn from that (the Pólya posterior of a finite population,
Ghosh and Meeden). The interval is the middle of what is drawn, with half of the chance of its ends (mid-P, Agresti and
Gottard). By hand is the same without the model. Unequal weights count as the number of equal ones that tell as much.

References
----------
Agresti, A., Gottard, A. (2007), "Nonconservative exact small-sample inference for discrete data", Computational
Statistics & Data Analysis 51. Angelopoulos, A., Duchi, J., Zrnic, T. (2023), "PPI++", arXiv 2311.01453. Brown, L., Cai,
T., DasGupta, A. (2001), "Interval estimation for a binomial proportion", Statistical Science 16. Egami, N., Hinck, M.,
Stewart, B., Wei, H. (2023), "Using imperfect surrogates for downstream inference", arXiv 2306.04746. Franco, C.,
Little, R., Louis, T., Slud, E. (2019), "Comparative study of confidence intervals for proportions in complex sample
surveys", Journal of Survey Statistics and Methodology 7. Ghosh, M., Meeden, G. (1997), "Bayesian Methods for Finite
Population Sampling". Hofer, R., Maynez, J., Dhingra, B., Fisch, A., Globerson, A., Cohen, W. (2024), "Bayesian
prediction-powered inference", arXiv 2405.06034. Newcombe, R. (1998), "Interval estimation for the difference between
independent proportions", Statistics in Medicine 17. Särndal, C.-E., Swensson, B., Wretman, J. (1992), "Model Assisted
Survey Sampling", ch. 6 and 7.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmlab.analysis.intervals import heaviness, mean_weight, wilson

DRAWS = 5_000
JEFFREYS = 0.5
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
    hand = _by_hand(units, label, beyond, level, rng)
    return dict(zip(ESTIMATES, (naive, hand, _corrected(units, label, labels, beyond, level, rng, hand)), strict=True))


def _by_hand(units: Coded, label: Any, beyond: bool, level: float, rng: np.random.Generator) -> Estimate:
    cell = cell_of(units, label, np.ones(len(units.said), bool))
    if not len(cell.odd):
        return Estimate(math.nan, math.nan, math.nan)
    stands = stands_for(cell.weight, beyond)
    drawn = cell.draw(heaviness(stands, cell.odd), heaviness(stands, ~cell.odd), JEFFREYS, beyond, rng)
    more = _more(len(cell.odd), math.inf if beyond else cell.size)
    return _estimate(cell.hits, drawn, level, _step([cell], beyond), more, rng)


@dataclass(frozen=True, slots=True)
class Cell:
    """Units about which the model says the same, and what people say of some of them.

    Attributes
    ----------
    size : int
        How many units.
    says : bool
        Whether the model says that they have the label.
    odd : ndarray of bool
        Of the coded ones, whether people say otherwise.
    weight : ndarray of float
        1 / probability, of the coded ones.
    """

    size: int
    says: bool
    odd: np.ndarray
    weight: np.ndarray

    @property
    def hits(self) -> float:
        """The share of the label, as people say; NaN if they coded none."""
        return float(np.average(self.odd != self.says, weights=self.weight)) if len(self.odd) else math.nan

    @property
    def uncoded(self) -> int:
        """How many of the units nobody coded."""
        return self.size - len(self.odd)

    def draw(self, odd: float, even: float, added: float, beyond: bool, rng: np.random.Generator) -> np.ndarray:
        """Draw the share of the label among these units, or in the population that they come from.

        Parameters
        ----------
        odd, even : float
            How heavy the odd ones and the others are, as `heaviness` says.
        added : float
            How many cases of either kind are added.
        """
        stands = stands_for(self.weight, beyond)
        share = stands[self.odd].sum() / stands.sum()
        n = stands.sum() / ((1 - share) * odd + share * even)
        drawn = rng.beta(n * share + added, n * (1 - share) + added, DRAWS)
        if not beyond:
            drawn = (self.odd.sum() + rng.binomial(self.uncoded, drawn)) / self.size
        return 1 - drawn if self.says else drawn


def cell_of(units: Coded, label: Any, which: np.ndarray) -> Cell:
    """The cell of these units."""
    here = which[units.coded]
    says = bool((units.said[which] == label).all())
    return Cell(int(which.sum()), says, (units.label[here] == label) != says, units.weight[here])


def stands_for(weight: np.ndarray, beyond: bool) -> np.ndarray:
    """For how many units that nobody coded each coded one stands; of finitely many it stands for itself, too."""
    return weight if beyond else np.maximum(weight - 1, 1e-9)


def _corrected(
    units: Coded, label: Any, labels: int, beyond: bool, level: float, rng: np.random.Generator, hand: Estimate
) -> Estimate:
    f = units.said == label
    cells = [cell_of(units, label, which) for which in (f, ~f) if which.any()]
    if not cells or not all(len(cell.odd) for cell in cells):
        # Nobody coded a unit of one kind: what the model says is of no use here.
        return hand
    stands, wrong = stands_for(units.weight, beyond), units.label != units.said[units.coded]
    odd, even = heaviness(stands, wrong), heaviness(stands, ~wrong)
    added = _added(wrong, max(1 / max(1, labels), float(f.mean()))) * mean_weight(stands, wrong) / odd
    total, drawn = len(f), np.zeros(DRAWS)
    sizes = [np.full(DRAWS, cell.size / total) for cell in cells]
    if beyond and len(cells) == 2:
        sizes[0] = rng.beta(cells[0].size + JEFFREYS, cells[1].size + JEFFREYS, DRAWS)
        sizes[1] = 1 - sizes[0]
    for cell, size in zip(cells, sizes, strict=True):
        drawn += size * cell.draw(odd, even, added, beyond, rng)
    share = sum(cell.size / total * cell.hits for cell in cells)
    fixed = float(np.var(sizes[0]) * (cells[0].hits - cells[-1].hits) ** 2 / max(np.var(drawn), 1e-300))
    more = _more(len(units.label), math.inf if beyond else total, fixed)
    return _estimate(share, drawn, level, _step(cells, beyond), more, rng)


def _added(wrong: np.ndarray, of_this: float) -> float:
    """How many errors of either kind are added to those that the sheet shows.

    Half of one, as in Jeffreys' prior, where errors are frequent. With few errors in the sheet, halves for each label
    would soon be more than all errors there are, so it is no more than the errors that are to be expected about this
    label: the harmonic sum of both. tests/benchmarks/coverage.py checks it by simulation.

    Parameters
    ----------
    wrong : ndarray of bool
        The model's errors, about any label.
    of_this : float
        Which share of them is about this label.
    """
    return 1 / (1 / JEFFREYS + 1 / ((wrong.sum() + JEFFREYS) * of_this))


def _step(cells: list[Cell], beyond: bool) -> float:
    """How far apart are the shares that can be: one unit, or no distance at all."""
    return 0.0 if beyond or not any(cell.uncoded for cell in cells) else 1 / sum(cell.size for cell in cells)


def _estimate(
    share: float, drawn: np.ndarray, level: float, step: float, more: float, rng: np.random.Generator
) -> Estimate:
    """The middle of what is drawn, around the share.

    Parameters
    ----------
    step : float
        How far apart the values are that can be drawn: of each end half of its chance counts.
    """
    drawn = drawn + step * (rng.random(DRAWS) - 0.5)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]).clip(0, 1)
    return Estimate(share, min(float(low), share), max(float(high), share), more)


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
