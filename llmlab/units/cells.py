"""One cell of a unit → the text that stands for it in a prompt, whole and in the same words in every process.

`str()` would leave out the middle of a long array, write bytes as b'…' and an object as its address in memory.
"""

from __future__ import annotations

import codecs
import collections
import dataclasses
import datetime
import enum
import json
import math
import numbers
import os
import uuid
from collections.abc import Mapping, Sequence, Set
from typing import Any

import numpy as np
import pandas as pd

from llmlab.errors import InputError

# Kinds of values that `str` writes in plain words.
_IN_WORDS = (
    numbers.Number,  # Decimal and Fraction too
    datetime.date,  # datetimes and Timestamps too
    datetime.time,
    datetime.timedelta,
    pd.Period,
    pd.Interval,
    uuid.UUID,
)
# How arrays and frames of any library give up their contents whole, in the order in which they are tried: polars and
# Arrow frames, Arrow arrays and scalars, numpy, pandas and torch, polars series; models of pydantic.
_CONTENTS = ("to_dicts", "to_pylist", "as_py", "tolist", "to_list", "model_dump")


class NotTextError(TypeError):
    """A value that neither is text nor can be written as JSON; the message says what it is."""


def text_of(value: object, column: str) -> str:
    """The text that stands for a cell in a prompt.

    Parameters
    ----------
    value : object
        Text, a number, a boolean or a date as they are written; bytes that are text, decoded; lists, mappings, sets,
        arrays and frames as JSON, whole.
    column : str
        Its name, for the error.

    Raises
    ------
    InputError
        It is none of these.
    """
    if type(value) is str:
        return value
    try:
        value = plain(value)
    except NotTextError as error:
        raise InputError(
            f"The column {column!r} holds {error}, which cannot be sent as text: make it text, numbers, dates, lists "
            "or mappings first. (A picture is a part of a message: llmlab.image(...).)"
        ) from None
    except RecursionError:
        raise InputError(
            f"The column {column!r} holds a value that contains itself, or is nested too deeply."
        ) from None
    if isinstance(value, str):
        return value
    if isinstance(value, (dict, list)) or value is None:
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def plain(value: object) -> Any:
    """The value as JSON knows it (text, numbers, booleans, `None`, lists and dicts); arrays and frames whole.

    Raises
    ------
    NotTextError
        Something in it is nothing of the kind.
    """
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, (str, collections.UserString)):
        return str.__str__(value) if isinstance(value, str) else value.data
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, np.generic):
        return _plain_number(value)
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, (bytes, bytearray, memoryview)):
        return _decoded(bytes(value))
    if isinstance(value, _IN_WORDS):
        return str(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return _plain_contents(value)


def _plain_contents(value: object) -> Any:
    """What holds further values: mappings, lists, sets, records, arrays and frames."""
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(item) for key, item in value.items()}
    if isinstance(value, Set):
        # A set has another order in every process.
        return sorted((plain(item) for item in value), key=lambda item: json.dumps(item, sort_keys=True))
    if isinstance(value, Sequence):
        return [plain(item) for item in value]
    if isinstance(value, pd.DataFrame):
        return [plain(dict(zip(value.columns, row, strict=True))) for row in value.itertuples(index=False, name=None)]
    if isinstance(value, type):
        raise NotTextError(f"the class {value.__name__}")
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    for name in _CONTENTS:
        give = getattr(value, name, None)
        if callable(give):
            return plain(give())
    raise NotTextError(f"{type(value).__name__} objects")


def _plain_number(value: np.generic) -> Any:
    """A scalar of numpy; a float32 as it is written, not with the digits that a float64 adds."""
    if isinstance(value, np.floating):
        return plain(float(str(value)))
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return plain(pd.Timestamp(value) if isinstance(value, np.datetime64) else pd.Timedelta(value))
    return plain(value.item())


def _decoded(value: bytes) -> str:
    encoding = "utf-16" if value[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    try:
        return value.decode(encoding)
    except UnicodeDecodeError:
        raise NotTextError("bytes that are no text in UTF-8") from None
