"""The live view in marimo: the panel is the cell's output while it runs; marimo's own ■ stops it."""

from __future__ import annotations

import sys
from typing import Any

from llmlab.display.panel import History, live_html, snapshot
from llmlab.display.tally import Tally


class MarimoPanel:
    """Shows a tally in the marimo cell that runs now.

    Raises
    ------
    RuntimeError
        No cell of a marimo notebook runs in this thread.
    """

    def __init__(self, tally: Tally) -> None:
        self._marimo: Any = sys.modules["marimo"]
        self._history = History()
        self._cell = self._running_cell()
        if self._cell is None:
            raise RuntimeError("no cell of a marimo notebook runs in this thread")

    def show(self, tally: Tally, *, last: bool = False, stopped: str | None = None) -> None:
        """Show where things stand; `last` leaves one line, until the cell's own value takes its place."""
        self._history.sample(tally)
        # An experiment in the background may outlive its cell, and the output of another one is not touched.
        if self._running_cell() == self._cell:
            page = snapshot(tally, stopped)["text/html"] if last else live_html(tally, self._history, stopped)
            self._marimo.output.replace(self._marimo.Html(page))

    def _running_cell(self) -> object:
        from marimo._runtime.context import get_context  # pyright: ignore[reportMissingImports]

        return getattr(get_context().execution_context, "cell_id", None)
