"""What the HTTP library may log while llmlab uses it: a line for each of a thousand requests drowns llmlab's own."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextvars import ContextVar

_up_to = ContextVar("up_to", default=logging.NOTSET)


class _Quiet(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        up_to = _up_to.get()
        # Whoever has set the level of the library's own logger wants to see its lines.
        wanted = up_to < logging.CRITICAL and logging.getLogger(record.name).level != logging.NOTSET
        return wanted or record.levelno > up_to


_QUIET = _Quiet()


def make_quiet(library: str) -> None:
    """Have `quiet` work for this HTTP library and the openai client."""
    for name in ("openai._base_client", library):
        logging.getLogger(name).addFilter(_QUIET)


@contextlib.contextmanager
def quiet(level: int) -> Iterator[None]:
    """While it lasts, and only for the requests made in it, records up to this level are dropped.

    Parameters
    ----------
    level : int
        ``logging.INFO`` for requests, which llmlab counts itself; ``logging.CRITICAL`` for what is not really sent, as
        what is logged of it may hold a key.
    """
    before = _up_to.set(level)
    try:
        yield
    finally:
        _up_to.reset(before)
