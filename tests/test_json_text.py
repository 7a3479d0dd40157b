"""JSON is found in a text and repaired, and never says anything that the text does not."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.errors import EmptyAnswerError, ParseError, TruncatedError
from llmlab.json_text import read_json

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
        ('<answer>{"a": 1}</answer>', {"a": 1}, ()),
    ],
)
def test_the_one_value_of_a_text_is_found(text, value, notes):
    assert read_json(text, cut=False) == (value, True, notes)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ('{"a": 1} or {"a": 2}', ParseError),
        ('{"a": 1, "a": 2}', ParseError),
        ('{"a": "b', TruncatedError),
        ("<think>hm", TruncatedError),
        ("<think>hm</think>", EmptyAnswerError),
    ],
)
def test_what_is_double_or_cut_is_refused(text, error):
    with pytest.raises(error):
        read_json(text, cut=False)


@pytest.mark.parametrize("text", ["yes", '"yes"', '{"a": 1,}', 'Sure: {"a": 1}'])
def test_of_a_cut_text_only_a_whole_object_counts(text):
    assert read_json('{"a": 1}', cut=True) == ({"a": 1}, True, ())
    with pytest.raises(TruncatedError):
        read_json(text, cut=True)


def test_a_text_without_json_is_given_back_without_its_wrapping():
    assert read_json(" plain words ", cut=False) == ("plain words", False, ())
    assert read_json("<label>yes</label>", cut=False) == ("yes", False, ())


@quick
@given(st.sampled_from(PREFIXES), st.text("abc XY,.'\"“é-1:", max_size=16), st.booleans())
def test_a_repair_moves_punctuation_but_never_content(label, why, escaped):
    for value in ({"why": why, "label": label}, {"label": label, "why": why}):
        naive = ", ".join(f"'{key}': '{item}'" for key, item in value.items())
        try:
            repaired, is_json, _ = read_json(repr(value) if escaped else f"{{{naive}}}", cut=False)
        except ParseError:
            continue
        if not is_json:
            continue
        assert repaired.get("label", label) == label
        kept = [re.sub(r"[\s'\"“:,]", "", "".join(sum(item.items(), ()))) for item in (value, repaired)]
        assert kept[0] == kept[1]
