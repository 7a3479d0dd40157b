"""The live view in notebooks: one HTML widget and a Stop button; at the end one static line in their place."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable
from typing import Any

from llmlab.display.panel import History, live_html, snapshot
from llmlab.display.tally import Tally

# The ipykernel that handles a click while a cell awaits.
CONCURRENT_COMMS = (7, 4)
# What a front end draws a widget for; ipywidgets 7 and 8 make the same of it.
WIDGET = "application/vnd.jupyter.widget-view+json"


class Widget:
    """Shows a tally in a notebook.

    Parameters
    ----------
    tally : Tally
        What is shown.
    stop : callable
        Takes the reason; called by the Stop button, from whatever thread handles the click.

    Raises
    ------
    RuntimeError
        There is no notebook to show it in.
    """

    def __init__(self, tally: Tally, stop: Callable[[str], object]) -> None:
        import ipywidgets
        from IPython.display import display

        self._stop = stop
        self._history = History()
        self._html = ipywidgets.HTML(live_html(tally, self._history), layout={"flex": "1 1 0", "min_width": "0"})
        # None where a click would only be handled after the cell.
        in_main = threading.current_thread() is threading.main_thread()
        self._buttons = [] if clicks_wait(_kernel(), in_main) else [_stop_button(ipywidgets)]
        for button in self._buttons:
            button.on_click(self._clicked)
        self._beside = self._buttons or [_interrupt_hint(ipywidgets)]
        layout = {"width": "100%", "max_width": "1024px", "align_items": "flex-start"}
        self._box = ipywidgets.HBox([self._html, *self._beside], layout=layout)
        bundle = {
            WIDGET: {"version_major": 2, "version_minor": 0, "model_id": self._box.model_id},
            # A notebook saved half-way, or shown where there are no widgets, says this and not HBox(children=…
            "text/plain": "llmlab: an experiment was running when this was saved",
        }
        self._handle: Any = display(bundle, raw=True, display_id=True)
        if self._handle is None:
            self._close()
            raise RuntimeError("there is no notebook to show a widget in")

    def show(self, tally: Tally, *, last: bool = False, stopped: str | None = None) -> None:
        """Show where things stand; `last` leaves one static line in place of the widget."""
        self._history.sample(tally)
        if last:
            self._end(snapshot(tally, stopped))
            return
        if stopped:
            self._stopping()
        value = live_html(tally, self._history, stopped)
        if value != self._html.value:
            self._html.value = value

    def _clicked(self, _: object) -> None:
        self._stop("stopped by the Stop button")
        self._stopping()

    def _stopping(self) -> None:
        for button in self._buttons:
            if not button.disabled:
                button.disabled, button.description = True, "Stopping"

    def _end(self, final: dict[str, str]) -> None:
        # A page that was loaded anew during the run shows the widget, and no update reaches it: so both say the end.
        with contextlib.suppress(Exception):
            self._html.value = final["text/html"]
            for one in self._beside:
                one.layout.display = "none"
        self._handle.update(final, raw=True)

    def _close(self) -> None:
        for widget in (self._box, *self._box.children):
            # The front end may be gone.
            with contextlib.suppress(Exception):
                widget.close()


def _stop_button(ipywidgets: Any) -> Any:
    return ipywidgets.Button(
        description="Stop",
        icon="stop",
        tooltip="Send nothing more; answers on their way are kept",
        layout={"flex": "0 0 auto", "width": "104px", "margin": "2px 2px 2px 16px"},
    )


def _interrupt_hint(ipywidgets: Any) -> Any:
    return ipywidgets.HTML(
        "<span style='opacity:0.75;font-size:12px'>■ ends it early, with the answers so far</span>",
        layout={"flex": "0 0 auto", "width": "104px", "margin": "2px 2px 2px 16px"},
    )


def clicks_wait(kernel: tuple[int, ...], main_thread: bool) -> bool:
    """Whether a click would only be handled after the cell: in old kernels, and where the run blocks the main thread.

    Parameters
    ----------
    kernel : tuple of int
        The version of ipykernel; empty without one.
    main_thread : bool
        Whether the experiment runs in the main thread.
    """
    return not main_thread or (bool(kernel) and kernel[:2] < CONCURRENT_COMMS)


def _kernel() -> tuple[int, ...]:
    return tuple(getattr(sys.modules.get("ipykernel"), "version_info", ()))
