"""Tables of other libraries become pandas by their own conversion, with the same values."""

import datetime

import dask.dataframe
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from llmlab.errors import InputError
from llmlab.units.frames import as_frame

PANDAS = pd.DataFrame({"text": ["a", "b", "c"], "gold": [1, 2, 3]})


class Modin:
    """Modin's frames have this method and no public one."""

    def _to_pandas(self):
        return PANDAS


class Spark:
    def toPandas(self):
        return PANDAS


class DuckDB:
    def df(self):
        return PANDAS


class Lazy:
    """Computed first, then converted."""

    def compute(self):
        return pa.table({"text": ["a", "b", "c"], "gold": [1, 2, 3]})


@pytest.mark.parametrize(
    "table",
    [
        PANDAS,
        pl.DataFrame(PANDAS.to_dict("list")),
        pl.LazyFrame(PANDAS.to_dict("list")),
        pa.table(PANDAS.to_dict("list")),
        pa.record_batch(PANDAS.to_dict("list")),
        dask.dataframe.from_pandas(PANDAS, npartitions=2),
        np.array([("a", 1), ("b", 2), ("c", 3)], dtype=[("text", "U1"), ("gold", "i8")]),
        Modin(),
        Spark(),
        DuckDB(),
        Lazy(),
    ],
    ids=lambda table: f"{type(table).__module__.partition('.')[0]} {type(table).__name__}",
)
def test_a_table_of_another_library_is_read_whole(table):
    frame = as_frame(table)
    assert frame.columns.tolist() == ["text", "gold"]
    assert frame["text"].tolist() == ["a", "b", "c"]
    assert frame["gold"].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "column", [pl.Series("review", ["a", "b"]), pa.chunked_array([["a"], ["b"]]), pa.array(["a", "b"])]
)
def test_a_column_of_another_library_is_a_list_of_texts(column):
    assert as_frame(column)["text"].tolist() == ["a", "b"]


@pytest.mark.parametrize("library", [pl.DataFrame, pa.table])
def test_whole_numbers_with_gaps_stay_whole(library):
    frame = as_frame(library({"year": [1999, None, 2001], "day": [datetime.date(2020, 1, 2)] * 3}))
    assert [str(year) for year in frame["year"][[0, 2]]] == ["1999", "2001"]
    assert str(frame["day"][0]).startswith("2020-01-02")


def test_a_conversion_that_fails_names_the_library_and_the_way_out():
    class Broken:
        def to_pandas(self):
            raise ImportError("pyarrow is missing")

    with pytest.raises(InputError, match=r"Broken, which its own to_pandas\(\) .*pyarrow is missing.*convert it first"):
        as_frame(Broken())


def test_columns_in_a_mapping_are_refused_with_the_way_out():
    with pytest.raises(InputError, match=r"not dict\. Of columns make a table: pd\.DataFrame\(units\)"):
        as_frame({"text": ["a", "b"]})
