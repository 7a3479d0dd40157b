"""A chart shows itself once, prints nothing, reads on any page, and is black on white in a file."""

import io

import matplotlib.pyplot as plt
import numpy as np
from IPython.core.formatters import DisplayFormatter
from matplotlib.figure import Figure

from llmlab.display import charts
from llmlab.display.palette import INK
from tests.display.drawn import results


def shown(chart) -> dict:
    """What a notebook makes of a chart as the last line of a cell."""
    formatter = DisplayFormatter()
    formatter.active_types = formatter.format_types
    return formatter.format(chart)


def pixels(png: bytes) -> np.ndarray:
    return plt.imread(io.BytesIO(png))


def test_it_is_its_own_picture_and_pyplot_does_not_show_it_again():
    chart = charts.timeline(results())
    data, metadata = shown(chart)
    assert plt.get_fignums() == []
    assert metadata["image/png"] == {"width": 800, "height": 380}
    assert data["text/plain"] == f"<Chart: {chart.finding}>"
    # The same again for whoever looks once more.
    assert shown(chart)[0]["image/png"] == data["image/png"]


def test_in_the_middle_of_a_cell_pyplot_shows_it_at_the_end():
    charts.timeline(results())
    assert len(plt.get_fignums()) == 1


def test_on_axes_of_the_users_it_shows_nothing():
    chart = charts.timeline(results(), ax=Figure().subplots())
    assert shown(chart) == ({}, {})


def test_the_page_shines_through_and_the_text_is_grey():
    chart = charts.token_costs(results())
    data, _ = shown(chart)
    picture = pixels(data["image/png"])
    assert picture[0, 0, 3] == 0
    assert chart.axes.get_yticklabels()[0].get_color() == INK


def test_contrast_of_the_text_is_the_same_on_light_and_on_dark_pages():
    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))

    on_white = 1.05 / (luminance(INK) + 0.05)
    on_dark = (luminance(INK) + 0.05) / (luminance("#111111") + 0.05)
    assert min(on_white, on_dark) > 4.3


def test_a_saved_chart_is_black_on_white_and_the_shown_one_stays_grey(tmp_path):
    chart = charts.token_costs(results())
    path = chart.save(tmp_path / "costs.png")
    picture = pixels(path.read_bytes())
    assert picture[0, 0].tolist() == [1, 1, 1, 1]
    assert picture[..., :3].min() == 0
    assert chart.axes.get_yticklabels()[0].get_color() == INK
    assert chart.save(tmp_path / "costs.pdf").read_bytes().startswith(b"%PDF")


def test_a_users_style_is_left_as_it_is():
    with plt.rc_context({"text.color": "red", "axes.labelcolor": "red"}):
        ax = plt.figure().subplots()
        charts.timeline(results(), ax=ax)
    assert ax.xaxis.label.get_color() == "red"
    assert plt.rcParams["figure.facecolor"] != "none"
