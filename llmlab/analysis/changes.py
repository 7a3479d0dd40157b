"""What changed between two experiments about the same units.

References
----------
McNemar, Q. (1947), "Note on the sampling error of the difference between correlated proportions or percentages",
Psychometrika 12.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from llmlab.analysis.gold import Gold, gold_of
from llmlab.analysis.votes import CONSENSUS_COLUMNS, consensus, label_codes
from llmlab.errors import InputError
from llmlab.records import arm_columns

COUNTS = ("units", "both", "lost", "gained")


def changes(before: pd.DataFrame, after: pd.DataFrame, gold: Gold | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Compare the consensus of each unit in two experiments.

    Parameters
    ----------
    before, after : DataFrame
        Predictions. Models (with prompts) that both have are compared with each other; if each has one only, these
        two are, whatever their names.
    gold : str, Series, mapping or DataFrame, optional
        Also tests whether one is right more often; a column's name is one of the units of `after`.

    Returns
    -------
    tuple of DataFrame
        The units whose consensus changed: `unit_id`, the model's columns (as in `before`), `before`, `after`, the
        unit's columns. And McNemar's exact tests per model: `about` ("label": which units have it; "right", if gold is
        given: which are right), `label` (NA if it is about all), `units` (with a consensus in both), `both` (how many
        have it, or are right, in both), `lost` (before only), `gained` (after only), `p_value`.

    Raises
    ------
    InputError
        They have no unit and model in common.
    """
    pairs, arms = _pairs(before, after), arm_columns(before.columns)
    same = [_is_same(*pair) for pair in zip(pairs["before"], pairs["after"], strict=True)]
    changed = pairs[~np.array(same, bool)].drop(columns="key").reset_index(drop=True)
    labels = list(dict.fromkeys([*label_codes(before["prediction"])[1], *label_codes(after["prediction"])[1]]))
    known = pairs[pairs["before"].notna() & pairs["after"].notna()]
    truth = None
    if gold is not None:
        truth = known["key"].map(dict(zip(_rows(after, _key(before, after)), gold_of(after, gold), strict=True)))
    tests = []
    for name, part in known.groupby(arms, sort=False, observed=True):
        arm = dict(zip(arms, name, strict=True))
        if truth is not None:
            coded = part[truth[part.index].notna()]
            right = [coded[when].eq(truth[coded.index]) for when in ("before", "after")]
            tests.append({"about": "right", "label": None} | arm | mcnemar(*right))
        # Of lists of labels, each label is an arm of its own.
        each = {arm["label"]: True} if "label" in arms else {label: label for label in labels}
        for label, said in each.items():
            pair = mcnemar(part["before"].eq(said), part["after"].eq(said))
            tests.append({"about": "label", "label": label} | arm | pair)
    columns = [*(name for name in arms if name != "label"), "about", "label", *COUNTS, "p_value"]
    return changed, pd.DataFrame(tests, columns=columns).astype({"label": object})


def _key(before: pd.DataFrame, after: pd.DataFrame) -> list[str]:
    """The columns by which the units of the two are found."""
    arms = [arm_columns(frame.columns) for frame in (before, after)]
    if all(len(frame[arm].drop_duplicates()) == 1 for frame, arm in zip((before, after), arms, strict=True)):
        return ["unit_id"]
    return ["unit_id", *(name for name in arms[0] if name in arms[1])]


def _rows(frame: pd.DataFrame, columns: list[str]) -> list[tuple[Any, ...]]:
    return list(zip(*(frame[name].tolist() for name in columns), strict=True))


def _pairs(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """One row for each unit and arm that both have: its columns, `before`, `after`, the unit's columns, and `key`."""
    old, new = consensus(before), consensus(after)
    on, arms = _key(before, after), arm_columns(before.columns)
    later = dict(zip(_rows(new, on), new["prediction"].astype(object), strict=True))
    keys = pd.Series(_rows(old, on), index=old.index, dtype=object)
    both = keys.map(lambda key: key in later).astype(bool)
    if not both.any():
        raise InputError("These two have no unit in common that the same model was asked about.")
    old, keys = old[both], keys[both]
    found = old[["unit_id", *arms]].assign(before=old["prediction"].astype(object))
    found["after"] = pd.Series([later[key] for key in keys], index=old.index, dtype=object)
    own = old[[name for name in old.columns if name not in {"unit_id", *arms, *CONSENSUS_COLUMNS}]]
    found = found.join(own.rename(columns={name: f"{name}_" for name in own.columns if name in found}))
    return found.assign(key=keys)


def _is_same(a: Any, b: Any) -> bool:
    """Whether two labels are the same; no label is the same as none."""
    unknown = [one is None or (pd.api.types.is_scalar(one) and pd.isna(one)) for one in (a, b)]
    return all(unknown) or (not any(unknown) and bool(a == b))


def mcnemar(before: pd.Series, after: pd.Series) -> dict[str, Any]:
    """McNemar's exact test of two yes-or-no answers about the same units."""
    then, now = before.to_numpy(bool), after.to_numpy(bool)
    lost, gained = int((then & ~now).sum()), int((~then & now).sum())
    changed, least = lost + gained, min(lost, gained)
    # Twice the chance of so few or fewer on the rarer side, if both were equally likely.
    logs = [math.lgamma(changed + 1) - math.lgamma(k + 1) - math.lgamma(changed - k + 1) for k in range(least + 1)]
    chance = math.fsum(math.exp(one - changed * math.log(2)) for one in logs)
    counts = (len(then), int((then & now).sum()), lost, gained)
    return dict(zip(COUNTS, counts, strict=True)) | {"p_value": min(1.0, 2 * chance)}
