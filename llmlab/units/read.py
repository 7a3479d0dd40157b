"""What the user gives as units → the plan of the trials."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np
import pandas as pd

from llmlab.errors import InputError
from llmlab.units.frames import as_frame
from llmlab.units.plan import Grid, Picked, Plan, Units

_SHOWN = 5
# A frame with all of these is a slice of `predictions`; one that has only a column `run` of its own is not.
_OF_PREDICTIONS = {"unit_id", "run", "prediction", "status"}


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
        Ids are the column `unit_id` if there is one, else the index. A slice of `predictions` (which has the columns
        `unit_id`, `run`, `prediction` and `status`) means exactly those runs, of those models if `model` is there too.
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
    frame = as_frame(units)
    if set(frame.columns) >= _OF_PREDICTIONS:
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
        again = named and "run" in frame.columns
        raise InputError(
            f"unit_id must be unique, but {listed(twice)} stands more than once: try units.{way_out}."
            + " (Rows of predictions that are to be asked again need their columns prediction and status.)" * again
        )
    return Plan(Units(frame), Grid(len(frame), models, prompts, runs), prompts)


def _flat(ids: pd.Index) -> pd.Index:
    """The ids under their own name, each one value: of several levels a tuple."""
    return (ids.to_flat_index() if isinstance(ids, pd.MultiIndex) else ids).rename("unit_id")


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
