"""Any table of units becomes a plan of trials in its own order, and a prompt asks about exactly its columns."""

import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from llmlab.errors import EmptyInputError, InputError
from llmlab.prompts import Messages
from llmlab.records import Trial
from llmlab.results.results import PREDICTION_COLUMNS
from llmlab.units import read_units

FRAME = pd.DataFrame({"text": ["first", "second", "third"], "gold": [1, 2, 3]})


def plan(units, *, runs=1, models=("m",)):
    return read_units(units, runs=runs, models=models, result_columns=PREDICTION_COLUMNS)


def ids(units):
    return plan(units).keys()["unit_id"].tolist()


def ask(prompt, units=FRAME, unit=0, instruction=None):
    return Messages(prompt, plan(units).units, instruction).render(unit)


def text(prompt, units=FRAME, unit=0):
    messages = ask(prompt, units, unit)
    assert [message["role"] for message in messages] == ["user"]
    return messages[0]["content"]


# units


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


def test_trials_come_unit_by_unit_model_by_model_run_by_run():
    laid_out = plan(["a", "b"], runs=2, models=("m", "n"))
    trials = [Trial(at, unit, model, run) for at, (unit, model, run) in enumerate(
        (unit, model, run) for unit in (0, 1) for model in ("m", "n") for run in (1, 2)
    )]  # fmt: skip
    assert list(laid_out.trials()) == trials
    assert list(laid_out.trials([6, 1])) == [trials[6], trials[1]]
    keys = laid_out.keys()
    assert [tuple(row) for row in keys[["unit_id", "model", "run"]].itertuples(index=False)] == [
        (trial.unit_id, trial.model, trial.run) for trial in trials
    ]
    assert [laid_out.unit_of(at) for at in range(8)] == keys["unit"].tolist() == [0] * 4 + [1] * 4
    assert len(laid_out) == 8


def test_a_million_trials_are_made_when_needed():
    laid_out = plan([str(number) for number in range(1000)], runs=1000)
    assert len(laid_out) == 1_000_000
    assert next(laid_out.trials([999_999])) == Trial(999_999, 999, "m", 1000)


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
    reviews = pd.Series(["a", "b"], name="review")
    assert text("{review}", reviews) == text("{text}", reviews) == "a"


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
        pd.DataFrame({name: [] for name in ("unit_id", "run", "model", "text")}),
        pd.DataFrame({name: [] for name in ("unit_id", "run", "text")}),
    ],
)
def test_no_units_are_no_trials(units):
    laid_out = plan(units, runs=2)
    keys = laid_out.keys()
    assert len(laid_out) == len(keys) == len(list(laid_out.trials())) == 0
    assert keys.dtypes.drop("unit_id").astype(str).to_dict() == {"unit": "int64", "model": "str", "run": "int64"}
    Messages("{text} and {whatever}", laid_out.units)


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
        ([{"unit_id": [1], "run": 1}], "unit_id must be text, numbers or the like, not a list"),
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


# rows of predictions


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


# prompts


def test_a_template_is_filled_with_the_units_columns_and_id():
    assert text("{unit_id}: {text} ({gold})", unit=1) == "1: second (2)"


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ('{"label": "{text}"}', '{"label": "first"}'),
        ('{"a": {"b": {text}}}', '{"a": {"b": first}}'),
        ("{{text}} is {text}", "{text} is first"),
        ("{{label}} {text}", "{label} {text}".replace("{text}", "first")),
        ("{{{text}}}", "{{first}}"),
        ("{text.__class__} {text[0]} {text!r} {text:>9} {0} {} {text}", None),
        ("{ text } {text", None),
        ('{"label": "…"} }{ {{}}', None),
        ("\\1 \\g<0> $text %s %(text)s", None),
    ],
)
def test_other_braces_are_left_alone(prompt, expected):
    assert text(prompt) == (expected or prompt.replace("{text}", "first"))


def test_braces_in_the_texts_are_never_templates():
    units = [{"text": "{gold} {{text}} {text} {nope} \\1 {text.__class__}", "gold": "{text}"}]
    assert text("{text} {gold}", units) == units[0]["text"] + " {text}"


def test_columns_of_any_name_can_be_asked_about():
    units = [{"my text": "a", "a.b": "b", "größe": "c", "x[0]": "d", "text": "e", "text long": "f"}]
    assert text("{my text} {a.b} {größe} {x[0]} {text} {text long}", units) == "a b c d e f"


def test_an_unknown_column_names_the_columns_and_the_way_out():
    units = pd.DataFrame({"id": [1], "text": ["a"]})
    with pytest.raises(InputError) as caught:
        ask("Classify: {txt}", units)
    assert str(caught.value) == (
        "The prompt asks for {txt}, but units have: unit_id, id, text. (For a literal {txt} write {{txt}}.)"
    )
    with pytest.raises(InputError, match=r"asks for {text}, but units have: unit_id"):
        ask("{text}", pd.DataFrame(index=["a", "b"]))
    with pytest.raises(InputError, match=r"asks for {url}"):
        ask([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "{url}"}}]}])


@pytest.mark.parametrize("missing", [None, float("nan"), pd.NA, pd.NaT, np.nan])
def test_a_missing_value_in_a_used_column_names_column_and_ids(missing):
    units = pd.DataFrame({"text": pd.array(["a", missing, "c"], dtype=object), "gold": 1}, index=["x", "y", "z"])
    with pytest.raises(InputError, match=r"text is missing \(None or NaN\) in 1 of 3 units: 'y'\. Drop them"):
        ask("{text}", units)
    assert text("{gold}", units) == "1"


def test_many_missing_values_are_counted_and_a_few_named():
    units = pd.DataFrame({"text": [None] * 99 + ["a"]}, index=range(100, 200))
    with pytest.raises(InputError, match="in 99 of 100 units: 100, 101, 102, 103, 104 and 94 more"):
        ask("{text}", units)


@pytest.mark.parametrize("blank", ["", " ", "\n\t\r", "\u200b", "\ufeff \u200d\u2060", "\u00a0\u3000"])
def test_a_blank_text_is_not_asked_about(blank):
    with pytest.raises(EmptyInputError, match="text is blank"):
        ask("Classify: {text}", [blank])
    with pytest.raises(EmptyInputError):
        ask(lambda unit: unit["text"], [blank])
    assert text("{text}{gold}", [{"text": blank, "gold": "g"}]) == blank + "g"


@pytest.mark.parametrize(
    ("value", "shown"), [(3, "3"), (2.5, "2.5"), (True, "True"), (pd.Timestamp("2026-01-02"), "2026-01-02 00:00:00")]
)
def test_other_values_are_asked_about_as_text(value, shown):
    assert text("{text}", [{"text": value}]) == text("{text}", [value]) == shown


def test_a_lone_surrogate_is_a_text():
    assert text("{text}", ["a\ud83d", "b"]) == text("{text}", [{"text": "a\ud83d"}]) == "a\ud83d"


def test_a_text_of_20_mb_is_a_text():
    long = "{text} x" * 2_500_000
    assert text("{text}", [long]) == long
    with pytest.raises(EmptyInputError):
        ask("{text}", [" " * 20_000_000])


@settings(max_examples=100, deadline=None)
@given(st.text(min_size=1), st.text(alphabet="tex {}\\", min_size=1))
def test_whatever_the_texts_they_arrive_unchanged(value, other):
    units = [{"text": "x" + value, "other": "x" + other}]
    assert text('{"a": {text}, "b": {other}}', units) == f'{{"a": x{value}, "b": x{other}}}'


def test_messages_are_filled_each():
    prompt = [
        {"role": "system", "content": "You label {gold}s.", "name": "{gold}"},
        {"role": "user", "content": "{text}"},
        {"role": "assistant", "content": '{"label": "x"}'},
        {"role": "user", "content": "{text} again"},
    ]
    assert ask(prompt, instruction="Answer with JSON.") == [
        {"role": "system", "content": "You label 1s.", "name": "{gold}"},
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": '{"label": "x"}'},
        {"role": "user", "content": "first again\n\nAnswer with JSON."},
    ]
    assert prompt[0]["content"] == "You label {gold}s."


def test_parts_are_filled_wherever_they_hold_text():
    units = [{"text": "What is it?", "url": "http://127.0.0.1/{text}.png"}]
    prompt = [{"role": "user", "content": [
        {"type": "text", "text": "{text}"},
        {"type": "image_url", "image_url": {"url": "{url}", "detail": "low", "size": 3, "none": None}},
    ]}]  # fmt: skip
    assert ask(prompt, units, instruction="Say.")[0]["content"] == [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": units[0]["url"], "detail": "low", "size": 3, "none": None}},
        {"type": "text", "text": "Say."},
    ]
    assert Messages(prompt, plan(units).units).used == ["text", "url"]


def test_used_are_the_columns_the_messages_depend_on():
    assert Messages("{text} {unit_id}", plan(FRAME).units).used == ["text"]
    assert Messages(lambda unit: unit["text"], plan(FRAME).units).used == ["text", "gold"]


def test_a_callable_gets_the_unit_and_makes_text_or_messages():
    units = FRAME.assign(unit_id=["x", "y", "z"])
    assert text(lambda unit: f"{unit['unit_id']} {unit['text']} {unit['gold'] + 1}", units, 1) == "y second 3"
    made = [{"role": "system", "content": "S"}, {"role": "user", "content": "{text}"}]
    assert ask(lambda unit: made, instruction="I") == [made[0], {"role": "user", "content": "{text}\n\nI"}]
    assert made[1]["content"] == "{text}"


def test_a_callables_own_error_passes_through():
    with pytest.raises(ZeroDivisionError):
        ask(lambda unit: str(1 / 0))
    with pytest.raises(InputError, match="not None"):
        ask(lambda unit: None)


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        (5, "prompt must be a template, a list of messages, or a callable, not 5"),
        ([], "prompt must be"),
        (b"{text}", "prompt must be"),
        ({"role": "user", "content": "x"}, "prompt must be"),
        (["{text}"], "A message needs a role and a content"),
        ([{"role": "user"}], "A message needs a role and a content"),
        ([{"role": "user", "content": 5}], "must be text or a list of parts, not 5"),
        ([{"role": "user", "content": []}], "must be text or a list of parts"),
        ([{"role": "user", "content": ["{text}"]}], "must be text or a list of parts"),
        ("", "The prompt is blank"),
        (" \n", "The prompt is blank"),
        ([{"role": "user", "content": " "}], "The prompt is blank"),
    ],
)
def test_a_prompt_that_cannot_be_asked_is_refused(prompt, said):
    with pytest.raises(InputError, match=said):
        ask(prompt)
