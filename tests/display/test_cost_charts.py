"""Bars of cost are the sums of the frame; what is unknown is named and never drawn."""

import pandas as pd
import pytest

from llmlab.display import charts, cost_charts
from tests.display.drawn import bars, results, rows, texts


def test_costs_by_model_are_the_sums_of_the_frame():
    data = results()
    drawn = bars(charts.token_costs(data))
    want = data.attempts.groupby(["status", "model"])["cost_usd"].sum()
    assert set(drawn) == {"answered", "answer unreadable"}
    assert drawn["answered"] == pytest.approx(want["ok"].to_dict())
    assert drawn["answer unreadable"] == pytest.approx(want["parse_error"].to_dict())


def test_prompts_stand_beneath_their_model_and_alone():
    data = results(units=4, runs=2, prompts=("short", "long"), failures=False)
    chart = charts.token_costs(data.attempts)
    assert rows(chart) == ["a", "short", "long", "b", "short", "long"]
    assert [patch.get_width() for patch in chart.axes.patches] == pytest.approx([0.08] * 4)
    assert bars(charts.token_costs(data, by="prompt"))["answered"] == pytest.approx({"short": 0.16, "long": 0.16})


def test_costs_by_attempt_number_show_what_repeating_costs():
    data = results()
    chart = charts.token_costs(data, by="attempt")
    cost = data.attempts.groupby("attempt")["cost_usd"].sum()
    drawn = pd.DataFrame(bars(chart)).sum(axis=1)
    assert drawn.to_dict() == pytest.approx({"1": cost[1], "2": cost[2]})
    assert f"{100 * cost[2] / cost.sum():.0f} % of it for repeated attempts" in chart.finding
    charts.token_costs(data.attempts.query("attempt > 1"), by="attempt")


def test_costs_by_category_go_to_the_trials_answer():
    data = results()
    drawn = pd.DataFrame(bars(charts.token_costs(data, by="category"))).sum(axis=1)
    answered = data.predictions["status"] == "ok"
    assert list(drawn.index) == ["x", "(no answer)"]
    assert drawn["x"] == pytest.approx(float(data.predictions.loc[answered, "cost_usd"].sum()))
    assert drawn.sum() == pytest.approx(float(data.attempts["cost_usd"].sum()))


def test_rare_categories_share_a_bar_and_no_cost_is_lost():
    data = results(units=30, models=("a",), labels=lambda unit, model, run: unit)
    drawn = pd.DataFrame(bars(charts.token_costs(data, by="category"))).sum(axis=1)
    assert len(drawn) == cost_charts.MOST_BARS
    assert "(19 rarer ones)" in drawn.index
    assert drawn.sum() == pytest.approx(float(data.attempts["cost_usd"].sum()))


def test_an_unknown_price_is_named_and_never_drawn():
    attempts = results().attempts
    attempts.loc[attempts["model"] == "b", "cost_usd"] = pd.NA
    chart = charts.token_costs(attempts)
    assert all(set(widths) == {"a"} for widths in bars(chart).values())
    assert texts(chart)[1] == "unknown"
    assert "attempts of unknown price (b)" in chart.axes.get_xlabel()
    assert "without token counts" not in chart.axes.get_xlabel()
    assert chart.finding.startswith("≥ $")


def test_only_calls_that_may_have_been_billed_make_a_sum_uncertain():
    data = results()
    assert not any(text.startswith("≥") for text in texts(charts.token_costs(data)))
    attempts = data.attempts
    attempts["may_be_billed"] = True
    chart = charts.token_costs(attempts)
    assert [text.startswith("≥") for text in texts(chart)] == [False, True]
    assert "not included: 1 failed call without token counts" in chart.axes.get_xlabel()


def test_without_any_price_tokens_are_drawn_and_without_usage_nothing():
    attempts = results().attempts
    attempts["cost_usd"] = pd.array([pd.NA] * len(attempts), dtype="Float64")
    chart = charts.token_costs(attempts)
    drawn = pd.DataFrame(bars(chart)).sum(axis=1).to_dict()
    assert drawn == attempts.groupby("model")["total_tokens"].sum().to_dict()
    assert chart.axes.get_xlabel().startswith("tokens")
    attempts["total_tokens"] = pd.array([pd.NA] * len(attempts), dtype="Int64")
    chart = charts.token_costs(attempts)
    assert not chart.axes.containers
    assert "no usage reported" in texts(chart)
