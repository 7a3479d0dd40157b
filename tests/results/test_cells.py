"""Cells of every kind survive as text; ids are told apart by value and type."""

import datetime
import uuid
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from llmlab.results import cells

STAMP = pd.Timestamp("2026-01-01 00:00:00.123456789", tz="UTC")


@pytest.mark.parametrize("same", [
    [1, 1.0, np.int8(1), np.float32(1), Decimal("1.0")],
    ["1"],
    [True],
    [0.5, np.float64(0.5)],
    [(1, "a"), (1.0, "a")],
    [("1", "a")],
    [datetime.date(2024, 1, 1)],
    [datetime.datetime(2024, 1, 1)],
    [pd.Timestamp("2024-01-01")],
    [uuid.UUID(int=1)],
    [float("inf")],
], ids=str)  # fmt: skip
def test_ids_are_one_by_value_and_type(same):
    others = [1, "1", True, 0.5, (1, "a"), ("1", "a"), datetime.date(2024, 1, 1), datetime.datetime(2024, 1, 1),
              pd.Timestamp("2024-01-01"), uuid.UUID(int=1), float("inf")]  # fmt: skip
    texts = {cells.encode_id(one) for one in same}
    assert len(texts) == 1
    assert [cells.encode_id(one) for one in others].count(texts.pop()) == 1


@pytest.mark.parametrize("value", [
    None, True, 3, 0.1, "é\n", [1, [2]], {"a": [None]}, (1, ("b",)), {1: 2, "$x": 3}, STAMP, datetime.date(2024, 2, 29),
    datetime.datetime(2024, 2, 29, 1), uuid.UUID(int=7), Decimal("1.50"),
], ids=str)  # fmt: skip
def test_values_come_back_as_they_were(value):
    again = cells.decode(cells.encode(value))
    assert again == value
    assert type(again) is type(value)


@pytest.mark.parametrize("column", [
    pd.Series(range(25_000)), pd.Series([0.1, None, float("inf")]), pd.Series([1, 2], dtype="uint8"),
    pd.Series([True, False]), pd.Series(["a", None, "é"]), pd.Series([1, None], dtype="Int64"),
    pd.Series([STAMP, None]), pd.Series([["x"], {"y": 1}, None]), pd.Series(["a\ud83d", "b"], dtype=object),
    pd.Series(pd.Categorical(["u", None, "v"], ["v", "u", "w"], ordered=True)), pd.Series([], dtype="str"),
], ids=lambda column: str(column.dtype))  # fmt: skip
def test_columns_come_back_as_they_were(column):
    how, pieces = cells.pack(column)
    pd.testing.assert_series_equal(cells.unpack(how, pieces), column)


def test_a_longer_column_begins_with_the_same_pieces():
    column = pd.Series([f"text {n}" for n in range(25_000)])
    _, short = cells.pack(column.head(20_001))
    _, long = cells.pack(column)
    assert (len(short), len(long)) == (3, 3)
    assert short[:2] == long[:2]
