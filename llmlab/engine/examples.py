"""Few-shot examples: units with their right answers, asked like the others before each question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from llmlab.errors import InputError
from llmlab.parsing import Parser
from llmlab.prompts import Messages, Prompt
from llmlab.units import Plan, Units, read_units


@dataclass(frozen=True, slots=True)
class Examples:
    """The examples of an experiment.

    Attributes
    ----------
    units : Units
        What is asked in them.
    answers : tuple of str
        What is answered, as a model is to write it.
    """

    units: Units
    answers: tuple[str, ...]

    @classmethod
    def read(cls, examples: object, plan: Plan, parser: Parser) -> Examples:
        """The examples that the user gave: rows with the units' columns and `prediction`; `None` is none.

        Raises
        ------
        InputError
            They are no frame with answers, or an answer is none that the model may give.
        """
        columns = plan.units.frame.columns
        if examples is None:
            return cls(Units(plan.units.frame.iloc[:0]), ())
        if not isinstance(examples, pd.DataFrame) or "prediction" not in examples.columns:
            has = f": it has {', '.join(map(str, examples.columns))}" if isinstance(examples, pd.DataFrame) else ""
            raise InputError(
                f"examples must be a DataFrame with the units' columns and the right answers in `prediction`{has}."
            )
        missing = examples["prediction"].map(lambda cell: pd.api.types.is_scalar(cell) and pd.isna(cell))
        if missing.any():
            raise InputError(f"The example {examples.index[missing.to_numpy(bool)][0]!r} has no prediction.")
        asked = examples[[name for name in columns if name in examples.columns]].reset_index(drop=True)
        try:
            units = read_units(asked, runs=1, models=("m",)).units
            answers = tuple(parser.written(value) for value in examples["prediction"])
        except InputError as error:
            raise InputError(f"examples: {error}") from None
        return cls(units, answers)

    def turns(self, prompt: Prompt, instruction: str | None) -> list[dict[str, Any]]:
        """The examples as messages: each asked by the same prompt, then answered."""
        if not self.answers:
            return []
        try:
            messages = Messages(prompt, self.units, instruction)
        except InputError as error:
            raise InputError(f"examples: {error}") from None
        made = []
        for at, answer in enumerate(self.answers):
            asked = [one for one in messages.render(at) if one["role"] in ("user", "tool")]
            made += [*asked, {"role": "assistant", "content": answer}]
        return made

    def among(self, units: Units, messages: Mapping[str | None, Messages]) -> list[int]:
        """Which rows of the units ask what an example asks: equal in every column that a prompt uses."""
        used = list(dict.fromkeys(name for one in messages.values() for name in one.used))
        if not self.answers or not used:
            return []
        asked = {tuple(map(repr, row)) for row in self.units.frame[used].itertuples(index=False, name=None)}
        rows = units.frame[used].itertuples(index=False, name=None)
        return [at for at, row in enumerate(rows) if tuple(map(repr, row)) in asked]
