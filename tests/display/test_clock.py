"""Time is relative, in a fitting unit, and long breaks between two sessions are cut out and named."""

import numpy as np
import pandas as pd
import pytest

from llmlab.display import charts
from tests.display.drawn import results, synthetic


@pytest.mark.parametrize(("spread_s", "unit", "end"), [(120, "s", 120), (3600, "min", 60), (86_400, "h", 24)])
def test_time_is_relative_and_in_a_fitting_unit(spread_s, unit, end):
    ax = charts.timeline(synthetic(3000, spread_s=spread_s)).axes
    assert ax.get_xlabel() == f"time since the start ({unit})"
    assert ax.get_xlim()[0] == 0
    assert ax.get_xlim()[1] == pytest.approx(end, rel=0.25)


def test_a_long_break_between_two_sessions_is_cut_out_and_named():
    attempts = results(failures=False).attempts
    second = np.arange(len(attempts)) >= 20
    attempts["started_at"] += pd.to_timedelta(np.where(second, 86_400, 0), unit="s")
    ax = charts.progress_over_time(attempts).axes
    assert ax.get_xlabel() == "time since the start (s)\nwithout 1 break of 24 h"
    assert ax.get_xlim()[1] < 60
    assert sum(line.get_linestyle() == ":" for line in ax.lines) == 1


def test_a_pause_within_a_run_is_no_break():
    attempts = results(failures=False).attempts
    late = np.arange(len(attempts)) == len(attempts) - 1
    attempts["started_at"] += pd.to_timedelta(np.where(late, 600, 0), unit="s")
    attempts["wait_s"] += np.where(late, 600, 0)
    assert charts.timeline(attempts).axes.get_xlabel() == "time since the start (min)"
