"""Agreement beyond chance: Krippendorff's alpha, Fleiss' and Cohen's kappa, each with an interval over units.

References
----------
Krippendorff, K. (2019), "Content Analysis", 4th ed., ch. 12. Fleiss, J. L. (1971), "Measuring nominal scale agreement
among many raters", Psychological Bulletin 76. Cohen, J. (1968), "Weighted kappa", Psychological Bulletin 70.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from llmlab.analysis.intervals import MOST_CELLS, bootstrap_of_sums, wilson
from llmlab.errors import InputError

Measure = Literal["nominal", "ordinal", "interval"]
MEASURES = ("nominal", "ordinal", "interval")


@dataclass(frozen=True, slots=True)
class Scale:
    """What the labels are, and how far two of them are apart.

    Attributes
    ----------
    labels : Index
        In order.
    measure : {"nominal", "ordinal", "interval"}
    values : ndarray of float
        A number for each label: the label itself if it is "interval", else its place.
    """

    labels: pd.Index
    measure: Measure
    values: np.ndarray

    @classmethod
    def of(cls, labels: pd.Index, measure: Measure, *, ordered: bool) -> Scale:
        """The scale of these labels; `ordered` tells whether they stand in an order that means something."""
        if measure not in MEASURES:
            raise InputError(f"measure must be one of {', '.join(MEASURES)}, not {measure!r}.")
        numbers = bool(len(labels)) and all(
            isinstance(one, int | float | np.number) and not isinstance(one, bool) for one in labels
        )
        if measure == "interval" and not numbers:
            raise InputError(
                f'measure="interval" needs numbers, not labels such as {labels[0]!r}.' if len(labels) else ""
            )
        if measure == "ordinal" and not ordered and not numbers:
            raise InputError('measure="ordinal" needs labels in order: give categories= in their order, or numbers.')
        if numbers and measure != "nominal":
            labels = pd.Index(sorted(labels), dtype=object)
        values = labels.to_numpy(float) if measure == "interval" else np.arange(len(labels), dtype=float)
        return cls(labels, measure, values)


def measured(table: np.ndarray, scale: Scale, level: float, seed: int) -> dict[str, Any]:
    """How far raters agree.

    Parameters
    ----------
    table : ndarray of int, units × raters
        Codes of `scale.labels`; -1 where a rater has none.

    Returns
    -------
    dict
        The columns of `agreement`.
    """
    counts = (table[:, :, None] == np.arange(len(scale.labels))).sum(axis=1)
    rated, raters = counts.sum(axis=1), table.shape[1]
    usable = counts[rated >= 2]
    complete = counts[(rated == raters) & (raters >= 2)]
    alike = float((usable.max(axis=1) == usable.sum(axis=1)).mean()) if len(usable) else math.nan
    notes = []
    if len(usable) and (usable.sum(axis=0) > 0).sum() == 1:
        notes.append("one label only")
    if len(complete) < len(usable):
        notes.append(f"kappa over {len(complete)} of {len(counts)} units")
    if not len(usable):
        notes.append("no unit has two answers")
    nominal = complete if scale.measure == "nominal" else complete[:0]
    pairs = table[np.flatnonzero((table >= 0).all(axis=1))] if raters == 2 else np.empty((0, 2), int)
    found: dict[str, Any] = {"units": len(usable), "complete_units": len(complete), "unanimous": alike}
    found["unanimous_low"], found["unanimous_high"] = wilson(alike, len(usable), level)
    for name, short, value, sums, statistic in (
        ("krippendorff_alpha", "alpha", _alpha(usable, scale), _alpha_sums(usable, scale), _alpha_of(scale)),
        ("fleiss_kappa", "kappa", _kappa(nominal), _sums(nominal), _kappa_of_sums),
        ("cohen_kappa", "cohen", _cohen(pairs, scale), _cohen_sums(pairs, scale), _cohen_of(scale)),
    ):
        found[name] = value
        found[f"{short}_low"], found[f"{short}_high"] = bootstrap_of_sums(sums, statistic, level, seed)
    return found | {"notes": "; ".join(notes)}


MEASURED = (
    "units", "complete_units", "unanimous", "unanimous_low", "unanimous_high", "krippendorff_alpha", "alpha_low",
    "alpha_high", "fleiss_kappa", "kappa_low", "kappa_high", "cohen_kappa", "cohen_low", "cohen_high", "notes",
)  # fmt: skip


def _alpha(counts: np.ndarray, scale: Scale) -> float:
    """Krippendorff's alpha of counts, units × labels, each unit with two or more answers."""
    used = np.flatnonzero(counts.any(axis=0))
    counts = counts[:, used]
    if counts.shape[1] < 2:
        return 1.0 if counts.size else math.nan
    if counts.size * counts.shape[1] > MOST_CELLS:
        # The package holds labels × labels for every unit.
        part = Scale(scale.labels[used], scale.measure, scale.values[used])
        return float(_alpha_of(part)(_alpha_sums(counts, part).sum(axis=0)))
    import krippendorff

    domain = scale.values[used]
    return float(krippendorff.alpha(value_counts=counts, value_domain=domain, level_of_measurement=scale.measure))


def _sums(counts: np.ndarray) -> np.ndarray:
    """What alpha and kappa add up over units, units × (2 + labels): answers, agreement weighted by them, and counts."""
    n = counts.sum(axis=1)
    agree = (counts * (counts - 1)).sum(axis=1) / np.maximum(n - 1, 1)
    return np.column_stack([n, agree, counts]).astype(float)


def _alpha_sums(counts: np.ndarray, scale: Scale) -> np.ndarray:
    """What alpha adds up over units; of ordered labels also how often each stands beside each other one."""
    if scale.measure == "nominal":
        return _sums(counts)
    n = counts.sum(axis=1, keepdims=True)
    beside = counts[:, :, None] * counts[:, None, :] / np.maximum(n - 1, 1)[:, :, None]
    return np.column_stack([n, counts, counts * n / np.maximum(n - 1, 1), beside.reshape(len(counts), -1)])


def _alpha_of(scale: Scale) -> Callable[[np.ndarray], np.ndarray]:
    if scale.measure == "nominal":
        return _nominal_alpha
    many = len(scale.labels)

    def alpha(sums: np.ndarray) -> np.ndarray:
        total, counts, weighted = sums[..., 0], sums[..., 1 : 1 + many], sums[..., 1 + many : 1 + 2 * many]
        beside = sums[..., 1 + 2 * many :].reshape(*sums.shape[:-1], many, many)
        # The distance of ordinal labels is that of their middle ranks among all answers.
        at = scale.values + 0 * counts if scale.measure == "interval" else counts.cumsum(axis=-1) - counts / 2
        observed = (at**2 * weighted).sum(axis=-1) - np.einsum("...c,...ck,...k", at, beside, at)
        expected = (total * (counts * at**2).sum(axis=-1) - (counts * at).sum(axis=-1) ** 2) / (total - 1)
        return np.where(expected > 0, 1 - observed / np.where(expected > 0, expected, 1), 1.0)

    return alpha


def _nominal_alpha(sums: np.ndarray) -> np.ndarray:
    total, observed = sums[..., 0], 1 - sums[..., 1] / sums[..., 0]
    by_label = sums[..., 2:]
    expected = 1 - (by_label * (by_label - 1)).sum(axis=-1) / (total * (total - 1))
    return np.where(expected > 0, 1 - observed / np.where(expected > 0, expected, 1), 1.0)


def _kappa(counts: np.ndarray) -> float:
    """Fleiss' kappa of counts, units × labels, all units with equally many answers."""
    return float(_kappa_of_sums(_sums(counts).sum(axis=0))) if len(counts) else math.nan


def _kappa_of_sums(sums: np.ndarray) -> np.ndarray:
    agree = sums[..., 1] / sums[..., 0]
    chance = ((sums[..., 2:] / sums[..., :1]) ** 2).sum(axis=-1)
    return np.where(chance < 1, (agree - chance) / np.where(chance < 1, 1 - chance, 1), 1.0)


def _cohen(pairs: np.ndarray, scale: Scale) -> float:
    """Cohen's kappa of two raters' codes; quadratically weighted if labels have an order."""
    return float(_cohen_of(scale)(_cohen_sums(pairs, scale).sum(axis=0))) if len(pairs) else math.nan


def _cohen_sums(pairs: np.ndarray, scale: Scale) -> np.ndarray:
    """Units × (1 + labels + labels): how far apart the two are, and what each said."""
    one, other = pairs[:, 0], pairs[:, 1]
    apart = one != other if scale.measure == "nominal" else (scale.values[one] - scale.values[other]) ** 2
    said = [codes[:, None] == np.arange(len(scale.labels)) for codes in (one, other)]
    return np.column_stack([apart, *said]).astype(float)


def _cohen_of(scale: Scale) -> Callable[[np.ndarray], np.ndarray]:
    many, at = len(scale.labels), scale.values

    def kappa(sums: np.ndarray) -> np.ndarray:
        one, other = sums[..., 1 : 1 + many], sums[..., 1 + many :]
        total = one.sum(axis=-1)
        if scale.measure == "nominal":
            expected = total - (one * other).sum(axis=-1) / total
        else:
            spread = (one * at**2).sum(axis=-1) + (other * at**2).sum(axis=-1)
            expected = spread - 2 * (one * at).sum(axis=-1) * (other * at).sum(axis=-1) / total
        return np.where(expected > 0, 1 - sums[..., 0] / np.where(expected > 0, expected, 1), 1.0)

    return kappa
