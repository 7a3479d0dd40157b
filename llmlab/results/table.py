"""The table of attempts, column by column."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from llmlab.declaration import Declaration
from llmlab.records import ATTEMPT, TokenUsageAttempt, Trial
from llmlab.results import columns
from llmlab.results.kept import kept

MOST_ATTEMPTS = 2**16


class AttemptTable:
    """All attempts, column by column: about 250 bytes each beside their text.

    Grows by `append`; nothing in it is ever changed.

    Attributes
    ----------
    declared : Declaration
        The fields of an attempt, of which every column is made.
    position : array of int
        Which trial each row belongs to.
    """

    def __init__(self, declared: Declaration = ATTEMPT) -> None:
        self.declared = declared
        self.position = array("q")
        self._columns = {name: kept(one) for name, one in declared.columns.items()}
        self._append = [column.append for column in self._columns.values()]

    def __len__(self) -> int:
        return len(self.position)

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"_append": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._append = [column.append for column in self._columns.values()]

    def append(self, attempt: TokenUsageAttempt) -> None:
        """Add one attempt."""
        self.position.append(attempt.trial.position)
        for append, value in zip(self._append, self.declared.cells(attempt), strict=True):
            append(value)

    def extend(self, position: np.ndarray, fields: Mapping[str, Sequence[Any]]) -> None:
        """Add attempts, given column by column."""
        self.position.frombytes(position.astype("int64").tobytes())
        for name, column in self._columns.items():
            column.extend(fields[name])

    def copy(self) -> AttemptTable:
        """An independent table with the same attempts."""
        other = AttemptTable(self.declared)
        other.position = self.position[:]
        other._columns = {name: column.copy() for name, column in self._columns.items()}
        other._append = [column.append for column in other._columns.values()]
        return other

    def row(self, at: int, trial: Trial) -> TokenUsageAttempt:
        """The attempt in row `at` as a record."""
        return self.declared.build([column.value(at) for column in self._columns.values()], trial=trial)

    def value(self, name: str, at: int) -> Any:
        """One field of the attempt in row `at`; `None` if unknown."""
        return self._columns[name].value(at)

    def array(self, name: str, rows: np.ndarray) -> Any:
        """One field of these rows as a pandas array."""
        return self._columns[name].array(rows)

    def numbers(self, name: str) -> np.ndarray:
        """A column of numbers as it is kept: -1 or NaN where unknown."""
        return self._columns[name].numbers()  # type: ignore[attr-defined]

    def order(self) -> np.ndarray:
        """Row numbers in the order of trials and attempts."""
        return np.argsort(self.places(), kind="stable")

    def places(self) -> np.ndarray:
        """A number for each row, of its trial's position and its number among the trial's attempts."""
        return np.array(self.position, "int64") * MOST_ATTEMPTS + self.numbers("attempt")

    def sums(self, trials: int) -> dict[str, Any]:
        """Every summed column per trial, by position; NA where no attempt knows it."""
        position = np.array(self.position, "int64")
        return {
            name: _sum(self.numbers(name), position, trials)
            for name, one in self.declared.columns.items()
            if one.summed is not None
        }


def _sum(values: np.ndarray, position: np.ndarray, trials: int) -> Any:
    whole = values.dtype == "int64"
    known = values != columns.UNKNOWN if whole else ~np.isnan(values)
    nothing = np.bincount(position[known], minlength=trials) == 0
    if whole:
        total = np.zeros(trials, "int64")
        np.add.at(total, position[known], values[known])
        return columns.counts(np.where(nothing, columns.UNKNOWN, total))
    total = np.bincount(position[known], values[known], minlength=trials).astype("float64")
    return columns.nullable(np.where(nothing, np.nan, total))
