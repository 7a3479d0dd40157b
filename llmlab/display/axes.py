"""What the charts have in common: the Axes, their names, titles and ticks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmlab.display.palette import GREY
from llmlab.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def axes(ax: Any, bars: int = 0) -> Axes:
    """The given Axes, or those of a new pyplot figure, which a notebook shows at the end of the cell."""
    if ax is None:
        import matplotlib.pyplot as plt

        ax = plt.subplots(figsize=(8, max(3.8, 1.4 + 0.3 * bars)), layout="constrained")[1]
    elif not hasattr(ax, "add_collection"):
        raise InputError(f"ax takes one matplotlib Axes, not {type(ax).__name__}.")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def name_bars(ax: Axes, names: list[str], label: str) -> None:
    ax.set_yticks(range(len(names)), [short(name) for name in names])
    ax.set(ylim=(max(len(names), 2) - 0.4, -0.6), ylabel=label)


def finish(ax: Axes, text: str, nothing: str | None = None) -> Axes:
    """Add the title and, between it and the data, the legend; or say that there is nothing to see."""
    if nothing:
        ax.text(0.5, 0.5, nothing, transform=ax.transAxes, ha="center", va="center", color=GREY)
        return ax
    many = bool(ax.get_legend_handles_labels()[0])
    ax.set_title(plain(text), loc="left", fontsize="medium", pad=22 if many else 8)
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


def plain(text: str) -> str:
    """`text` as it is: two dollar signs would start mathematics."""
    return text.replace("$", r"\$")


def short(name: object) -> str:
    """A name for an axis: one line, no mathematics."""
    text = " ".join(str(name).split())
    return plain(text if len(text) <= 26 else f"{text[:15]}…{text[-10:]}")
