"""A store and its keys → the two frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from llmlab import analysis
from llmlab.analysis import field_value
from llmlab.parsing import is_ordered
from llmlab.records import STATUSES, TRIAL_KEY
from llmlab.results import columns
from llmlab.results.store import Store


def attempts_frame(store: Store, keys: pd.DataFrame) -> pd.DataFrame:
    """One row per attempt, in the order of trials; the columns are those of `attempt_columns`.

    Parameters
    ----------
    keys : DataFrame
        The trials' key columns by position, and `unit`, the row of the unit.
    """
    table = store.table
    order = table.order()
    position = np.array(table.position, "int64")[order]
    made: dict[str, Any] = {name: keys[name].array.take(position) for name in _key(keys)}
    return columns.frame(made | {name: table.array(name, order) for name in table.declared.columns})


def predictions_frame(
    store: Store,
    keys: pd.DataFrame,
    units: pd.DataFrame,
    *,
    categories: Sequence[Any] | None,
    fields: Sequence[str],
    names: Mapping[str, str],
) -> pd.DataFrame:
    """One row per trial, in input order; the columns are those of `prediction_columns`.

    Parameters
    ----------
    fields : sequence of str
        Fields of the response model.
    names : mapping
        Under which name each of the units' columns stands here; see `own_names`.
    """
    trials = len(keys)
    values = store.values(trials)
    last = store.last(trials)
    made: dict[str, Any] = {name: keys[name].array for name in _key(keys)}
    made["prediction"] = _labels(values, categories, fields)
    declared = columns.prediction_columns(store.table.declared)
    for field in fields:
        cells = [field_value(value, field) for value in values]
        made[columns.free(field, {*made, *declared})] = columns.inferred(cells)
    unit = keys["unit"].to_numpy()
    for name in units.columns:
        made[names[name]] = units[name].array.take(unit)
    made["status"] = columns.named(store.statuses(trials), STATUSES)
    made |= _confidence(made, store, last, fields)
    made |= {name: columns.strings(texts) for name, texts in store.errors(trials).items()}
    made["attempts"] = np.bincount(np.array(store.table.position, "int64"), minlength=trials).astype("int64")
    made |= store.table.sums(trials)
    ended_at = np.full(trials, np.nan)
    ended = store.table.numbers("started_at") + store.table.numbers("latency_s")
    ended_at[last >= 0] = ended[last[last >= 0]]
    made["finished_at"] = columns.times(ended_at)
    return columns.frame(made)


def _confidence(made: Mapping[str, Any], store: Store, last: np.ndarray, fields: Sequence[str]) -> dict[str, Any]:
    """How sure each answer is; of answers with fields each field is, on its own."""
    trials = len(last)
    logprob = np.full(trials, np.nan)
    logprob[last >= 0] = store.table.numbers("label_logprob")[last[last >= 0]]
    if fields or (np.isnan(logprob).all() and trials and np.max(made["run"]) < 2):
        return {
            "confidence": columns.nullable(np.full(trials, np.nan)),
            "confidence_from": columns.strings([None] * trials),
        }
    names = [name for name in (*TRIAL_KEY, "prediction", "status") if name in made]
    return analysis.confidence(columns.frame({name: made[name] for name in names}), logprob)


def own_names(store: Store, keys: pd.DataFrame, units: pd.DataFrame, fields: Sequence[str]) -> dict[str, str]:
    """Under which name each of the units' columns stands in `predictions`: a taken name gets an underscore."""
    taken = {*_key(keys), *columns.prediction_columns(store.table.declared)}
    for field in fields:
        taken.add(columns.free(field, taken))
    names: dict[str, str] = {}
    for name in units.columns:
        names[name] = columns.free(name, taken)
        taken.add(names[name])
    return names


def _key(keys: pd.DataFrame) -> list[str]:
    return [name for name in keys.columns if name != "unit"]


def _labels(values: list[Any], categories: Sequence[Any] | None, fields: Sequence[str]) -> Any:
    if categories is not None:
        return pd.Categorical(values, categories=categories, ordered=is_ordered(categories))
    if fields or not all(value is None or isinstance(value, str) for value in values):
        return columns.as_objects(values)
    return columns.strings(values)
