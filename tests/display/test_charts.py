"""What holds for every chart: any data, no change of it, no figure left open; and the sheet of all of them."""

import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from pandas.testing import assert_frame_equal

from llmlab.display import charts
from llmlab.errors import InputError
from tests.display.drawn import results, synthetic, texts

CHARTS = [
    charts.throttle_rate,
    charts.wait_time,
    charts.token_costs,
    charts.timeline,
    charts.progress_over_time,
    charts.agreement,
    charts.labels,
]
OF_ATTEMPTS = CHARTS[:5]


def gold(chart):
    """A chart against gold labels as one of results alone."""
    return lambda data, ax=None: chart(data, dict.fromkeys(data.predictions["unit_id"], "x"), ax=ax)


def test_importing_llmlab_does_not_import_matplotlib():
    code = "import llmlab, sys; assert not [m for m in sys.modules if m.startswith(('matplotlib', 'mpl_toolkits'))]"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("draw", [*CHARTS, gold(charts.accuracy)])
def test_draws_on_the_given_axes_and_opens_no_other_figure(draw):
    axes = Figure().subplots(1, 2)
    chart = draw(results(), ax=axes[0])
    assert chart.axes is axes[0]
    assert chart.figure is axes[0].figure
    axes[0].figure.canvas.draw()
    assert not axes[1].has_data()
    assert plt.get_fignums() == []


@pytest.mark.parametrize("draw", CHARTS)
def test_changes_nothing_of_the_input_and_opens_one_figure(draw):
    data = results()
    attempts, predictions = data.attempts.copy(), data.predictions.copy()
    chart = draw(data)
    assert plt.get_fignums() == [chart.figure.number]
    assert_frame_equal(data.attempts, attempts)
    assert_frame_equal(data.predictions, predictions)


@pytest.mark.parametrize("draw", OF_ATTEMPTS)
def test_takes_the_attempts_alone_sliced_and_shuffled(draw):
    draw(results().attempts.query("status != 'ok'").sample(frac=1, random_state=1))


@pytest.mark.parametrize("draw", CHARTS)
@pytest.mark.parametrize("trials", [0, 1, 2, 100_000])
def test_draws_no_row_one_row_and_very_many(draw, trials):
    chart = draw(synthetic(trials))
    chart.figure.canvas.draw()
    assert chart.finding
    if not trials:
        assert "yet" in texts(chart)[0]


@pytest.mark.parametrize("trials", [0, 1, 2000])
def test_the_overview_is_one_figure_with_two_columns(trials):
    chart = charts.overview(synthetic(trials))
    chart.figure.canvas.draw()
    assert len(plt.get_fignums()) == 1
    assert len({round(ax.get_window_extent().x0 // (chart.figure.bbox.width / 2)) for ax in chart.axes}) <= 2


def test_the_overview_with_gold_says_how_right_the_answers_are():
    one, two = results(models=("a",)), results()
    labels = dict.fromkeys(one.predictions["unit_id"], "x")
    assert "of the answers are right" in charts.overview(one, labels).finding
    assert "is right" in charts.overview(two, labels).finding


def test_no_text_of_the_overview_is_smaller_than_nine_points():
    chart = charts.overview(results(prompts=("short", "long")))
    chart.figure.canvas.draw()
    sizes = {text.get_fontsize() for ax in chart.axes for text in ax.findobj(lambda one: hasattr(one, "get_fontsize"))}
    assert min(size for size in sizes if size != 1) >= 9


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda data: charts.token_costs(data, by="modle"), "model, category, attempt"),
        (lambda data: charts.token_costs(data, by=["model"]), "model, category, attempt"),
        (lambda data: charts.token_costs(data, by="prompt"), "or prompt, if there are several"),
        (lambda data: charts.token_costs(data.attempts, by="category"), "'model', 'attempt'"),
        (lambda data: charts.progress_over_time(data, limit=0), "requests per minute"),
        (lambda data: charts.progress_over_time(data, limit="60"), "requests per minute"),
        (lambda data: charts.progress_over_time(data, limit=True), "requests per minute"),
        (lambda data: charts.throttle_rate(list(data)), "Results or their frame `attempts` or a RateLimiter, not list"),
        (lambda data: charts.wait_time(data.predictions), "no started_at"),
        (lambda data: charts.agreement(data.attempts), "no prediction"),
        (lambda data: charts.agreement(None), "not NoneType"),
        (lambda data: charts.labels(data, by="partie"), "by='partie' is no column of predictions: unit_id"),
        (lambda data: charts.confusion(data, {"u0": "x"}), "one model and prompt, and these are 2"),
        (lambda data: charts.accuracy(data, {"u0": "x"}, "price"), "choose 'name' or 'cost'"),
        (lambda data: charts.overview(data.attempts), "overview takes Results"),
        (lambda data: charts.timeline(data, ax=np.array([1, 2])), "one matplotlib Axes, not ndarray"),
    ],
)
def test_a_wrong_argument_names_the_choices_and_leaves_no_figure(call, says):
    with pytest.raises(InputError) as caught:
        call(results())
    assert says in str(caught.value)
    assert plt.get_fignums() == []
