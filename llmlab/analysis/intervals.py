"""Intervals of shares and of statistics over drawn units; all of them are the same for the same seed.

References
----------
Wilson, E. B. (1927), "Probable inference, the law of succession, and statistical inference", JASA 22. Efron, B. (1979),
"Bootstrap methods: another look at the jackknife", Annals of Statistics 7.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
import pandas as pd

from llmlab.errors import InputError

DRAWS = 1000
MOST_CELLS = 5_000_000


def wilson(share: float, n: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share.

    Parameters
    ----------
    share : float
        0 to 1.
    n : float
        Of how many; of weighted ones, how many equally weighted ones tell as much.
    """
    check_level(level)
    if not n > 0:
        return math.nan, math.nan
    if math.isinf(n):
        return share, share
    z = NormalDist().inv_cdf((1 + level) / 2)
    spread = z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def bootstrap(
    values: np.ndarray, statistic: Callable[[np.ndarray], Any], level: float, rng: np.random.Generator
) -> tuple[float, float]:
    """Percentile interval of a statistic over drawn units.

    Parameters
    ----------
    values : ndarray, units × …
    statistic : callable
        Takes draws × units × … and gives one number a draw.
    level : float
        Share of the draws inside, 0 to 1.
    """
    found = []
    each = max(1, 2_000_000 // max(1, values.size))
    for begin in range(0, DRAWS if len(values) else 0, each):
        picks = rng.integers(0, len(values), (min(each, DRAWS - begin), len(values)))
        found.append(np.asarray(statistic(values[picks])))
    return between(found, level)


def bootstrap_of_sums(
    sums: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray], level: float, seed: int
) -> tuple[float, float]:
    """As `bootstrap`, of a statistic of the units' sums: equal units are drawn together, which is a lot quicker.

    Parameters
    ----------
    sums : ndarray, units × columns
        What is added up over the drawn units.
    statistic : callable
        Takes draws × columns.
    """
    if not len(sums):
        return between([], level)
    rng = np.random.default_rng(seed)
    kinds, many = different(sums)
    each = max(1, MOST_CELLS // max(kinds.shape))
    found = [
        statistic(rng.multinomial(len(sums), many / len(sums), min(each, DRAWS - begin)) @ kinds)
        for begin in range(0, DRAWS, each)
    ]
    return between(found, level)


def different(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different rows, in order, and how often each stands there; in time that grows as their number does."""
    number = np.zeros(len(rows), "int64")
    for column in rows.T:
        codes, values = pd.factorize(column, sort=True)
        number = pd.factorize(number * len(values) + codes, sort=True)[0]
    first = np.unique(number, return_index=True)[1]
    return rows[first], np.bincount(number)


def between(draws: list[np.ndarray], level: float) -> tuple[float, float]:
    """The middle `level` of what was drawn; NaN if nothing was."""
    check_level(level)
    if not draws:
        return math.nan, math.nan
    low, high = np.quantile(np.concatenate(draws), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def check_level(level: float) -> None:
    if not 0 < level < 1:
        raise InputError(f"level must be between 0 and 1, not {level!r}.")


# How many cases of the usual weight are added, so that a few do not decide alone how heavy they are.
USUAL = 0.25


def heaviness(weights: np.ndarray, which: np.ndarray) -> float:
    """The weight of a unit of weight among these cases: how much variance it brings. Of equal weights, just that.

    Parameters
    ----------
    weights : ndarray of float
        Of all cases.
    which : ndarray of bool
        Those cases that are meant.
    """
    usual = (weights**2).sum() / weights.sum()
    added = USUAL * weights.mean()
    return float(((weights[which] ** 2).sum() + added * usual) / (weights[which].sum() + added))


def mean_weight(weights: np.ndarray, which: np.ndarray) -> float:
    """The mean weight of some cases; parameters as of `heaviness`."""
    return float((weights[which].sum() + USUAL * weights.mean()) / (which.sum() + USUAL))


def effective_n(weights: np.ndarray, hit: np.ndarray) -> float:
    """How many equally weighted cases tell as much about the share of hits as these; of weights 1, all of them.

    Parameters
    ----------
    weights : ndarray of float
        1 / probability of each case.
    hit : ndarray of bool
    """
    if not len(weights):
        return 0.0
    share = weights[hit].sum() / weights.sum()
    return float(weights.sum() / ((1 - share) * heaviness(weights, hit) + share * heaviness(weights, ~hit)))
