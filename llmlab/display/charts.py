"""Frames → matplotlib Axes, one function per question.

Each takes `Results` or one of its frames and draws on `ax` (best of a figure made with `layout="constrained"`), or on
a new pyplot figure. A colour means the same everywhere: green is an answer, orange an answer that could not be read,
red a call that failed, blue the wait for the limiter. They are Okabe and Ito's. Time runs from when the first attempt
began to wait; long breaks between sessions (a rerun, a resumed journal) are cut out, marked by a dotted line and named
below the axis.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from llmlab.display import axes as drawing
from llmlab.display.axes import GREY, MOST_POINTS, MOST_ROWS, TRIAL, WAIT
from llmlab.errors import InputError
from llmlab.records import ATTEMPT_STATUSES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OUTCOMES = dict(zip(ATTEMPT_STATUSES, ("#009e73", "#e69f00", "#d55e00"), strict=True))
AGREE = ("#8c3b6b", "#cc79a7", "#e3b3cd", "#f3dbe7", "#d9d9d9")
BY = ("model", "category", "attempt")


def throttle_rate(data: Any, *, ax: Axes | None = None) -> Axes:
    """Draw the share of attempts that the limiter made wait, over time.

    Parameters
    ----------
    data : Results, DataFrame or RateLimiter
        Results, their attempts, or anything with `history()` → (epoch s, granted, throttled, waited s) per second.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        Throttled attempts in % per bin (blue), and behind it the attempts per bin (grey, right axis).
    """
    if callable(getattr(data, "history", None)):
        when, sent, throttled, _ = np.asarray(list(data.history()), dtype=float).reshape(-1, 4).T
        clock = drawing.Clock.of(when, when + 1)
        when, least_s = clock.read(when), 1.0
    else:
        attempts, clock = drawing.timed(data, "throttle_rate", "throttled")
        when, throttled = attempts["sent"].to_numpy(), attempts["throttled"].to_numpy(float)
        sent, least_s = np.ones(len(when)), 0.0
    ax = drawing.axes(ax)
    edges = clock.bins(sent.sum(), least_s)
    counts, _ = np.histogram(when, edges, weights=sent)
    share = 100 * np.histogram(when, edges, weights=throttled)[0] / np.where(counts, counts, math.nan)
    behind = ax.twinx()
    behind.stairs(counts, edges, fill=True, color=GREY, alpha=0.25)
    behind.set(ylim=(0, max(1.0, 1.08 * counts.max())))
    behind.set_ylabel(f"attempts per {drawing.span(edges[1] * clock.per)}", color=GREY)
    behind.tick_params(axis="y", colors=GREY)
    behind.spines[["top", "left"]].set_visible(False)
    behind.grid(False)
    drawing.thousands(behind.yaxis)
    # The line belongs in front of its twin, the background behind both.
    ax.set_zorder(behind.get_zorder() + 1)
    behind.patch.set(visible=True, facecolor=ax.get_facecolor())
    ax.patch.set_visible(False)
    ax.stairs(share, edges, baseline=None, color=WAIT, linewidth=2)
    ax.set(ylim=(0, 105), ylabel="throttled attempts (%)")
    clock.label(ax)
    text = f"{drawing.share(throttled.sum(), sent.sum())} of {drawing.count(sent.sum(), 'attempt')} throttled"
    return drawing.finish(ax, text, None if len(when) else "no attempts yet")


def wait_time(data: Any, *, ax: Axes | None = None) -> Axes:
    """Draw how long attempts waited for the limiter: over time, and beside it how the waits are distributed.

    Parameters
    ----------
    data : Results or DataFrame
        Results, or their attempts.
    ax : Axes, optional
        Where to draw; the histogram takes a part of its width.

    Returns
    -------
    Axes
        Seconds over time: a point per attempt, or median and 90th percentile per bin when there are many.
    """
    from mpl_toolkits.axes_grid1 import make_axes_locatable

    attempts, clock = drawing.timed(data, "wait_time")
    waits = attempts["wait_s"]
    ax = drawing.axes(ax)
    if len(waits) > MOST_POINTS:
        edges = clock.bins(len(waits))
        bins = waits.groupby(np.clip(np.digitize(attempts["sent"], edges), 1, len(edges) - 1) - 1)
        median, p90 = (bins.quantile(q).reindex(range(len(edges) - 1)).to_numpy() for q in (0.5, 0.9))
        ax.stairs(p90, edges, baseline=median, fill=True, color=WAIT, alpha=0.3, label="up to the 90th percentile")
        ax.stairs(median, edges, baseline=None, color=WAIT, linewidth=2, label="median")
    else:
        ax.scatter(attempts["sent"], waits, s=9, color=WAIT, alpha=0.5, linewidths=0)
    top = 1.05 * max(waits.max(), 1.0) if len(waits) else 1.0
    ax.set(ylim=(-0.02 * top, top), ylabel="wait for the limiter (s)")
    clock.label(ax)
    side = make_axes_locatable(ax).append_axes("right", size="18%", pad=0.08, sharey=ax)
    counts, steps = np.histogram(waits, bins=30, range=(0, top))
    side.stairs(100 * counts / max(1, len(waits)), steps, orientation="horizontal", fill=True, color=WAIT, alpha=0.6)
    side.set(xlabel="share (%)", xlim=(0, None))
    side.locator_params(axis="x", nbins=2, prune="lower")
    side.tick_params(axis="y", left=False, labelleft=False)
    side.spines[["top", "right"]].set_visible(False)
    if not len(waits):
        return drawing.finish(ax, "", "no attempts yet")
    return drawing.finish(
        ax, f"Half waited up to {drawing.span(waits.median())}, 90 % up to {drawing.span(float(waits.quantile(0.9)))}"
    )


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
    attempts = drawing.read_frame(
        data, "token_costs", "attempts", *TRIAL, "attempt", "status", "cost_usd", "total_tokens"
    )
    group, names = drawing.groups(data, attempts, by)
    tokens, usd = (attempts[name].to_numpy(float, na_value=math.nan) for name in ("total_tokens", "cost_usd"))
    in_usd = not len(usd) or not np.isnan(usd).all()
    amount = usd if in_usd else tokens
    gaps, uncertain = drawing.gaps(attempts, tokens, amount)
    bars = pd.Series(amount).groupby([attempts["status"].to_numpy(), group]).sum(min_count=1).unstack(0)
    bars = bars.reindex(index=range(len(names)), columns=list(ATTEMPT_STATUSES)).astype(float)
    ax = drawing.axes(ax, len(names))
    left, known_any = np.zeros(len(names)), np.asarray(bars.notna().any(axis=1))
    for status, colour in OUTCOMES.items():
        widths = bars[status]
        known = widths.dropna()
        if len(known):
            ax.barh(known.index, known, 0.7, left[known.index], color=colour, label=drawing.word(status))
        left += widths.fillna(0).to_numpy()
    unsure = set(group[uncertain])
    for at, total in enumerate(left):
        text = ("≥ " if at in unsure else "") + (drawing.usd(total) if in_usd else f"{total:,.0f}")
        text = text if known_any[at] else "unknown"
        ax.annotate(text, (total, at), (4, 0), textcoords="offset points", va="center", fontsize="small")
    drawing.name_bars(ax, names, by)
    ax.set(xlim=(0, 1.3 * left.max() if left.any() else 1))
    ax.set_xlabel("\n".join([r"cost (US\$)" if in_usd else "tokens (no price is known)", *gaps]))
    if in_usd:
        ax.locator_params(axis="x", nbins=5)
        ax.ticklabel_format(axis="x", style="plain", useOffset=False)
    else:
        drawing.thousands(ax.xaxis)
    lost = (attempts["attempt"] > 1 if by == "attempt" else attempts["status"] != "ok").to_numpy(bool)
    part, whole = np.nansum(amount[lost]), np.nansum(amount)
    text = ("≥ " if uncertain.any() else "") + (drawing.usd(whole) if in_usd else f"{whole:,.0f} tokens")
    text += f", {drawing.share(part, whole)} of it for {'retries' if by == 'attempt' else 'attempts that failed'}"
    nothing = "no usage reported" if len(attempts) else "no attempts yet"
    return drawing.finish(ax, text, None if known_any.any() else nothing)


def timeline(data: Any, *, ax: Axes | None = None) -> Axes:
    """Draw each attempt as a horizontal bar: queue, wait for the limiter, and the call coloured by its outcome.

    Parameters
    ----------
    data : Results or DataFrame
        Results, or their attempts.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        One line per trial in the order of sending, all its attempts in it. Of many trials it shows an even sample.
    """
    from matplotlib.collections import PolyCollection

    attempts, clock = drawing.timed(data, "timeline", *TRIAL, "status")
    attempts = attempts.sort_values("sent", kind="stable")
    trial = attempts.groupby(TRIAL, sort=False, dropna=False, observed=True).ngroup().to_numpy()
    trials = len(set(trial))
    shown = np.unique(np.linspace(0, trials - 1, min(trials, MOST_ROWS)).round().astype(int))
    drawn = attempts[np.isin(trial, shown)].assign(row=np.searchsorted(shown, trial[np.isin(trial, shown)]))
    ax = drawing.axes(ax)
    # Gaps between very thin lines would be stripes of the screen, not of the data.
    height = 0.7 if len(shown) < 80 else 1.0
    kinds = [
        ("waits for a slot", GREY, 0.3, "begin", "queued", None),
        ("for the limiter", WAIT, 0.4, "queued", "sent", None),
    ]
    kinds += [(drawing.word(status), colour, 1.0, "sent", "done", status) for status, colour in OUTCOMES.items()]
    for label, colour, alpha, start, end, status in kinds:
        rows = drawn[(drawn[end] > drawn[start]) & ((drawn["status"] == status) if status else True)]
        if len(rows):
            x0, x1, y0, y1 = rows[start], rows[end], rows["row"] - height / 2, rows["row"] + height / 2
            corners = np.stack([x0, y0, x0, y1, x1, y1, x1, y0], axis=1).reshape(-1, 4, 2)
            # An edge keeps a short call visible in a long run.
            style = {"facecolor": colour, "edgecolor": colour, "alpha": alpha, "linewidth": 1.0 if status else 0}
            many = len(rows) > MOST_ROWS // 2
            ax.add_collection(PolyCollection(list(corners), label=label, rasterized=many, **style), autolim=False)
    ax.set(ylim=(max(len(shown), 5) - 0.4, -0.6), yticks=[])
    ax.set_ylabel("trials" if len(shown) == trials else f"trials ({len(shown)} of {trials:,} shown)")
    clock.label(ax)
    failed = (attempts["status"] != "ok").sum()
    text = f"{drawing.count(len(attempts), 'attempt')}, {drawing.share(failed, len(attempts))} failed"
    return drawing.finish(ax, text, None if trials else "no attempts yet")


def progress_over_time(data: Any, limit: float | None = None, *, ax: Axes | None = None) -> Axes:
    """Draw how many trials were answered, against what the limit allows at best.

    Parameters
    ----------
    data : Results or DataFrame
        Results, or their attempts.
    limit : float, optional
        Requests per minute; what the results know of it by default.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Axes
        Answered trials (green), attempts sent (grey) and the limit (dashed) over time.
    """
    if limit is None:
        limit = (getattr(data, "description", None) or {}).get("requests_per_minute")
    elif isinstance(limit, bool) or not isinstance(limit, Real) or not 0 < limit < math.inf:
        raise InputError(f"limit={limit!r}: requests per minute, a number more than 0, or None for what results know.")
    attempts, clock = drawing.timed(data, "progress_over_time", *TRIAL, "status")
    predictions = getattr(data, "predictions", None)
    trials = len(attempts[TRIAL].drop_duplicates()) if predictions is None else len(predictions)
    ok = attempts[attempts["status"] == "ok"].sort_values("done").drop_duplicates(TRIAL)["done"]
    ax = drawing.axes(ax)
    lines = ((attempts["sent"].sort_values(), GREY, 1.2, "attempts sent"), (ok, OUTCOMES["ok"], 2.2, "trials answered"))
    for times, colour, width, label in lines if len(attempts) else ():
        every = max(1, len(times) // MOST_POINTS)
        x = [0.0, *times.to_numpy()[::-every][::-1], clock.end]
        count = [0, *np.arange(1, len(times) + 1)[::-every][::-1], len(times)]
        ax.step(x, count, where="post", color=colour, linewidth=width, label=label)
    text = f"{len(ok):,} of {drawing.count(trials, 'trial')} answered in {drawing.span(clock.end * clock.per)}"
    if limit and trials:
        best = 60 * trials / limit / clock.per
        x = np.array([0, min(best, clock.end)])
        style = {"color": ax.xaxis.label.get_color(), "linestyle": (0, (4, 3)), "linewidth": 1.2}
        ax.plot(x, x * limit * clock.per / 60, label=f"limit: {limit:,.4g} per min", **style)
        text += f" ({drawing.span(best * clock.per)} at the limit)"
    ax.set(ylim=(0, 1.08 * max(trials, len(attempts), 1)), ylabel="trials, attempts")
    drawing.thousands(ax.yaxis)
    clock.label(ax)
    return drawing.finish(ax, text, None if len(attempts) else "no attempts yet")


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
    predictions = drawing.read_frame(data, "agreement", "predictions", *TRIAL, "prediction", "status")
    ok = predictions[predictions["status"] == "ok"]
    # Answers may be unhashable: what they print decides whether they are the same.
    answers = ok[["model", "unit_id"]].assign(answer=ok["prediction"].astype(object).map(repr).astype(object))
    votes = answers.groupby(["model", "unit_id", "answer"], sort=False, observed=True).size()
    units = votes.groupby(level=["model", "unit_id"], sort=False, observed=True).agg(["sum", "max"])
    units = units[units["sum"] >= 2]
    share = (units["max"] / units["sum"]).to_numpy().round(6)
    coarse = len(set(share)) > len(AGREE)
    share = np.floor(4 * share) / 4 if coarse else share
    models = list(predictions["model"].drop_duplicates())
    at = pd.Index(models, dtype=object).get_indexer(units.index.get_level_values("model"))
    sizes = np.bincount(at, minlength=len(models))
    ax = drawing.axes(ax, len(models))
    left = np.zeros(len(models))
    for level, colour in zip(sorted(set(share), reverse=True), AGREE, strict=False):
        width = 100 * np.bincount(at[share == level], minlength=len(models)) / np.maximum(sizes, 1)
        plain = f"{'≥ ' if coarse else ''}{100 * level:.0f} %"
        label = "all agree" if level == 1 else plain if level else "< 25 %"
        ax.barh(range(len(models)), width, 0.7, left, color=colour, label=label)
        ink = "white" if colour == AGREE[0] else "black"
        for y, x in enumerate(width):
            if x > 7:
                ax.text(left[y] + x / 2, y, f"{x:.0f} %", ha="center", va="center", fontsize="small", color=ink)
        left += width
    drawing.name_bars(ax, models, "model")
    for y, size in enumerate(sizes):
        if not size and len(units):
            ax.text(1, y, "no unit with two answered runs", va="center", fontsize="small", color=GREY)
    skipped = len(predictions[["model", "unit_id"]].drop_duplicates()) - len(units)
    gaps = f"\nnot counted: {skipped:,} without two answered runs" if skipped else ""
    ax.set(xlim=(0, 100), xlabel=f"units (%) by share of runs with the majority answer{gaps}")
    text = f"All runs agree on {drawing.share((share == 1).sum(), len(units))} of the units"
    nothing = "agreement needs two answered runs of a unit" if len(predictions) else "no predictions yet"
    return drawing.finish(ax, text, None if len(units) else nothing)


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
