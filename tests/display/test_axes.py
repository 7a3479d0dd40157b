"""Names and titles are one line, and dollar signs in them start no mathematics."""

import pytest
from matplotlib.figure import Figure

from llmlab.display import axes
from llmlab.errors import InputError


def test_names_are_one_line_and_no_mathematics():
    assert axes.short("a$_{$\n b") == r"a\$_{\$ b"
    assert len(axes.short("b" * 80)) <= 26


def test_titles_may_hold_dollars():
    ax = Figure().subplots()
    axes.finish(ax, "$1 to $2")
    ax.figure.canvas.draw()
    assert ax.get_title(loc="left") == r"\$1 to \$2"


def test_where_there_is_nothing_to_see_it_says_so():
    ax = axes.finish(Figure().subplots(), "never shown", "no attempts yet")
    assert [text.get_text() for text in ax.texts] == ["no attempts yet"]
    assert ax.get_title(loc="left") == ""


def test_axes_are_one():
    with pytest.raises(InputError, match="one matplotlib Axes, not list"):
        axes.axes([1, 2])
