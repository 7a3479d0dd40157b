"""Units × models × prompts × runs: all trials of an experiment, each made when its turn comes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from llmlab.pandas_versions import text_array
from llmlab.records import Trial


@dataclass(frozen=True, slots=True)
class Units:
    """What is asked about.

    Attributes
    ----------
    frame : DataFrame
        The units' own columns, one row per unit, in input order; its index is the id.
    """

    frame: pd.DataFrame

    def __len__(self) -> int:
        return len(self.frame)


@dataclass(frozen=True, slots=True)
class Grid:
    """Every unit with every model, every prompt and every run; computed from the position, so a million costs nothing.

    Attributes
    ----------
    units : int
        How many there are.
    models : tuple of str
    prompts : tuple of str or None
        Names; `(None,)` for a single prompt without one.
    runs : int
    """

    units: int
    models: tuple[str, ...]
    prompts: tuple[str | None, ...]
    runs: int

    def __len__(self) -> int:
        return self.units * self._trials_per_unit

    @property
    def _trials_per_unit(self) -> int:
        return len(self.models) * len(self.prompts) * self.runs

    def at(self, position: int) -> tuple[int, str, str | None, int]:
        """Row of the unit, model, prompt and run of one trial."""
        unit, rest = divmod(position, self._trials_per_unit)
        arm, run = divmod(rest, self.runs)
        model, prompt = divmod(arm, len(self.prompts))
        return unit, self.models[model], self.prompts[prompt], run + 1

    def columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Rows of the units, models, prompts and runs of all trials."""
        unit, rest = np.divmod(np.arange(len(self)), max(1, self._trials_per_unit))
        arm, run = np.divmod(rest, self.runs)
        model, prompt = np.divmod(arm, len(self.prompts))
        return unit, np.array(self.models, dtype=object)[model], np.array(self.prompts, dtype=object)[prompt], run + 1


@dataclass(frozen=True, slots=True)
class Picked:
    """Certain trials only, as rows of `predictions` name them.

    Attributes
    ----------
    unit : array of int
        Row of the unit, by position of the trial.
    model, prompt : array of object
    run : array of int
    """

    unit: np.ndarray
    model: np.ndarray
    prompt: np.ndarray
    run: np.ndarray

    def __len__(self) -> int:
        return len(self.unit)

    def at(self, position: int) -> tuple[int, str, str | None, int]:
        """Row of the unit, model, prompt and run of one trial."""
        return int(self.unit[position]), self.model[position], self.prompt[position], int(self.run[position])

    def columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Rows of the units, models, prompts and runs of all trials."""
        return self.unit, self.model, self.prompt, self.run


@dataclass(frozen=True, slots=True)
class Plan:
    """All trials of an experiment by position, made when they are needed.

    Attributes
    ----------
    units : Units
    layout : Grid or Picked
        Which trials there are.
    prompts : tuple of str or None
        Names; `(None,)` for a single prompt without one.
    """

    units: Units
    layout: Grid | Picked
    prompts: tuple[str | None, ...] = (None,)

    def __len__(self) -> int:
        return len(self.layout)

    def unit_of(self, position: int) -> int:
        """Row of the unit that the trial at `position` is about."""
        return self.layout.at(position)[0]

    def trials(self, positions: Iterable[int] | None = None) -> Iterator[Trial]:
        """The trials in input order, or those at `positions`."""
        ids: Any = self.units.frame.index
        for position in range(len(self)) if positions is None else positions:
            unit, model, prompt, run = self.layout.at(position)
            yield Trial(position, ids[unit], model, run, prompt)

    def keys(self) -> pd.DataFrame:
        """Columns `unit` (row number), `unit_id`, `model`, `prompt` (if named), `run` of all trials, by position."""
        unit, model, prompt, run = self.layout.columns()
        ids = self.units.frame.index.take(unit)
        keys = {
            "unit": unit.astype("int64"),
            "unit_id": pd.Series(ids).reset_index(drop=True),
            "model": text_array(model),
            "prompt": text_array(prompt),
            "run": run.astype("int64"),
        }
        if self.prompts == (None,):
            del keys["prompt"]
        return pd.DataFrame(keys)
