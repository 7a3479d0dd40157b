"""Units × models × prompts × runs → a plan of trials."""

from __future__ import annotations

import contextlib
import itertools
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
    """What is asked about: ids, the units' own columns, and which runs of which unit.

    Attributes
    ----------
    frame : DataFrame
        The units' own columns, one row per unit, in input order; its index is the id.
    picked : DataFrame or None
        Columns `unit` (row of `frame`), `model`, `prompt` and `run`, if only certain trials are meant.
    """

    frame: pd.DataFrame
    picked: pd.DataFrame | None = None

    def __len__(self) -> int:
        return len(self.frame)


@dataclass(frozen=True, slots=True)
class Plan:
    """All trials of an experiment by position, made when they are needed.

    Attributes
    ----------
    units : Units
    models : tuple of str
    runs : int
    prompts : tuple of str or None
        Names; `(None,)` for a single prompt without one.
    """

    units: Units
    models: tuple[str, ...]
    runs: int
    prompts: tuple[str | None, ...] = (None,)

    def __len__(self) -> int:
        if self.units.picked is not None:
            return len(self.units.picked)
        return len(self.units) * self._each

    @property
    def _each(self) -> int:
        return len(self.models) * len(self.prompts) * self.runs

    def unit_of(self, position: int) -> int:
        """Row of the unit that the trial at `position` is about."""
        if self.units.picked is not None:
            return int(self.units.picked["unit"].to_numpy()[position])
        return position // self._each

    def trials(self, positions: Iterable[int] | None = None) -> Iterator[Trial]:
        """The trials in input order, or those at `positions`."""
        ids: Any = self.units.frame.index
        picked = self.units.picked
        if picked is not None:
            rows, models, prompts, runs = (picked[name].to_numpy() for name in ("unit", "model", "prompt", "run"))
            for at in range(len(picked)) if positions is None else positions:
                yield Trial(at, ids[rows[at]], models[at], int(runs[at]), prompts[at])
            return
        each, arms = self._each, list(itertools.product(self.models, self.prompts))
        for at in range(len(self)) if positions is None else positions:
            arm, run = divmod(at % each, self.runs)
            model, prompt = arms[arm]
            yield Trial(at, ids[at // each], model, run + 1, prompt)

    def keys(self) -> pd.DataFrame:
        """Columns `unit` (row number), `unit_id`, `model`, `prompt` (if named), `run` of all trials, by position."""
        if self.units.picked is not None:
            picked = self.units.picked
            unit, model, prompt, run = (picked[name].to_numpy() for name in ("unit", "model", "prompt", "run"))
        else:
            at = np.arange(len(self))
            arm = at % self._each // self.runs
            unit, run = at // self._each, at % self.runs + 1
            model = np.array(self.models, dtype=object)[arm // len(self.prompts)]
            prompt = np.array(self.prompts, dtype=object)[arm % len(self.prompts)]
        ids = self.units.frame.index.take(unit)
        return pd.DataFrame(
            {
                "unit": unit.astype("int64"),
                "unit_id": pd.Series(ids.to_flat_index() if isinstance(ids, pd.MultiIndex) else ids).reset_index(
                    drop=True
                ),
                "model": pd.array(model, dtype="str"),
                **({} if self.prompts == (None,) else {"prompt": pd.array(prompt, dtype="str")}),
                "run": run.astype("int64"),
            }
        )


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
        return Plan(_picked(frame, taken, models, prompts), models, runs, prompts)
    named = "unit_id" in frame.columns
    if named:
        frame = frame.set_index("unit_id")
    levels = (frame.index.get_level_values(level) for level in range(frame.index.nlevels))
    missing = np.any([level.isna() for level in levels], axis=0)
    if isinstance(frame.index, pd.MultiIndex):
        frame.index = frame.index.to_flat_index()
    frame.index = frame.index.rename("unit_id")
    if missing.any():
        raise InputError(
            f"unit_id is missing in row {int(np.flatnonzero(missing)[0])} (of {len(frame)}): every unit needs one."
        )
    _check_hashable(frame.index)
    if not frame.index.is_unique:
        twice = frame.index[frame.index.duplicated()].unique()
        way_out = "drop(columns='unit_id')" if named else "reset_index(drop=True)"
        raise InputError(f"unit_id must be unique, but {listed(twice)} stands more than once: try units.{way_out}.")
    return Plan(Units(frame), models, runs, prompts)


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


def _picked(frame: pd.DataFrame, taken: set[str], models: tuple[str, ...], prompts: tuple[str | None, ...]) -> Units:
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
    units = frame.loc[first, list(own)].rename(columns=own).set_axis(pd.Index(labels, name="unit_id"))
    picked = pd.DataFrame({"unit": ids.astype("int64"), "run": runs.to_numpy().astype("int64")})
    arms: tuple[tuple[str, tuple[Any, ...]], ...] = (("model", models), ("prompt", prompts))
    for name, known in arms:
        if name in taken and name in frame.columns and frame[name].isin(known).any():
            # Rows cross with what they leave open, so these stand in the rows' order still.
            each = max(1, len(picked) // max(1, len(frame)))
            picked[name] = frame[name].to_numpy(dtype=object)[picked.index.to_numpy() // each]
            unknown = picked.loc[~picked[name].isin(known), name]
            if len(unknown):
                raise InputError(f"The rows hold the {name} {unknown.iat[0]!r}, which is not in {name}={list(known)}.")
        else:
            picked = picked.merge(pd.DataFrame({name: np.array(known, dtype=object)}), how="cross")
    if picked.duplicated().any():
        raise InputError("Some trials (unit_id, model, run) stand more than once in the rows.")
    return Units(units, picked)


def listed(ids: Iterable[Hashable]) -> str:
    """The first few ids in words, and how many more there are."""
    shown = [repr(one) if isinstance(one, str) else str(one) for one in ids]
    return ", ".join(shown[:_SHOWN]) + (f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else "")
