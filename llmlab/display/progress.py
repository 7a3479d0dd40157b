"""The views of a tally: a widget in notebooks, a line of text elsewhere; and which of them it is."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import Protocol, TextIO

from llmlab.display import words
from llmlab.display.tally import Tally
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
    """A tqdm bar on a terminal, a plain line every ten seconds in a file."""

    def __init__(self, tally: Tally, out: TextIO) -> None:
        from tqdm import tqdm

        self._out = out
        self._tty = bool(getattr(out, "isatty", lambda: False)())
        self._bar = tqdm(
            total=tally.trials, unit="trial", file=self._out, dynamic_ncols=True, disable=not self._tty,
            bar_format="{percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} {postfix}",
        )  # fmt: skip
        self._said = tally.clock()

    def show(self, tally: Tally, *, last: bool = False, stopped: str | None = None) -> None:
        """Refresh the bar, or print a line when it is time."""
        if self._tty:
            self._bar.n = tally.done
            self._bar.set_postfix_str(describe(tally), refresh=True)
            if last:
                self._bar.close()
        elif last or tally.clock() - self._said >= LINE_EVERY_S:
            self._said = tally.clock()
            print(f"{tally.done}/{tally.trials} {describe(tally)}", file=self._out, flush=True)
        if last and stopped:
            print(stopped, file=self._out, flush=True)


def describe(tally: Tally) -> str:
    """The tally in one line."""
    parts = [f"failed {tally.failed}", f"in flight {tally.in_flight}", f"throttled {tally.throttle_rate:.0%}"]
    if tally.retrying:
        parts.append(f"to retry {tally.retrying}")
    parts.append(f"tokens {words.tokens(tally.prompt_tokens + tally.completion_tokens)}")
    parts.append(f"cost {words.cost(tally.cost_usd)}")
    parts += words.batches(tally.batches)
    if tally.paused_s > 0:
        parts.append(f"paused by the provider, {words.duration(tally.paused_s)}")
    eta = tally.eta_s
    if tally.done < tally.trials and eta is not None:
        parts.append(f"ETA {words.duration(eta)}")
    return ", ".join(parts)


def _ignore(reason: str) -> None:
    pass


def make_view(progress: bool | str, tally: Tally, stop: Callable[[str], object] = _ignore) -> View:
    """The view for `progress=`; never raises.

    Parameters
    ----------
    progress : bool, "text" or "widget"
        True is a widget in a notebook kernel and text elsewhere, False is silent; a widget that fails becomes text.
    tally : Tally
    stop : callable, optional
        What the widget's Stop button calls with a reason.
    """
    if progress is False:
        return Silent()
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
