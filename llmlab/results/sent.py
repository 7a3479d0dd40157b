"""What was sent, for those results that know it: in memory, in a file, or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd

from llmlab.errors import InputError
from llmlab.records import Trial
from llmlab.results.book import Asks
from llmlab.units import Picked, Plan, Units


class Sent(Protocol):
    """What an experiment sent."""

    def messages(self, trial: Trial) -> list[dict[str, Any]]:
        """What was sent for one trial."""
        ...

    def asks(self) -> Asks:
        """All that was sent."""
        ...

    def portable(self) -> Sent:
        """What can be pickled of it."""
        ...


@dataclass(frozen=True, slots=True)
class Nothing:
    """What was sent is not known.

    Attributes
    ----------
    keys, units : DataFrame
        As `Results` has them.
    description : dict
    """

    keys: pd.DataFrame
    units: pd.DataFrame
    description: dict[str, Any]

    def messages(self, trial: Trial) -> list[dict[str, Any]]:
        """It is not known."""
        raise InputError("These results were copied, and do not know what was sent; results of a journal do.")

    def asks(self) -> Asks:
        """The trials alone."""
        prompt = self.keys["prompt"].to_numpy(object) if "prompt" in self.keys else [None] * len(self.keys)
        columns = [self.keys[name].to_numpy() for name in ("unit", "model", "run")]
        prompts = pd.Series(prompt, dtype=object)
        picked = Picked(columns[0], columns[1].astype(object), prompts.to_numpy(), columns[2])
        names = tuple(dict.fromkeys(prompt)) or (None,)
        return Asks(Plan(Units(self.units), picked, names), {}, {}, self.description)

    def portable(self) -> Nothing:
        """It is as it is."""
        return self


@dataclass(frozen=True, slots=True)
class InMemory:
    """What is sent is made of the units and the prompts at hand."""

    asked: Asks

    def messages(self, trial: Trial) -> list[dict[str, Any]]:
        """What was sent for one trial."""
        return self.asked.messages_of(trial)

    def asks(self) -> Asks:
        """All that was sent."""
        return self.asked

    def portable(self) -> Nothing:
        """Prompts may be functions, which do not travel."""
        return Nothing(self.asked.plan.keys(), self.asked.plan.units.frame, dict(self.asked.description))
