"""One parser of three kinds, and whatever a model writes it gives a value or a `ParseError`."""

import asyncio
import contextlib
import functools
import json
import re
from collections.abc import Callable

import pandas as pd
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.errors import InputError, ParseError
from llmlab.parsing import make_parser

YES_NO = make_parser(categories=["yes", "no"])
quick = settings(max_examples=150, deadline=None, database=None)


class Review(pydantic.BaseModel):
    label: str
    score: float | None = None


REVIEW = make_parser(response_model=Review)


@pytest.mark.parametrize(
    "arguments",
    [
        {"categories": ["a"], "parse": str.strip},
        {"categories": ["a"], "response_model": Review},
        {"categories": []},
        {"categories": "yes"},
        {"categories": {"yes": 1}},
        {"categories": pd.DataFrame({"yes": [1]})},
        {"categories": 5},
        {"categories": ["yes", "yes"]},
        {"categories": ["yes", "Yes "]},
        {"categories": ["not spam", "not_spam"]},
        {"categories": ["yes", float("nan")]},
        {"categories": ["yes", None]},
        {"categories": pd.Series(["yes", None])},
        {"categories": ["yes", " \u200b"]},
        {"categories": [1, "a"]},
        {"categories": [True, False]},
        {"response_model": Review(label="x")},
        {"response_model": dict},
        {"response_model": list[Review]},
        {"response_model": pydantic.BaseModel},
        {"response_model": "Review"},
        {"response_model": pydantic.create_model("NoSchema", call=(Callable[[], int], ...))},
        {"parse": "json"},
        {"parse": asyncio.sleep},
        {"parse": functools.partial(asyncio.sleep, 1)},
    ],
    ids=lambda arguments: re.sub(r" at 0x\w+", "", str(arguments)),
)
def test_what_cannot_work_is_refused_before_anything_is_sent(arguments):
    with pytest.raises(InputError):
        make_parser(**arguments)


pieces = (
    """{"label" :"yes" no {'label':'no'} "why": null NaN 0,9 ```json </think> <think> <label> </label> {yes,no} //"""
)
fragments = st.sampled_from([*pieces.split(), *"{}[]()'\"“”:,.\\`<>\n ", "\ud800", "\x00", '{"label": "yes"}'])
any_text = st.one_of(st.text(), st.lists(fragments, max_size=12).map("".join))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


@quick
@given(any_text, st.sampled_from(["stop", "length", None]))
def test_any_text_gives_a_category_or_a_parse_error(text, finish_reason):
    for parser, kind in ((YES_NO, str), (REVIEW, Review), (make_parser(), str)):
        try:
            value = parser.parse(text, finish_reason).value
        except ParseError:
            continue
        assert isinstance(value, kind)
        assert parser is not YES_NO or value in ("yes", "no")


@quick
@given(json_values)
def test_any_json_gives_a_category_or_a_parse_error(value):
    for answer in (value, {"label": value}, {"label": {"label": value}}):
        with contextlib.suppress(ParseError):
            assert YES_NO.parse(json.dumps(answer)).value in ("yes", "no")
