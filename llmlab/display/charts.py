"""Frames → matplotlib Axes, one function per question.

Each takes `Results` or one of its frames and draws on `ax` (best of a figure made with `layout="constrained"`), or on
a new pyplot figure. A colour means the same everywhere: green is an answer, orange an answer that could not be read,
red a call that failed, blue the wait for the limiter. They are Okabe and Ito's. Time runs from when the first attempt
began to wait; long breaks between sessions (a rerun, a resumed journal) are cut out, marked by a dotted line and named
below the axis.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from llmlab.display.charts_of_answers import agreement, token_costs
from llmlab.display.charts_of_requests import progress_over_time, throttle_rate, timeline, wait_time
from llmlab.errors import InputError

__all__ = ["agreement", "overview", "progress_over_time", "throttle_rate", "timeline", "token_costs", "wait_time"]


def __dir__() -> list[str]:
    return __all__


def overview(results: Any) -> np.ndarray:
    """Draw all six on one figure.

    Parameters
    ----------
    results : Results

    Returns
    -------
    ndarray of Axes, shape (2, 3)
        Of one pyplot figure: `axes[0, 0].figure.savefig("overview.png")`.
    """
    for frame in ("attempts", "predictions"):
        if not isinstance(getattr(results, frame, None), pd.DataFrame):
            raise InputError(f"overview takes Results, with attempts and predictions, not {type(results).__name__}.")
    import matplotlib.pyplot as plt

    _, axes = plt.subplots(2, 3, figsize=(16, 8), layout="constrained")
    charts = (progress_over_time, throttle_rate, wait_time, timeline, token_costs, agreement)
    for chart, ax in zip(charts, axes.flat, strict=True):
        chart(results, ax=ax)
    return axes
