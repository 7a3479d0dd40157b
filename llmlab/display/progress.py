"""The views of a tally: a widget or panel in notebooks, a line of text elsewhere; and which of them it is."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Protocol, TextIO

from llmlab.display import words
from llmlab.display.marimo_panel import MarimoPanel
from llmlab.display.panel import final_line
from llmlab.display.tally import Tally
from llmlab.display.waiting import waiting_for
from llmlab.display.widget import Widget

LINE_EVERY_S = 10.0


class View(Protocol):
    """Shows a tally; called a few times a second, and once with `last=True`."""

    def show(self, tally: Tally, *, last: bool = False, stopped: str | None = None) -> None:
        """Show where things stand."""
        ...


class Silent:
    """Shows nothing."""

    def show(self, tally: Tally, *, last: bool = False, stopped: str | None = None) -> None:
        """Do nothing."""


class Text:
    """A bar on a terminal, a plain line every ten seconds in a file."""

    def __init__(self, tally: Tally, out: TextIO) -> None:
        from tqdm import tqdm

        self._out = out
        self._tty = bool(getattr(out, "isatty", lambda: False)())
        # The bar takes what the words leave.
        self._bar = tqdm(
            total=tally.total, file=self._out, dynamic_ncols=True, disable=not self._tty,
            bar_format="{n_fmt}/{total_fmt} {desc} {bar:10}",
        )  # fmt: skip
        self._said = tally.clock()

    def show(self, tally: Tally, *, last: bool = False, stopped: str | None = None) -> None:
        """Refresh the bar, or print a line when it is time."""
        if self._tty:
            self._bar.n = tally.answered + tally.failed
            self._bar.set_description_str(describe(tally, stopped), refresh=True)
            if last:
                self._bar.close()
        elif not last and tally.clock() - self._said >= LINE_EVERY_S:
            self._said = tally.clock()
            print(
                f"{tally.answered + tally.failed}/{tally.total} {describe(tally, stopped)}", file=self._out, flush=True
            )
        if last:
            print(final_line(tally, stopped), file=self._out, flush=True)


def describe(tally: Tally, stopped: str | None = None) -> str:
    """The tally in one line, the most wanted first: what does not fit into a narrow terminal is at the end."""
    parts = [] if stopped or tally.done == tally.trials else [words.eta(tally.eta_s)]
    parts.append(words.cost(tally.cost_usd))
    if tally.failed:
        parts.append(f"{tally.failed:,} failed")
    reason = waiting_for(tally, stopped)
    parts += [reason.text] if reason.text else []
    parts += words.batches(tally.batches)
    return " · ".join(parts)


def _ignore(reason: str) -> None:
    pass


def make_view(progress: bool | str, tally: Tally, stop: Callable[[str], object] = _ignore) -> View:
    """The view for `progress=`; never raises.

    Parameters
    ----------
    progress : bool, "text" or "widget"
        True is a widget in a notebook kernel, a panel in marimo and text elsewhere, False is silent; what fails becomes
        text.
    tally : Tally
    stop : callable, optional
        What the widget's Stop button calls with a reason.
    """
    if progress is False:
        return Silent()
    with contextlib.suppress(Exception):
        if progress in (True, "widget") and _in_marimo():
            return OrText(MarimoPanel(tally))
    with contextlib.suppress(Exception):
        if progress == "widget" or (progress is True and _in_a_kernel()):
            return OrText(Widget(tally, stop))
    # No widgets here, or they are broken: text is there, unless its stream is closed.
    with contextlib.suppress(Exception):
        return Text(tally, sys.stderr)
    return Silent()


def _in_a_kernel() -> bool:
    ipython = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None


def _in_marimo() -> bool:
    marimo = sys.modules.get("marimo")
    return marimo is not None and marimo.running_in_notebook()


class OrText:
    """The widget, or text from the moment on that it fails."""

    def __init__(self, widget: View) -> None:
        self._view = widget
        self._broken = False

    def show(self, tally: Tally, *, last: bool = False, stopped: str | None = None) -> None:
        """Show where things stand."""
        try:
            self._view.show(tally, last=last, stopped=stopped)
        except Exception:
            if self._broken:
                raise
            self._broken, self._view = True, Text(tally, sys.stderr)
            self._view.show(tally, last=last, stopped=stopped)
