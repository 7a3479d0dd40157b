"""What a chart function returns: a picture that shows itself in a notebook and prints nothing beside it."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlab.display.palette import INK
from llmlab.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_IN, HEIGHT_IN, DPI = 8.0, 3.8, 100
TITLE_PT = 11.5
# Twice the dots of the page, so that text is sharp.
SHARP = 2
THEME: dict[str, Any] = {
    "font.size": 10.5,
    "axes.titlesize": TITLE_PT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
}
"""Text in a grey that reads on light and on dark pages, on a ground that lets the page through."""


class Chart:
    """A chart: as the last line of a cell it is shown; `save` writes it to a file.

    Attributes
    ----------
    axes : Axes, or ndarray of Axes
        Of matplotlib; whatever is changed there is shown.
    figure : Figure
    finding : str
        The chart's title: what it shows, in a sentence.
    """

    least_rows = 1

    def __init__(self, axes: Any, figure: Figure) -> None:
        self.axes, self.figure = axes, figure
        self.finding = ""

    @property
    def width_in(self) -> float:
        """How wide the room for a title is, in inches."""
        return float(self.axes.get_position().width * self.figure.get_figwidth())

    def set_title(self, text: str, pad: float) -> None:
        """Write `text` above the data, with `pad` points between them."""
        self.axes.set_title(text, loc="left", pad=8 + pad)

    def __repr__(self) -> str:
        return f"<Chart: {self.finding}>"

    def save(self, path: str | Path, *, dpi: float = 200) -> Path:
        """Write the chart in black on white, as PNG, PDF or SVG by the file's name.

        Parameters
        ----------
        path : path
        dpi : float
            Dots per inch of a PNG.
        """
        with _black(self.figure):
            self.figure.savefig(path, dpi=dpi, facecolor="white")
        return Path(path)


class Page(Chart):
    """A chart that has a figure, or a part of one, for itself: its title begins at the left edge."""

    def __init__(self, axes: Any, figure: Figure, room: Any) -> None:
        super().__init__(axes, figure)
        self._room = room

    @property
    def width_in(self) -> float:
        """How wide the room for a title is, in inches."""
        return float(self._room.bbox.width / self.figure.dpi)

    def set_title(self, text: str, pad: float) -> None:
        """Write `text` above the data, with `pad` points between them."""
        # An empty title of the Axes keeps the room for a legend.
        self.axes.set_title(" ", fontsize=1, pad=4 + pad)
        self._room.suptitle(text, x=0.01, ha="left", fontsize=TITLE_PT)


class Cell(Page):
    """A chart in its part of a sheet, whose height is the same for all charts."""

    least_rows = 5


class Picture(Page):
    """A chart on a figure of its own, which shows itself."""

    def _repr_mimebundle_(
        self, include: object = None, exclude: object = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The picture and its size, as Jupyter and marimo ask for them."""
        import matplotlib.pyplot as plt

        file = io.BytesIO()
        self.figure.savefig(file, format="png", dpi=SHARP * DPI)
        # It is shown now: pyplot shall not show it once more at the end of the cell.
        plt.close(self.figure)
        width, height = self.figure.get_size_inches() * DPI
        size = {"width": round(width), "height": round(height)}
        return {"image/png": file.getvalue(), "text/plain": repr(self)}, {"image/png": size}


class Part(Chart):
    """A chart on Axes of the user's, whose figure is shown by other means."""

    def _ipython_display_(self) -> None:
        """Show nothing."""


class Room:
    """A part of a sheet in which one chart is drawn, given to it in place of Axes."""

    def __init__(self, room: Any, figure: Figure) -> None:
        self.room, self.figure = room, figure


@contextlib.contextmanager
def canvas(ax: Axes | Room | None, *, height_in: float = HEIGHT_IN) -> Iterator[tuple[Chart, Axes]]:
    """The chart and its Axes: `ax`, or those of a new pyplot figure, which is closed if it is not finished.

    Parameters
    ----------
    ax : Axes, Room or None
    height_in : float
        Height of a new figure in inches.
    """
    if isinstance(ax, Room):
        axes = ax.room.subplots()
        yield Cell(axes, ax.figure, ax.room), axes
    elif ax is None:
        with _new_figure(WIDTH_IN, height_in) as figure:
            axes = figure.subplots()
            yield Picture(axes, figure, figure), axes
    elif hasattr(ax, "add_collection"):
        ax.spines[["top", "right"]].set_visible(False)
        yield Part(ax, _figure_of(ax)), ax
    else:
        raise InputError(f"ax takes one matplotlib Axes, not {type(ax).__name__}.")


@contextlib.contextmanager
def sheet(charts: int, *, width_in: float, row_height_in: float) -> Iterator[tuple[Picture, list[Room]]]:
    """A new pyplot figure with rooms for so many charts in two columns; the last of an odd number has both."""
    rows = -(-charts // 2)
    with _new_figure(width_in, rows * row_height_in) as figure:
        grid = figure.add_gridspec(rows, 2)
        places = [grid[at // 2, at % 2] for at in range(charts)]
        if charts % 2:
            places[-1] = grid[rows - 1, :]
        yield Picture(None, figure, figure), [Room(figure.add_subfigure(place), figure) for place in places]


@contextlib.contextmanager
def _new_figure(width_in: float, height_in: float) -> Iterator[Figure]:
    import matplotlib.pyplot as plt

    theme: Any = THEME
    # Made outside of the theme: the first figure loads the backend, and a notebook's backend then switches on that
    # figures are shown at the end of a cell. Within the theme that would end with it, for the user's own plots, too.
    figure = plt.figure(figsize=(width_in, height_in), dpi=DPI, layout="constrained", facecolor="none")
    with plt.rc_context(theme):
        try:
            yield figure
        except BaseException:
            plt.close(figure)
            raise


def _figure_of(ax: Axes) -> Figure:
    figure: Any = ax.figure
    # Axes may stand in a part of a figure.
    while (outer := getattr(figure, "figure", figure)) is not figure:
        figure = outer
    return figure


@contextlib.contextmanager
def _black(figure: Figure) -> Iterator[None]:
    """For as long as it lasts, what is drawn in the pages' grey is black, as a printed page wants it."""
    from matplotlib.colors import same_color
    from matplotlib.lines import Line2D
    from matplotlib.spines import Spine
    from matplotlib.text import Text

    changed: list[Callable[[str], Any]] = []
    for artist in figure.findobj():
        if isinstance(artist, (Text, Line2D)) and same_color(artist.get_color(), INK):
            changed.append(artist.set_color)
        elif isinstance(artist, Spine) and same_color(artist.get_edgecolor(), INK):
            changed.append(artist.set_edgecolor)
    for change in changed:
        change("black")
    try:
        yield
    finally:
        for change in changed:
            change(INK)
