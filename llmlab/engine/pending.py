"""Ways to wait for an experiment: an awaitable that says that it is one, and a blocking call."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import sys
import threading
from collections.abc import Callable, Coroutine, Generator
from functools import cached_property
from typing import Any, ParamSpec, TypeVar

from llmlab.engine.interrupts import interrupts_stop
from llmlab.engine.setup import Setup
from llmlab.results import Results

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class PendingResults(Coroutine[Any, Any, Results]):
    """An experiment that begins when it is awaited, and the `Results` that this gives.

    It is a coroutine for event loops; forgotten, it does not complain, but its `repr` says what to write.

    Parameters
    ----------
    setup : Setup
    run : callable
        Asks its trials and gives their results.
    """

    def __init__(self, setup: Setup, run: Callable[[Setup], Coroutine[Any, Any, Results]]) -> None:
        self.setup = setup
        self._run = run

    def __repr__(self) -> str:
        return "<nothing is sent yet: write  results = await run_experiment(...)>"

    @cached_property
    def _coroutine(self) -> Coroutine[Any, Any, Results]:
        return self._run(self.setup)

    def __await__(self) -> Generator[Any, Any, Results]:
        return self._coroutine.__await__()

    def send(self, value: Any) -> Any:
        """Go on to the next `await` inside; for event loops."""
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        """Raise an exception inside; for event loops."""
        return self._coroutine.throw(*error)

    def close(self) -> None:
        """Give up; for event loops."""
        self._coroutine.close()


def takes_what(entry: Callable[P, Any]) -> Callable[[Callable[..., R]], Callable[P, R]]:
    """Decorate a function that passes its arguments on to `entry`: help and completion show the parameters of both."""

    def decorate(function: Callable[..., R]) -> Callable[P, R]:
        own = inspect.signature(function)
        *named, request = inspect.signature(entry).parameters.values()
        more = [one for one in own.parameters.values() if one.kind is one.KEYWORD_ONLY]
        setattr(function, "__signature__", own.replace(parameters=[*named, *more, request]))  # noqa: B010
        return function

    return decorate


def run_blocking(work: Coroutine[Any, Any, T]) -> T:
    """Wait for `work` in synchronous code, whether or not an event loop runs in this thread."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    if "ipykernel" in sys.modules:
        # A nested loop would take the kernel's next messages and lose them: queued cells would never run.
        return _in_a_thread(work)
    import nest_asyncio

    try:
        nest_asyncio.apply(loop)
    except ValueError:
        return _in_a_thread(work)
    return loop.run_until_complete(work)


def _in_a_thread(work: Coroutine[Any, Any, T]) -> T:
    outcomes: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            outcomes.append(asyncio.run(work))
        except BaseException as error:
            errors.append(error)

    # The context tells a kernel which cell the output belongs to.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), name="llmlab")
    with interrupts_stop():
        thread.start()
        thread.join()
    for error in errors:
        raise error
    return outcomes[0]
