"""What is kept about trials → rows of a journal's tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from llmlab.records import TokenUsageAttempt, Trial
from llmlab.results import book, cells, digests, sqlite

Messages = list[dict[str, Any]]
Row = tuple[str, tuple[Any, ...]]
"""A statement and its values."""

ATTEMPTS = sqlite.insert_attempt()
ORDER = (book.MESSAGES, book.TRIALS, ATTEMPTS)
"""The statements, in the order in which one needs the other."""


class Rows:
    """Makes the rows of one session.

    Parameters
    ----------
    trials : array of int
        Which trials of the file those of the experiment are, by position.
    parameters : mapping
        The numbers in the file of the models' parameters.
    """

    def __init__(self, trials: np.ndarray, parameters: Mapping[str, int]) -> None:
        self._trials, self._parameters = trials, parameters
        self._is_noted = bytearray(len(trials))

    def unless_noted(self, trial: Trial, messages: Messages) -> Messages:
        """The messages about a trial, if they have not been noted in this session; from now on they have."""
        first = not self._is_noted[trial.position]
        self._is_noted[trial.position] = True
        return messages if first else []

    def of_trial(self, trial: Trial, messages: Messages) -> list[Row]:
        """What is sent about a trial; nothing without messages."""
        if not messages:
            return []
        said = digests.in_bytes(messages)
        digest, unit = digests.digest(said), cells.encode_id(trial.unit_id)
        asked = (int(self._trials[trial.position]), self._parameters[trial.model], trial.run, unit, digest)
        return [(book.MESSAGES, (digest, digests.pack(said))), (book.TRIALS, asked)]

    def of_attempt(self, attempt: TokenUsageAttempt, value: object, messages: Messages) -> list[Row]:
        """An attempt, and what is sent about its trial."""
        row = sqlite.row_of(int(self._trials[attempt.trial.position]), attempt, value)
        return [*self.of_trial(attempt.trial, messages), (ATTEMPTS, row)]
