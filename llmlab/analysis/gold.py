"""People's labels beside the models': read from a column, a mapping or a sheet, aligned by unit id."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from llmlab.analysis.votes import label_codes
from llmlab.errors import InputError
from llmlab.records import arm_columns, own_columns

Gold = str | pd.Series | Mapping[Hashable, object] | pd.DataFrame


def gold_of(predictions: pd.DataFrame, gold: Gold) -> pd.Series:
    """The gold label of each row, aligned by unit id, never by position.

    With the column `label` (a row per unit × label) gold holds lists of labels, and each row's gold is True or False.
    """
    if isinstance(gold, str):
        found = own_column(predictions, gold, "gold")
    elif isinstance(gold, pd.DataFrame):
        found = _by_unit(predictions, by_id(gold, "label")["label"])
    elif isinstance(gold, pd.Series | Mapping):
        found = _by_unit(predictions, gold)
    else:
        raise InputError(
            "gold must be a column's name, a Series indexed by unit_id, a mapping, or a sheet, "
            f"not {type(gold).__name__}."
        )
    if "label" in arm_columns(predictions.columns):
        pairs = zip(found, predictions["label"], strict=True)
        return pd.Series([is_label(cell, label) for cell, label in pairs], index=predictions.index, dtype=object)
    return as_labels(found.to_frame("gold"), predictions["prediction"], "gold")["gold"]


def own_column(predictions: pd.DataFrame, name: str, what: str) -> pd.Series:
    """A column of the units; llmlab's own columns are no labels of people."""
    own = own_columns(predictions.columns)
    if name in own:
        return predictions[name].astype(object)
    if name in predictions.columns:
        renamed = f" Your column of that name is called {name}_ here." if f"{name}_" in own else ""
        raise InputError(f"{what}={name!r} is a column of llmlab's, not of your units.{renamed}")
    raise InputError(f"{what}={name!r} is no column of your units: they have {', '.join(own) or 'none'}.")


def by_id(frame: pd.DataFrame, *needed: str) -> pd.DataFrame:
    """A frame of people's labels, indexed by `unit_id`."""
    missing = [name for name in ("unit_id", *needed) if name not in frame.columns]
    if missing:
        raise InputError(
            f"A frame of labels needs the column {missing[0]}; it has {', '.join(map(str, frame.columns))}."
        )
    if frame["unit_id"].duplicated().any():
        twice = frame.loc[frame["unit_id"].duplicated(), "unit_id"].iloc[0]
        raise InputError(f"unit_id must be unique in a frame of labels, but {twice!r} stands more than once.")
    return frame.set_index("unit_id")


def matched_ids(ids: pd.Index, units: pd.Index) -> pd.Index:
    """The ids as the units have them: what was read from a file is text or a number, whatever it was before."""
    spelled = {str(one): one for one in units}
    known = set(units)
    return pd.Index([one if one in known else spelled.get(_spelled(one), one) for one in ids], dtype=object)


def human_labels(predictions: pd.DataFrame, humans: str | Sequence[str] | pd.DataFrame) -> pd.DataFrame:
    """People's labels as given, a column for each person, a row for each unit in the order of `predictions`."""
    units = pd.Index(predictions["unit_id"].unique(), dtype=object)
    if isinstance(humans, pd.DataFrame):
        frame = by_id(humans)
        frame = frame.set_axis(matched_ids(frame.index, units))
        return frame[raters_in(predictions, humans)].astype(object).reindex(units)
    names = [humans] if isinstance(humans, str) else list(humans)
    first = ~predictions["unit_id"].duplicated()
    columns = {name: own_column(predictions, name, "humans")[first].to_numpy(object) for name in names}
    return pd.DataFrame(columns, index=units, dtype=object)


def without_examples(predictions: pd.DataFrame, units: pd.DataFrame, description: Mapping[str, Any]) -> pd.DataFrame:
    """The predictions without the units that are examples in the prompt: the model has been told their answers.

    Parameters
    ----------
    units : DataFrame
        Indexed by `unit_id`.
    description : mapping
        Of the results; `example_units` are the rows in `units`.

    Returns
    -------
    DataFrame
        Its `attrs["notes"]` say what was left out.
    """
    told = units.index[description.get("example_units") or []]
    if not len(told):
        return predictions
    rest = predictions[~predictions["unit_id"].isin(list(told))]
    rest.attrs["notes"] = [f"{len(told)} unit{'s' * (len(told) > 1)} left out, as examples in the prompt"]
    return rest


def raters_in(predictions: pd.DataFrame, frame: pd.DataFrame) -> list[str]:
    """The columns of a frame of labels, such as a sheet, that are people's: all but its own and those of the units."""
    skipped = {"unit_id", "probability", *own_columns(predictions.columns)}
    return [name for name in frame.columns if name not in skipped]


def as_labels(frame: pd.DataFrame, prediction: pd.Series, what: str) -> pd.DataFrame:
    """People's labels as the predictions spell them; missing ones are `None`.

    Raises
    ------
    InputError
        The predictions are one of given categories, and a label is none of them.
    """
    labels = list(label_codes(prediction)[1])
    spelled = {_spelled(one): one for one in labels}
    closed = isinstance(prediction.dtype, pd.CategoricalDtype)
    unknown: dict[str, None] = {}

    def read(cell: Any) -> Any:
        if _is_missing(cell):
            return None
        label = spelled.get(_spelled(cell), cell)
        if closed and _spelled(cell) not in spelled:
            unknown[str(cell)] = None
        return label

    made = {}
    for name in frame.columns:
        cells = np.empty(len(frame), object)
        cells[:] = list(_once_each(read, frame[name]))
        made[name] = cells
    if unknown:
        raise InputError(
            f"{what} has labels that are no category: {', '.join(sorted(unknown))}. "
            f"The categories are {', '.join(map(str, labels))}."
        )
    return pd.DataFrame(made, index=frame.index, columns=frame.columns, dtype=object)


def _once_each(read: Callable[[Any], Any], cells: Iterable[Any]) -> Iterator[Any]:
    """What each cell is read as; equal cells of one type are read once."""
    known: dict[tuple[type, Any], Any] = {}
    for cell in cells:
        key = type(cell), cell
        try:
            if key not in known:
                known[key] = read(cell)
            yield known[key]
        except TypeError:
            # A list has no hash.
            yield read(cell)


def is_label(cell: Any, label: object) -> bool | None:
    """Whether a person's cell, a label or a list of labels, has this label; `None` if the cell is empty."""
    if _is_missing(cell):
        return None
    cells = cell if isinstance(cell, list | tuple | set | frozenset | np.ndarray) else [cell]
    return _spelled(label) in {_spelled(one) for one in cells}


def _by_unit(predictions: pd.DataFrame, gold: Any) -> pd.Series:
    labels = gold if isinstance(gold, pd.Series) else pd.Series(dict(gold), dtype=object)
    if not labels.index.is_unique:
        raise InputError("gold has several labels for one unit id: its index must be unique.")
    labels = labels.astype(object).set_axis(matched_ids(labels.index, pd.Index(predictions["unit_id"].unique())))
    found = labels.reindex(pd.Index(predictions["unit_id"], dtype=object)).set_axis(predictions.index)
    if len(found) and found.isna().all():
        raise InputError("gold knows none of the unit ids: is it indexed by unit_id?")
    return found


def _is_missing(cell: Any) -> bool:
    return (
        cell is None or (pd.api.types.is_scalar(cell) and pd.isna(cell)) or (isinstance(cell, str) and not cell.strip())
    )


def _spelled(label: object) -> str:
    """How a label or id is written in a file: a whole number without decimals, without blanks around it."""
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    return str(label).strip()
