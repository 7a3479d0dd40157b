"""The sheet: which units to code by hand, drawn with known probabilities, and read back with its labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from llmlab.analysis.gold import Gold, by_id, matched_ids
from llmlab.analysis.votes import consensus, label_codes
from llmlab.errors import InputError
from llmlab.pandas_versions import text_array

MORE = ("disagreement", "low confidence")


@dataclass(frozen=True, slots=True)
class Sheet:
    """A sheet that people have filled in.

    Attributes
    ----------
    labels : Series
        People's labels by unit id; of the units that have one.
    probability : Series of float
        With which each of them came into the sheet, and was coded, 0 to 1.
    notes : tuple of str
        What is left to code.
    """

    labels: pd.Series
    probability: pd.Series
    notes: tuple[str, ...]


def draw_sheet(
    predictions: pd.DataFrame,
    units: pd.DataFrame,
    n: int,
    *,
    more: Literal["disagreement", "low confidence"] | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Draw units to code by hand.

    Parameters
    ----------
    predictions : DataFrame
    units : DataFrame
        The units' own columns, indexed by `unit_id`.
    n : int
        How many, at most all.
    more : {"disagreement", "low confidence"}, optional
        Draw units about which the answers differ, or are less sure, up to twice as often as the others.
    seed : int

    Returns
    -------
    DataFrame
        In random order, without the models' labels: `unit_id`, the unit's columns, an empty `label`, and
        `probability`, with which the unit came into the sheet.
    """
    ids = pd.Index(predictions["unit_id"].unique(), dtype=object)
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or not 1 <= n <= len(ids):
        raise InputError(f"sheet takes a number of units from 1 to {len(ids)}, as many as there are, not {n!r}.")
    if more is not None and more not in MORE:
        raise InputError(f"more={more!r}: choose one of {', '.join(map(repr, MORE))}, or leave it out.")
    rng = np.random.default_rng(seed)
    size = np.ones(len(ids)) if more is None else 1 + _doubt(predictions, ids, more)
    probability = _probabilities(size, n)
    drawn = _systematic(probability, rng) if more is not None else rng.permutation(len(ids))[:n]
    drawn = rng.permutation(drawn)
    taken = {"unit_id", "label", "probability"}
    own = units.loc[list(ids[drawn])].reset_index(drop=True)
    own = own.rename(columns={name: f"{name}_" for name in own.columns if name in taken})
    frame = pd.DataFrame({"unit_id": predictions["unit_id"].drop_duplicates().array.take(drawn)}).join(own)
    return frame.assign(label=text_array([None] * n), probability=probability[drawn])


def read_sheet(sheet: pd.DataFrame, unit_ids: pd.Series) -> Sheet:
    """Check a sheet that was filled in.

    Parameters
    ----------
    sheet : DataFrame
        `unit_id`, `label`, `probability`; also after a round trip through CSV or Excel.
    unit_ids : Series
        The ids of the experiment.

    Raises
    ------
    InputError
        A column or a probability is missing, an id is none of the experiment's, or no label is filled in.
    """
    frame = by_id(sheet, "label")
    if "probability" not in frame:
        raise InputError(
            "This sheet has lost its column probability, without which nobody can tell which units it stands for: "
            "use the file that results.sheet() gave, or pass labels by unit id if all units are coded."
        )
    units = pd.Index(unit_ids.unique(), dtype=object)
    frame = frame.set_axis(matched_ids(frame.index, units))
    unknown = [one for one in frame.index if one not in set(units)]
    if unknown:
        raise InputError(f"The sheet has the unit {unknown[0]!r}, which is not in these results.")
    probability = frame["probability"].map(_number)
    wrong = ~probability.between(0, 1, inclusive="right")
    if wrong.any():
        one = frame.index[wrong.to_numpy(bool)][0]
        raise InputError(f"probability must be above 0 and at most 1; for the unit {one!r} it is {probability[one]!r}.")
    labels = frame["label"].astype(object)
    empty = labels.isna() | labels.map(lambda cell: isinstance(cell, str) and not cell.strip())
    if empty.all():
        raise InputError(f"No label is filled in yet: {len(frame)} units of the sheet are to be coded.")
    notes = ()
    if empty.any():
        notes = (
            f"{int(empty.sum())} of the sheet's {len(frame)} units have no label yet; "
            "those that have one are taken as a random part of it",
        )
    return Sheet(labels[~empty], (probability * (~empty).mean())[~empty], notes)


def weighed(predictions: pd.DataFrame, gold: Gold) -> tuple[Any, pd.Series, tuple[str, ...]]:
    """Gold labels as they are given, the weight of each row (1 / probability of a sheet's units), and notes."""
    notes = tuple(predictions.attrs.get("notes", ()))
    if not isinstance(gold, pd.DataFrame):
        return gold, pd.Series(1.0, index=predictions.index), notes
    sheet = read_sheet(gold, predictions["unit_id"])
    weights = predictions["unit_id"].map(1 / sheet.probability).astype(float)
    return sheet.labels, weights, (*notes, *sheet.notes)


def _doubt(predictions: pd.DataFrame, ids: pd.Index, more: str) -> np.ndarray:
    """For each unit from 0, no doubt, to 1, the most that any has; units without an answer have it too."""
    if more == "low confidence":
        agreed = consensus(predictions)
        sure = agreed["confidence"].to_numpy(float, na_value=np.nan)
        if np.isnan(sure).all():
            raise InputError(
                'more="low confidence" needs to know how sure the answers are: ask with logprobs=True, or runs=3; '
                "or leave more= out."
            )
        doubt = 1 - pd.Series(sure, index=agreed["unit_id"].to_numpy(object)).groupby(level=0).mean()
    else:
        codes, _ = label_codes(predictions["prediction"])
        ok = predictions["status"].eq("ok").to_numpy(bool)
        answers = pd.DataFrame({"unit_id": predictions["unit_id"].astype(object), "code": codes})[ok & (codes >= 0)]
        votes = answers.value_counts().groupby(level="unit_id").agg(["sum", "max"])
        if not (votes["sum"] > 1).any():
            raise InputError(
                'more="disagreement" needs several answers to a unit: ask runs=3, or several models; '
                "or leave more= out."
            )
        doubt = 1 - votes["max"] / votes["sum"]
    most = doubt.max()
    return (doubt / most if most > 0 else doubt).reindex(ids).fillna(1.0).to_numpy(float)


def _probabilities(size: np.ndarray, n: int) -> np.ndarray:
    """Inclusion probabilities in proportion to size, at most 1, that add up to n."""
    found = n * size / size.sum()
    while (found > 1).any():
        sure = found >= 1
        found = np.where(sure, 1.0, (n - sure.sum()) * size / size[~sure].sum())
    return found


def _systematic(probability: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw with exactly these probabilities, always equally many: evenly spaced steps through a random order.

    References
    ----------
    Madow, W. G. (1949), "On the theory of systematic sampling, II", Annals of Mathematical Statistics 20.
    """
    order = rng.permutation(len(probability))
    until = probability[order].cumsum() - rng.random()
    steps = np.floor(np.append(until[:-1], round(probability.sum()) + until[0] - probability[order][0]) + 1e-9)
    before = np.floor(np.append(until[0] - probability[order][0], until[:-1]) + 1e-9)
    return order[steps > before]


def _number(cell: Any) -> float:
    """A probability, also as some spreadsheets write it: `0,32`."""
    try:
        return float(cell.replace(",", ".") if isinstance(cell, str) else cell)
    except (TypeError, ValueError):
        return float("nan")
