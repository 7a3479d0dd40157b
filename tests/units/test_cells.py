"""A cell is sent whole and in plain words, whatever its type; what has none is refused by its column's name."""

import array
import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import json
import pathlib
import types
import uuid

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pydantic
import pytest

from llmlab.errors import InputError
from llmlab.units import text_of

LONG = [f"w{n}" for n in range(1500)]


class Mood(enum.Enum):
    GOOD = "good mood"


class Tone(str, enum.Enum):  # noqa: UP042 (its str() is not its value)
    SHARP = "sharp"


class Level(enum.IntEnum):
    HIGH = 3


class Review(pydantic.BaseModel):
    label: str
    day: datetime.date


@dataclasses.dataclass
class Point:
    x: int
    y: object


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is\n", "as it is\n"),
        (np.str_("text"), "text"),
        (collections.UserString("text"), "text"),
        (collections.Counter("aab"), '{"a": 2, "b": 1}'),
        (collections.deque([1, "a"]), '[1, "a"]'),
        (array.array("d", [1, 2.5]), "[1.0, 2.5]"),
        (types.MappingProxyType({1: (2, 3)}), '{"1": [2, 3]}'),
        (pd.Categorical(["a", None]), '["a", null]'),
        (pd.MultiIndex.from_tuples([(1, "a")]), '[[1, "a"]]'),
        (pd.interval_range(0, 2), '["(0, 1]", "(1, 2]"]'),
        (np.ma.array([1, 2], mask=[False, True]), "[1, null]"),
        (np.array([(1, "a")], dtype=[("x", int), ("y", "U3")]), '[[1, "a"]]'),
        (Tone.SHARP, "sharp"),
        (Mood.GOOD, "good mood"),
        (Level.HIGH, "3"),
        (3, "3"),
        (2.5, "2.5"),
        (1e300, "1e+300"),
        (True, "True"),
        (np.bool_(False), "False"),
        (np.int64(7), "7"),
        (np.float32(0.1), "0.1"),
        (np.float64(0.1), "0.1"),
        (decimal.Decimal("1.10"), "1.10"),
        (fractions.Fraction(1, 3), "1/3"),
        (pd.Timestamp("2026-01-02"), "2026-01-02 00:00:00"),
        (datetime.date(2026, 1, 2), "2026-01-02"),
        (datetime.datetime(2026, 1, 2, 3, 4), "2026-01-02 03:04:00"),
        (datetime.time(3, 4), "03:04:00"),
        (datetime.timedelta(hours=2), "2:00:00"),
        (np.datetime64("2026-01-02"), "2026-01-02 00:00:00"),
        (pd.Period("2026-01"), "2026-01"),
        (pd.Interval(1, 2), "(1, 2]"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (pathlib.PurePosixPath("a/b"), "a/b"),
        ("grün".encode(), "grün"),
        (bytearray(b"\xef\xbb\xbftext"), "text"),
        ("grün".encode("utf-16"), "grün"),
        (["a", 1, None, True], '["a", 1, null, true]'),
        (("ä", float("nan")), '["ä", null]'),
        ({"b": {"c": [1]}, 1: datetime.date(2026, 1, 2)}, '{"b": {"c": [1]}, "1": "2026-01-02"}'),
        ({"b", "a", "c"}, '["a", "b", "c"]'),
        (frozenset([3, 1]), "[1, 3]"),
        (range(3), "[0, 1, 2]"),
        (np.array([[1, 2], [3, 4]]), "[[1, 2], [3, 4]]"),
        (np.array([{"role": "user"}], dtype=object), '[{"role": "user"}]'),
        (np.array(5), "5"),
        (pd.Series(["a", None]), '["a", null]'),
        (pd.Categorical(["a", "b"]), '["a", "b"]'),
        (pd.DataFrame({"a": [1, 2], "b": ["x", None]}, index=[7, 8]), '[{"a": 1, "b": "x"}, {"a": 2, "b": null}]'),
        (pl.Series([1, None]), "[1, null]"),
        (pl.DataFrame({"a": [1]}), '[{"a": 1}]'),
        (pa.array(["x", None]), '["x", null]'),
        (pa.table({"a": [1]}), '[{"a": 1}]'),
        (pa.scalar(5), "5"),
        (Review(label="x", day=datetime.date(2026, 1, 2)), '{"label": "x", "day": "2026-01-02"}'),
        (Point(1, np.float32(0.1)), '{"x": 1, "y": 0.1}'),
    ],
    ids=lambda item: type(item).__name__,
)
def test_a_cell_says_what_it_holds(value, text):
    assert text_of(value, "column") == text


@pytest.mark.parametrize(
    "cell",
    [
        LONG,
        np.array(LONG, dtype=object),
        np.array(LONG),
        pd.Series(LONG),
        pd.Index(LONG),
        pd.array(LONG, dtype="str"),
        pl.Series(LONG),
        pa.array(LONG),
        pa.chunked_array([LONG]),
    ],
    ids=lambda item: f"{type(item).__module__.partition('.')[0]} {type(item).__name__}",
)
def test_nothing_is_left_out_of_a_long_one(cell):
    assert json.loads(text_of(cell, "column")) == LONG


def test_a_long_and_wide_frame_is_whole():
    frame = pd.DataFrame({f"c{n}": ["x" * 200] * 300 for n in range(40)})
    assert json.loads(text_of(frame, "column")) == frame.to_dict("records")


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (b"\x89PNG\xff\xd8", r"bytes that are no text in UTF-8.*llmlab\.image"),
        (object(), "object objects"),
        (int, "the class int"),
        (len, "builtin_function_or_method objects"),
        ((n for n in "ab"), "generator objects"),
        ([{"deep": object()}], "object objects"),
    ],
)
def test_what_has_no_words_is_refused_by_the_columns_name(value, what):
    with pytest.raises(InputError, match=rf"The column 'photo' holds {what}"):
        text_of(value, "photo")


def test_what_contains_itself_is_refused():
    value: list = []
    value.append(value)
    with pytest.raises(InputError, match="contains itself"):
        text_of(value, "loop")
