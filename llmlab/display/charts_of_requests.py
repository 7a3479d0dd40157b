"""Charts of the requests: when they were sent, what they waited for, how far the experiment has come."""

from __future__ import annotations

import math
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from llmlab.display import axes as drawing
from llmlab.display import frames, words
from llmlab.display.clock import Clock
from llmlab.display.palette import ANSWERED, GREY, OUTCOMES, WAITED
from llmlab.errors import InputError
from llmlab.records import trial_key

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_POINTS, MOST_ROWS = 2_000, 400


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
    attempts, clock = frames.timed(data, "progress_over_time", *frames.KEY, "status")
    predictions = getattr(data, "predictions", None)
    key = trial_key(attempts.columns)
    trials = len(attempts[key].drop_duplicates()) if predictions is None else len(predictions)
    ok = attempts[attempts["status"] == "ok"].sort_values("done").drop_duplicates(key)["done"]
    ax = drawing.axes(ax)
    lines = ((attempts["sent"].sort_values(), GREY, 1.2, "attempts sent"), (ok, ANSWERED, 2.2, "trials answered"))
    for times, colour, width, label in lines if len(attempts) else ():
        every = max(1, len(times) // MOST_POINTS)
        x = [0.0, *times.to_numpy()[::-every][::-1], clock.end]
        count = [0, *np.arange(1, len(times) + 1)[::-every][::-1], len(times)]
        ax.step(x, count, where="post", color=colour, linewidth=width, label=label)
    text = f"{len(ok):,} of {words.count(trials, 'trial')} answered in {words.span(clock.end * clock.per)}"
    if limit and trials:
        best = 60 * trials / limit / clock.per
        x = np.array([0, min(best, clock.end)])
        style = {"color": ax.xaxis.label.get_color(), "linestyle": (0, (4, 3)), "linewidth": 1.2}
        ax.plot(x, x * limit * clock.per / 60, label=f"limit: {limit:,.4g} per min", **style)
        text += f" ({words.span(best * clock.per)} at the limit)"
    ax.set(ylim=(0, 1.08 * max(trials, len(attempts), 1)), ylabel="trials, attempts")
    drawing.thousands(ax.yaxis)
    clock.label(ax)
    return drawing.finish(ax, text, None if len(attempts) else "no attempts yet")


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
        clock = Clock.of(when, when + 1)
        when, least_s = clock.read(when), 1.0
    else:
        attempts, clock = frames.timed(data, "throttle_rate", "throttled")
        when, throttled = attempts["sent"].to_numpy(), attempts["throttled"].to_numpy(float)
        sent, least_s = np.ones(len(when)), 0.0
    ax = drawing.axes(ax)
    edges = clock.bins(sent.sum(), least_s)
    counts, _ = np.histogram(when, edges, weights=sent)
    share = 100 * np.histogram(when, edges, weights=throttled)[0] / np.where(counts, counts, math.nan)
    behind = ax.twinx()
    behind.stairs(counts, edges, fill=True, color=GREY, alpha=0.25)
    behind.set(ylim=(0, max(1.0, 1.08 * counts.max())))
    behind.set_ylabel(f"attempts per {words.span(edges[1] * clock.per)}", color=GREY)
    behind.tick_params(axis="y", colors=GREY)
    behind.spines[["top", "left"]].set_visible(False)
    behind.grid(False)
    drawing.thousands(behind.yaxis)
    # The line belongs in front of its twin, the background behind both.
    ax.set_zorder(behind.get_zorder() + 1)
    behind.patch.set(visible=True, facecolor=ax.get_facecolor())
    ax.patch.set_visible(False)
    ax.stairs(share, edges, baseline=None, color=WAITED, linewidth=2)
    ax.set(ylim=(0, 105), ylabel="throttled attempts (%)")
    clock.label(ax)
    text = f"{words.share(throttled.sum(), sent.sum())} of {words.count(sent.sum(), 'attempt')} throttled"
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

    attempts, clock = frames.timed(data, "wait_time")
    waits = attempts["wait_s"]
    ax = drawing.axes(ax)
    if len(waits) > MOST_POINTS:
        edges = clock.bins(len(waits))
        bins = waits.groupby(np.clip(np.digitize(attempts["sent"], edges), 1, len(edges) - 1) - 1)
        median, p90 = (bins.quantile(q).reindex(range(len(edges) - 1)).to_numpy() for q in (0.5, 0.9))
        ax.stairs(p90, edges, baseline=median, fill=True, color=WAITED, alpha=0.3, label="up to the 90th percentile")
        ax.stairs(median, edges, baseline=None, color=WAITED, linewidth=2, label="median")
    else:
        ax.scatter(attempts["sent"], waits, s=9, color=WAITED, alpha=0.5, linewidths=0)
    top = 1.05 * max(waits.max(), 1.0) if len(waits) else 1.0
    ax.set(ylim=(-0.02 * top, top), ylabel="wait for the limiter (s)")
    clock.label(ax)
    side = make_axes_locatable(ax).append_axes("right", size="18%", pad=0.08, sharey=ax)
    counts, steps = np.histogram(waits, bins=30, range=(0, top))
    side.stairs(100 * counts / max(1, len(waits)), steps, orientation="horizontal", fill=True, color=WAITED, alpha=0.6)
    side.set(xlabel="share (%)", xlim=(0, None))
    side.locator_params(axis="x", nbins=2, prune="lower")
    side.tick_params(axis="y", left=False, labelleft=False)
    side.spines[["top", "right"]].set_visible(False)
    if not len(waits):
        return drawing.finish(ax, "", "no attempts yet")
    return drawing.finish(
        ax, f"Half waited up to {words.span(waits.median())}, 90 % up to {words.span(float(waits.quantile(0.9)))}"
    )


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

    attempts, clock = frames.timed(data, "timeline", *frames.KEY, "status")
    attempts = attempts.sort_values("sent", kind="stable")
    trial = attempts.groupby(trial_key(attempts.columns), sort=False, dropna=False, observed=True).ngroup().to_numpy()
    trials = len(set(trial))
    shown = np.unique(np.linspace(0, trials - 1, min(trials, MOST_ROWS)).round().astype(int))
    drawn = attempts[np.isin(trial, shown)].assign(row=np.searchsorted(shown, trial[np.isin(trial, shown)]))
    ax = drawing.axes(ax)
    # Gaps between very thin lines would be stripes of the screen, not of the data.
    height = 0.7 if len(shown) < 80 else 1.0
    kinds = [
        ("waits for a slot", GREY, 0.3, "begin", "queued", None),
        ("for the limiter", WAITED, 0.4, "queued", "sent", None),
    ]
    kinds += [(status.replace("_", " "), colour, 1.0, "sent", "done", status) for status, colour in OUTCOMES.items()]
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
    text = f"{words.count(len(attempts), 'attempt')}, {words.share(failed, len(attempts))} failed"
    return drawing.finish(ax, text, None if trials else "no attempts yet")
