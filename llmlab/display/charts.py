"""Results → charts, one function per question.

Each takes `Results` or one of their frames and returns a `Chart`, which shows itself as the last line of a cell, or
draws on the Axes in `ax`. A colour means the same everywhere: green is an answer, orange an answer that could not be
read, red a call that failed, blue the wait for the limit. They are Okabe and Ito's. Time runs from when the first
attempt began to wait; long breaks between sessions (a rerun, a resumed journal) are cut out, marked by a dotted line,
and named below the axis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from llmlab.analysis import Gold
from llmlab.display import frames
from llmlab.display.answer_charts import agreement, labels
from llmlab.display.calibration_chart import calibration
from llmlab.display.chart import Chart, sheet
from llmlab.display.cost_charts import token_costs
from llmlab.display.gold_charts import accuracy, confusion
from llmlab.display.names import Arms
from llmlab.display.request_charts import NO_WAIT_S, progress_over_time, throttle_rate, timeline, wait_time
from llmlab.errors import InputError

__all__ = [
    "Chart",
    "accuracy",
    "agreement",
    "calibration",
    "confusion",
    "labels",
    "overview",
    "progress_over_time",
    "throttle_rate",
    "timeline",
    "token_costs",
    "wait_time",
]

SHEET_WIDTH_IN, ROW_HEIGHT_IN = 10.5, 3.5


def __dir__() -> list[str]:
    return __all__


def overview(results: Any, gold: Gold | None = None) -> Chart:
    """Draw what was answered, what it cost, and what took the time, in two columns.

    Parameters
    ----------
    results : Results
    gold : str, Series or mapping, optional
        A unit's column, or the right labels by unit id: adds how right the answers are.

    Returns
    -------
    Chart
        `chart.axes` is an array of Axes, one per chart.
    """
    for frame in ("attempts", "predictions"):
        if not isinstance(getattr(results, frame, None), pd.DataFrame):
            raise InputError(f"overview takes Results, with attempts and predictions, not {type(results).__name__}.")
    predictions, attempts = results.predictions, results.attempts
    charts: list[tuple[Callable[..., Chart], tuple[Any, ...]]] = []
    if frames.labelled(results)[0]:
        charts.append((labels, ()))
    if predictions["run"].nunique() > 1:
        charts.append((agreement, ()))
    if gold is not None:
        charts.append((confusion if len(Arms.of(predictions)) == 1 else accuracy, (gold,)))
    charts += [(token_costs, ()), (progress_over_time, ())]
    if len(attempts) and attempts["wait_s"].max() > NO_WAIT_S:
        charts.append((wait_time, ()))
    charts.append((timeline, ()))
    with sheet(len(charts), width_in=SHEET_WIDTH_IN, row_height_in=ROW_HEIGHT_IN) as (picture, rooms):
        parts = [draw(results, *more, ax=room) for (draw, more), room in zip(charts, rooms, strict=True)]
        picture.axes = np.array([part.axes for part in parts], object)
        picture.finding = "; ".join(part.finding for part in parts)
    return picture
