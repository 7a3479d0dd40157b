"""Titles say the finding, and where there is nothing to see a chart says so."""

from matplotlib.figure import Figure

from llmlab.display import axes
from llmlab.display.chart import Part


def finished(*words):
    figure = Figure(figsize=(4, 3))
    chart = Part(figure.subplots(), figure)
    axes.finish(chart, chart.axes, *words)
    figure.canvas.draw()
    return chart


def test_titles_may_hold_dollars():
    chart = finished("$1 to $2")
    assert chart.axes.get_title(loc="left") == r"\$1 to \$2"
    assert chart.finding == "$1 to $2"


def test_long_titles_are_broken_and_stay_within_the_figure():
    chart = finished("a long finding " * 8)
    title = chart.axes._left_title
    assert "\n" in title.get_text()
    assert title.get_window_extent().x1 < chart.figure.bbox.x1


def test_where_there_is_nothing_to_see_it_says_so():
    chart = finished("never shown", "no attempts yet")
    assert [text.get_text() for text in chart.axes.texts] == ["no attempts yet"]
    assert chart.axes.get_title(loc="left") == ""
    assert chart.finding == "no attempts yet"
