"""Charts of the answers: which labels were given, and how far the runs of a unit agree."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from llmlab import analysis
from llmlab.display import axes as drawing
from llmlab.display import frames, names, words
from llmlab.display.chart import Chart, canvas
from llmlab.display.palette import AGREEMENT, GREY, GROUPS
from llmlab.errors import InputError
from llmlab.records import arm_columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FREE_TEXT = "the answers are free text or objects, no labels"


def labels(data: Any, by: str | None = None, *, level: float = 0.95, ax: Axes | None = None) -> Chart:
    """Draw how often each label was given, with intervals; side by side for models, or for groups of units.

    Parameters
    ----------
    data : Results or DataFrame
        Results, or their predictions (a slice of them, for example of one model).
    by : str, optional
        A column of the units, such as a party or a year; by default the models (with their prompts) are compared.
        At most six groups are drawn.
    level : float
        Of the intervals, between 0 and 1; they come from drawing units.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Chart
        A point and its interval per label and group: share of the units' answers in %. A unit counts once, however many
        runs it has.
    """
    predictions = frames.labels(data, "labels")
    arms = arm_columns(predictions.columns)
    if by is not None and by not in predictions:
        raise InputError(f"by={by!r} is no column of predictions: {', '.join(map(str, predictions.columns))}.")
    if by is not None and by not in arms and len(predictions[arms].drop_duplicates()) > 1:
        raise InputError(
            f"labels(by={by!r}) draws one model and prompt, and these are several: pass their rows, for example "
            f"results.predictions.query(\"model == '{predictions['model'].iloc[0]}'\")."
        )
    free = not isinstance(predictions["prediction"].dtype, pd.CategoricalDtype) and _is_free(predictions)
    columns = arms if by is None else [by]
    table = analysis.distribution(predictions, columns, level=level) if not free else pd.DataFrame()
    groups, hidden = _groups(table, predictions, columns)
    shown, rare = _most_frequent(table)
    with canvas(ax, height_in=drawing.height_in(len(shown) * (1 + len(groups) // 3))) as (chart, plot):
        for at, (name, rows) in enumerate(groups.items()):
            rows = rows[rows["label"].isin(shown)]
            y = np.array([shown.index(label) for label in rows["label"]]) + _offset(at, len(groups))
            middle = 100 * rows["share"].to_numpy()
            reach = 100 * np.abs(rows[["low", "high"]].to_numpy().T - rows["share"].to_numpy())
            style = {"fmt": "o", "markersize": 5, "elinewidth": 1.5, "capsize": 0, "color": GROUPS[at]}
            plot.errorbar(middle, y, xerr=reach, label=name if len(groups) > 1 else None, **style)
        drawing.name_rows(chart, plot, [names.short(label) for label in shown])
        plot.grid(axis="x", color=GREY, alpha=0.2)
        plot.set_axisbelow(True)
        notes = [f"not drawn: {words.count(rare, 'rarer label')}"] if rare else []
        notes += [f"not drawn: {words.count(hidden, 'smaller group')}"] if hidden else []
        plot.set_xlabel("\n".join([f"share of the answers (%), {100 * level:g} % intervals over units", *notes]))
        plot.set_xlim(left=0)
        nothing = FREE_TEXT if free else "" if len(table) else "no answers yet"
        drawing.finish(chart, plot, _most_given(table, groups), nothing)
    return chart


def _is_free(predictions: pd.DataFrame) -> bool:
    """Whether hardly any answer was given twice."""
    codes = analysis.label_codes(predictions["prediction"])[0]
    answered = codes[codes >= 0]
    distinct = len(np.unique(answered))
    return distinct > frames.MOST_LABELS and 2 * distinct > len(answered)


def _groups(table: pd.DataFrame, predictions: pd.DataFrame, columns: list[str]) -> tuple[dict[str, pd.DataFrame], int]:
    """The rows of each group by its name, the largest if there are too many, and how many are not drawn."""
    if not len(table):
        return {}, 0
    found = dict(iter(table.groupby(columns, sort=False, observed=True)))
    kept = sorted(found, key=lambda name: -found[name]["units"].iloc[0])[: len(GROUPS)]
    first = columns[0]
    if isinstance(predictions[first].dtype, pd.CategoricalDtype):
        kept = [(one,) for one in predictions[first].cat.categories if (one,) in kept]
    elif len(columns) == 1 and pd.api.types.is_numeric_dtype(predictions[first]):
        kept = sorted(kept)
    else:
        kept = [name for name in found if name in kept]
    if columns == arm_columns(predictions.columns):
        arms = names.Arms.of(predictions)
        titles = dict(zip(arms.names, arms.labels, strict=True))
        return {titles[tuple(map(str, name))]: found[name] for name in kept}, len(found) - len(kept)
    return {names.short(name[0]): found[name] for name in kept}, len(found) - len(kept)


def _most_frequent(table: pd.DataFrame) -> tuple[list[Any], int]:
    """The labels to draw in their order, at most `MOST_LABELS`, and how many are left out."""
    if not len(table):
        return [], 0
    totals = table.groupby("label", sort=False, observed=True)["share"].max()
    kept = set(totals.nlargest(frames.MOST_LABELS).index)
    return [label for label in totals.index if label in kept], len(totals) - len(kept)


def _most_given(table: pd.DataFrame, groups: dict[str, pd.DataFrame]) -> str:
    if not len(table):
        return ""
    tops = [rows.iloc[int(rows["share"].to_numpy().argmax())] for rows in groups.values()]
    if len({str(top["label"]) for top in tops}) == 1:
        shares = [100 * top["share"] for top in tops]
        span = f"{min(shares):.0f} %" if f"{min(shares):.0f}" == f"{max(shares):.0f}" else (
            f"{min(shares):.0f} to {max(shares):.0f} %"
        )  # fmt: skip
        return f"The most frequent label is {names.short(tops[0]['label'])}: {span} of the answers"
    parts = [f"{names.short(top['label'])} ({name})" for name, top in zip(groups, tops, strict=True)]
    return f"The most frequent label differs: {', '.join(parts[:3])}{', …' if len(parts) > 3 else ''}"


def _offset(at: int, groups: int) -> float:
    """Where a group's points stand within the row of a label."""
    return 0.0 if groups == 1 else 0.6 * (at / (groups - 1) - 0.5)


def agreement(data: Any, *, ax: Axes | None = None) -> Chart:
    """Draw how far the runs of each unit agree.

    Parameters
    ----------
    data : Results or DataFrame
        Results, or their predictions.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Chart
        One bar per model (and prompt): its units in %, split by the share of answered runs that gave the unit's most
        frequent answer. Units with fewer than two answered runs are not counted.
    """
    predictions = frames.labels(data, "agreement")
    all_units = analysis.majorities(predictions)
    arms = names.Arms.of(all_units)
    several = (all_units["answered"] > 1).to_numpy(bool)
    units, at = all_units[several], arms.at[several]
    share = (units["most"] / units["answered"]).to_numpy().round(6)
    places, rows, headings = arms.rows()
    with canvas(ax, height_in=drawing.height_in(len(rows))) as (chart, plot):
        sizes = np.bincount(at, minlength=len(arms))
        left = np.zeros(len(arms))
        for (label, which), colour in zip(_levels(units, share).items(), AGREEMENT, strict=False):
            width = 100 * np.bincount(at[which], minlength=len(arms)) / np.maximum(sizes, 1)
            plot.barh(places, width, 0.7, left, color=colour, label=label)
            ink = "white" if colour == AGREEMENT[0] else "black"
            for y, x, start in zip(places, width, left, strict=True):
                if x > 7:
                    place = {"ha": "center", "va": "center", "fontsize": drawing.SMALL}
                    plot.text(start + x / 2, y, f"{x:.0f} %", color=ink, **place)
            left += width
        drawing.name_rows(chart, plot, rows, headings)
        for y, size in zip(places, sizes, strict=True):
            if not size and len(units):
                plot.text(1, y, "no unit with two answered runs", va="center", fontsize=drawing.SMALL, color=GREY)
        skipped = len(all_units) - len(units)
        gaps = f"\nnot counted: {skipped:,} without two answered runs" if skipped else ""
        plot.set(xlim=(0, 100), xlabel=f"units (%){gaps}")
        compared = [f"{name}s" for name in arm_columns(all_units.columns)] if len(arms) > 1 else []
        counted = " × ".join(["units", *compared])
        text = f"All runs agree on {words.share((share == 1).sum(), len(units))} of the {counted}"
        nothing = "agreement needs two answered runs of a unit" if len(predictions) else "no predictions yet"
        drawing.finish(chart, plot, text, "" if len(units) else nothing)
    return chart


def _levels(units: pd.DataFrame, share: np.ndarray) -> dict[str, np.ndarray]:
    """Which units agree how far, the furthest first: "2 of 3 runs agree", or in quarters if runs differ or are many."""
    runs = units["answered"].unique()
    if len(runs) == 1 and runs[0] <= len(AGREEMENT):
        most = units["most"].to_numpy()
        texts = {runs[0]: "all runs agree", 1: "none agree"}
        counts = sorted(set(most), reverse=True)
        return {texts.get(count, f"{count} of {runs[0]} runs agree"): most == count for count in counts}
    steps = [1.0, 0.75, 0.5, 0.0]
    texts = ["all runs agree", "75 % or more agree", "50 % or more agree", "less"]
    upper = [np.inf, *steps]
    found = {text: (share >= step) & (share < top) for text, step, top in zip(texts, steps, upper, strict=False)}
    return {text: which for text, which in found.items() if which.any()}
