"""Any table of units becomes a plan of trials in its own order; rows of predictions mean exactly those trials."""

import pickle

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from llmlab.errors import InputError
from llmlab.pandas_versions import TEXT
from llmlab.records import Trial
from llmlab.results import PREDICTION_COLUMNS
from llmlab.units import read_units

FRAME = pd.DataFrame({"text": ["first", "second", "third"], "gold": [1, 2, 3]})


def plan(units, *, runs=1, models=("m",)):
    return read_units(units, runs=runs, models=models, result_columns=PREDICTION_COLUMNS)


def ids(units):
    return plan(units).keys()["unit_id"].tolist()


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        (FRAME.assign(unit_id=["x", "y", "z"]), ["x", "y", "z"]),
        (FRAME.set_index(pd.Index([9, 7, 8], name="key")), [9, 7, 8]),
        (FRAME.iloc[[2, 0, 1]], [2, 0, 1]),
        (FRAME.assign(unit_id=["x", "y", "z"]).sort_values("gold", ascending=False), ["z", "y", "x"]),
        (FRAME.set_index([pd.Index([9, 7, 8]), pd.Index(list("abc"))]), [(9, "a"), (7, "b"), (8, "c")]),
        (
            FRAME.set_index([pd.Index([9, 7, 8], name="k"), pd.Index(list("abc"), name="k")]),
            [(9, "a"), (7, "b"), (8, "c")],
        ),
        (FRAME.set_index(pd.date_range("2026-01-01", periods=3)), list(pd.date_range("2026-01-01", periods=3))),
        (FRAME.assign(unit_id=pd.Categorical(["x", "y", "z"])), ["x", "y", "z"]),
        (FRAME.assign(unit_id=[(1, 2), (3, 4), (5, 6)]), [(1, 2), (3, 4), (5, 6)]),
        (FRAME.assign(unit_id=pd.Series([1, "1", 2.5], dtype=object)), [1, "1", 2.5]),
        (pd.Series(["a", "b"], index=["x", "y"], name="review"), ["x", "y"]),
        (pd.Series(["a", "b"]), [0, 1]),
        (["a", "b"], [0, 1]),
        (("a", "b"), [0, 1]),
        (np.array(["a", "b"]), [0, 1]),
        (pd.Index(["a", "b"]), [0, 1]),
        ([{"text": "a"}, {"text": "b", "more": 1}], [0, 1]),
        ([{"unit_id": "q", "text": "a"}, {"unit_id": "r", "text": "b"}], ["q", "r"]),
        ((word for word in ["a", "b"]), [0, 1]),
    ],
)
def test_ids_are_the_column_unit_id_or_the_index_in_the_given_order(units, expected):
    assert ids(units) == expected


def test_the_users_frame_stays_as_it_was():
    units = FRAME.set_index(pd.Index([9, 7, 8], name="key"))
    before = pickle.dumps(units)
    plan(units)
    plan(units.assign(unit_id=[1, 2, 3]))
    assert pickle.dumps(units) == before
    assert units.index.name == "key"


def test_the_units_own_columns_keep_values_types_and_order():
    own = plan(FRAME.assign(unit_id=["x", "y", "z"])[["gold", "unit_id", "text"]]).units.frame
    assert_frame_equal(own, FRAME[["gold", "text"]].set_axis(pd.Index(["x", "y", "z"], name="unit_id")))


def test_a_named_series_is_asked_about_by_its_name_or_as_text():
    own = plan(pd.Series(["a", "b"], name="review")).units.frame
    assert own["review"].tolist() == own["text"].tolist() == ["a", "b"]


@pytest.mark.parametrize(
    "units",
    [
        [],
        (),
        iter(()),
        pd.DataFrame(),
        FRAME.iloc[:0],
        pd.Series([], dtype="str"),
        pd.DataFrame({"unit_id": [], "text": []}),
        pd.DataFrame({name: [] for name in ("unit_id", "run", "model", "text", "prediction", "status")}),
        pd.DataFrame({name: [] for name in ("unit_id", "run", "text", "prediction", "status")}),
    ],
)
def test_no_units_are_no_trials(units):
    laid_out = plan(units, runs=2)
    keys = laid_out.keys()
    assert len(laid_out) == len(keys) == len(list(laid_out.trials())) == 0
    assert keys.dtypes.drop("unit_id").astype(str).to_dict() == {"unit": "int64", "model": TEXT, "run": "int64"}


@pytest.mark.parametrize(
    ("units", "said"),
    [
        ("one text", "units must be a DataFrame, a Series, a list of texts or a list of mappings, not str"),
        ({"text": "a"}, "not dict"),
        ({"a", "b"}, "not set"),
        (b"bytes", "not bytes"),
        (5, "not int"),
        (None, "not NoneType"),
        (["a", {"text": "b"}], r"units\[1\] is a dict"),
        ([["a"], ["b"]], r"units\[0\] is a list"),
        (["a", object()], r"units\[1\] is a object"),
        (pd.DataFrame([[1, 2]]), "Column names must be text, not 0"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "The column 'a' stands twice"),
        (FRAME.assign(unit_id=[1, 1, 2]), r"must be unique, but 1 .* try units.drop\(columns='unit_id'\)"),
        (pd.concat([FRAME, FRAME]), r"must be unique, but 0, 1, 2 .* try units.reset_index\(drop=True\)"),
        (pd.Series(["t"] * 20, index=["x"] * 10 + ["y"] * 10), "must be unique, but 'x', 'y'"),
        (FRAME.assign(unit_id=[1, None, 2]), r"unit_id is missing in row 1 \(of 3\)"),
        (FRAME.set_index(pd.Index([1, 2, pd.NaT])), "unit_id is missing in row 2"),
        (FRAME.set_index([pd.Index([1.0, np.nan, 2.0]), pd.Index(list("abc"))]), "unit_id is missing in row 1"),
        (FRAME.assign(unit_id=[[1], [2], [3]]), "unit_id must be text, numbers or the like, not a list"),
        ([{"unit_id": [1], "run": 1, "prediction": "x", "status": "ok"}], "unit_id must be text, numbers or the like"),
    ],
)
def test_units_that_cannot_work_are_refused_with_what_is_wrong(units, said):
    with pytest.raises(InputError, match=said):
        plan(units)


@pytest.mark.parametrize("runs", [0, -1, 1.0, True, "3", None])
def test_runs_is_a_whole_number_of_at_least_1(runs):
    with pytest.raises(InputError, match=f"runs must be a whole number of at least 1, not {runs!r}"):
        plan(FRAME, runs=runs)


@pytest.mark.parametrize("models", [(), ("",), (" ",), (1,), ("m", "m")])
def test_models_are_named_once_each(models):
    with pytest.raises(InputError, match="model"):
        plan(FRAME, models=models)


ROWS = pd.DataFrame({
    "unit_id": ["b", "a", "b"], "model": ["m", "n", "n"], "run": [3, 1, 2], "prediction": ["x", "y", None],
    "status": "failed", "text": ["B", "A", "B"],
})  # fmt: skip


def picked(rows, models=("m", "n")):
    keys = plan(rows, runs=9, models=models).keys()
    return [tuple(row) for row in keys[["unit_id", "model", "run"]].itertuples(index=False)]


def test_rows_with_unit_id_and_run_are_exactly_those_runs():
    laid_out = plan(ROWS, runs=9, models=("m", "n"))
    expected = [("b", "m", 3), ("a", "n", 1), ("b", "n", 2)]
    assert picked(ROWS) == [(t.unit_id, t.model, t.run) for t in laid_out.trials()] == expected
    assert picked(ROWS.iloc[[2, 0, 1]]) == [expected[2], expected[0], expected[1]]
    assert len(laid_out) == 3
    assert [laid_out.unit_of(at) for at in range(3)] == [0, 1, 0]
    assert list(laid_out.trials([2, 0])) == [Trial(2, "b", "n", 2), Trial(0, "b", "m", 3)]
    assert_frame_equal(
        laid_out.units.frame, pd.DataFrame({"text": ["B", "A"]}, index=pd.Index(["b", "a"], name="unit_id"))
    )


@pytest.mark.parametrize("left_out", ["prediction", "status", "unit_id"])
def test_a_column_run_of_the_units_own_is_no_repeat(left_out):
    own = ROWS.assign(unit_id=["x", "y", "z"], run=["first", "second", "third"]).drop(columns=left_out)
    laid_out = plan(own, runs=2)
    assert len(laid_out) == 6
    assert laid_out.units.frame["run"].tolist() == ["first", "second", "third"]


def test_rows_without_a_model_or_of_other_models_are_asked_of_all_models():
    expected = [("b", "m", 3), ("b", "n", 3), ("a", "m", 1), ("a", "n", 1)]
    assert picked(ROWS.drop(columns="model").iloc[:2]) == expected
    assert picked(ROWS.assign(model="z").iloc[:2]) == expected


@pytest.mark.parametrize("runs", [[3.0, 1.0, 2.0], ["3", "1", "2"], pd.array([3, 1, 2], "Int64")])
def test_runs_survive_a_file(runs):
    assert picked(ROWS.assign(run=runs)) == picked(ROWS)


@pytest.mark.parametrize("runs", [[0, 1, 2], [1.5, 1, 2], [None, 1, 2], ["x", 1, 2], [float("inf"), 1, 2], [-1, 1, 2]])
def test_a_run_is_a_whole_number_from_1(runs):
    with pytest.raises(InputError, match="run must hold whole numbers from 1"):
        plan(ROWS.assign(run=runs), models=("m", "n"))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (ROWS.assign(model=["m", "z", "n"]), r"hold the model 'z', which is not in model=\['m', 'n'\]"),
        (ROWS.iloc[[0, 0]], "stand more than once"),
        (ROWS.assign(unit_id=["b", None, "b"]), "unit_id is missing"),
    ],
)
def test_rows_that_cannot_be_asked_are_refused(rows, said):
    with pytest.raises(InputError, match=said):
        plan(rows, models=("m", "n"))


def test_tuples_stay_ids_in_rows_too():
    rows = ROWS.assign(unit_id=[(1, "b"), (1, "a"), (1, "b")])
    assert picked(rows) == [((1, "b"), "m", 3), ((1, "a"), "n", 1), ((1, "b"), "n", 2)]


def test_own_columns_that_had_to_give_way_get_their_names_back():
    rows = ROWS.assign(status_=["s", "t", "s"], a=1, a_=2, error__=3)
    own = plan(rows, models=("m", "n")).units.frame
    assert own.columns.tolist() == ["text", "status", "a", "a_", "error__"]
