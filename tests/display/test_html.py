"""What others wrote is escaped and cut, dollars stay dollars, and bars and lines keep to their frame."""

import re

from llmlab.display import html


def test_a_text_is_one_line_escaped_and_cut():
    assert html.short("a\n  <b>") == "a &lt;b&gt;"
    assert html.short("x" * 1000, 10) == "x" * 9 + "…"


def test_two_dollar_signs_are_no_mathematics():
    page = html.page("results", ["$1 to $2"])
    assert "class='llmlab-results mathjax_ignore tex2jax_ignore'" in page


def test_a_bar_shows_the_parts_that_there_are():
    drawn = html.bar([(1, "red"), (0, "blue"), (3, "green")], 4)
    assert re.findall(r"width:([\d.]+)%;background-color:(\w+)", drawn) == [("25.00", "red"), ("75.00", "green")]
    assert "%" not in html.bar([(1, "red")], 0)


def test_a_line_stays_within_its_frame():
    drawn = html.line([0.0, 5.0, 10.0], "red", top=10.0, width=100, height=20)
    points = [tuple(map(float, point.split(","))) for point in re.search("points='(.*?)'", drawn).group(1).split()]
    assert [x for x, _ in points] == [0, 50, 100]
    assert all(0 <= y <= 20 for _, y in points)
    assert "polyline" not in html.line([1.0], "red", top=1.0)
