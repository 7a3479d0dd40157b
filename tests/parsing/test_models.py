"""A response model's answers are validated, and its schema is one that providers take."""

import enum
import json
from datetime import date
from typing import Any

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.errors import ParseError, ValidationError
from llmlab.parsing import Parsed, make_parser

quick = settings(max_examples=150, deadline=None, database=None)


class Review(pydantic.BaseModel):
    label: str
    score: float | None = None


class Mood(enum.Enum):
    GOOD = "good mood"
    BAD = "bad_mood"


REVIEW = make_parser(response_model=Review)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


def test_a_model_is_validated_and_its_fields_are_columns():
    assert REVIEW.parse('{"label": "good", "score": 0.9, "more": 1}') == Parsed(Review(label="good", score=0.9))
    assert REVIEW.parse('Sure: {"label": "good", "score": NaN}') == Parsed(Review(label="good"), ("repaired",))
    assert REVIEW.parse("{'label': 'good', 'score': nan}") == Parsed(Review(label="good"), ("repaired",))
    assert REVIEW.columns == ("label", "score")


@pytest.mark.parametrize("score", ['"0,9"', "0,9", "9 %", "$5", "1e", "0.9.", "--1"])
def test_a_number_is_never_guessed(score):
    with pytest.raises(ParseError):
        REVIEW.parse(f'{{"label": "good", "score": {score}}}')


def test_a_refused_model_says_which_field_and_why():
    with pytest.raises(ValidationError, match=r"does not fit Review: label: Field required; score: Input should be a"):
        REVIEW.parse('{"score": "0,9"}')
    with pytest.raises(ValidationError, match="and 92 more"):
        make_parser(response_model=pydantic.RootModel[list[int]]).parse(json.dumps(["x"] * 100))
    for text in ("good", "I'm sorry.", '{"label": "\\ud800"}', '"good"'):
        with pytest.raises(ParseError):
            REVIEW.parse(text)


def test_a_strict_model_still_takes_dates_and_enums_from_json():
    class Strict(pydantic.BaseModel, strict=True):
        day: date
        mood: Mood

    assert make_parser(response_model=Strict).parse('{"day": "2024-02-29", "mood": "good mood"}').value == Strict(
        day=date(2024, 2, 29), mood=Mood.GOOD
    )


def test_a_bug_in_a_validator_passes_through():
    class Buggy(pydantic.BaseModel):
        label: str

        @pydantic.field_validator("label")
        @classmethod
        def check(cls, label: str) -> str:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        make_parser(response_model=Buggy).parse('{"label": "x"}')


class Node(pydantic.BaseModel):
    default: str = "x"
    children: list["Node"] = []


def test_schemas_are_closed_and_say_whether_they_are_strict():
    schema = make_parser(response_model=Node).schema
    assert schema is not None
    assert (schema["name"], schema["strict"]) == ("Node", True)
    for part in (schema["schema"], schema["schema"]["$defs"]["Node"]):
        assert part["required"] == ["default", "children"]
        assert part["additionalProperties"] is False
        assert "default" not in part["properties"]["children"]
    loose = make_parser(response_model=pydantic.create_model("Loose[int]", counts=(dict[str, int], ...))).schema
    assert loose is not None
    assert (loose["name"], loose["strict"]) == ("Loose_int_", False)
    assert loose["schema"]["properties"]["counts"]["additionalProperties"] == {"type": "integer"}
    assert make_parser(response_model=pydantic.RootModel[list[int]]).schema is None


def test_a_list_is_read_from_prose_and_fences():
    items = make_parser(response_model=pydantic.RootModel[list[Review]])
    numbers = make_parser(response_model=pydantic.RootModel[list[int]])
    assert items.parse('Here: [{"label": "a"}, {"label": "b"}]').value.root == [Review(label="a"), Review(label="b")]
    assert numbers.parse("Here:\n```json\n[1, 2]\n```").value.root == [1, 2]


@quick
@given(st.dictionaries(st.text(max_size=9), json_values, min_size=1, max_size=4))
def test_valid_json_is_delivered_as_it_is(value):
    anything = make_parser(response_model=pydantic.RootModel[dict[str, Any]])
    for form in (json.dumps(value), f"```json\n{json.dumps(value)}\n```", f"Here: {json.dumps(value)} Good?"):
        assert anything.parse(form) == Parsed(pydantic.RootModel[dict[str, Any]](value))
