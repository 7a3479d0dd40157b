"""A prompt asks about exactly its columns, and what stands in the units' texts arrives unchanged."""

import decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionMessage

from llmlab.client import Image, image
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
        ("{ text } {text {text}", None),
        ('{"label": "…"} }{ {{}} {text}', None),
        ("\\1 \\g<0> $text %s %(text)s {text}", None),
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


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("Which category fits?", r"names no column, .*\{unit_id\}, \{text\}, \{gold\}.*prompt=lambda unit"),
        ("Which? {{text}}", r"holds \{\{text\}\}, .* write \{text\}\."),
        ("Which? {{ text }}", r"holds \{\{ text \}\}, .* write \{text\}\."),
        ("Which? { gold }", r"holds \{ gold \}, .* write \{gold\}\."),
        ("Which? $text", "names no column"),
        ("Which? <text>", "names no column"),
        ([{"role": "user", "content": [{"type": "text", "text": "Which?"}]}], "names no column"),
    ],
)
def test_a_prompt_that_asks_every_unit_the_same_is_refused(prompt, said):
    with pytest.raises(InputError, match=said):
        ask(prompt)


def test_a_function_may_ask_every_unit_the_same():
    assert text(lambda unit: "Which? {{text}}") == "Which? {{text}}"
    assert text("{unit_id}?") == "0?"


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
    ("value", "shown"),
    [
        (3, "3"),
        (2.5, "2.5"),
        (True, "True"),
        (pd.Timestamp("2026-01-02"), "2026-01-02 00:00:00"),
        (decimal.Decimal("1.10"), "1.10"),
    ],
)
def test_other_values_are_asked_about_as_text(value, shown):
    assert text("{text}", [{"text": value}]) == text("{text}", [value]) == shown


def test_a_cell_that_cannot_be_sent_is_refused_before_anything_is_asked():
    units = pd.DataFrame({"text": pd.Series(["a", "b", object()], dtype=object), "other": [1, 2, object()]})
    with pytest.raises(InputError, match="The column 'text' holds object objects"):
        Messages("{text}", units_of(units))
    assert text("{unit_id}", units, 2) == "2"


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


CHAT = [{"role": "user", "content": "hello"}]


@pytest.mark.parametrize(
    "chat",
    [
        tuple(CHAT),
        np.array(CHAT, dtype=object),
        pd.Series(CHAT),
        pa.array(CHAT),
        pa.array([CHAT])[0],
        pl.Series(CHAT),
    ],
    ids=lambda chat: f"{type(chat).__module__.partition('.')[0]} {type(chat).__name__}",
)
def test_a_conversation_may_stand_in_any_kind_of_list(chat):
    assert ask(lambda unit: chat) == CHAT


def test_a_conversation_comes_back_from_parquet(tmp_path):
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    chat = [
        {"role": "user", "content": "Is it cold?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "-3", "tool_call_id": "c1"},
        {"role": "user", "content": "And tomorrow?"},
    ]
    parts = [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "u"}}]}
    ]
    units = pd.DataFrame({"chat": [chat], "parts": [parts]})
    units.to_parquet(tmp_path / "units.parquet")
    read = pd.read_parquet(tmp_path / "units.parquet")
    assert ask(lambda unit: unit["chat"], read) == chat
    assert ask(lambda unit: unit["parts"], read) == parts


def test_what_the_sdk_answered_may_be_part_of_the_conversation():
    answer = ChatCompletionMessage(role="assistant", content="cold")
    assert ask(lambda unit: [*CHAT, answer, *CHAT]) == [*CHAT, {"role": "assistant", "content": "cold"}, *CHAT]


@pytest.mark.parametrize("role", ["user", "system"])
def test_content_may_be_missing_only_where_a_tool_was_called(role):
    with pytest.raises(InputError, match="must be text or a list of parts, not None"):
        ask(lambda unit: [{"role": role, "content": None}])
    with pytest.raises(EmptyInputError):
        ask(lambda unit: [{"role": "assistant", "content": None, "tool_calls": []}])


def test_the_instruction_goes_before_the_beginning_of_an_answer():
    prefill = {"role": "assistant", "content": "The category is"}
    asked = {"role": "user", "content": "first\n\nSay."}
    assert ask([{"role": "user", "content": "{text}"}, prefill], instruction="Say.") == [asked, prefill]
    tool = {"role": "tool", "content": "-3", "tool_call_id": "c"}
    assert ask([{"role": "user", "content": "{text}"}, prefill, tool], instruction="Say.") == [asked, prefill, tool]
    system = {"role": "system", "content": "Say."}
    assert ask([{"role": "assistant", "content": "{text}"}], instruction="Say.")[0] == system


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "first.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    return path


@pytest.mark.parametrize("source", ["{folder}/{text}.png", "{path}"])
def test_a_picture_is_the_units_own(photo, source):
    units = FRAME.assign(folder=str(photo.parent), path=str(photo))
    prompt = [{"role": "user", "content": [{"type": "text", "text": "What is {gold}?"}, image(source, longest=64)]}]
    messages = Messages(prompt, units_of(units))
    part = messages.render(0)[0]["content"][1]
    assert isinstance(part, Image)
    assert (part.source, part.longest) == (str(photo), 64)
    assert messages.used == ["gold", *(["folder", "text"] if "folder" in source else ["path"])]


def test_a_picture_may_stand_in_a_column(photo):
    units = pd.DataFrame({"photo": [{"bytes": photo.read_bytes(), "path": None}, photo.read_bytes()]})
    prompt = [{"role": "user", "content": [image("{photo}")]}]
    assert [ask(prompt, units, unit)[0]["content"][0].source for unit in (0, 1)] == [photo.read_bytes()] * 2
    assert ask(lambda unit: [{"role": "user", "content": [image(unit["photo"])]}], units)[0]["content"][0].source


def test_a_picture_that_is_not_there_ends_its_unit_only(photo):
    prompt = [{"role": "user", "content": [image(f"{photo.parent}/{{text}}.png")]}]
    messages = Messages(prompt, units_of(FRAME))
    assert messages.render(0)
    with pytest.raises(EmptyInputError, match=r"second\.png is not there"):
        messages.render(1)


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
