"""What the charts have in common: reading a frame, the clock without long breaks, axes, words and numbers."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from llmlab.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WAIT, GREY = "#0072b2", "#808080"
MOST_BINS, MOST_POINTS, MOST_ROWS, MOST_BARS = 60, 2_000, 400, 12
BIN_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1_200, 1_800, 3_600, 7_200, 21_600, 43_200, 86_400)
BREAK_S = 60.0
TRIAL = ["unit_id", "model", "run"]
NO_ANSWER = "no answer"
MAYBE_BILLED = ("TimeoutError", "CancelledError")


@dataclass(frozen=True)
class Clock:
    """Time since the start, without long breaks, in the unit of the axis."""

    shift: np.ndarray
    span_s: float
    breaks: np.ndarray
    idle_s: float

    @classmethod
    def of(cls, begin: np.ndarray, until: np.ndarray) -> Clock:
        """From when and until when each row was busy, in epoch seconds."""
        if not len(begin):
            return cls(begin, 1.0, begin, 0.0)
        order = np.argsort(begin, kind="stable")
        first, last = begin[order], np.maximum.accumulate(until[order])
        gap = np.append(0.0, first[1:] - last[:-1])
        active = last[-1] - first[0] - gap[gap > BREAK_S].sum()
        long = gap > max(BREAK_S, active / 10)
        shift = np.empty(len(begin))
        shift[order] = first[0] + np.cumsum(np.where(long, gap - active / 50, 0.0))
        breaks = (first - shift[order])[long] - active / 100
        return cls(shift, max((until - shift).max(), 0.1), breaks, gap[long].sum())

    @property
    def per(self) -> float:
        return 1.0 if self.span_s < 180 else 60.0 if self.span_s < 10_800 else 3600.0

    @property
    def end(self) -> float:
        return self.span_s / self.per

    def read(self, epoch_s: np.ndarray) -> np.ndarray:
        return (epoch_s - self.shift) / self.per

    def bins(self, rows: float, least_s: float = 0.0) -> np.ndarray:
        """Edges over the run: round widths, at most `MOST_BINS`, and some five rows in each."""
        wanted = max(least_s, self.span_s / max(1.0, min(MOST_BINS, rows / 5)))
        width = next((width for width in BIN_S if width >= wanted), 86_400 * math.ceil(wanted / 86_400))
        return np.arange(math.ceil(self.span_s / width) + 1) * width / self.per

    def label(self, ax: Axes) -> None:
        for at in self.breaks / self.per:
            ax.axvline(at, color=GREY, linestyle=":", linewidth=1)
        unit = {1.0: "s", 60.0: "min", 3600.0: "h"}[self.per]
        cut = f"\nwithout {count(len(self.breaks), 'break')} of {span(self.idle_s)}" if len(self.breaks) else ""
        ax.set(xlim=(0, self.end), xlabel=f"time since the start ({unit}){cut}")


def timed(data: Any, chart: str, *columns: str) -> tuple[pd.DataFrame, Clock]:
    """The attempts that were sent, with begin, queued, sent and done on the clock."""
    columns = ("started_at", "queue_s", "wait_s", "latency_s", *columns)
    frame = read_frame(data, chart, "attempts", *columns)
    frame = frame[frame["started_at"].notna()].reset_index(drop=True)
    at = pd.to_datetime(frame["started_at"], utc=True) - pd.Timestamp(0, tz="UTC")
    sent = at.dt.total_seconds().to_numpy(float)
    queue, wait, latency, retry = (
        frame[name].fillna(0).to_numpy(float) if name in frame else 0.0
        for name in ("queue_s", "wait_s", "latency_s", "retry_in_s")
    )
    clock = Clock.of(sent - wait - queue, sent + latency + retry)
    times = {"begin": sent - wait - queue, "queued": sent - wait, "sent": sent, "done": sent + latency}
    timed = frame[list(columns)].assign(**{name: clock.read(time) for name, time in times.items()}, wait_s=wait)
    return timed, clock


def read_frame(data: Any, chart: str, name: str, *columns: str) -> pd.DataFrame:
    """The frame itself, or that of the results."""
    frame = data if isinstance(data, pd.DataFrame) else getattr(data, name, None)
    also = " or a RateLimiter" if chart == "throttle_rate" else ""
    takes = f"{chart} takes Results or their frame `{name}`{also}"
    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"{takes}, not {type(data).__name__}.")
    missing = [column for column in columns if column not in frame]
    if missing:
        raise InputError(f"{takes}; this frame has no {', '.join(missing)}.")
    if frame is not data and getattr(data, "description", {}).get("prompts"):
        # Each prompt is drawn like a model of its own.
        return frame.assign(model=frame["model"] + " · " + frame["prompt"])
    return frame


def axes(ax: Any, bars: int = 0) -> Axes:
    """The given Axes, or those of a new pyplot figure, which a notebook shows at the end of the cell."""
    if ax is None:
        import matplotlib.pyplot as plt

        ax = plt.subplots(figsize=(8, max(3.8, 1.4 + 0.3 * bars)), layout="constrained")[1]
    elif not hasattr(ax, "add_collection"):
        raise InputError(f"ax takes one matplotlib Axes, not {type(ax).__name__}.")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def groups(data: Any, attempts: pd.DataFrame, by: str) -> tuple[np.ndarray, list[str]]:
    """Per attempt the number of its bar, and the bars' names; of too many, the rare ones share a bar."""
    order: list[str] = []
    if by == "category":
        if isinstance(data, pd.DataFrame):
            raise InputError("by='category' takes Results: attempts alone know no category. Or by='model', 'attempt'.")
        predictions = read_frame(data, "token_costs", "predictions", *TRIAL, "prediction", "status")
        answers = predictions["prediction"]
        order = [str(one) for one in answers.cat.categories] if isinstance(answers.dtype, pd.CategoricalDtype) else []
        texts = [*answers.astype(object).map(str).where(predictions["status"] == "ok", NO_ANSWER), NO_ANSWER]
        trials, asked = (pd.MultiIndex.from_frame(frame[TRIAL]) for frame in (predictions, attempts))
        key = pd.Series(np.array(texts, object)[trials.get_indexer(asked)], dtype=object)
    elif by == "attempt":
        key = attempts[by].clip(upper=MOST_BARS)
        order = [str(number) for number in range(1, MOST_BARS)]
        key = key.astype(str).mask(attempts[by] > MOST_BARS, f"{MOST_BARS} or later")
    else:
        key = attempts[by].astype(object).map(str)
    sizes = key.value_counts()
    others = f"{len(sizes) - MOST_BARS + 1:,} others"
    if len(sizes) > MOST_BARS:
        key = key.where(key.isin(sizes.index[: MOST_BARS - 1]), others)
    found = set(key)
    names = [name for name in dict.fromkeys([*order, *key]) if name in found]
    names.sort(key=lambda name: (name in (others, NO_ANSWER), name == NO_ANSWER))
    return pd.Index(names, dtype=object).get_indexer(pd.Index(key, dtype=object)), names


def gaps(attempts: pd.DataFrame, tokens: np.ndarray, amount: np.ndarray) -> tuple[list[str], np.ndarray]:
    """What the bars lack, in lines below the axis, and which attempts may have cost something all the same."""
    missing = np.isnan(amount)
    unpriced = missing & ~np.isnan(tokens)
    called = (attempts["status"] == "call_error").to_numpy()
    # A failed call is seldom billed; one that was given up may be.
    free = called & ~attempts["error_type"].isin(MAYBE_BILLED).to_numpy() if "error_type" in attempts else called
    silent = missing & ~unpriced
    parts = []
    if unpriced.any():
        models = ", ".join(short(name) for name in attempts["model"][unpriced].drop_duplicates()[:4])
        parts.append(f"{count(unpriced.sum(), 'attempt')} of unknown price ({models})")
    kinds = [
        count(which.sum(), word) for which, word in ((silent & ~called, "answer"), (silent & called, "failed call"))
    ]
    kinds = [kind for kind in kinds if not kind.startswith("0 ")]
    if kinds:
        parts.append(f"{' and '.join(kinds)} without usage")
    return textwrap.wrap(f"not included: {'; '.join(parts)}", 62) if parts else [], np.asarray(
        missing & ~(silent & free)
    )


def name_bars(ax: Axes, names: list[str], label: str) -> None:
    ax.set_yticks(range(len(names)), [short(name) for name in names])
    ax.set(ylim=(max(len(names), 2) - 0.4, -0.6), ylabel=label)


def finish(ax: Axes, text: str, nothing: str | None = None) -> Axes:
    """Add the title and, between it and the data, the legend; or say that there is nothing to see."""
    if nothing:
        ax.text(0.5, 0.5, nothing, transform=ax.transAxes, ha="center", va="center", color=GREY)
        return ax
    many = bool(ax.get_legend_handles_labels()[0])
    ax.set_title(text, loc="left", fontsize="medium", pad=22 if many else 8)
    if many:
        place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2, "ncols": 5}
        legend = ax.legend(
            **place, frameon=False, fontsize="small", handlelength=1.2, columnspacing=1.2, handletextpad=0.5
        )
        # The title keeps its room; a wide legend shall not narrow the Axes.
        legend.set_in_layout(False)
    return ax


def thousands(axis: Any) -> None:
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def share(part: float, whole: float) -> str:
    percent = 100 * part / whole if whole else 0.0
    return f"{percent:.0f} %" if percent in (0, 100) or 1 <= percent <= 99 else f"{percent:.1f} %"


def count(number: float, word: str) -> str:
    return f"{number:,.0f} {word}" + ("" if number == 1 else "s")


def usd(usd: float) -> str:
    """Three digits; the dollar sign is kept from starting mathematics."""
    digits = 2 if usd >= 1 or usd <= 0 else min(10, 2 - math.floor(math.log10(usd)))
    return rf"\${usd:,.{digits}f}"


def span(seconds: float) -> str:
    """A duration in words; 10 ms is the finest."""
    if seconds < 1:
        return f"{max(seconds, 0.01):.2g} s"
    size, unit = (
        (3600, "h") if seconds >= 10_800 else (60, "min") if seconds >= 180 or seconds in BIN_S[9:11] else (1, "s")
    )
    return f"{seconds / size:.3g} {unit}"


def word(status: str) -> str:
    return status.replace("_", " ")


def short(name: object) -> str:
    """A name for an axis: one line, no mathematics."""
    text = " ".join(str(name).split())
    return (text if len(text) <= 26 else f"{text[:15]}…{text[-10:]}").replace("$", r"\$")
