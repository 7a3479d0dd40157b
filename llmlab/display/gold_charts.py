"""Charts of how right the answers are, measured against gold labels."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from llmlab import analysis
from llmlab.display import axes as drawing
from llmlab.display import frames, names, words
from llmlab.display.chart import Chart, canvas
from llmlab.display.palette import GREY, GROUPS, INK, WAITED
from llmlab.errors import InputError
from llmlab.records import arm_columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def accuracy(
    results: Any,
    gold: analysis.Gold,
    against: Literal["name", "cost"] = "name",
    *,
    level: float = 0.95,
    ax: Axes | None = None,
) -> Chart:
    """Draw how often each model (with each prompt) is right, with intervals, and what that costs.

    Parameters
    ----------
    results : Results
    gold : str, Series or mapping
        A unit's column, or the right labels by unit id.
    against : {"name", "cost"}
        A row per model with its cost beside it, or accuracy over the cost of 1,000 units.
    level : float
        Of the intervals, between 0 and 1; they come from drawing units.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Chart
        Right answers in %; an unanswered trial counts as wrong.
    """
    if against not in ("name", "cost"):
        raise InputError(f"against={against!r}: choose 'name' or 'cost'.")
    predictions = frames.judged(results, "accuracy")
    attempts = frames.read(results, "accuracy", "attempts", "cost_usd")
    table = analysis.compare(predictions, attempts, gold, level=level)
    arms = names.Arms.of(table)
    costs = table["cost_usd_per_1000_units"].to_numpy(float, na_value=math.nan)
    if against == "cost" and np.isnan(costs).any():
        raise InputError("against='cost' needs to know what every model cost; accuracy(results, gold) does not.")
    middle = 100 * table["accuracy"].to_numpy(float)
    reach = np.abs(100 * table[["low", "high"]].to_numpy(float).T - middle)
    places, rows, headings = arms.rows()
    unit = f"right answers (%), {100 * level:g} % intervals over units"
    height = drawing.height_in(len(rows)) if against == "name" else 4.2
    with canvas(ax, height_in=height) as (chart, plot):
        style = {"fmt": "o", "markersize": 6, "elinewidth": 1.6, "capsize": 0, "color": GROUPS[0]}
        plot.grid(axis="x" if against == "name" else "y", color=GREY, alpha=0.2)
        plot.set_axisbelow(True)
        if against == "name":
            plot.errorbar(middle, places, xerr=reach, **style)
            drawing.name_rows(chart, plot, rows, headings)
            plot.set_xlabel(unit)
            _write_costs(plot, places, costs)
        else:
            plot.errorbar(costs, middle, yerr=reach, **style)
            for name, x, y in zip(arms.labels, costs, middle, strict=True):
                plot.annotate(name, (x, y), (7, 4), textcoords="offset points", fontsize=drawing.SMALL)
            plot.set(xlabel=r"cost of 1,000 units (US\$)", ylabel=unit.replace(", ", ",\n"))
            plot.set_xlim(0, 1.35 * costs.max() if len(costs) and costs.max() else 1)
        drawing.finish(chart, plot, _best(table, arms), "" if len(table) else "no answers yet")
    return chart


def _write_costs(ax: Axes, places: np.ndarray, costs: np.ndarray) -> None:
    """What 1,000 units cost, in a column right of the data."""
    place = {"xycoords": ("axes fraction", "data"), "va": "center", "fontsize": drawing.SMALL}
    for y, cost in zip(places, costs, strict=True):
        text = "cost unknown" if math.isnan(cost) else f"{words.usd(cost)} per 1,000 units"
        ax.annotate(names.plain(text), (1.01, y), annotation_clip=False, **place)


def _best(table: pd.DataFrame, arms: names.Arms) -> str:
    if not len(table):
        return ""
    best = int(table["accuracy"].to_numpy(float).argmax())
    row = table.iloc[best]
    right = f"{100 * row['accuracy']:.0f} % ({100 * row['low']:.0f} to {100 * row['high']:.0f})"
    if len(table) == 1:
        return f"{arms.labels[0]} is right in {right} of the answers"
    if len(table) == 2 and pd.notna(row["difference"] if best else table.iloc[1]["difference"]):
        other = table.iloc[1]
        sign = 1 if best else -1
        ends = sorted(100 * sign * float(other[name]) for name in ("difference_low", "difference_high"))
        gain = 100 * sign * float(other["difference"])
        low, high = (f"{end:.1f}".replace("-", "−") for end in ends)
        chance = " (chance may explain it)" if ends[0] <= 0 <= ends[1] else ""
        return (
            f"{arms.labels[best]} is right {gain:.1f} percentage points more often than {arms.labels[1 - best]}, "
            f"{low} to {high}{chance}"
        )
    return f"{arms.labels[best]} is right most often: {right}"


def confusion(data: Any, gold: analysis.Gold, *, ax: Axes | None = None) -> Chart:
    """Draw which labels are taken for which.

    Parameters
    ----------
    data : Results or DataFrame
        Results, or their predictions; of one model and prompt.
    gold : str, Series or mapping
        A unit's column, or the right labels by unit id.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Chart
        A row per gold label and a column per predicted one: answers in numbers, shaded by their share of the row.
    """
    predictions = frames.judged(data, "confusion")
    arms = predictions[arm_columns(predictions.columns)].drop_duplicates()
    if len(arms) > 1:
        raise InputError(
            f"confusion draws one model and prompt, and these are {len(arms)}: pass their rows, for example "
            f"results.predictions.query(\"model == '{arms['model'].iloc[0]}'\")."
        )
    matrix = analysis.score(predictions, gold).confusion.droplevel(0) if len(predictions) else pd.DataFrame()
    if len(matrix):
        # The column of the unanswered only where there are some.
        matrix = matrix.loc[:, matrix.any() | matrix.columns.isin(matrix.index)]
    counts = matrix.to_numpy()
    gold_labels = [names.short(label, 18) for label in matrix.index]
    said = [names.short(label, 14) for label in matrix.columns]
    with canvas(ax, height_in=1.8 + 0.42 * max(len(counts), 2)) as (chart, plot):
        if len(counts):
            shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
            _shade(plot, counts, shares)
            plot.set_xticks(range(len(said)), said, rotation=30, ha="right", rotation_mode="anchor")
            drawing.name_rows(chart, plot, gold_labels, label="gold label")
            plot.set(xlim=(-0.5, len(said) - 0.5), ylim=(len(gold_labels) - 0.5, -0.5), xlabel="predicted label")
            plot.spines[["left", "bottom"]].set_visible(False)
            plot.tick_params(length=0)
        drawing.finish(chart, plot, _worst(matrix), "" if len(counts) else "no answers yet")
    return chart


def _shade(ax: Axes, counts: np.ndarray, shares: np.ndarray) -> None:
    """A square per cell, the darker the larger its share of the row; on any ground an empty cell is the ground."""
    from matplotlib.patches import Rectangle

    for (y, x), share in np.ndenumerate(shares):
        ax.add_patch(
            Rectangle((x - 0.48, y - 0.46), 0.96, 0.92, facecolor=WAITED, alpha=0.06 + 0.84 * share, linewidth=0)
        )
        ink = "white" if share > 0.45 else INK
        ax.text(x, y, f"{counts[y, x]:,}", ha="center", va="center", fontsize=drawing.SMALL, color=ink)


def _worst(matrix: pd.DataFrame) -> str:
    """How many answers are right, and the most frequent mistake, in a sentence."""
    if not len(matrix):
        return ""
    labels = list(matrix.index)
    wrong = matrix.to_numpy().copy()
    for at, label in enumerate(labels):
        if label in matrix.columns:
            wrong[at, list(matrix.columns).index(label)] = 0
    counts = matrix.to_numpy()
    right = f"{words.share(counts.sum() - wrong.sum(), counts.sum())} of the answers are right"
    if not wrong.any():
        return right
    y, x = (int(at) for at in np.unravel_index(wrong.argmax(), wrong.shape))
    mistake = f"{names.short(labels[y], 18)} is taken for {names.short(matrix.columns[x], 18)}"
    return f"{right}; most often {mistake}, {wrong[y, x]:,} of {counts[y].sum():,}"
