"""The chart of how right the answers are by how sure they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from llmlab import analysis
from llmlab.display import axes as drawing
from llmlab.display import frames, names
from llmlab.display.chart import Chart, canvas
from llmlab.display.palette import GREY, GROUPS
from llmlab.records import arm_columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def calibration(results: Any, gold: analysis.Gold, *, level: float = 0.95, ax: Axes | None = None) -> Chart:
    """Draw whether the consensus of a unit is right as often as it is sure.

    Parameters
    ----------
    results : Results
    gold : str, Series, mapping or DataFrame
        A unit's column, the right labels by unit id, or a sheet.
    level : float
        Of the intervals, between 0 and 1.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Chart
        Right units in % by bins of confidence; on the dashed line the two are equal.
    """
    predictions = frames.judged(results, "calibration")
    found = analysis.calibration(predictions, gold, level=level)
    arms = names.Arms.of(found.summary)
    with canvas(ax, height_in=4.2) as (chart, plot):
        plot.plot([0, 100], [0, 100], color=GREY, linestyle=(0, (4, 3)), linewidth=1.2)
        columns = arm_columns(found.bins.columns)
        parts = [part for _, part in found.bins.groupby(columns, sort=False, observed=True)]
        for name, part, colour in zip(arms.labels, parts, GROUPS, strict=False):
            x, y = (100 * part[column].to_numpy(float) for column in ("confidence", "accuracy"))
            reach = np.abs(100 * part[["low", "high"]].to_numpy(float).T - y)
            style = {"fmt": "o-", "markersize": 5, "linewidth": 1.2, "elinewidth": 1, "color": colour}
            plot.errorbar(x, y, yerr=reach, label=name if len(parts) > 1 else None, **style)
        plot.set(xlim=(0, 102), ylim=(0, 102), xlabel="confidence (%)", ylabel="right units (%)")
        drawing.finish(chart, plot, _finding(found, arms))
    return chart


def _finding(found: analysis.Calibration, arms: names.Arms) -> str:
    worst = found.summary.iloc[int(found.summary["error"].to_numpy(float).argmax())]
    gap = 100 * (worst["confidence"] - worst["accuracy"])
    who = "" if len(arms) == 1 else f"{arms.labels[int(found.summary['error'].argmax())]}: "
    way = f"{abs(gap):.0f} points {'surer than right' if gap > 0 else 'more often right than sure'}"
    if abs(gap) < 0.5:
        way = "on the whole as often right as sure"
    right, sure = (f"{100 * worst[name]:.0f} %" for name in ("accuracy", "confidence"))
    return f"{who}{way}: {right} right, {sure} sure"
