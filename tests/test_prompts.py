"""A prompt asks about exactly its columns, and what stands in the units' texts arrives unchanged."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.errors import EmptyInputError, InputError
from llmlab.prompts import Messages
from llmlab.units import read_units

FRAME = pd.DataFrame({"text": ["first", "second", "third"], "gold": [1, 2, 3]})


def units_of(units):
    return read_units(units, runs=1, models=("m",)).units


def ask(prompt, units=FRAME, unit=0, instruction=None):
    return Messages(prompt, units_of(units), instruction).render(unit)


def text(prompt, units=FRAME, unit=0):
    messages = ask(prompt, units, unit)
    assert [message["role"] for message in messages] == ["user"]
    return messages[0]["content"]


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


@pytest.mark.parametrize("units", [[], pd.DataFrame(), FRAME.iloc[:0]])
def test_without_units_nothing_is_missing(units):
    assert Messages("{text} and {whatever}", units_of(units)).used in ([], ["text"])


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
    assert Messages(prompt, units_of(units)).used == ["text", "url"]


def test_used_are_the_columns_the_messages_depend_on():
    assert Messages("{text} {unit_id}", units_of(FRAME)).used == ["text"]
    assert Messages(lambda unit: unit["text"], units_of(FRAME)).used == ["text", "gold"]


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
