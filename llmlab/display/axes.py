"""What the charts have in common: titles, legends, rows of names and ticks."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llmlab.display.chart import Chart
from llmlab.display.names import plain
from llmlab.display.palette import GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMALL = 9.5
CHARACTERS_PER_IN = 11.0
LEGEND_ROW_PT = 16.0


def height_in(rows: int) -> float:
    """How high a figure with so many rows of bars is, in inches."""
    return 1.6 + 0.34 * max(rows, 1)


def name_rows(chart: Chart, ax: Axes, names: Sequence[str], headings: Sequence[int] = (), *, label: str = "") -> None:
    """Names of horizontal bars, from above; headings in bold."""
    ax.set_yticks(range(len(names)), list(names))
    ax.tick_params(axis="y", length=0)
    for at in headings:
        ax.get_yticklabels()[at].set_fontweight("bold")
    # Where the height is given, one bar shall not be as high as ten.
    spare = max(0, chart.least_rows - len(names)) / 2
    ax.set(ylim=(len(names) - 0.4 + spare, -0.6 - spare), ylabel=label)


def finish(chart: Chart, ax: Axes, finding: str, nothing: str = "") -> None:
    """Write the finding above the data, and the legend between them; or only that there is `nothing` to see."""
    chart.finding = nothing or finding
    if nothing:
        ax.text(0.5, 0.5, nothing, transform=ax.transAxes, ha="center", va="center", color=GREY)
        return
    room = CHARACTERS_PER_IN * chart.width_in
    labels = ax.get_legend_handles_labels()[1]
    rows = 0
    if labels:
        columns = _columns([len(label) for label in labels], room)
        rows = -(-len(labels) // columns)
        place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2, "ncols": columns}
        legend = ax.legend(
            **place, frameon=False, fontsize=SMALL, handlelength=1.2, columnspacing=1.2, handletextpad=0.5
        )
        # The title keeps its room; a wide legend shall not narrow the Axes.
        legend.set_in_layout(False)
    chart.set_title(plain(textwrap.fill(finding, round(room))), LEGEND_ROW_PT * rows)


def _columns(lengths: Sequence[int], room: float) -> int:
    """How many entries of a legend stand side by side."""
    for columns in range(len(lengths), 1, -1):
        widest = sum(max(lengths[at::columns]) + 5 for at in range(columns))
        if widest <= room:
            return columns
    return 1


def thousands(axis: Any) -> None:
    """Few whole numbers on an axis, with commas."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
