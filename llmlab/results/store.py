"""All attempts of an experiment and what became of its trials, as one object."""

from __future__ import annotations

from array import array
from collections.abc import KeysView, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from llmlab.declaration import Declaration
from llmlab.errors import AttemptError
from llmlab.records import ATTEMPT, STATUSES, TokenUsageAttempt, Trial, trial_status
from llmlab.results.table import AttemptTable

NONE: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Call:
    """The call of `run_experiment`, or rerun of it, that results belong to.

    Attributes
    ----------
    session : int
        Its number, as the attempts have it; 0 if they are of no single call.
    from_book : bool
        Whether a journal told what was answered before.
    """

    session: int = 0
    from_book: bool = False


class Store:
    """What an experiment has so far: every attempt, each answered trial's prediction, and what failed unsent.

    Parameters
    ----------
    declared : Declaration, optional
        The fields of an attempt.

    Attributes
    ----------
    table : AttemptTable
    call : Call
        Which call these are the contents of.
    skipped : list
        Trials that were not asked: their positions, the class of the error and its text.
    """

    def __init__(self, declared: Declaration = ATTEMPT) -> None:
        self.call = Call()
        self.table = AttemptTable(declared)
        self._values: dict[int, Any] = {}
        self._unsent: dict[int, tuple[str, str]] = {}
        self.skipped: list[tuple[np.ndarray, str, str]] = []
        self._revived: set[int] = set()
        self._counts = array("i")

    @property
    def answered(self) -> KeysView[int]:
        """The positions of the trials that have a prediction."""
        return self._values.keys()

    @property
    def unsent(self) -> dict[int, tuple[str, str]]:
        """The trials that failed without an attempt: position → class of the error and its text."""
        return dict(self._unsent)

    def record(self, attempt: TokenUsageAttempt, value: Any = None) -> None:
        """Take in one attempt.

        Parameters
        ----------
        value : object
            The trial's prediction, if the attempt is `ok`; otherwise the trial has none from now on.
        """
        position = attempt.trial.position
        self.table.append(attempt)
        self._grow(position)
        self._counts[position] = max(self._counts[position], attempt.attempt)
        self._unsent.pop(position, None)
        if attempt.status == "ok":
            self._values[position] = value
        else:
            self._values.pop(position, None)

    def extend(
        self,
        position: np.ndarray,
        fields: Mapping[str, Sequence[Any]],
        values: Sequence[Any],
        revived: Set[int] = NONE,
        read_in: int = 0,
    ) -> None:
        """Take in kept attempts, given column by column, those of a trial in order.

        Parameters
        ----------
        values : sequence
            The prediction that each attempt gave.
        revived : set of int
            Rows that were unreadable once and are readable now: attempts that failed later do not undo them.
        read_in : int
            The session that read them so; its own attempts came after it, and do.
        """
        self.table.extend(position, fields)
        self._grow(int(position.max(initial=-1)))
        np.maximum.at(np.frombuffer(self._counts, "int32"), position, np.array(fields["attempt"], "int32"))
        trials = position.tolist()
        if self._unsent:
            for trial in trials:
                self._unsent.pop(trial, None)
        if self._revived or revived:
            self._take_values_in_turn(trials, fields, values, revived, read_in)
            return
        # The last attempt of a trial decides.
        answered = dict(zip(trials, fields["status"], strict=True))
        self._values.update(zip(trials, values, strict=True))
        for trial, status in answered.items():
            if status != "ok":
                del self._values[trial]

    def _take_values_in_turn(
        self,
        trials: Sequence[int],
        fields: Mapping[str, Sequence[Any]],
        values: Sequence[Any],
        revived: Set[int],
        read_in: int,
    ) -> None:
        rows = zip(trials, fields["status"], fields["session"], values, strict=True)
        for at, (trial, status, session, value) in enumerate(rows):
            if status == "ok":
                self._values[trial] = value
                if at in revived:
                    self._revived.add(trial)
            elif trial not in self._revived or session == read_in:
                self._values.pop(trial, None)

    def _grow(self, position: int) -> None:
        lacking = position + 1 - len(self._counts)
        if lacking > 0:
            self._counts.frombytes(bytes(self._counts.itemsize * max(lacking, len(self._counts) // 8)))

    def fail(self, trial: Trial, error: AttemptError) -> None:
        """The trial ended without an attempt, as one with a blank text does."""
        self.fail_as(trial.position, type(error).__name__, str(error))

    def fail_as(self, position: int, error_type: str, error: str) -> None:
        """As `fail`, with the error in words."""
        self._values.pop(position, None)
        self._unsent[position] = (error_type, error)

    def skip(self, positions: np.ndarray, error_type: str, error: str) -> None:
        """These trials were not asked, and why; those that were asked keep what became of them."""
        self.skipped.append((positions, error_type, error))

    def take_in(self, other: Store, start: int) -> None:
        """Add the contents of another store; its trials stand at the positions from `start` on."""
        rows = range(len(other.table))
        fields = {name: [other.table.value(name, at) for at in rows] for name in other.table.declared.columns}
        position = np.array(other.table.position, "int64") + start
        self.table.extend(position, fields)
        self._grow(int(position.max(initial=-1)))
        for trial, number in zip(position.tolist(), fields["attempt"], strict=True):
            self._counts[trial] = max(self._counts[trial], number)
        self._values |= {start + at: value for at, value in other._values.items()}
        self._unsent |= {start + at: error for at, error in other._unsent.items()}
        self.skipped += [(positions + start, kind, error) for positions, kind, error in other.skipped]
        self._revived |= {start + at for at in other._revived}

    def copy(self) -> Store:
        """An independent store with the same contents."""
        other = Store(self.table.declared)
        other.table = self.table.copy()
        other._values, other._unsent = dict(self._values), dict(self._unsent)
        other.skipped = list(self.skipped)
        other._counts, other._revived = self._counts[:], set(self._revived)
        other.call = self.call
        return other

    @property
    def sessions(self) -> int:
        """The highest session that made an attempt; 0 if there is none."""
        return int(self.table.numbers("session").max(initial=0))

    def attempts_before(self, position: int) -> int:
        """How many attempts the trial at `position` has had."""
        return self._counts[position] if position < len(self._counts) else 0

    def values(self, trials: int) -> list[Any]:
        """The predictions by position; `None` where there is none."""
        return list(map(self._values.get, range(trials)))

    def value(self, position: int) -> Any:
        """The trial's prediction, or `None`."""
        return self._values.get(position)

    def last(self, trials: int) -> np.ndarray:
        """Row of each trial's last attempt in `table`; -1 if it has none."""
        last = np.full(trials, -1, "int64")
        order = self.table.order()
        last[np.array(self.table.position, "int64")[order]] = order
        return last

    def statuses(self, trials: int) -> np.ndarray:
        """What became of each trial, as its place in `STATUSES`; the rule is `records.trial_status`."""
        answered, unsent = np.zeros(trials, bool), np.zeros(trials, bool)
        answered[list(self._values)] = True
        unsent[list(self._unsent)] = True
        last = self.last(trials)
        due = np.zeros(trials, bool)
        due[last >= 0] = ~np.isnan(self.table.numbers("retry_in_s"))[last[last >= 0]]
        cases = answered * 8 + unsent * 4 + (last >= 0) * 2 + due
        rule = [STATUSES.index(trial_status(c & 8 > 0, c & 4 > 0, c & 2, c & 1 > 0)) for c in range(16)]
        return np.array(rule)[cases]

    def errors(self, trials: int) -> dict[str, list[str | None]]:
        """`error_type` and `error` of each trial without a prediction: why it was not sent, or its last attempt's."""
        found: dict[str, list[str | None]] = {"error_type": [None] * trials, "error": [None] * trials}
        last = self.last(trials)
        for at in np.flatnonzero(last >= 0).tolist():
            if at not in self._values:
                for name, texts in found.items():
                    texts[at] = self.table.value(name, int(last[at]))
        for positions, error_type, error in self.skipped:
            for at in positions[last[positions] < 0].tolist():
                found["error_type"][at], found["error"][at] = error_type, error
        for at, (error_type, error) in self._unsent.items():
            found["error_type"][at], found["error"][at] = error_type, error
        return found
