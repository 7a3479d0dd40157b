"""Answers with several fields: one field of them as labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

import numpy as np
import pandas as pd

from llmlab.analysis.confidence import confidence
from llmlab.errors import InputError
from llmlab.pandas_versions import text_array
from llmlab.records import trial_key

Fields = Mapping[str, Mapping[str, Any]]


def field_value(answer: object, name: str) -> Any:
    """A field of an answer, which is an object of the response model or, read from a file, a mapping."""
    return answer.get(name) if isinstance(answer, Mapping) else getattr(answer, name, None)


def known_fields(described: Iterable[str] | Fields | None) -> dict[str, dict[str, Any]]:
    """The fields by name; those of older files have no kind."""
    if isinstance(described, Mapping):
        return {name: dict(field) for name, field in described.items()}
    return {name: {"kind": "other"} for name in described or ()}


def main_field(fields: Fields) -> str | None:
    """The first field that is a label."""
    return next((name for name, field in fields.items() if field["kind"] in ("label", "ordered")), None)


def listed_fields(fields: Fields) -> str:
    """The fields in words, for an error message."""
    words = []
    for name, field in fields.items():
        labels = [str(label) for label in field.get("labels", ())]
        shown = labels if len(labels) <= 6 else [*labels[:5], "…", labels[-1]]
        what = f"any of {', '.join(shown)}" if field["kind"] == "labels" else ", ".join(shown) or field["kind"]
        words.append(f"{name} ({what})")
    return "; ".join(words)


def one_field(predictions: pd.DataFrame, name: str, fields: Fields) -> tuple[pd.DataFrame, list[Any] | None]:
    """The predictions with one field of the answers in place of the answers.

    Parameters
    ----------
    predictions : DataFrame
        Whose `prediction` holds the answers.
    name : str
        The field. Of a list of labels a row is made for each label, with True or False and the column `label`.

    Returns
    -------
    tuple of DataFrame and list
        The frame without the columns of the fields, and the labels in order; `None` where values are free.

    Raises
    ------
    InputError
        The answers have no such field.
    """
    if name not in fields:
        known = f"they have: {listed_fields(fields)}" if fields else "they are labels or texts themselves"
        raise InputError(f"These answers have no field {name!r}: {known}.")
    values = [_plain(field_value(answer, name)) for answer in predictions["prediction"]]
    frame = predictions.drop(columns=[one for one in fields if one in predictions])
    field = fields[name]
    if field["kind"] == "labels":
        return _resure(_row_per_label(frame, values, field["labels"])), [False, True]
    if "labels" in field:
        labels = list(field["labels"])
        made = pd.Categorical(values, categories=labels, ordered=field["kind"] == "ordered")
        return _resure(frame.assign(prediction=made)), labels
    cells = np.empty(len(values), object)
    cells[:] = values
    kinds = {type(value) for value in values if value is not None}
    array = text_array(cells) if kinds == {str} else pd.array(cells)
    return _resure(frame.assign(prediction=pd.Series(array, index=frame.index))), None


def _resure(frame: pd.DataFrame) -> pd.DataFrame:
    """With how sure these values are, which only the runs tell: logprobs are those of whole answers."""
    if "confidence" not in frame:
        return frame
    return frame.assign(**confidence(frame, np.full(len(frame), np.nan)))


def row_per_label(predictions: pd.DataFrame, labels: Iterable[Any]) -> pd.DataFrame:
    """A row for each label: `prediction` tells whether it is that label; the column `label` is a further arm."""
    values = predictions["prediction"].astype(object)
    return _row_per_label(predictions, [None if pd.isna(value) else [value] for value in values], list(labels))


def _row_per_label(frame: pd.DataFrame, values: list[Any], labels: list[Any]) -> pd.DataFrame:
    longer = frame.loc[frame.index.repeat(len(labels))].reset_index(drop=True)
    label = [str(one) for one in labels] * len(frame)
    said = [None if value is None else one in value for value in values for one in labels]
    key = trial_key(frame.columns)
    longer = longer.assign(prediction=pd.Categorical(said, categories=[False, True]))
    longer.insert(list(longer.columns).index(key[-1]), "label", text_array(label))
    return longer


def _plain(value: Any) -> Any:
    """A label as it stands in the schema: the value of an Enum's member."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in value]
    return value
