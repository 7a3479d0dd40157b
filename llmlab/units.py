"""Units × models × prompts × runs → a plan of trials."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from llmlab.errors import InputError
from llmlab.records import Trial

_SHOWN = 5


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

    @property
    def is_grid(self) -> bool:
        """Whether every unit is asked of every model, prompt and run."""
        return isinstance(self.layout, Grid)

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
            "model": pd.array(model, dtype="str"),
            "prompt": pd.array(prompt, dtype="str"),
            "run": run.astype("int64"),
        }
        if self.prompts == (None,):
            del keys["prompt"]
        return pd.DataFrame(keys)


def read_units(
    units: object,
    *,
    runs: int,
    models: tuple[str, ...],
    prompts: tuple[str | None, ...] = (None,),
    result_columns: Iterable[str] = (),
) -> Plan:
    """The user's units as a plan of trials.

    Parameters
    ----------
    units : DataFrame, Series, list of str or list of mappings
        Ids are the column `unit_id` if there is one, else the index. A frame with the columns `unit_id` and `run`
        (rows of `predictions`) means exactly those runs, of those models if `model` is there too.
    result_columns : iterable of str
        Columns of `predictions` that are no columns of the unit.

    Raises
    ------
    InputError
        Not tabular, ids missing or repeated, `runs` below 1, no or repeated models.
    """
    if isinstance(runs, bool) or not isinstance(runs, int) or runs < 1:
        raise InputError(f"runs must be a whole number of at least 1, not {runs!r}.")
    if not models or not all(isinstance(model, str) and model.strip() for model in models):
        raise InputError(f"model must be a model's name or a list of names, not {models!r}.")
    if len(set(models)) < len(models):
        raise InputError(f"model names a model twice: {', '.join(models)}.")
    frame = _as_frame(units)
    if {"unit_id", "run"} <= set(frame.columns):
        taken = {*result_columns, "unit_id", "run", "model"} | ({"prompt"} if prompts != (None,) else set())
        return _read_rows(frame, taken, models, prompts)
    named = "unit_id" in frame.columns
    if named:
        frame = frame.set_index("unit_id")
    levels = (frame.index.get_level_values(level) for level in range(frame.index.nlevels))
    missing = np.any([level.isna() for level in levels], axis=0)
    frame.index = _flat(frame.index)
    if missing.any():
        raise InputError(
            f"unit_id is missing in row {int(np.flatnonzero(missing)[0])} (of {len(frame)}): every unit needs one."
        )
    _check_hashable(frame.index)
    if not frame.index.is_unique:
        twice = frame.index[frame.index.duplicated()].unique()
        way_out = "drop(columns='unit_id')" if named else "reset_index(drop=True)"
        raise InputError(f"unit_id must be unique, but {listed(twice)} stands more than once: try units.{way_out}.")
    return Plan(Units(frame), Grid(len(frame), models, prompts, runs), prompts)


def _flat(ids: pd.Index) -> pd.Index:
    """The ids under their own name, each one value: of several levels a tuple."""
    return (ids.to_flat_index() if isinstance(ids, pd.MultiIndex) else ids).rename("unit_id")


def _as_frame(units: object) -> pd.DataFrame:
    if isinstance(units, pd.DataFrame):
        frame = units.copy(deep=False)
        names = [name for name in frame.columns if not isinstance(name, str)]
        if names:
            raise InputError(f"Column names must be text, not {names[0]!r}.")
        if not frame.columns.is_unique:
            raise InputError(f"The column {frame.columns[frame.columns.duplicated()][0]!r} stands twice in units.")
        return frame
    if isinstance(units, pd.Series):
        name = units.name if isinstance(units.name, str) else "text"
        frame = units.rename(name).to_frame()
        if name != "text":
            frame["text"] = frame[name]
        return frame
    # A set has another order in every process.
    if isinstance(units, (str, bytes, Mapping, set, frozenset)) or not isinstance(units, Iterable):
        raise InputError(
            f"units must be a DataFrame, a Series, a list of texts or a list of mappings, not {type(units).__name__}."
        )
    rows = list(units)
    if not rows:
        return pd.DataFrame({"text": pd.Series([], dtype="str")})
    if set(map(type, rows)) == {str}:
        # Spares pandas the guess, which takes longer than all else for a million texts.
        with contextlib.suppress(UnicodeEncodeError):
            return pd.DataFrame({"text": pd.array(rows, dtype="str")})
    if all(isinstance(row, Mapping) for row in rows):
        return _tolerant_frame([dict(row) for row in rows])
    for place, row in enumerate(rows):
        if isinstance(row, (Mapping, list, tuple, bytes)) or (
            not isinstance(row, str) and not pd.api.types.is_scalar(row)
        ):
            raise InputError(f"units[{place}] is a {type(row).__name__}: a list holds texts only or mappings only.")
    return _tolerant_frame({"text": rows})


def _tolerant_frame(data: Any) -> pd.DataFrame:
    try:
        frame = pd.DataFrame(data)
    except UnicodeEncodeError:
        # Half a surrogate pair fits no column of text.
        frame = pd.DataFrame(data, dtype=object)
    return _as_frame(frame)


def _check_hashable(ids: pd.Index | pd.Series) -> None:
    for one in ids if pd.api.types.is_object_dtype(ids.dtype) else ():
        try:
            hash(one)
        except TypeError:
            raise InputError(f"unit_id must be text, numbers or the like, not a {type(one).__name__}.") from None


def _read_rows(frame: pd.DataFrame, taken: set[str], models: tuple[str, ...], prompts: tuple[str | None, ...]) -> Plan:
    """Rows of `predictions` as a plan of exactly these trials; `taken` are the columns that are not the unit's own."""
    # A column of the unit with the name of a result's is called status_ in predictions.
    own = {name: name for name in frame.columns if name not in taken}
    own |= {name: name[:-1] for name in own if name.rstrip("_") in taken and name[:-1] in frame.columns}
    runs = pd.to_numeric(frame["run"], errors="coerce")
    if not (runs.ge(1) & runs.lt(2**31) & runs.mod(1).eq(0)).fillna(False).all():
        raise InputError("The column run must hold whole numbers from 1, as in predictions.")
    _check_hashable(frame["unit_id"])
    ids, labels = pd.factorize(frame["unit_id"])
    if (ids < 0).any():
        raise InputError("unit_id is missing in some rows.")
    first = ~pd.Series(ids).duplicated().to_numpy()
    units = frame.loc[first, list(own)].rename(columns=own).set_axis(_flat(pd.Index(labels)))
    trials = pd.DataFrame({"row": np.arange(len(frame)), "unit": ids, "run": runs.to_numpy().astype("int64")})
    arms: tuple[tuple[str, tuple[Any, ...]], ...] = (("model", models), ("prompt", prompts))
    for name, known in arms:
        if name in taken and name in frame.columns and frame[name].isin(known).any():
            trials[name] = frame[name].to_numpy(dtype=object)[trials["row"].to_numpy()]
            unknown = trials.loc[~trials[name].isin(known), name]
            if len(unknown):
                raise InputError(f"The rows hold the {name} {unknown.iat[0]!r}, which is not in {name}={list(known)}.")
        else:
            trials = trials.merge(pd.DataFrame({name: np.array(known, dtype=object)}), how="cross")
    if trials.drop(columns="row").duplicated().any():
        raise InputError("Some trials (unit_id, model, run) stand more than once in the rows.")
    unit, model, prompt, run = (trials[name].to_numpy() for name in ("unit", "model", "prompt", "run"))
    return Plan(Units(units), Picked(unit, model, prompt, run), prompts)


def listed(ids: Iterable[Hashable]) -> str:
    """The first few ids in words, and how many more there are."""
    shown = [repr(one) if isinstance(one, str) else str(one) for one in ids]
    return ", ".join(shown[:_SHOWN]) + (f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else "")
