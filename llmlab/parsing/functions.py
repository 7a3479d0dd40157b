"""Text of an answer → what the user's own function makes of it, or the text itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llmlab.errors import InputError, ParseError, TruncatedError
from llmlab.finish_reasons import Ended
from llmlab.json_text import BLANK, short
from llmlab.parsing.base import Parser, Read
from llmlab.parsing.marks import without_thinking


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionParser(Parser):
    """Reads whatever a function makes of the text."""

    function: Callable[[str], object]

    def written(self, value: object) -> str:
        return str(value)

    def _read(self, text: str, how: Ended) -> Read:
        if how is Ended.UNKNOWN:
            raise TruncatedError(f"The text may be cut off: {how.value}.")
        try:
            return self.function(text), ()
        except (ValueError, KeyError, IndexError) as error:
            raise ParseError(f"{type(error).__name__}: {error}"[:500]) from error


def function_parser(function: Any) -> Parser:
    """The parser of the user's own function.

    Raises
    ------
    InputError
        It cannot be called, or is async.
    """
    if not callable(function):
        raise InputError(f"parse is {short(function)}, but must be a function that takes the answer's text.")
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
        raise InputError("parse is async, but must be a plain function: text in, value out.")
    return FunctionParser(function=function)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextParser(FunctionParser):
    """Reads the text itself, without the model's thinking and blanks around it."""

    function: Callable[[str], object] = str

    def _read(self, text: str, how: Ended) -> Read:
        answer = without_thinking(text)
        value, notes = FunctionParser._read(self, answer, how)
        return value, (*notes, "thinking left out") if answer != text.strip(BLANK) else notes


def text_parser() -> Parser:
    """The parser whose value is the text itself, without the model's thinking and blanks around it."""
    return TextParser()
