"""The chart of what tokens cost, and how much of it went into attempts that gave nothing."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from llmlab import analysis
from llmlab.display import axes as drawing
from llmlab.display import frames, names, words
from llmlab.display.chart import Chart, canvas
from llmlab.display.palette import OUTCOMES
from llmlab.display.request_charts import OUTCOME_WORDS
from llmlab.errors import InputError
from llmlab.records import ATTEMPT_STATUSES, arm_columns, trial_key

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BY = ("model", "prompt", "category", "attempt")
MOST_BARS = 12


def token_costs(data: Any, by: str = "model", *, ax: Axes | None = None) -> Chart:
    """Draw what the tokens cost, and how much of it went into attempts without a usable answer.

    Parameters
    ----------
    data : Results or DataFrame
        Results, or their attempts (but for `by="category"`).
    by : {"model", "prompt", "category", "attempt"}
        One bar per model (with its prompts, if there are several), per prompt, per predicted category, or per attempt
        number: those after 1 are what repeating costs.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Chart
        Horizontal stacked bars in US$, or in tokens if no cost at all is known. What is unknown is named below the
        axis and never drawn; "≥" marks bars that lack some of it.
    """
    attempts = frames.read(
        data, "token_costs", "attempts", *frames.KEY, "attempt", "status", "cost_usd", "total_tokens"
    )
    group, rows, headings = _bars(data, attempts, by)
    in_usd = bool(attempts["cost_usd"].notna().any()) or not len(attempts)
    column = "cost_usd" if in_usd else "total_tokens"
    amount, uncertain = attempts[column].to_numpy(float, na_value=math.nan), analysis.unknown(attempts, column)
    bars = pd.Series(amount).groupby([attempts["status"].to_numpy(), group]).sum(min_count=1).unstack(0)
    bars = bars.reindex(index=range(len(rows)), columns=list(ATTEMPT_STATUSES)).astype(float)

    def said(value: float) -> str:
        return words.usd(value) if in_usd else f"{value:,.0f}"

    with canvas(ax, height_in=drawing.height_in(len(rows))) as (chart, plot):
        left, known = np.zeros(len(rows)), np.asarray(bars.notna().any(axis=1))
        for status, colour in OUTCOMES.items():
            width = bars[status].dropna()
            if len(width):
                plot.barh(width.index, width, 0.7, left[width.index], color=colour, label=OUTCOME_WORDS[status])
            left += bars[status].fillna(0).to_numpy()
        unsure = set(group[uncertain])
        for at in sorted(set(range(len(rows))) - set(headings)):
            text = f"{'≥ ' if at in unsure else ''}{said(left[at])}" if known[at] else "unknown"
            place = {"textcoords": "offset points", "va": "center", "fontsize": drawing.SMALL}
            plot.annotate(names.plain(text), (left[at], at), (4, 0), **place)
        drawing.name_rows(chart, plot, rows, headings)
        plot.set(xlim=(0, 1.2 * left.max() if left.any() else 1))
        unit = r"cost (US\$)" if in_usd else "tokens (no price is known)"
        plot.set_xlabel("\n".join([unit, *_left_out(attempts, uncertain)]))
        if in_usd:
            plot.locator_params(axis="x", nbins=5)
            plot.ticklabel_format(axis="x", style="plain", useOffset=False)
        else:
            drawing.thousands(plot.xaxis)
        lost = (attempts["attempt"] > 1 if by == "attempt" else attempts["status"] != "ok").to_numpy(bool)
        part, whole = np.nansum(amount[lost]), np.nansum(amount)
        what = "repeated attempts" if by == "attempt" else "attempts without a usable answer"
        text = f"{'≥ ' if uncertain.any() else ''}{said(whole)}{'' if in_usd else ' tokens'}"
        text += f", {words.share(part, whole)} of it for {what}"
        nothing = "no usage reported" if len(attempts) else "no attempts yet"
        drawing.finish(chart, plot, text, "" if known.any() else nothing)
    return chart


def _bars(data: Any, attempts: pd.DataFrame, by: str) -> tuple[np.ndarray, list[str], list[int]]:
    """The bar of each attempt, the names of all rows, and which rows are headings."""
    if by not in BY or (by == "prompt" and by not in arm_columns(attempts.columns)):
        raise InputError(f"by={by!r}: choose one of model, category, attempt (or prompt, if there are several).")
    if by == "model":
        arms = names.Arms.of(attempts)
        at, rows, headings = arms.rows()
        return at[arms.at] if len(at) else arms.at, rows, headings
    if by == "category":
        key, order = _categories(data, attempts)
    elif by == "attempt":
        key = attempts["attempt"].clip(upper=MOST_BARS).astype(str)
        key = key.mask(attempts["attempt"] > MOST_BARS - 1, f"{MOST_BARS} or later")
        order = [str(number) for number in range(1, MOST_BARS)]
    else:
        key, order = attempts["prompt"].astype(str), []
    last = ["(no answer)"]
    sizes = key[~key.isin(last)].value_counts()
    if len(sizes) > MOST_BARS:
        rare = f"({len(sizes) - MOST_BARS + 1:,} rarer ones)"
        key = key.where(key.isin([*sizes.index[: MOST_BARS - 1], *last]), rare)
        last = [rare, *last]
    found = set(key)
    rows = [name for name in dict.fromkeys([*order, *key]) if name in found and name not in last]
    rows += [name for name in last if name in found]
    at = pd.Index(rows, dtype=object).get_indexer(pd.Index(key, dtype=object))
    return at, [names.short(name) for name in rows], []


def _categories(data: Any, attempts: pd.DataFrame) -> tuple[pd.Series, list[str]]:
    """The predicted category of each attempt's trial, and the categories in their order."""
    if isinstance(data, pd.DataFrame):
        raise InputError("by='category' takes Results: attempts alone know no category. Or by='model', 'attempt'.")
    predictions = frames.labels(data, "token_costs")
    answers = predictions["prediction"]
    order = [str(one) for one in answers.cat.categories] if isinstance(answers.dtype, pd.CategoricalDtype) else []
    texts = [*answers.astype(object).map(str).where(predictions["status"] == "ok", "(no answer)"), "(no answer)"]
    key = trial_key(predictions.columns)
    trials, asked = (pd.MultiIndex.from_frame(frame[key]) for frame in (predictions, attempts))
    return pd.Series(np.array(texts, object)[trials.get_indexer(asked)], dtype=object), order


def _left_out(attempts: pd.DataFrame, uncertain: np.ndarray) -> list[str]:
    """What the bars lack, in lines below the axis."""
    unpriced = uncertain & attempts["total_tokens"].notna().to_numpy(bool)
    called = (attempts["status"] == "call_error").to_numpy(bool)
    parts = []
    if unpriced.any():
        models = ", ".join(names.short(name) for name in attempts["model"][unpriced].drop_duplicates()[:4])
        parts.append(f"{words.count(unpriced.sum(), 'attempt')} of unknown price ({models})")
    silent = uncertain & ~unpriced
    kinds = [(silent & ~called, "answer"), (silent & called, "failed call")]
    without = " and ".join(words.count(which.sum(), word) for which, word in kinds if which.any())
    if without:
        parts.append(f"{without} without token counts")
    return textwrap.wrap(f"not included: {'; '.join(parts)}", 62) if parts else []
