"""Charts of the requests: how far the experiment has come, what requests waited for, when each was sent."""

from __future__ import annotations

import math
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from llmlab.display import axes as drawing
from llmlab.display import frames, words
from llmlab.display.chart import Chart, canvas
from llmlab.display.clock import Clock
from llmlab.display.palette import ANSWERED, GREY, OUTCOMES, WAITED
from llmlab.errors import InputError
from llmlab.records import trial_key

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_POINTS, MOST_ROWS = 2_000, 400
# Below this a wait is the loop's own, and nobody's limit.
NO_WAIT_S = 0.02
OUTCOME_WORDS = {"ok": "answered", "parse_error": "answer unreadable", "call_error": "no answer"}


def progress_over_time(data: Any, limit: float | None = None, *, ax: Axes | None = None) -> Chart:
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
    Chart
        Answered trials (green), requests sent (grey) and the limit (dashed) over time.
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
    with canvas(ax) as (chart, plot):
        lines = ((attempts["sent"].sort_values(), GREY, 1.2, "requests sent"), (ok, ANSWERED, 2.2, "trials answered"))
        for times, colour, width, label in lines if len(attempts) else ():
            every = max(1, len(times) // MOST_POINTS)
            x = [0.0, *times.to_numpy()[::-every][::-1], clock.end]
            count = [0, *np.arange(1, len(times) + 1)[::-every][::-1], len(times)]
            plot.step(x, count, where="post", color=colour, linewidth=width, label=label)
        text = f"{len(ok):,} of {words.count(trials, 'trial')} answered in {words.span(clock.end * clock.per)}"
        if limit and trials:
            best = 60 * trials / limit / clock.per
            x = np.array([0, min(best, clock.end)])
            style = {"color": plot.xaxis.label.get_color(), "linestyle": (0, (4, 3)), "linewidth": 1.2}
            plot.plot(x, x * limit * clock.per / 60, label=f"limit: {limit:,.4g} a minute", **style)
            text += f"; the limit alone would take {words.span(best * clock.per)}"
        plot.set(ylim=(0, 1.08 * max(trials, len(attempts), 1)), ylabel="trials, requests")
        drawing.thousands(plot.yaxis)
        clock.label(plot)
        drawing.finish(chart, plot, text, "" if len(attempts) else "no attempts yet")
    return chart


def throttle_rate(data: Any, *, ax: Axes | None = None) -> Chart:
    """Draw how many requests were sent over time, and how many of them had waited for the limit.

    Parameters
    ----------
    data : Results, DataFrame or RateLimiter
        Results, their attempts, or anything with `history()` → (epoch s, granted, throttled, waited s) per second.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Chart
        Requests per bin of time: those that waited for the limit (blue), and those that went at once (grey).
    """
    if callable(getattr(data, "history", None)):
        when, sent, waited, _ = np.asarray(list(data.history()), dtype=float).reshape(-1, 4).T
        clock = Clock.of(when, when + 1)
        when, least_s = clock.read(when), 1.0
    else:
        attempts, clock = frames.timed(data, "throttle_rate", "throttled")
        when, waited = attempts["sent"].to_numpy(), attempts["throttled"].to_numpy(float)
        sent, least_s = np.ones(len(when)), 0.0
    with canvas(ax) as (chart, plot):
        edges = clock.bins(sent.sum(), least_s)
        counts, _ = np.histogram(when, edges, weights=sent)
        held, _ = np.histogram(when, edges, weights=waited)
        plot.stairs(held, edges, fill=True, color=WAITED, label="waited for the limit")
        plot.stairs(counts, edges, baseline=held, fill=True, color=GREY, alpha=0.5, label="went at once")
        plot.set(ylim=(0, max(1.0, 1.08 * counts.max())), ylabel=f"requests per {words.span(edges[1] * clock.per)}")
        drawing.thousands(plot.yaxis)
        clock.label(plot)
        share = words.share(waited.sum(), sent.sum())
        text = f"{share} of {words.count(sent.sum(), 'request')} waited for the limit"
        if waited.sum() > sent.sum() / 2:
            text += ": normal, more were ready than may leave"
        drawing.finish(chart, plot, text, "" if len(when) else "no attempts yet")
    return chart


def wait_time(data: Any, *, ax: Axes | None = None) -> Chart:
    """Draw how long requests waited for the limit, over time.

    Parameters
    ----------
    data : Results or DataFrame
        Results, or their attempts.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Chart
        Seconds over time: a point per request, or median and 90th percentile per bin when there are many.
    """
    attempts, clock = frames.timed(data, "wait_time")
    waits = attempts["wait_s"]
    with canvas(ax) as (chart, plot):
        if len(waits) > MOST_POINTS:
            edges = clock.bins(len(waits))
            bins = waits.groupby(np.clip(np.digitize(attempts["sent"], edges), 1, len(edges) - 1) - 1)
            median, p90 = (bins.quantile(q).reindex(range(len(edges) - 1)).to_numpy() for q in (0.5, 0.9))
            plot.stairs(
                p90, edges, baseline=median, fill=True, color=WAITED, alpha=0.3, label="up to the 90th percentile"
            )
            plot.stairs(median, edges, baseline=None, color=WAITED, linewidth=2, label="median")
        else:
            plot.scatter(attempts["sent"], waits, s=9, color=WAITED, alpha=0.5, linewidths=0)
        top = 1.05 * max(waits.max(), NO_WAIT_S) if len(waits) else 1.0
        plot.set(ylim=(-0.02 * top, top), ylabel="wait for the limit (s)")
        clock.label(plot)
        text = ""
        if len(waits) and waits.quantile(0.9) < NO_WAIT_S:
            text = "Requests did not wait for the limit"
        elif len(waits):
            half, most = waits.median(), float(waits.quantile(0.9))
            text = f"Half the requests waited up to {words.span(half)} for the limit, 90 % up to {words.span(most)}"
        drawing.finish(chart, plot, text, "" if len(waits) else "no attempts yet")
    return chart


def timeline(data: Any, *, ax: Axes | None = None) -> Chart:
    """Draw each attempt as a horizontal bar: what it waited for, and the call coloured by its outcome.

    Parameters
    ----------
    data : Results or DataFrame
        Results, or their attempts.
    ax : Axes, optional
        Where to draw.

    Returns
    -------
    Chart
        One line per trial in the order of sending, all its attempts in it. Of many trials it shows an even sample.
    """
    attempts, clock = frames.timed(data, "timeline", *frames.KEY, "status")
    attempts = attempts.sort_values("sent", kind="stable")
    trial = attempts.groupby(trial_key(attempts.columns), sort=False, dropna=False, observed=True).ngroup().to_numpy()
    trials = len(set(trial))
    shown = np.unique(np.linspace(0, trials - 1, min(trials, MOST_ROWS)).round().astype(int))
    drawn = attempts[np.isin(trial, shown)].assign(row=np.searchsorted(shown, trial[np.isin(trial, shown)]))
    with canvas(ax) as (chart, plot):
        # Gaps between very thin lines would be stripes of the screen, not of the data.
        height = 0.7 if len(shown) < 80 else 1.0
        kinds = [
            ("waits for a free slot", GREY, 0.3, "begin", "queued", ""),
            ("waits for the limit", WAITED, 0.4, "queued", "sent", ""),
        ]
        kinds += [(OUTCOME_WORDS[status], colour, 1.0, "sent", "done", status) for status, colour in OUTCOMES.items()]
        for label, colour, alpha, start, end, status in kinds:
            rows = drawn[(drawn[end] > drawn[start]) & (not status or drawn["status"] == status)]
            if len(rows):
                _add_bars(plot, rows, start, end, height, label=label, color=colour, alpha=alpha, edge=bool(status))
        plot.set(ylim=(max(len(shown), 5) - 0.4, -0.6), yticks=[])
        plot.set_ylabel("trials" if len(shown) == trials else f"trials ({len(shown)} of {trials:,} shown)")
        clock.label(plot)
        failed = (attempts["status"] != "ok").sum()
        text = f"{words.count(len(attempts), 'attempt')}, {words.share(failed, len(attempts))} without a usable answer"
        drawing.finish(chart, plot, text, "" if trials else "no attempts yet")
    return chart


def _add_bars(
    ax: Axes, rows: Any, start: str, end: str, height: float, *, label: str, color: str, alpha: float, edge: bool
) -> None:
    from matplotlib.collections import PolyCollection

    x0, x1, y0, y1 = rows[start], rows[end], rows["row"] - height / 2, rows["row"] + height / 2
    corners = np.stack([x0, y0, x0, y1, x1, y1, x1, y0], axis=1).reshape(-1, 4, 2)
    many = len(rows) > MOST_ROWS // 2
    # An edge keeps a short call visible in a long run.
    style = {"facecolor": color, "edgecolor": color, "alpha": alpha, "linewidth": 1.0 if edge else 0}
    ax.add_collection(PolyCollection(list(corners), label=label, rasterized=many, **style), autolim=False)
