"""Frames → matplotlib Axes, one function per question.

Each takes `Results` or one of its frames and draws on `ax` (best of a figure made with `layout="constrained"`), or on
a new pyplot figure. A colour means the same everywhere: green is an answer, orange an answer that could not be read,
red a call that failed, blue the wait for the limiter. They are Okabe and Ito's. Time runs from when the first attempt
began to wait; long breaks between sessions (a rerun, a resumed journal) are cut out, marked by a dotted line and named
below the axis.
"""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from llmlab.errors import InputError
from llmlab.records import ATTEMPT_STATUSES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OUTCOMES = dict(zip(ATTEMPT_STATUSES, ("#009e73", "#e69f00", "#d55e00"), strict=True))
WAIT, GREY = "#0072b2", "#808080"
AGREE = ("#8c3b6b", "#cc79a7", "#e3b3cd", "#f3dbe7", "#d9d9d9")
BY = ("model", "category", "attempt")
MOST_BINS, MOST_POINTS, MOST_ROWS, MOST_BARS = 60, 2_000, 400, 12
BIN_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1_200, 1_800, 3_600, 7_200, 21_600, 43_200, 86_400)
BREAK_S = 60.0
TRIAL = ["unit_id", "model", "run"]
NO_ANSWER = "no answer"
MAYBE_BILLED = ("TimeoutError", "CancelledError")


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
        clock = _Clock.of(when, when + 1)
        when, least_s = clock.read(when), 1.0
    else:
        attempts, clock = _timed(data, "throttle_rate", "throttled")
        when, throttled = attempts["sent"].to_numpy(), attempts["throttled"].to_numpy(float)
        sent, least_s = np.ones(len(when)), 0.0
    ax = _axes(ax)
    edges = clock.bins(sent.sum(), least_s)
    counts, _ = np.histogram(when, edges, weights=sent)
    share = 100 * np.histogram(when, edges, weights=throttled)[0] / np.where(counts, counts, math.nan)
    behind = ax.twinx()
    behind.stairs(counts, edges, fill=True, color=GREY, alpha=0.25)
    behind.set(ylim=(0, max(1.0, 1.08 * counts.max())))
    behind.set_ylabel(f"attempts per {_span(edges[1] * clock.per)}", color=GREY)
    behind.tick_params(axis="y", colors=GREY)
    behind.spines[["top", "left"]].set_visible(False)
    behind.grid(False)
    _thousands(behind.yaxis)
    # The line belongs in front of its twin, the background behind both.
    ax.set_zorder(behind.get_zorder() + 1)
    behind.patch.set(visible=True, facecolor=ax.get_facecolor())
    ax.patch.set_visible(False)
    ax.stairs(share, edges, baseline=None, color=WAIT, linewidth=2)
    ax.set(ylim=(0, 105), ylabel="throttled attempts (%)")
    clock.label(ax)
    text = f"{_share(throttled.sum(), sent.sum())} of {_count(sent.sum(), 'attempt')} throttled"
    return _finish(ax, text, None if len(when) else "no attempts yet")


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

    attempts, clock = _timed(data, "wait_time")
    waits = attempts["wait_s"]
    ax = _axes(ax)
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
        return _finish(ax, "", "no attempts yet")
    return _finish(ax, f"Half waited up to {_span(waits.median())}, 90 % up to {_span(float(waits.quantile(0.9)))}")


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
    attempts = _frame(data, "token_costs", "attempts", *TRIAL, "attempt", "status", "cost_usd", "total_tokens")
    group, names = _groups(data, attempts, by)
    tokens, usd = (attempts[name].to_numpy(float, na_value=math.nan) for name in ("total_tokens", "cost_usd"))
    in_usd = not len(usd) or not np.isnan(usd).all()
    amount = usd if in_usd else tokens
    gaps, uncertain = _gaps(attempts, tokens, amount)
    bars = pd.Series(amount).groupby([attempts["status"].to_numpy(), group]).sum(min_count=1).unstack(0)
    bars = bars.reindex(index=range(len(names)), columns=list(ATTEMPT_STATUSES)).astype(float)
    ax = _axes(ax, len(names))
    left, known_any = np.zeros(len(names)), np.asarray(bars.notna().any(axis=1))
    for status, colour in OUTCOMES.items():
        widths = bars[status]
        known = widths.dropna()
        if len(known):
            ax.barh(known.index, known, 0.7, left[known.index], color=colour, label=_word(status))
        left += widths.fillna(0).to_numpy()
    unsure = set(group[uncertain])
    for at, total in enumerate(left):
        text = ("≥ " if at in unsure else "") + (_usd(total) if in_usd else f"{total:,.0f}")
        text = text if known_any[at] else "unknown"
        ax.annotate(text, (total, at), (4, 0), textcoords="offset points", va="center", fontsize="small")
    _name_bars(ax, names, by)
    ax.set(xlim=(0, 1.3 * left.max() if left.any() else 1))
    ax.set_xlabel("\n".join([r"cost (US\$)" if in_usd else "tokens (no price is known)", *gaps]))
    if in_usd:
        ax.locator_params(axis="x", nbins=5)
        ax.ticklabel_format(axis="x", style="plain", useOffset=False)
    else:
        _thousands(ax.xaxis)
    lost = (attempts["attempt"] > 1 if by == "attempt" else attempts["status"] != "ok").to_numpy(bool)
    part, whole = np.nansum(amount[lost]), np.nansum(amount)
    text = ("≥ " if uncertain.any() else "") + (_usd(whole) if in_usd else f"{whole:,.0f} tokens")
    text += f", {_share(part, whole)} of it for {'retries' if by == 'attempt' else 'attempts that failed'}"
    nothing = "no usage reported" if len(attempts) else "no attempts yet"
    return _finish(ax, text, None if known_any.any() else nothing)


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

    attempts, clock = _timed(data, "timeline", *TRIAL, "status")
    attempts = attempts.sort_values("sent", kind="stable")
    trial = attempts.groupby(TRIAL, sort=False, dropna=False, observed=True).ngroup().to_numpy()
    trials = len(set(trial))
    shown = np.unique(np.linspace(0, trials - 1, min(trials, MOST_ROWS)).round().astype(int))
    drawn = attempts[np.isin(trial, shown)].assign(row=np.searchsorted(shown, trial[np.isin(trial, shown)]))
    ax = _axes(ax)
    # Gaps between very thin lines would be stripes of the screen, not of the data.
    height = 0.7 if len(shown) < 80 else 1.0
    kinds = [
        ("waits for a slot", GREY, 0.3, "begin", "queued", None),
        ("for the limiter", WAIT, 0.4, "queued", "sent", None),
    ]
    kinds += [(_word(status), colour, 1.0, "sent", "done", status) for status, colour in OUTCOMES.items()]
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
    text = f"{_count(len(attempts), 'attempt')}, {_share(failed, len(attempts))} failed"
    return _finish(ax, text, None if trials else "no attempts yet")


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
    attempts, clock = _timed(data, "progress_over_time", *TRIAL, "status")
    predictions = getattr(data, "predictions", None)
    trials = len(attempts[TRIAL].drop_duplicates()) if predictions is None else len(predictions)
    ok = attempts[attempts["status"] == "ok"].sort_values("done").drop_duplicates(TRIAL)["done"]
    ax = _axes(ax)
    lines = ((attempts["sent"].sort_values(), GREY, 1.2, "attempts sent"), (ok, OUTCOMES["ok"], 2.2, "trials answered"))
    for times, colour, width, label in lines if len(attempts) else ():
        every = max(1, len(times) // MOST_POINTS)
        x = [0.0, *times.to_numpy()[::-every][::-1], clock.end]
        count = [0, *np.arange(1, len(times) + 1)[::-every][::-1], len(times)]
        ax.step(x, count, where="post", color=colour, linewidth=width, label=label)
    text = f"{len(ok):,} of {_count(trials, 'trial')} answered in {_span(clock.end * clock.per)}"
    if limit and trials:
        best = 60 * trials / limit / clock.per
        x = np.array([0, min(best, clock.end)])
        style = {"color": ax.xaxis.label.get_color(), "linestyle": (0, (4, 3)), "linewidth": 1.2}
        ax.plot(x, x * limit * clock.per / 60, label=f"limit: {limit:,.4g} per min", **style)
        text += f" ({_span(best * clock.per)} at the limit)"
    ax.set(ylim=(0, 1.08 * max(trials, len(attempts), 1)), ylabel="trials, attempts")
    _thousands(ax.yaxis)
    clock.label(ax)
    return _finish(ax, text, None if len(attempts) else "no attempts yet")


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
    predictions = _frame(data, "agreement", "predictions", *TRIAL, "prediction", "status")
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
    ax = _axes(ax, len(models))
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
    _name_bars(ax, models, "model")
    for y, size in enumerate(sizes):
        if not size and len(units):
            ax.text(1, y, "no unit with two answered runs", va="center", fontsize="small", color=GREY)
    skipped = len(predictions[["model", "unit_id"]].drop_duplicates()) - len(units)
    gaps = f"\nnot counted: {skipped:,} without two answered runs" if skipped else ""
    ax.set(xlim=(0, 100), xlabel=f"units (%) by share of runs with the majority answer{gaps}")
    text = f"All runs agree on {_share((share == 1).sum(), len(units))} of the units"
    text += ", over all models" if len(models) > 1 else ""
    nothing = "agreement needs two answered runs of a unit" if len(predictions) else "no predictions yet"
    return _finish(ax, text, None if len(units) else nothing)


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


@dataclass(frozen=True)
class _Clock:
    """Time since the start, without long breaks, in the unit of the axis."""

    shift: np.ndarray
    span_s: float
    breaks: np.ndarray
    idle_s: float

    @classmethod
    def of(cls, begin: np.ndarray, until: np.ndarray) -> _Clock:
        """From when and until when each row was busy, in epoch seconds."""
        if not len(begin):
            return cls(begin, 1.0, begin, 0.0)
        order = np.argsort(begin, kind="stable")
        first, last = begin[order], np.maximum.accumulate(until[order])
        gap = np.append(0.0, first[1:] - last[:-1])
        active = last[-1] - first[0] - gap[gap > BREAK_S].sum()
        long = gap > max(BREAK_S, active / 10)
        shift = np.empty(len(begin))
        shift[order] = first[0] + np.cumsum(np.where(long, gap - active / 50, 0.0))
        breaks = (first - shift[order])[long] - active / 100
        return cls(shift, max((until - shift).max(), 0.1), breaks, gap[long].sum())

    @property
    def per(self) -> float:
        return 1.0 if self.span_s < 180 else 60.0 if self.span_s < 10_800 else 3600.0

    @property
    def end(self) -> float:
        return self.span_s / self.per

    def read(self, epoch_s: np.ndarray) -> np.ndarray:
        return (epoch_s - self.shift) / self.per

    def bins(self, rows: float, least_s: float = 0.0) -> np.ndarray:
        """Edges over the run: round widths, at most `MOST_BINS`, and some five rows in each."""
        wanted = max(least_s, self.span_s / max(1.0, min(MOST_BINS, rows / 5)))
        width = next((width for width in BIN_S if width >= wanted), 86_400 * math.ceil(wanted / 86_400))
        return np.arange(math.ceil(self.span_s / width) + 1) * width / self.per

    def label(self, ax: Axes) -> None:
        for at in self.breaks / self.per:
            ax.axvline(at, color=GREY, linestyle=":", linewidth=1)
        unit = {1.0: "s", 60.0: "min", 3600.0: "h"}[self.per]
        cut = f"\nwithout {_count(len(self.breaks), 'break')} of {_span(self.idle_s)}" if len(self.breaks) else ""
        ax.set(xlim=(0, self.end), xlabel=f"time since the start ({unit}){cut}")


def _timed(data: Any, chart: str, *columns: str) -> tuple[pd.DataFrame, _Clock]:
    """The attempts that were sent, with begin, queued, sent and done on the clock."""
    columns = ("started_at", "queue_s", "wait_s", "latency_s", *columns)
    frame = _frame(data, chart, "attempts", *columns)
    frame = frame[frame["started_at"].notna()].reset_index(drop=True)
    at = pd.to_datetime(frame["started_at"], utc=True) - pd.Timestamp(0, tz="UTC")
    sent = at.dt.total_seconds().to_numpy(float)
    queue, wait, latency, retry = (
        frame[name].fillna(0).to_numpy(float) if name in frame else 0.0
        for name in ("queue_s", "wait_s", "latency_s", "retry_in_s")
    )
    clock = _Clock.of(sent - wait - queue, sent + latency + retry)
    times = {"begin": sent - wait - queue, "queued": sent - wait, "sent": sent, "done": sent + latency}
    timed = frame[list(columns)].assign(**{name: clock.read(time) for name, time in times.items()}, wait_s=wait)
    return timed, clock


def _frame(data: Any, chart: str, name: str, *columns: str) -> pd.DataFrame:
    """The frame itself, or that of the results."""
    frame = data if isinstance(data, pd.DataFrame) else getattr(data, name, None)
    also = " or a RateLimiter" if chart == "throttle_rate" else ""
    takes = f"{chart} takes Results or their frame `{name}`{also}"
    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"{takes}, not {type(data).__name__}.")
    missing = [column for column in columns if column not in frame]
    if missing:
        raise InputError(f"{takes}; this frame has no {', '.join(missing)}.")
    return frame


def _axes(ax: Any, bars: int = 0) -> Axes:
    """The given Axes, or those of a new pyplot figure, which a notebook shows at the end of the cell."""
    if ax is None:
        import matplotlib.pyplot as plt

        ax = plt.subplots(figsize=(8, max(3.8, 1.4 + 0.3 * bars)), layout="constrained")[1]
    elif not hasattr(ax, "add_collection"):
        raise InputError(f"ax takes one matplotlib Axes, not {type(ax).__name__}.")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _groups(data: Any, attempts: pd.DataFrame, by: str) -> tuple[np.ndarray, list[str]]:
    """Per attempt the number of its bar, and the bars' names; of too many, the rare ones share a bar."""
    order: list[str] = []
    if by == "category":
        if isinstance(data, pd.DataFrame):
            raise InputError("by='category' takes Results: attempts alone know no category. Or by='model', 'attempt'.")
        predictions = _frame(data, "token_costs", "predictions", *TRIAL, "prediction", "status")
        answers = predictions["prediction"]
        order = [str(one) for one in answers.cat.categories] if isinstance(answers.dtype, pd.CategoricalDtype) else []
        texts = [*answers.astype(object).map(str).where(predictions["status"] == "ok", NO_ANSWER), NO_ANSWER]
        trials, asked = (pd.MultiIndex.from_frame(frame[TRIAL]) for frame in (predictions, attempts))
        key = pd.Series(np.array(texts, object)[trials.get_indexer(asked)], dtype=object)
    elif by == "attempt":
        key = attempts[by].clip(upper=MOST_BARS)
        order = [str(number) for number in range(1, MOST_BARS)]
        key = key.astype(str).mask(attempts[by] > MOST_BARS, f"{MOST_BARS} or later")
    else:
        key = attempts[by].astype(object).map(str)
    sizes = key.value_counts()
    others = f"{len(sizes) - MOST_BARS + 1:,} others"
    if len(sizes) > MOST_BARS:
        key = key.where(key.isin(sizes.index[: MOST_BARS - 1]), others)
    found = set(key)
    names = [name for name in dict.fromkeys([*order, *key]) if name in found]
    names.sort(key=lambda name: (name in (others, NO_ANSWER), name == NO_ANSWER))
    return pd.Index(names, dtype=object).get_indexer(pd.Index(key, dtype=object)), names


def _gaps(attempts: pd.DataFrame, tokens: np.ndarray, amount: np.ndarray) -> tuple[list[str], np.ndarray]:
    """What the bars lack, in lines below the axis, and which attempts may have cost something all the same."""
    missing = np.isnan(amount)
    unpriced = missing & ~np.isnan(tokens)
    called = (attempts["status"] == "call_error").to_numpy()
    # A failed call is seldom billed; one that was given up may be.
    free = called & ~attempts["error_type"].isin(MAYBE_BILLED).to_numpy() if "error_type" in attempts else called
    silent = missing & ~unpriced
    parts = []
    if unpriced.any():
        models = ", ".join(_short(name) for name in attempts["model"][unpriced].drop_duplicates()[:4])
        parts.append(f"{_count(unpriced.sum(), 'attempt')} of unknown price ({models})")
    kinds = [
        _count(which.sum(), word) for which, word in ((silent & ~called, "answer"), (silent & called, "failed call"))
    ]
    kinds = [kind for kind in kinds if not kind.startswith("0 ")]
    if kinds:
        parts.append(f"{' and '.join(kinds)} without usage")
    return textwrap.wrap(f"not included: {'; '.join(parts)}", 62) if parts else [], np.asarray(
        missing & ~(silent & free)
    )


def _name_bars(ax: Axes, names: list[str], label: str) -> None:
    ax.set_yticks(range(len(names)), [_short(name) for name in names])
    ax.set(ylim=(max(len(names), 2) - 0.4, -0.6), ylabel=label)


def _finish(ax: Axes, text: str, nothing: str | None = None) -> Axes:
    """Add the title and, between it and the data, the legend; or say that there is nothing to see."""
    if nothing:
        ax.text(0.5, 0.5, nothing, transform=ax.transAxes, ha="center", va="center", color=GREY)
        return ax
    many = bool(ax.get_legend_handles_labels()[0])
    ax.set_title(text, loc="left", fontsize="medium", pad=22 if many else 8)
    if many:
        place = {"loc": "lower left", "bbox_to_anchor": (0, 1), "borderaxespad": 0.2, "ncols": 5}
        legend = ax.legend(
            **place, frameon=False, fontsize="small", handlelength=1.2, columnspacing=1.2, handletextpad=0.5
        )
        # The title keeps its room; a wide legend shall not narrow the Axes.
        legend.set_in_layout(False)
    return ax


def _thousands(axis: Any) -> None:
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _share(part: float, whole: float) -> str:
    percent = 100 * part / whole if whole else 0.0
    return f"{percent:.0f} %" if percent in (0, 100) or 1 <= percent <= 99 else f"{percent:.1f} %"


def _count(number: float, word: str) -> str:
    return f"{number:,.0f} {word}" + ("" if number == 1 else "s")


def _usd(usd: float) -> str:
    """Three digits; the dollar sign is kept from starting mathematics."""
    digits = 2 if usd >= 1 or usd <= 0 else min(10, 2 - math.floor(math.log10(usd)))
    return rf"\${usd:,.{digits}f}"


def _span(seconds: float) -> str:
    """A duration in words; 10 ms is the finest."""
    if seconds < 1:
        return f"{max(seconds, 0.01):.2g} s"
    size, unit = (
        (3600, "h") if seconds >= 10_800 else (60, "min") if seconds >= 180 or seconds in BIN_S[9:11] else (1, "s")
    )
    return f"{seconds / size:.3g} {unit}"


def _word(status: str) -> str:
    return status.replace("_", " ")


def _short(name: object) -> str:
    """A name for an axis: one line, no mathematics."""
    text = " ".join(str(name).split())
    return (text if len(text) <= 26 else f"{text[:15]}…{text[-10:]}").replace("$", r"\$")
