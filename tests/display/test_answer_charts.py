"""Labels are shares of the units with intervals, by model or by a column of the units; agreement is of the majority."""

import numpy as np
import pandas as pd
import pytest

from llmlab import analysis
from llmlab.display import charts
from llmlab.errors import InputError
from tests.display.drawn import bars, legend, results, rows, synthetic, texts


def parties(units):
    index = pd.Index([f"u{at}" for at in range(units)], name="unit_id")
    return pd.DataFrame({"party": ["left", "right"] * (units // 2), "year": range(units)}, index=index)


def points(chart):
    """{group: shares in % by label} of the points."""
    drawn = [container for container in chart.axes.containers if hasattr(container, "lines")]
    return {one.get_label(): one.lines[0].get_xdata().tolist() for one in drawn}


def test_labels_are_shares_of_the_answers_in_the_given_order():
    data = results(units=8, models=("m",), labels=lambda unit, model, run: "y" if unit < "u2" else "x", failures=False)
    data.categories = ["x", "y", "z"]
    chart = charts.labels(data)
    assert next(iter(points(chart).values())) == [75, 25, 0]
    assert rows(chart) == ["x", "y", "z"]
    assert chart.finding == "The most frequent label is x: 75 % of the answers"


def test_labels_of_models_stand_side_by_side():
    chart = charts.labels(results(failures=False, labels=lambda unit, model, run: "x" if model == "a" else "y"))
    assert points(chart) == {"a": [100, 0], "b": [0, 100]}
    assert legend(chart) == ["a", "b"]
    assert chart.finding == "The most frequent label differs: x (a), y (b)"


def test_labels_by_a_column_of_the_units():
    data = results(
        units=8, models=("m",), failures=False, units_frame=parties(8),
        labels=lambda unit, model, run: "x" if int(unit[1:]) % 2 else "y",
    )  # fmt: skip
    assert points(charts.labels(data, by="party")) == {"left": [100, 0], "right": [0, 100]}
    assert "not drawn: 2 smaller groups" in charts.labels(data, by="year").axes.get_xlabel()


def test_a_column_of_the_units_is_drawn_for_one_model():
    data = results(units=8, units_frame=parties(8))
    with pytest.raises(InputError, match="model == 'a'"):
        charts.labels(data, by="party")
    charts.labels(data.predictions.query("model == 'a'"), by="party")


def test_free_text_has_no_labels():
    data = results(units=30, models=("m",), labels=lambda unit, model, run: f"{unit} {run}", failures=False)
    assert texts(charts.labels(data)) == ["the answers are free text or objects, no labels"]


def test_intervals_come_from_units_and_not_from_answers():
    predictions = pd.DataFrame(
        {"unit_id": np.repeat(np.arange(100), 5), "model": "m", "run": np.tile(np.arange(1, 6), 100), "status": "ok"}
    )
    predictions["prediction"] = np.where(predictions["unit_id"] < 50, "x", "y")
    table = analysis.distribution(predictions)
    # As for 100 answers, not for 500: the standard error of a half is 5 points.
    assert table.loc[0, ["low", "high"]].tolist() == pytest.approx([0.4, 0.6], abs=0.02)
    assert table["units"].tolist() == [100, 100]


def test_agreement_is_the_share_of_the_majority_per_model():
    def labels(unit, model, run):
        return "x" if model == "a" or (unit == "u0" and run > 1) else f"{run}"

    chart = charts.agreement(results(units=4, labels=labels, failures=False))
    drawn = bars(chart)
    assert drawn["all runs agree"] == {"a": 100, "b": 0}
    assert drawn["2 of 3 runs agree"] == {"a": 0, "b": 25}
    assert drawn["none agree"] == {"a": 0, "b": 75}
    assert chart.finding == "All runs agree on 50 % of the units × models"


def test_agreement_leaves_out_units_with_one_answer_and_says_so():
    assert charts.agreement(results(runs=2)).axes.get_xlabel().endswith("not counted: 1 without two answered runs")
    assert texts(charts.agreement(results(runs=1))) == ["agreement needs two answered runs of a unit"]


def test_agreement_of_many_runs_is_put_in_quarters():
    labels = {"a": lambda unit, run: run <= unit, "b": lambda unit, run: run % 8}
    data = results(units=13, runs=13, failures=False, labels=lambda unit, m, run: labels[m](int(unit[1:]), run))
    drawn = bars(charts.agreement(data))
    assert list(drawn) == ["all runs agree", "75 % or more agree", "50 % or more agree", "less"]
    assert pd.DataFrame(drawn).loc["a"].tolist() == pytest.approx([100 / 13, 600 / 13, 600 / 13, 0])
    assert pd.DataFrame(drawn).loc["b"].tolist() == [0, 0, 0, 100]


def test_the_charts_agree_with_the_tables():
    data = synthetic(900)
    assert charts.agreement(data).finding.startswith("All runs agree on ")
    share = analysis.majorities(data.predictions)["agree"].mean()
    assert f" {100 * share:.0f} % " in charts.agreement(data).finding
