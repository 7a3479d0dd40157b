"""Ways to wait for an experiment: an awaitable, and a blocking call."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from llmlab.engine.interrupts import interrupts_stop
from llmlab.engine.setup import Setup
from llmlab.results import Pending, Results

T = TypeVar("T")


class PendingResults(Pending[Results]):
    """An experiment that begins when it is awaited, and the `Results` that this gives.

    Parameters
    ----------
    setup : Setup
    run : callable
        Asks its trials and gives their results.
    """

    def __init__(self, setup: Setup, run: Callable[[Setup], Coroutine[Any, Any, Results]]) -> None:
        super().__init__(lambda: run(setup), "results = await run_experiment(...)")
        self.setup = setup


def run_blocking(work: Coroutine[Any, Any, T]) -> T:
    """Wait for `work` in synchronous code, whether or not an event loop runs in this thread."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        loop = None
    if loop is None:
        # Not within the `except`: its error would be the context of all that follow.
        return asyncio.run(_held(work)).value
    if "ipykernel" in sys.modules:
        # A nested loop would take the kernel's next messages and lose them: queued cells would never run.
        return _in_a_thread(work)
    import nest_asyncio

    try:
        nest_asyncio.apply(loop)
    except ValueError:
        return _in_a_thread(work)
    return loop.run_until_complete(work)


@dataclass(frozen=True, repr=False)
class _Held(Generic[T]):
    """A result that is not shown: `asyncio.run` names its task, with its result, in a message that nobody reads."""

    value: T


async def _held(work: Coroutine[Any, Any, T]) -> _Held[T]:
    return _Held(await work)


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
