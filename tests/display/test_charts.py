"""Charts show what the frames say, name what is unknown, and draw any size of run."""

import subprocess
import sys
from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from llmlab.display import charts, frames
from llmlab.display.charts_of_requests import MOST_ROWS
from llmlab.errors import InputError
from llmlab.limits import RateLimiter
from tests.helpers import START, attempt, failing, keys_of, results_of, trial_of

CHARTS = [
    charts.throttle_rate,
    charts.wait_time,
    charts.token_costs,
    charts.timeline,
    charts.progress_over_time,
    charts.agreement,
]
OF_ATTEMPTS = CHARTS[:5]


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def results(units=6, runs=3, models=("a", "b"), prompts=(), *, labels=None, failures=True, queue=0.0):
    """A real Results: every 4th trial needs a second attempt, the last one fails."""
    keys = keys_of([f"u{u}" for u in range(units)], runs=runs, models=models, prompts=prompts)
    sent = []
    for at in range(len(keys)):
        trial, last, number = trial_of(keys, at), at == len(keys) - 1, 1
        usual = {"queue_s": queue, "wait_s": 1.0, "throttled": True, "latency_s": 0.5, "cost_usd": 0.01}
        if failures and at % 4 == 3:
            unread = usual | {"status": "parse_error", "cost_usd": 0.002, "retry_in_s": 0.0}
            sent.append((attempt(trial, **unread, started_at=START + at + 1), None))
            number = 2
        if failures and last:
            broken = failing(started_at=START + at + 3, wait_s=1.0, throttled=True, latency_s=0.5)
            sent.append((attempt(trial, number, **broken), None))
        else:
            label = labels(trial.unit_id, trial.model, trial.run) if labels else "x"
            sent.append((attempt(trial, number, **usual, started_at=START + at + 2), label))
    return results_of(keys, sent, categories=None if labels else ["x", "y"], requests_per_minute=120.0)


def synthetic(trials, *, spread_s=None):
    """Frames alone, of any size."""
    draw = np.random.default_rng(1)
    keys = pd.DataFrame({"unit_id": np.arange(trials) // 6, "model": "m", "run": np.arange(trials) % 3 + 1})
    keys["model"] = np.where(np.arange(trials) % 6 < 3, "m1", "m2")
    status = draw.choice(["ok", "parse_error", "call_error"], trials, p=[0.9, 0.06, 0.04])
    sent = pd.to_timedelta(np.sort(draw.uniform(0, spread_s or trials / 10, trials)), unit="s")
    attempts = keys.assign(
        attempt=1,
        status=status,
        started_at=(pd.Timestamp("2026-01-01", tz="UTC") + sent).astype("datetime64[us, UTC]"),
        queue_s=draw.uniform(0, 3, trials),
        wait_s=draw.gamma(3, 2, trials),
        latency_s=draw.lognormal(0, 0.5, trials),
        throttled=draw.random(trials) < 0.7,
        total_tokens=pd.array(draw.integers(50, 500, trials), dtype="Int64"),
        cost_usd=pd.array(draw.gamma(2, 1e-4, trials), dtype="Float64"),
        may_be_billed=status != "call_error",
    )
    labels = pd.Categorical(draw.choice(["x", "y"], trials))
    predictions = keys.assign(prediction=labels, status=np.where(status == "ok", "ok", "failed"))
    return SimpleNamespace(attempts=attempts, predictions=predictions, description={}, categories=["x", "y"])


def bars(ax):
    """{label: {bar: width}} of the horizontal bars."""
    names = [text.get_text() for text in ax.get_yticklabels()]
    return {
        one.get_label(): {names[round(p.get_y() + p.get_height() / 2)]: p.get_width() for p in one.patches}
        for one in ax.containers
    }


def texts(ax):
    return [text.get_text() for text in ax.texts]


def title(ax):
    return ax.get_title(loc="left").replace("\\$", "$")


def test_importing_llmlab_does_not_import_matplotlib():
    code = "import llmlab, sys; assert not [m for m in sys.modules if m.startswith(('matplotlib', 'mpl_toolkits'))]"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("chart", CHARTS)
def test_draws_on_the_given_axes_and_opens_no_other_figure(chart):
    axes = Figure().subplots(1, 2)
    assert chart(results(), ax=axes[0]) is axes[0]
    axes[0].figure.canvas.draw()
    assert not axes[1].has_data()
    assert plt.get_fignums() == []


@pytest.mark.parametrize("chart", CHARTS)
def test_without_axes_it_makes_one_pyplot_figure(chart):
    ax = chart(results())
    assert plt.get_fignums() == [ax.figure.number]


@pytest.mark.parametrize("chart", CHARTS)
def test_changes_nothing_of_the_input(chart):
    data = results()
    attempts, predictions = data.attempts.copy(), data.predictions.copy()
    chart(data).figure.canvas.draw()
    assert_frame_equal(data.attempts, attempts)
    assert_frame_equal(data.predictions, predictions)


@pytest.mark.parametrize("chart", OF_ATTEMPTS)
def test_takes_the_attempts_alone_sliced_and_shuffled(chart):
    attempts = results().attempts.query("status != 'ok'").sample(frac=1, random_state=1)
    chart(attempts).figure.canvas.draw()


@pytest.mark.parametrize("chart", CHARTS)
@pytest.mark.parametrize("trials", [0, 1, 2, 100_000])
def test_draws_no_row_one_row_and_very_many(chart, trials):
    chart(synthetic(trials)).figure.canvas.draw()


def test_empty_says_so_and_keeps_its_units():
    empty = synthetic(0)
    for chart in CHARTS:
        ax = chart(empty)
        assert any("yet" in text for text in texts(ax))
    assert charts.token_costs(empty).get_xlabel() == r"cost (US\$)"


def test_axes_have_units():
    data = results()
    for chart in (charts.throttle_rate, charts.wait_time, charts.timeline, charts.progress_over_time):
        assert chart(data).get_xlabel() == "time since the start (s)"
    assert charts.throttle_rate(data).get_ylabel() == "throttled attempts (%)"
    assert charts.wait_time(data).get_ylabel() == "wait for the limiter (s)"
    assert charts.agreement(data).get_xlabel().startswith("units (%)")


@pytest.mark.parametrize(("spread_s", "unit", "end"), [(120, "s", 120), (3600, "min", 60), (86_400, "h", 24)])
def test_time_is_relative_and_in_a_fitting_unit(spread_s, unit, end):
    ax = charts.timeline(synthetic(3000, spread_s=spread_s))
    assert ax.get_xlabel() == f"time since the start ({unit})"
    assert ax.get_xlim()[0] == 0
    assert ax.get_xlim()[1] == pytest.approx(end, rel=0.25)


def test_a_long_break_between_two_sessions_is_cut_out_and_named():
    attempts = results(failures=False).attempts
    second = np.arange(len(attempts)) >= 20
    attempts["started_at"] += pd.to_timedelta(np.where(second, 86_400, 0), unit="s")
    ax = charts.progress_over_time(attempts)
    assert ax.get_xlabel() == "time since the start (s)\nwithout 1 break of 24 h"
    assert ax.get_xlim()[1] < 60
    assert sum(line.get_linestyle() == ":" for line in ax.lines) == 1


def test_a_pause_within_a_run_is_no_break():
    attempts = results(failures=False).attempts
    late = np.arange(len(attempts)) == len(attempts) - 1
    attempts["started_at"] += pd.to_timedelta(np.where(late, 600, 0), unit="s")
    attempts["wait_s"] += np.where(late, 600, 0)
    assert charts.timeline(attempts).get_xlabel() == "time since the start (min)"


def test_throttle_rate_is_the_share_per_bin_and_counts_every_attempt():
    attempts = synthetic(500, spread_s=100).attempts
    ax = charts.throttle_rate(attempts)
    share, (counts,) = ax.patches[0].get_data(), ax.figure.axes[1].patches
    assert counts.get_data().values.sum() == 500
    throttled = np.nansum(share.values / 100 * counts.get_data().values)
    assert throttled == pytest.approx(attempts["throttled"].sum())
    assert title(ax) == f"{100 * attempts['throttled'].mean():.0f} % of 500 attempts throttled"


def test_throttle_rate_takes_a_limiter():
    rows = [(START + 2 * second, 10, 4, 2.5) for second in range(20)]
    ax = charts.throttle_rate(SimpleNamespace(history=lambda: rows))
    assert title(ax) == "40 % of 200 attempts throttled"
    assert ax.figure.axes[1].patches[0].get_data().values.sum() == 200
    assert texts(charts.throttle_rate(RateLimiter(10))) == ["no attempts yet"]


def test_wait_time_is_a_point_per_attempt_or_a_band():
    few, many = synthetic(50).attempts, synthetic(5000).attempts
    ax = charts.wait_time(few)
    assert sorted(ax.collections[0].get_offsets()[:, 1]) == pytest.approx(sorted(few["wait_s"]))
    ax = charts.wait_time(many)
    assert not ax.collections
    band, median = ax.patches
    known = ~np.isnan(median.get_data().values)
    assert (band.get_data().values[known] > median.get_data().values[known]).all()
    share = ax.figure.axes[1].patches[0].get_data().values
    assert share.sum() == pytest.approx(100)


def test_costs_by_model_are_the_sums_of_the_frame():
    data = results()
    drawn = bars(charts.token_costs(data))
    want = data.attempts.groupby(["status", "model"])["cost_usd"].sum()
    assert set(drawn) == {"ok", "parse error"}
    for status in ("ok", "parse_error"):
        assert drawn[status.replace("_", " ")] == pytest.approx(want[status].to_dict())


def test_costs_by_attempt_number_show_what_retries_cost():
    data = results()
    ax = charts.token_costs(data, by="attempt")
    cost = data.attempts.groupby("attempt")["cost_usd"].sum()
    drawn = pd.DataFrame(bars(ax)).sum(axis=1)
    assert drawn.to_dict() == pytest.approx({"1": cost[1], "2": cost[2]})
    assert f"{100 * cost[2] / cost.sum():.0f} % of it for retries" in title(ax)
    charts.token_costs(data.attempts.query("attempt > 1"), by="attempt")


def test_costs_by_category_go_to_the_trial_s_answer():
    data = results()
    drawn = pd.DataFrame(bars(charts.token_costs(data, by="category"))).sum(axis=1)
    answered = data.predictions["status"] == "ok"
    assert list(drawn.index) == ["x", "no answer"]
    assert drawn["x"] == pytest.approx(float(data.predictions.loc[answered, "cost_usd"].sum()))
    assert drawn.sum() == pytest.approx(float(data.attempts["cost_usd"].sum()))


def test_rare_categories_share_a_bar_and_no_cost_is_lost():
    data = results(units=30, models=("a",), labels=lambda unit, model, run: unit)
    drawn = pd.DataFrame(bars(charts.token_costs(data, by="category"))).sum(axis=1)
    assert len(drawn) == frames.MOST_BARS
    assert any(name.endswith(" others") for name in drawn.index)
    assert drawn.sum() == pytest.approx(float(data.attempts["cost_usd"].sum()))


def test_an_unknown_price_is_named_and_never_drawn():
    data = results()
    attempts = data.attempts
    attempts.loc[attempts["model"] == "b", "cost_usd"] = pd.NA
    ax = charts.token_costs(attempts)
    assert all(set(widths) == {"a"} for widths in bars(ax).values())
    assert texts(ax)[1] == "unknown"
    assert "attempts of unknown price (b)" in ax.get_xlabel()
    assert "without usage" not in ax.get_xlabel()
    assert title(ax).startswith("≥ $")


def test_only_calls_that_may_have_been_billed_make_a_sum_uncertain():
    data = results()
    assert not any(text.startswith("≥") for text in texts(charts.token_costs(data)))
    attempts = data.attempts
    attempts["may_be_billed"] = True
    ax = charts.token_costs(attempts)
    assert [text.startswith("≥") for text in texts(ax)] == [False, True]
    assert "not included: 1 failed call without usage" in ax.get_xlabel()


def test_without_any_price_tokens_are_drawn_and_without_usage_nothing():
    attempts = results().attempts
    attempts["cost_usd"] = pd.array([pd.NA] * len(attempts), dtype="Float64")
    ax = charts.token_costs(attempts)
    drawn = pd.DataFrame(bars(ax)).sum(axis=1).to_dict()
    assert drawn == attempts.groupby("model")["total_tokens"].sum().to_dict()
    assert ax.get_xlabel().startswith("tokens")
    attempts["total_tokens"] = pd.array([pd.NA] * len(attempts), dtype="Int64")
    ax = charts.token_costs(attempts)
    assert not ax.containers
    assert "no usage reported" in texts(ax)


def test_names_with_dollar_signs_are_no_mathematics():
    ax = charts.token_costs(results(models=("a$_{$", "b" * 80)))
    ax.figure.canvas.draw()
    assert max(len(text.get_text()) for text in ax.get_yticklabels()) < 30


def test_timeline_draws_queue_wait_and_outcome_of_every_attempt():
    ax = charts.timeline(results(units=2, runs=2, queue=0.25))
    count = {one.get_label(): len(one.get_paths()) for one in ax.collections}
    # Of 8 trials the 4th and the 8th fail once; the 8th fails again, and did not wait for a slot then.
    assert count == {"waits for a slot": 9, "for the limiter": 10, "ok": 7, "parse error": 2, "call error": 1}
    first = ax.collections[0].get_paths()[0].get_extents()
    assert (first.x0, first.x1) == pytest.approx((0, 0.25), abs=1e-5)


def test_timeline_of_many_trials_is_an_even_sample_and_says_so():
    ax = charts.timeline(synthetic(5000))
    assert ax.get_ylabel() == f"trials ({MOST_ROWS} of 5,000 shown)"
    assert (
        sum(len(c.get_paths()) for c in ax.collections if c.get_label() in ("ok", "parse error", "call error")) == 400
    )


def test_progress_counts_each_trial_once_and_draws_the_limit():
    data = results()
    ax = charts.progress_over_time(data)
    lines = {line.get_label(): line.get_xydata() for line in ax.lines}
    assert lines["attempts sent"][-1, 1] == len(data.attempts)
    assert lines["trials answered"][-1, 1] == (data.predictions["status"] == "ok").sum()
    x, y = lines["limit: 120 per min"][-1]
    assert (x, y) == pytest.approx((len(data) / 2, len(data)))
    assert title(ax).startswith("35 of 36 trials answered in ")
    lines = {line.get_label(): line.get_xydata() for line in charts.progress_over_time(data, 60).lines}
    assert lines["limit: 60 per min"][-1, 1] == pytest.approx(lines["limit: 60 per min"][-1, 0])
    assert len(charts.progress_over_time(data.attempts).lines) == 2


def test_trials_with_several_prompts_are_told_apart_in_results_and_in_their_frame():
    data = results(units=4, runs=2, models=("m",), prompts=("short", "long"), failures=False)
    for source in (data, data.attempts):
        assert title(charts.progress_over_time(source)).startswith("16 of 16 trials answered")
        assert charts.timeline(source).get_ylabel() == "trials"
    drawn = bars(charts.token_costs(data.attempts))["ok"]
    assert drawn == pytest.approx({"m · short": 0.08, "m · long": 0.08})


def test_agreement_is_the_share_of_the_majority_per_model():
    def labels(unit, model, run):
        return "x" if model == "a" or (unit == "u0" and run > 1) else f"{run}"

    data = results(units=4, labels=labels, failures=False)
    ax = charts.agreement(data)
    drawn = bars(ax)
    assert drawn["all agree"] == {"a": 100, "b": 0}
    assert drawn["67 %"] == {"a": 0, "b": 25}
    assert drawn["33 %"] == {"a": 0, "b": 75}
    assert title(ax) == "All runs agree on 50 % of the units"


def test_agreement_leaves_out_units_with_one_answer_and_says_so():
    ax = charts.agreement(results(runs=2))
    assert ax.get_xlabel().endswith("not counted: 1 without two answered runs")
    ax = charts.agreement(results(runs=1))
    assert texts(ax) == ["agreement needs two answered runs of a unit"]


def test_agreement_of_many_runs_is_put_in_quarters():
    labels = {"a": lambda unit, run: run <= unit, "b": lambda unit, run: run % 8}
    data = results(units=13, runs=13, failures=False, labels=lambda unit, m, run: labels[m](int(unit[1:]), run))
    drawn = bars(charts.agreement(data))
    assert list(drawn) == ["all agree", "≥ 75 %", "≥ 50 %", "< 25 %"]
    assert pd.DataFrame(drawn).loc["a"].tolist() == pytest.approx([100 / 13, 600 / 13, 600 / 13, 0])
    assert pd.DataFrame(drawn).loc["b"].tolist() == [0, 0, 0, 100]


@pytest.mark.parametrize("trials", [0, 1, 2000])
def test_overview_has_six_on_one_figure(trials):
    axes = charts.overview(synthetic(trials))
    axes[0, 0].figure.canvas.draw()
    assert axes.shape == (2, 3)
    assert len(plt.get_fignums()) == 1


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda data: charts.token_costs(data, by="modle"), "'model', 'category', 'attempt'"),
        (lambda data: charts.token_costs(data, by=["model"]), "'model', 'category', 'attempt'"),
        (lambda data: charts.token_costs(data.attempts, by="category"), "'model', 'attempt'"),
        (lambda data: charts.progress_over_time(data, limit=0), "requests per minute"),
        (lambda data: charts.progress_over_time(data, limit="60"), "requests per minute"),
        (lambda data: charts.progress_over_time(data, limit=True), "requests per minute"),
        (lambda data: charts.throttle_rate(list(data)), "Results or their frame `attempts` or a RateLimiter, not list"),
        (lambda data: charts.wait_time(data.predictions), "no started_at"),
        (lambda data: charts.agreement(data.attempts), "no prediction"),
        (lambda data: charts.agreement(None), "not NoneType"),
        (lambda data: charts.overview(data.attempts), "overview takes Results"),
        (lambda data: charts.timeline(data, ax=np.array([1, 2])), "one matplotlib Axes, not ndarray"),
    ],
)
def test_a_wrong_argument_names_the_choices_and_leaves_no_figure(call, says):
    with pytest.raises(InputError) as caught:
        call(results())
    assert says in str(caught.value)
    assert plt.get_fignums() == []
