"""Accuracy and confusion show what `compare` and `score` say."""

import pytest

from llmlab.display import charts
from llmlab.errors import InputError
from tests.display.drawn import results, rows, texts

GOLD = {f"u{at}": "x" for at in range(8)}


def labels(unit, model, run):
    """Model a is right, b in three of four units."""
    return "y" if model == "b" and unit in ("u0", "u1") else "x"


def test_accuracy_is_a_point_and_its_interval_per_model_with_the_cost_beside_it():
    data = results(units=8, labels=labels, failures=False)
    chart = charts.accuracy(data, GOLD)
    line, _, (interval,) = chart.axes.containers[0].lines
    assert line.get_xdata().tolist() == [100, 75]
    table = data.compare(GOLD)
    ends = [segment[:, 0] / 100 for segment in interval.get_segments()]
    assert ends[1].tolist() == pytest.approx(table.loc[1, ["low", "high"]].tolist())
    assert rows(chart) == ["a", "b"]
    assert texts(chart) == [r"\$30.00 per 1,000 units"] * 2
    assert chart.finding.startswith("a is right 25.0 percentage points more often than b, ")


def test_accuracy_over_cost():
    chart = charts.accuracy(results(units=8, labels=labels, failures=False), GOLD, "cost")
    line = chart.axes.containers[0].lines[0]
    assert line.get_xydata().tolist() == [[pytest.approx(30), 100], [pytest.approx(30), 75]]
    assert texts(chart) == ["a", "b"]


def test_accuracy_over_cost_needs_the_costs():
    data = results(units=8, labels=labels, failures=False)
    data._frames["attempts"] = data.attempts.assign(cost_usd=None)
    with pytest.raises(InputError, match="what every model cost"):
        charts.accuracy(data, GOLD, "cost")
    assert texts(charts.accuracy(data, GOLD)) == ["cost unknown"] * 2


def test_a_difference_that_chance_explains_is_said_to_be_so():
    data = results(units=8, labels=lambda unit, model, run: "y" if unit == {"a": "u1", "b": "u2"}[model] else "x")
    assert charts.accuracy(data, GOLD).finding.endswith("(chance may explain it)")


def test_confusion_counts_answers_and_names_the_most_frequent_mistake():
    data = results(units=8, models=("b",), labels=labels, failures=False)
    chart = charts.confusion(data, GOLD | {"u7": "y"})
    assert rows(chart) == ["y", "x"]
    assert texts(chart) == ["0", "3", "6", "15"]
    assert chart.finding == "62 % of the answers are right; most often x is taken for y, 6 of 21"


def test_unanswered_trials_have_a_column_where_there_are_some():
    data = results(units=8, models=("b",), labels=labels)
    chart = charts.confusion(data, GOLD)
    assert "(none)" in [text.get_text() for text in chart.axes.get_xticklabels()]
    right = charts.confusion(results(units=8, models=("a",), failures=False), GOLD)
    assert right.finding == "100 % of the answers are right"
