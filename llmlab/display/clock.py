"""Time on an axis: seconds, minutes or hours since the start, without long breaks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from llmlab.display import words
from llmlab.display.palette import GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_BINS = 60
BIN_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1_200, 1_800, 3_600, 7_200, 21_600, 43_200, 86_400)
BREAK_S = 60.0


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
        cut = (
            f"\nwithout {words.count(len(self.breaks), 'break')} of {words.span(self.idle_s)}"
            if len(self.breaks)
            else ""
        )
        ax.set(xlim=(0, self.end), xlabel=f"time since the start ({unit}){cut}")
