"""The charts of requests count every attempt and every trial once, in results and in frames alone."""

from types import SimpleNamespace

import numpy as np
import pytest

from llmlab.display import charts
from llmlab.display.request_charts import MOST_ROWS
from llmlab.limits import RateLimiter
from tests.display.drawn import results, synthetic, texts
from tests.helpers import START


def test_progress_counts_each_trial_once_and_draws_the_limit():
    data = results()
    chart = charts.progress_over_time(data)
    lines = {line.get_label(): line.get_xydata() for line in chart.axes.lines}
    assert lines["requests sent"][-1, 1] == len(data.attempts)
    assert lines["trials answered"][-1, 1] == (data.predictions["status"] == "ok").sum()
    x, y = lines["limit: 120 a minute"][-1]
    assert (x, y) == pytest.approx((len(data) / 2, len(data)))
    assert chart.finding.startswith("35 of 36 trials answered in ")
    lines = {line.get_label(): line.get_xydata() for line in charts.progress_over_time(data, 60).axes.lines}
    assert lines["limit: 60 a minute"][-1, 1] == pytest.approx(lines["limit: 60 a minute"][-1, 0])
    assert len(charts.progress_over_time(data.attempts).axes.lines) == 2


def test_trials_with_several_prompts_are_told_apart_in_results_and_in_their_frame():
    data = results(units=4, runs=2, models=("m",), prompts=("short", "long"), failures=False)
    for source in (data, data.attempts):
        assert charts.progress_over_time(source).finding.startswith("16 of 16 trials answered")
        assert charts.timeline(source).axes.get_ylabel() == "trials"


def test_throttle_rate_counts_every_request_and_those_that_waited():
    attempts = synthetic(500, spread_s=100).attempts
    chart = charts.throttle_rate(attempts)
    waited, rest = (patch.get_data() for patch in chart.axes.patches)
    assert rest.values.sum() == 500
    assert waited.values.sum() == attempts["throttled"].sum()
    assert (rest.values >= waited.values).all()
    assert chart.finding.startswith(f"{100 * attempts['throttled'].mean():.0f} % of 500 requests waited for the limit")
    assert chart.finding.endswith("normal, more were ready than may leave")


def test_throttle_rate_takes_a_limiter():
    rows = [(START + 2 * second, 10, 4, 2.5) for second in range(20)]
    chart = charts.throttle_rate(SimpleNamespace(history=lambda: rows))
    assert chart.finding == "40 % of 200 requests waited for the limit"
    assert chart.axes.patches[1].get_data().values.sum() == 200
    assert texts(charts.throttle_rate(RateLimiter(10))) == ["no attempts yet"]


def test_wait_time_is_a_point_per_request_or_a_band():
    few, many = synthetic(50).attempts, synthetic(5000).attempts
    ax = charts.wait_time(few).axes
    assert sorted(ax.collections[0].get_offsets()[:, 1]) == pytest.approx(sorted(few["wait_s"]))
    ax = charts.wait_time(many).axes
    assert not ax.collections
    band, median = ax.patches
    known = ~np.isnan(median.get_data().values)
    assert (band.get_data().values[known] > median.get_data().values[known]).all()


def test_wait_time_says_when_nobody_waited():
    attempts = synthetic(50).attempts.assign(wait_s=0.0)
    chart = charts.wait_time(attempts)
    assert chart.finding == "Requests did not wait for the limit"
    assert chart.axes.get_ylim()[1] < 0.1


def test_timeline_draws_queue_wait_and_outcome_of_every_attempt():
    ax = charts.timeline(results(units=2, runs=2, queue=0.25)).axes
    count = {one.get_label(): len(one.get_paths()) for one in ax.collections}
    # Of 8 trials the 4th and the 8th fail once; the 8th fails again, and did not wait for a slot then.
    assert count == {
        "waits for a free slot": 9, "waits for the limit": 10, "answered": 7, "answer unreadable": 2, "no answer": 1,
    }  # fmt: skip
    first = ax.collections[0].get_paths()[0].get_extents()
    assert (first.x0, first.x1) == pytest.approx((0, 0.25), abs=1e-5)


def test_timeline_of_many_trials_is_an_even_sample_and_says_so():
    ax = charts.timeline(synthetic(5000)).axes
    assert ax.get_ylabel() == f"trials ({MOST_ROWS} of 5,000 shown)"
    calls = [one for one in ax.collections if not one.get_label().startswith("waits")]
    assert sum(len(one.get_paths()) for one in calls) == 400
