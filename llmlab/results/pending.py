"""Work that begins when it is awaited, and says so if it is not."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from functools import cached_property
from typing import Any, TypeVar

from llmlab.errors import called_part

T = TypeVar("T", covariant=True)


class Pending(Coroutine[Any, Any, T]):
    """A coroutine for event loops; forgotten, it does not complain, but its `repr` says what to write.

    Parameters
    ----------
    begin : callable
        Begins the work.
    line : str
        What to write, for example "results = await results.rerun_failed()".
    """

    def __init__(self, begin: Callable[[], Coroutine[Any, Any, T]], line: str) -> None:
        self._begin = begin
        self._line = line

    def __repr__(self) -> str:
        return f"<nothing is sent yet: write  {self._line}>"

    def __reduce__(self) -> str:
        raise TypeError(
            f"Nothing is sent yet, so there is nothing to send to another process: write there  {self._line}"
        )

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"Nothing is sent yet, so there is no {name}: write  {self._line}")

    @cached_property
    def _coroutine(self) -> Coroutine[Any, Any, T]:
        return self._begin()

    def __await__(self) -> Generator[Any, Any, T]:
        try:
            return (yield from self._coroutine.__await__())
        except Exception as error:
            # Of an error in the user's own code, that code is what counts.
            error.__traceback__ = called_part(error.__traceback__)
            raise

    def send(self, value: Any) -> Any:
        """Go on to the next `await` inside; for event loops."""
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        """Raise an exception inside; for event loops."""
        return self._coroutine.throw(*error)

    def close(self) -> None:
        """Give up; for event loops."""
        self._coroutine.close()
