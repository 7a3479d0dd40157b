"""A function of the user's own reads the text; without one the text is the value."""

import json

import pytest

from llmlab.errors import EmptyAnswerError, InvalidLabelError, ParseError
from llmlab.parsing import Parsed, make_parser


def test_a_callable_gets_the_text_and_only_its_value_errors_are_parse_errors():
    def raising(error: Exception):
        def parse(text: str) -> object:
            raise error

        return make_parser(parse=parse)

    assert make_parser(parse=json.loads).parse(" [1]") == Parsed([1])
    assert make_parser(parse=int).parse("7", "length") == Parsed(7, ("finish_reason length",))
    with pytest.raises(ParseError, match="JSONDecodeError: Expecting value"):
        make_parser(parse=json.loads).parse("x")
    for error in (ValueError("v"), KeyError("k"), IndexError("i"), InvalidLabelError("l")):
        with pytest.raises(ParseError):
            raising(error).parse("x")
    for bug in (TypeError("t"), AttributeError("a"), ZeroDivisionError("z")):
        with pytest.raises(type(bug)):
            raising(bug).parse("x")


def test_without_a_description_the_text_is_the_value():
    parser = make_parser()
    assert parser.parse("\ufeff Hello {world} \n") == Parsed("Hello {world}")
    assert (parser.instruction, parser.schema, parser.columns) == (None, None, ())
    with pytest.raises(EmptyAnswerError):
        parser.parse(" ")
