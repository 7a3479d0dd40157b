"""Whether a process takes turns with the others that share its key, or goes on alone at its part of the rate."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Literal

from llmlab.limits.schedule import Schedule

REJOIN_S = 2.5


class Membership:
    """One process among those that share a key.

    Parameters
    ----------
    schedule : Schedule
        The process's own; told its share of the rate while the store cannot tell whose turn it is.
    log : callable
        (level, message).

    Attributes
    ----------
    processes : int
        How many shared the key when last heard of, this one included.
    rejoins_at : float
        When it takes turns again; infinite unless it is about to.
    """

    def __init__(self, schedule: Schedule, log: Callable[[int, str], None]) -> None:
        self._schedule, self._log = schedule, log
        self.processes = 1
        self.rejoins_at = math.inf
        self._mode: Literal["sharing", "alone", "rejoining"] = "sharing"

    @property
    def sharing(self) -> bool:
        """Whether it takes turns."""
        return self._mode == "sharing"

    def answered(self, processes: int, lost: bool, now: float) -> None:
        """The store has answered.

        Parameters
        ----------
        processes : int
            How many it knows of.
        lost : bool
            Whether it has forgotten what it was told before.
        now : float
        """
        if self._mode == "alone":
            self._log(logging.INFO, "Shared limits: the store answers again")
        if self._mode == "alone" or (lost and self._mode == "sharing"):
            # It goes on at its part of the rate, while the others tell the store what they have sent.
            self._mode, self.rejoins_at = "rejoining", now + REJOIN_S
            self._schedule.share = 1 / self.processes
        elif self._mode == "rejoining" and now >= self.rejoins_at:
            # By now the others, too, have told the store what they sent while it was away.
            self._mode, self.rejoins_at = "sharing", math.inf
            self._schedule.share = 1.0
        self.processes = processes if self.sharing else max(processes, self.processes)

    def failed(self, why: str) -> None:
        """The store has not answered."""
        if self._mode == "sharing":
            self._log(
                logging.WARNING,
                f"Shared limits: the store failed ({why}); this process goes on alone at 1/{self.processes} of its "
                "limits and shares again as soon as it can",
            )
        self._mode, self.rejoins_at = "alone", math.inf
        self._schedule.share = 1 / self.processes
