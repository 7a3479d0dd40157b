"""Charts of the answers: how far the runs agree, and what the answers cost."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from llmlab import analysis
from llmlab.display import axes as drawing
from llmlab.display import frames, words
from llmlab.display.palette import AGREEMENT, GREY, OUTCOMES
from llmlab.errors import InputError
from llmlab.records import ATTEMPT_STATUSES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BY = ("model", "category", "attempt")


def token_costs(data: Any, by: str = "model", *, ax: Axes | None = None) -> Axes:
    """Draw what the tokens cost, and how much of it went into attempts that failed.

    Parameters
    ----------
    data : Results or DataFrame
        Results, or their attempts (but for `by="category"`).
    by : {"model", "category", "attempt"}
        One bar per model, per predicted category, or per attempt number: those after 1 are what retries cost.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        Horizontal stacked bars in US$, or in tokens if no cost at all is known. What is unknown is named below the
        axis and never drawn; "≥" marks bars that lack some of it.
    """
    if by not in BY:
        raise InputError(f"by={by!r}: choose one of {', '.join(map(repr, BY))}.")
    attempts = frames.read(
        data, "token_costs", "attempts", *frames.KEY, "attempt", "status", "cost_usd", "total_tokens"
    )
    group, names = frames.groups(data, attempts, by)
    in_usd = bool(attempts["cost_usd"].notna().any()) or not len(attempts)
    column = "cost_usd" if in_usd else "total_tokens"
    amount, uncertain = attempts[column].to_numpy(float, na_value=math.nan), analysis.unknown(attempts, column)
    bars = pd.Series(amount).groupby([attempts["status"].to_numpy(), group]).sum(min_count=1).unstack(0)
    bars = bars.reindex(index=range(len(names)), columns=list(ATTEMPT_STATUSES)).astype(float)
    ax = drawing.axes(ax, len(names))
    left, known_any = np.zeros(len(names)), np.asarray(bars.notna().any(axis=1))
    for status, colour in OUTCOMES.items():
        widths = bars[status]
        known = widths.dropna()
        if len(known):
            ax.barh(known.index, known, 0.7, left[known.index], color=colour, label=status.replace("_", " "))
        left += widths.fillna(0).to_numpy()
    unsure = set(group[uncertain])
    for at, total in enumerate(left):
        text = ("≥ " if at in unsure else "") + (drawing.plain(words.usd(total)) if in_usd else f"{total:,.0f}")
        text = text if known_any[at] else "unknown"
        ax.annotate(text, (total, at), (4, 0), textcoords="offset points", va="center", fontsize="small")
    drawing.name_bars(ax, names, by)
    ax.set(xlim=(0, 1.3 * left.max() if left.any() else 1))
    ax.set_xlabel(
        "\n".join([r"cost (US\$)" if in_usd else "tokens (no price is known)", *_left_out(attempts, uncertain)])
    )
    if in_usd:
        ax.locator_params(axis="x", nbins=5)
        ax.ticklabel_format(axis="x", style="plain", useOffset=False)
    else:
        drawing.thousands(ax.xaxis)
    lost = (attempts["attempt"] > 1 if by == "attempt" else attempts["status"] != "ok").to_numpy(bool)
    part, whole = np.nansum(amount[lost]), np.nansum(amount)
    text = ("≥ " if uncertain.any() else "") + (words.usd(whole) if in_usd else f"{whole:,.0f} tokens")
    text += f", {words.share(part, whole)} of it for {'retries' if by == 'attempt' else 'attempts that failed'}"
    nothing = "no usage reported" if len(attempts) else "no attempts yet"
    return drawing.finish(ax, text, None if known_any.any() else nothing)


def _left_out(attempts: pd.DataFrame, uncertain: np.ndarray) -> list[str]:
    """What the bars lack, in lines below the axis."""
    unpriced = uncertain & attempts["total_tokens"].notna().to_numpy(bool)
    called = (attempts["status"] == "call_error").to_numpy(bool)
    parts = []
    if unpriced.any():
        models = ", ".join(drawing.short(name) for name in attempts["model"][unpriced].drop_duplicates()[:4])
        parts.append(f"{words.count(unpriced.sum(), 'attempt')} of unknown price ({models})")
    silent = uncertain & ~unpriced
    kinds = [(silent & ~called, "answer"), (silent & called, "failed call")]
    without = " and ".join(words.count(which.sum(), word) for which, word in kinds if which.any())
    if without:
        parts.append(f"{without} without usage")
    return textwrap.wrap(f"not included: {'; '.join(parts)}", 62) if parts else []


def agreement(data: Any, *, ax: Axes | None = None) -> Axes:
    """Draw how far the runs of each unit agree.

    Parameters
    ----------
    data : Results or DataFrame
        Results, or their predictions.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        One bar per model: its units in %, split by the share of answered runs that gave the unit's most frequent
        answer. Units with fewer than two answered runs are not counted.
    """
    predictions = frames.labels(data, "agreement")
    units = analysis.majorities(predictions)
    units = units[units["answered"] > 1]
    share = (units["most"] / units["answered"]).to_numpy().round(6)
    coarse = len(set(share)) > len(AGREEMENT)
    share = np.floor(4 * share) / 4 if coarse else share
    models = list(predictions["arm"].drop_duplicates())
    at = pd.Index(models, dtype=object).get_indexer(pd.Index(frames.arms(units)))
    sizes = np.bincount(at, minlength=len(models))
    ax = drawing.axes(ax, len(models))
    left = np.zeros(len(models))
    for level, colour in zip(sorted(set(share), reverse=True), AGREEMENT, strict=False):
        width = 100 * np.bincount(at[share == level], minlength=len(models)) / np.maximum(sizes, 1)
        plain = f"{'≥ ' if coarse else ''}{100 * level:.0f} %"
        label = "all agree" if level == 1 else plain if level else "< 25 %"
        ax.barh(range(len(models)), width, 0.7, left, color=colour, label=label)
        ink = "white" if colour == AGREEMENT[0] else "black"
        for y, x in enumerate(width):
            if x > 7:
                ax.text(left[y] + x / 2, y, f"{x:.0f} %", ha="center", va="center", fontsize="small", color=ink)
        left += width
    drawing.name_bars(ax, models, "model")
    for y, size in enumerate(sizes):
        if not size and len(units):
            ax.text(1, y, "no unit with two answered runs", va="center", fontsize="small", color=GREY)
    skipped = len(predictions[["arm", "unit_id"]].drop_duplicates()) - len(units)
    gaps = f"\nnot counted: {skipped:,} without two answered runs" if skipped else ""
    ax.set(xlim=(0, 100), xlabel=f"units (%) by share of runs with the majority answer{gaps}")
    text = f"All runs agree on {words.share((share == 1).sum(), len(units))} of the units"
    nothing = "agreement needs two answered runs of a unit" if len(predictions) else "no predictions yet"
    return drawing.finish(ax, text, None if len(units) else nothing)
