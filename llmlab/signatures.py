"""What help and completion show of a function: its parameters, with their types as they are written."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class AsWritten(str):
    """A type as it is written in the source: help shows it so, without quotes and without the names of modules."""

    def __repr__(self) -> str:
        return str(self)


def readable(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function whose annotations are not evaluated: help shows its types as they are written."""
    whole = inspect.signature(function)
    parameters = [one.replace(annotation=AsWritten(one.annotation)) for one in whole.parameters.values()]
    shown = whole.replace(parameters=parameters, return_annotation=AsWritten(whole.return_annotation))
    setattr(function, "__signature__", shown)  # noqa: B010
    return function


def takes_what(entry: Callable[P, Any]) -> Callable[[Callable[..., R]], Callable[P, R]]:
    """Decorate a function that passes its arguments on to `entry`: help and completion show the parameters of both."""

    def decorate(function: Callable[..., R]) -> Callable[P, R]:
        own = inspect.signature(function)
        *named, request = inspect.signature(entry).parameters.values()
        more = [one for one in own.parameters.values() if one.kind is one.KEYWORD_ONLY]
        setattr(function, "__signature__", own.replace(parameters=[*named, *more, request]))  # noqa: B010
        return readable(function)

    return decorate
