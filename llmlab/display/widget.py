"""The live view in notebooks: one HTML widget and a Stop button, and a static snapshot in their place at the end."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from llmlab.display import html as markup
from llmlab.display.html import BLUE, GREEN, GREY, ORANGE, RED
from llmlab.display.tally import Tally, duration, money

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
        now = time.monotonic()
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
    stop : callable, optional
        Takes the reason; called by the Stop button, from whatever thread handles the click.

    Raises
    ------
    RuntimeError
        There is no notebook to show it in.
    """

    def __init__(self, tally: Tally, stop: Callable[[str], object] | None = None) -> None:
        import ipywidgets
        from IPython.display import display

        self._stop = stop
        self._history = History()
        self._html = ipywidgets.HTML(live_html(tally, self._history), layout={"flex": "1 1 auto", "min_width": "0"})
        self._button = None
        children: list[Any] = [self._html]
        if stop is not None and not _clicks_wait():
            self._button = ipywidgets.Button(
                description="Stop",
                icon="stop",
                tooltip="Send nothing more; answers on their way are kept",
                layout={"flex": "0 0 auto", "width": "104px", "margin": "2px 2px 2px 16px"},
            )
            self._button.on_click(self._clicked)
            children.append(self._button)
        layout = {"width": "100%", "max_width": "1024px", "align_items": "flex-start"}
        self._box = ipywidgets.HBox(children, layout=layout)
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
        if self._stop is not None:
            self._stop("stopped by the Stop button")
        self._stopping()

    def _stopping(self) -> None:
        if self._button is not None and not self._button.disabled:
            self._button.disabled = True
            self._button.description = "stopping…"

    def _close(self) -> None:
        for widget in (self._box, *self._box.children):
            # The front end may be gone.
            with contextlib.suppress(Exception):
                widget.close()


def _clicks_wait() -> bool:
    """Whether a click would only be handled after the cell: old kernels, and runs that block the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return True
    kernel = sys.modules.get("ipykernel")
    return kernel is not None and kernel.version_info[0] < CONCURRENT_COMMS


def live_html(tally: Tally, history: History, stopped: str | None = None) -> str:
    """The tally as HTML while it runs."""
    eta_s = tally.eta_s
    if stopped:
        ahead = f"stopping… {tally.in_flight:,} in flight" if tally.in_flight else "stopping…"
    elif eta_s is None:
        ahead = "ETA: no telling yet"
    else:
        ahead = f"ETA {duration(eta_s)}"
    if tally.paused_s > 0 and not stopped:
        pause = f"paused by the provider, {duration(max(1.0, tally.paused_s))}"
        ahead = f"<span style='color:{ORANGE};font-weight:600'>{pause}</span> · {ahead}"
    cost = money(tally)
    projected = tally.projected_usd
    tiles = [
        markup.tile("in flight", f"{tally.in_flight:,}"),
        markup.tile("waiting for the limiter", f"{tally.waiting:,}"),
        markup.tile("throttled, last 10 s", f"{tally.throttle_rate:.0%}", drawn=_throttle_line(history)),
        markup.tile("average wait", f"{tally.avg_wait_s:,.1f} s", drawn=_wait_line(history)),
        markup.tile("waiting to retry", f"{tally.retrying:,}"),
        markup.tile("attempts", f"{tally.attempts:,}", f"{tally.retries:,} repeated"),
        markup.tile("tokens in", f"{tally.prompt_tokens:,}", f"{tally.completion_tokens:,} out"),
        markup.tile("cost so far", cost, "" if projected is None else f"${projected:,.4f} projected"),
    ]
    # Four and four, where there is room.
    drawn = markup.tiles(tiles, width_px=190)
    error = tally.last_error and f"last error: {markup.short(tally.last_error)}"
    return _page(tally, ahead, drawn, None, error)


def snapshot(tally: Tally, history: History, stopped: str | None = None) -> dict[str, str]:
    """The end of a run as a mimebundle: HTML, and one line of text."""
    took = duration(time.monotonic() - tally.started)
    tokens = tally.prompt_tokens + tally.completion_tokens
    tiles = [
        markup.tile(
            "throttled",
            f"{tally.throttled / tally.attempts if tally.attempts else 0:.0%}",
            drawn=_throttle_line(history),
        ),
        markup.tile("average wait", f"{tally.avg_wait_s:,.1f} s", drawn=_wait_line(history)),
        markup.tile("attempts", f"{tally.attempts:,}", f"{tally.retries:,} repeated"),
        markup.tile("tokens in", f"{tally.prompt_tokens:,}", f"{tally.completion_tokens:,} out"),
        markup.tile("cost", money(tally)),
    ]
    parts = [f"{tally.ok:,} of {tally.trials:,} trials answered"]
    if tally.failed:
        parts.append(f"{tally.failed:,} failed")
    parts += [f"{tally.attempts:,} attempts", f"{tokens:,} tokens", money(tally), took]
    text = f"llmlab: {', '.join(parts)}" + (f"; {' '.join(stopped.split())}" if stopped else "")
    kinds = ", ".join(f"{count:,} {markup.short(kind, 40)}" for kind, count in tally.errors.most_common(4))
    errors = f"unsuccessful attempts: {kinds}" if kinds else None
    return {"text/html": _page(tally, f"took {took}", markup.tiles(tiles), stopped, errors), "text/plain": text}


def _page(tally: Tally, right: str, tiles: str, stopped: str | None, error: str | None) -> str:
    trials, done = tally.trials, tally.done
    under_way = min(tally.in_flight, max(0, trials - done))
    share = f" ({int(100 * done / trials)} %)" if trials else ""
    keys = [markup.key(GREEN, f"{tally.ok:,} answered"), markup.key(RED, f"{tally.failed:,} failed")]
    if under_way:
        keys.append(markup.key(BLUE, f"{under_way:,} in flight"))
    keys.append(markup.key(GREY, f"{max(0, trials - done - under_way):,} not run"))
    filled = markup.bar([(tally.ok, GREEN), (tally.failed, RED), (under_way, BLUE)], trials)
    aria = f"role='progressbar' aria-valuemin='0' aria-valuemax='{trials}' aria-valuenow='{done}'"
    rows = [
        "<div style='display:flex;justify-content:space-between;flex-wrap:wrap'>"
        f"<div style='{markup.DIGITS}'><b>{done:,}</b> of {trials:,} trials{share}</div>"
        f"<div style='{markup.DIGITS}'>{right}</div></div>",
        f"<div {aria} style='margin:5px 0'>{filled}</div>",
        f"<div style='{markup.KEYS}'>{''.join(keys)}</div>",
        tiles,
    ]
    if stopped:
        rows.append(f"<div style='{markup.NOTICE}'>{markup.short(stopped, 400)}</div>")
    if error:
        rows.append(f"<div style='margin-top:6px;{markup.ONE_LINE};{markup.MUTED}'>{error}</div>")
    return f"<div class='llmlab-progress' style='{markup.FONT};max-width:920px;margin-bottom:6px'>{''.join(rows)}</div>"


def _throttle_line(history: History) -> str:
    return markup.line(history.throttle_rate, ORANGE, top=1.0)


def _wait_line(history: History) -> str:
    return markup.line(history.wait_s, BLUE, top=max(history.wait_s, default=0.0))
