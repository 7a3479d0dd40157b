"""The first interrupt (the notebook's ■, Ctrl-C) stops gently what is watched; the second does what it always does.

An awaiting cell would get a `CancelledError` and lose the answers so far; in a thread's loop nothing would arrive at
all. Hence a SIGINT handler of our own, for as long as something is watched.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any, Protocol


class Stoppable(Protocol):
    """Something that can be stopped from any thread."""

    def stop(self, reason: str) -> None:
        """Come to an end soon."""
        ...


class _Handler:
    """The SIGINT handler: of the process, as a signal has only one."""

    def __init__(self) -> None:
        self._watched: list[Stoppable] = []
        self._usual: Any = signal.default_int_handler
        self._uses = 0

    @contextlib.contextmanager
    def watching(self, one: Stoppable) -> Iterator[None]:
        self._watched.append(one)
        try:
            with self.installed():
                yield
        finally:
            self._watched.remove(one)

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            # Only the main thread gets signals.
            yield
            return
        if signal.getsignal(signal.SIGINT) != self._interrupted:
            self._usual = signal.signal(signal.SIGINT, self._interrupted)
        self._uses += 1
        try:
            yield
        finally:
            # Experiments side by side end in any order: the last one clears up.
            self._uses -= 1
            if not self._uses and signal.getsignal(signal.SIGINT) == self._interrupted:
                signal.signal(signal.SIGINT, self._usual)

    def _interrupted(self, signum: int, frame: object) -> None:
        signal.signal(signal.SIGINT, self._usual)
        for one in self._watched:
            one.stop("interrupted")


_handler = _Handler()


def stopped_by_interrupt(one: Stoppable) -> contextlib.AbstractContextManager[None]:
    """While this lasts, the first interrupt stops `one`."""
    return _handler.watching(one)


def interrupts_stop() -> contextlib.AbstractContextManager[None]:
    """While this lasts in the main thread, the first interrupt stops whatever is watched, in other threads too."""
    return _handler.installed()
