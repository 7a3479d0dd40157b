"""The live view in notebooks: one HTML widget and a Stop button, and a static snapshot in their place at the end."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

from llmlab.display import html as markup
from llmlab.display import words
from llmlab.display.palette import ANSWERED, FAILED, IN_FLIGHT, NOTICE, PALE
from llmlab.display.tally import Tally

SAMPLE_EVERY_S = 1.0
MOST_SAMPLES = 120
CONCURRENT_COMMS = 7


class History:
    """Throttle rate and wait over the whole run in at most `MOST_SAMPLES` points: full, it keeps every other one."""

    def __init__(self) -> None:
        self.throttle_rate: list[float] = []
        self.wait_s: list[float] = []
        self._every_s = SAMPLE_EVERY_S
        self._due = 0.0

    def sample(self, tally: Tally) -> None:
        """Take a point if it is time."""
        now = tally.clock()
        if now < self._due:
            return
        self._due = now + self._every_s
        if len(self.wait_s) >= MOST_SAMPLES:
            del self.throttle_rate[1::2], self.wait_s[1::2]
            self._every_s *= 2
        self.throttle_rate.append(tally.throttle_rate)
        self.wait_s.append(tally.recent_wait_s)


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
        self._html = ipywidgets.HTML(live_html(tally, self._history), layout={"flex": "1 1 auto", "min_width": "0"})
        # None where a click would only be handled after the cell.
        in_main = threading.current_thread() is threading.main_thread()
        self._buttons = [] if clicks_wait(_kernel(), in_main) else [_stop_button(ipywidgets)]
        for button in self._buttons:
            button.on_click(self._clicked)
        layout = {"width": "100%", "max_width": "1024px", "align_items": "flex-start"}
        self._box = ipywidgets.HBox([self._html, *self._buttons], layout=layout)
        shown: Any = self._box._repr_mimebundle_()
        bundle = dict(shown[0] if isinstance(shown, tuple) else shown)
        # A notebook saved half-way, or shown where there are no widgets, says this and not HBox(children=…
        bundle["text/plain"] = "llmlab: an experiment was running when this was saved"
        self._handle: Any = display(bundle, raw=True, display_id=True)
        if self._handle is None:
            self._close()
            raise RuntimeError("there is no notebook to show a widget in")

    def show(self, tally: Tally, *, last: bool = False, stopped: str | None = None) -> None:
        """Show where things stand; `last` leaves a static picture in place of the widget."""
        self._history.sample(tally)
        if last:
            self._handle.update(snapshot(tally, self._history, stopped), raw=True)
            self._close()
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
                button.disabled, button.description = True, "stopping…"

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


def clicks_wait(kernel: tuple[int, ...], main_thread: bool) -> bool:
    """Whether a click would only be handled after the cell: in old kernels, and where the run blocks the main thread.

    Parameters
    ----------
    kernel : tuple of int
        The version of ipykernel; empty without one.
    main_thread : bool
        Whether the experiment runs in the main thread.
    """
    return not main_thread or (bool(kernel) and kernel[0] < CONCURRENT_COMMS)


def _kernel() -> tuple[int, ...]:
    return tuple(getattr(sys.modules.get("ipykernel"), "version_info", ()))


def live_html(tally: Tally, history: History, stopped: str | None = None) -> str:
    """The tally as HTML while it runs."""
    eta_s = tally.eta_s
    if stopped:
        ahead = f"stopping… {tally.in_flight:,} in flight" if tally.in_flight else "stopping…"
    elif eta_s is None:
        ahead = "ETA: no telling yet"
    else:
        ahead = f"ETA {words.duration(eta_s)}"
    if tally.paused_s > 0 and not stopped:
        pause = f"paused by the provider, {words.duration(max(1.0, tally.paused_s))}"
        ahead = f"<span style='color:{NOTICE};font-weight:600'>{pause}</span> · {ahead}"
    projected = "" if tally.projected_usd is None else f"{words.usd(tally.projected_usd)} projected"
    tiles = [
        markup.tile("in flight", f"{tally.in_flight:,}"),
        markup.tile("waiting for the limiter", f"{tally.waiting:,}"),
        markup.tile("throttled, last 10 s", f"{tally.throttle_rate:.0%}", drawn=_throttle_line(history)),
        markup.tile("average wait", f"{tally.avg_wait_s:,.1f} s", drawn=_wait_line(history)),
        markup.tile("waiting to retry", f"{tally.retrying:,}"),
        markup.tile("attempts", f"{tally.attempts:,}", f"{tally.retries:,} repeated"),
        markup.tile("tokens in", words.tokens(tally.prompt_tokens), f"{words.tokens(tally.completion_tokens)} out"),
        markup.tile("cost so far", words.cost(tally.cost_usd), projected),
    ]
    # Four and four, where there is room.
    drawn = markup.tiles(tiles, width_px=190)
    error = f"last error: {markup.short(tally.last_error)}" if tally.last_error else ""
    return _page(tally, ahead, drawn, "", error, words.batches(tally.batches))


def snapshot(tally: Tally, history: History, stopped: str | None = None) -> dict[str, str]:
    """The end of a run as a mimebundle: HTML, and one line of text."""
    took = words.duration(tally.elapsed_s)
    tokens = words.tokens(tally.prompt_tokens + tally.completion_tokens)
    cost = words.cost(tally.cost_usd)
    tiles = [
        markup.tile(
            "throttled",
            f"{tally.throttled / tally.attempts if tally.attempts else 0:.0%}",
            drawn=_throttle_line(history),
        ),
        markup.tile("average wait", f"{tally.avg_wait_s:,.1f} s", drawn=_wait_line(history)),
        markup.tile("attempts", f"{tally.attempts:,}", f"{tally.retries:,} repeated"),
        markup.tile("tokens in", words.tokens(tally.prompt_tokens), f"{words.tokens(tally.completion_tokens)} out"),
        markup.tile("cost", cost),
    ]
    parts = [f"{tally.ok:,} of {tally.trials:,} trials answered"]
    if tally.failed:
        parts.append(f"{tally.failed:,} failed")
    parts += [f"{tally.attempts:,} attempts", f"{tokens} tokens", f"cost {cost}", took]
    text = f"llmlab: {', '.join(parts)}" + (f"; {' '.join(stopped.split())}" if stopped else "")
    kinds = ", ".join(f"{count:,} {markup.short(kind, 40)}" for kind, count in tally.errors.most_common(4))
    errors = f"unsuccessful attempts: {kinds}" if kinds else ""
    return {"text/html": _page(tally, f"took {took}", markup.tiles(tiles), stopped or "", errors), "text/plain": text}


def _page(tally: Tally, right: str, tiles: str, stopped: str, error: str, queued: Sequence[str] = ()) -> str:
    trials, done = tally.trials, tally.done
    under_way = min(tally.in_flight, max(0, trials - done))
    share = f" ({int(100 * done / trials)} %)" if trials else ""
    keys = [markup.key(ANSWERED, f"{tally.ok:,} answered"), markup.key(FAILED, f"{tally.failed:,} failed")]
    if under_way:
        keys.append(markup.key(IN_FLIGHT, f"{under_way:,} in flight"))
    keys.append(markup.key(PALE, f"{max(0, trials - done - under_way):,} not run"))
    filled = markup.bar([(tally.ok, ANSWERED), (tally.failed, FAILED), (under_way, IN_FLIGHT)], trials)
    aria = f"role='progressbar' aria-valuemin='0' aria-valuemax='{trials}' aria-valuenow='{done}'"
    rows = [
        "<div style='display:flex;justify-content:space-between;flex-wrap:wrap'>"
        f"<div style='{markup.DIGITS}'><b>{done:,}</b> of {trials:,} trials{share}</div>"
        f"<div style='{markup.DIGITS}'>{right}</div></div>",
        f"<div {aria} style='margin:5px 0'>{filled}</div>",
        f"<div style='{markup.KEYS}'>{''.join(keys)}</div>",
        *(f"<div style='margin-top:6px;{markup.DIGITS}'>{markup.short(line, 200)}</div>" for line in queued),
        tiles,
    ]
    if stopped:
        rows.append(f"<div style='{markup.NOTE}'>{markup.short(stopped, 400)}</div>")
    if error:
        rows.append(f"<div style='margin-top:6px;{markup.ONE_LINE};{markup.MUTED}'>{error}</div>")
    return markup.page("progress", rows)


def _throttle_line(history: History) -> str:
    return markup.line(history.throttle_rate, NOTICE, top=1.0)


def _wait_line(history: History) -> str:
    return markup.line(history.wait_s, IN_FLIGHT, top=max(history.wait_s, default=0.0))
