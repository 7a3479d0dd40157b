"""What was used and spent: the one rule for sums in which some amounts are unknown.

An amount that is missing is *unknown* if the provider may have charged for the attempt: an answer came without it, or
the request was sent and its answer never came whole. If nothing can have been charged, as for a 429 or a connection
that was never made, a missing amount is nothing. What is unknown is counted, and is in no sum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from llmlab.errors import InputError
from llmlab.records import TOKENS, arm_columns

NONE = "(none)"
AMOUNTS = (*TOKENS, "cost_usd")
# Attempts that were saved before the column existed: what ended without a status may have been billed.
_SENT_WITHOUT_ANSWER = ("TimeoutError", "CancelledError", "ConnectionError", "BadResponseError")
_BILLED_STATUS = (524,)


@dataclass(frozen=True, slots=True)
class Total:
    """A sum of tokens or dollars over attempts, and how many amounts it lacks.

    Attributes
    ----------
    known : float
        Sum of the known amounts: tokens (whole numbers) or US dollars.
    unknown : int
        Attempts whose amount is unknown.
    reported : int
        Attempts whose amount is in the sum; it may be 0, as that of a free model is.
    """

    known: float = 0
    unknown: int = 0
    reported: int = 0

    def plus(self, amount: float | None, may_be_billed: bool) -> Total:
        """The total with one more attempt: its amount, and whether the provider may have charged for it."""
        if amount is not None:
            return Total(self.known + amount, self.unknown, self.reported + 1)
        return Total(self.known, self.unknown + 1, self.reported) if may_be_billed else self

    def __add__(self, other: Total) -> Total:
        return Total(self.known + other.known, self.unknown + other.unknown, self.reported + other.reported)

    @classmethod
    def of(cls, attempts: pd.DataFrame, column: str) -> Total:
        """The total of a column of `attempts`: `cost_usd` or one of the token columns."""
        amounts = attempts[column]
        known = int(amounts.sum()) if pd.api.types.is_integer_dtype(amounts.dtype) else float(amounts.sum())
        return cls(known, int(unknown(attempts, column).sum()), int(amounts.count()))

    @property
    def amount(self) -> float | None:
        """The sum of what is known; `None` if all that may have been charged is unknown."""
        return None if self.unknown and not self.reported else self.known

    @property
    def exact(self) -> float | None:
        """The sum if it lacks nothing, else `None`."""
        return None if self.unknown else self.known


def may_be_billed(attempts: pd.DataFrame) -> np.ndarray:
    """Whether the provider may have charged for each attempt."""
    if "may_be_billed" in attempts:
        return attempts["may_be_billed"].to_numpy(bool)
    status = attempts["http_status"].astype("Float64")
    answered = (status.between(200, 299) | status.isin(_BILLED_STATUS)).fillna(False).to_numpy(bool)
    silent = status.isna().to_numpy(bool) & attempts["error_type"].isin(_SENT_WITHOUT_ANSWER).to_numpy(bool)
    return answered | silent


def unknown(attempts: pd.DataFrame, column: str) -> np.ndarray:
    """Which attempts have an unknown amount of a column."""
    return attempts[column].isna().to_numpy(bool) & may_be_billed(attempts)


def by_group(attempts: pd.DataFrame, groups: str | Sequence[str], *, sort: bool = False) -> pd.DataFrame:
    """Sums by group.

    Parameters
    ----------
    groups : str or list of str
        Columns of `attempts`.
    sort : bool
        By the groups' values; otherwise in order of appearance.

    Returns
    -------
    DataFrame
        Index the groups; `attempts`, the token columns and `cost_usd` summed over what is known (NA where all that may
        have been charged is unknown), and for each of them `unknown_…`: the attempts whose amount is in no sum.
    """
    lacking = {f"unknown_{name}": unknown(attempts, name) for name in AMOUNTS}
    keys = [groups] if isinstance(groups, str) else list(groups)
    frame = attempts[[*keys, *AMOUNTS]].assign(**lacking)
    grouped = frame.groupby(keys if len(keys) > 1 else keys[0], sort=sort, observed=True, dropna=False)
    table = grouped[[*AMOUNTS, *lacking]].sum()
    for name in AMOUNTS:
        known = grouped[name].count() > 0
        table[name] = table[name].where(known | (table[f"unknown_{name}"] == 0))
    table = table.astype(dict.fromkeys(TOKENS, "Int64") | {"cost_usd": "Float64"} | dict.fromkeys(lacking, "int64"))
    table.insert(0, "attempts", grouped.size())
    return table


def costs(predictions: pd.DataFrame, attempts: pd.DataFrame, by: str = "model") -> pd.DataFrame:
    """What was used and spent, in total.

    Parameters
    ----------
    by : {"model", "prompt", "experiment", "category", "outcome", "attempt"}
        "category" is the label the trial ended with, "outcome" the attempt's status: what `parse_error` and
        `call_error` cost is what failures cost; "attempt" is its number: from 2 on it is what repeating costs.

    Returns
    -------
    DataFrame
        One row per group: `attempts`, the token columns and `cost_usd` summed over what is known (NA where all that
        may have been charged is unknown), `unknown_tokens` and `unknown_cost`: attempts that may have been charged for
        a number of tokens, or at a price, that nobody told. They are in no sum.
    """
    columns = {"category": "category", "outcome": "status", "attempt": "attempt"}
    columns |= {name: name for name in arm_columns(attempts.columns)}
    if "label" in arm_columns(predictions.columns):
        # An answer that has several labels has no share of its cost for each.
        del columns["category"]
    if by not in columns:
        raise InputError(f"by={by!r}: choose one of {', '.join(columns)}.")
    frame = attempts
    if by == "category":
        key = ["unit_id", *arm_columns(predictions.columns), "run"]
        labels = predictions[key].assign(
            category=predictions["prediction"].astype(object).where(predictions["status"] == "ok")
        )
        frame = attempts.merge(labels, on=key, how="left", validate="many_to_one")
        frame["category"] = frame["category"].fillna(NONE).astype(str)
    table = by_group(frame, columns[by], sort=by == "attempt")
    kept = table[["attempts", *AMOUNTS]].assign(
        unknown_tokens=table["unknown_total_tokens"], unknown_cost=table["unknown_cost_usd"]
    )
    return kept.rename_axis(by).reset_index()
