"""Text of an answer → a category, a pydantic model or a value of the user's own; never a guess.

An answer is read in one order, from certain to lenient: the whole text as strict JSON, what follows the thinking,
what the only fence holds, complete JSON objects within prose, the same objects repaired. Whatever is cut, double or
would need a guess raises a `ParseError`: asking again costs less than a wrong value.
"""

from __future__ import annotations

from collections.abc import Callable

from llmlab.errors import InputError
from llmlab.parsing.base import Parsed, Parser
from llmlab.parsing.functions import function_parser, text_parser
from llmlab.parsing.labels import category_parser, is_ordered
from llmlab.parsing.marks import thinking_in
from llmlab.parsing.models import model_parser

__all__ = ["Parsed", "Parser", "is_ordered", "make_parser", "thinking_in"]


def make_parser(
    categories: object = None, response_model: object = None, parse: Callable[[str], object] | None = None
) -> Parser:
    """Make the parser of an experiment from at most one of three; without any, the text itself is the value.

    Parameters
    ----------
    categories
        The labels, each a str: a list, tuple, set (then sorted), Series, Index, array, categorical or its dtype;
        or an Enum class, whose members' values are delivered; or a mapping of labels to their definitions. Labels may
        be numbers instead, which stand in their order.
    response_model
        A pydantic model class; answers are its instances.
    parse
        Takes the answer's text, returns the value. `ValueError`, `KeyError`, `IndexError` and `ParseError` mean
        "could not be parsed"; any other exception is a bug and passes through.

    Raises
    ------
    InputError
        More than one is given, or it cannot work.
    """
    given = {"categories": categories, "response_model": response_model, "parse": parse}
    names = [name for name, item in given.items() if item is not None]
    if len(names) > 1:
        raise InputError(f"{' and '.join(names)} are given, but an answer is read in one way: keep one of them.")
    if categories is not None:
        return category_parser(categories)
    if response_model is not None:
        return model_parser(response_model)
    return text_parser() if parse is None else function_parser(parse)
