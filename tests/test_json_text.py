"""JSON is found in a text and repaired, and never says anything that the text does not."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.errors import ParseError, TruncatedError
from llmlab.json_text import Found, read_json

PREFIXES = ["spam", "spam other", "no", "not", "not sure", "a"]
quick = settings(max_examples=150, deadline=None, database=None)


@pytest.mark.parametrize(
    ("text", "value", "notes"),
    [
        ('{"a": 1}', {"a": 1}, ()),
        ("[1, 2]", [1, 2], ()),
        ('"text"', "text", ()),
        ("null", None, ()),
        ('\ufeff {"a": 1}\n', {"a": 1}, ()),
        ('Sure: {"a": 1}. More?', {"a": 1}, ()),
        ('Sure: [{"a": 1}, {"a": 2}]', [{"a": 1}, {"a": 2}], ()),
        ('```json\n{"a": 1}\n```', {"a": 1}, ()),
        ("{'a': 1,}", {"a": 1}, ("repaired",)),
        ('"{\\"a\\": 1}"', {"a": 1}, ("repaired",)),
        ('{"a": NaN}', {"a": None}, ("repaired",)),
    ],
)
def test_the_one_value_of_a_text_is_found(text, value, notes):
    assert read_json(text, cut=False)[:3] == (value, True, notes)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('{"a": 1} or {"a": 2}', ParseError),
        ('{"a": 1, "a": 2}', ParseError),
        ('{"a": "b', TruncatedError),
    ],
)
def test_what_is_double_or_cut_is_refused(text, error):
    with pytest.raises(error):
        read_json(text, cut=False)


@pytest.mark.parametrize("text", ["yes", '"yes"', '{"a": 1,}', 'Sure: {"a": 1}'])
def test_of_a_cut_text_only_a_whole_object_counts(text):
    assert read_json('{"a": 1}', cut=True) == Found({"a": 1}, True)
    with pytest.raises(TruncatedError):
        read_json(text, cut=True)


def test_a_text_without_json_is_given_back_without_its_wrapping():
    assert read_json(" plain words ", cut=False) == Found("plain words", False)
    assert read_json("```\nplain words\n```", cut=False) == Found("plain words", False)


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ('Sure: {"a": 1}. More?', "Sure: ", ". More?"),
        ('{"a": 1} or once more {"a": 1}!', '{"a": 1} or once more ', "!"),
        ('Sure:\n```json\n{"a": 1}\n```\nMore?', "Sure:\n", "\nMore?"),
        ('{"a": 1}', "", ""),
    ],
)
def test_the_words_around_it_are_told(text, before, after):
    assert read_json(text, cut=False) == Found({"a": 1}, True, (), before, after)


@quick
@given(st.sampled_from(PREFIXES), st.text("abc XY,.'\"“é-1:", max_size=16), st.booleans())
def test_a_repair_moves_punctuation_but_never_content(label, why, escaped):
    for value in ({"why": why, "label": label}, {"label": label, "why": why}):
        naive = ", ".join(f"'{key}': '{item}'" for key, item in value.items())
        try:
            found = read_json(repr(value) if escaped else f"{{{naive}}}", cut=False)
        except ParseError:
            continue
        if not found.is_json:
            continue
        repaired = found.value
        assert repaired.get("label", label) == label
        kept = [re.sub(r"[\s'\"“:,]", "", "".join(sum(item.items(), ()))) for item in (value, repaired)]
        assert kept[0] == kept[1]
