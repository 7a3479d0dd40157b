"""Frames → matplotlib Axes, one function per question.

Each takes `Results` or one of its frames and draws on `ax`, or on a new pyplot figure. A colour means the same
everywhere: green is an answer, orange an answer that could not be read, red a call that failed, blue the wait for the
limiter. They are Okabe and Ito's. Time runs from when the first attempt began to wait; long breaks between sessions
(a rerun, a resumed journal) are cut out, marked by a dotted line and named below the axis.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from llmlab.errors import InputError
from llmlab.records import ATTEMPT_STATUSES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["agreement", "overview", "progress_over_time", "throttle_rate", "timeline", "token_costs", "wait_time"]

OUTCOMES = {"ok": "#009e73", "parse_error": "#e69f00", "call_error": "#d55e00"}
WAIT, GREY = "#0072b2", "#808080"
AGREE = ("#8c3b6b", "#cc79a7", "#e3b3cd", "#f3dbe7", "#d9d9d9")
BY = ("model", "category", "attempt")
MOST_BINS, MOST_POINTS, MOST_ROWS, MOST_BARS = 60, 2_000, 400, 12
BIN_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1_200, 1_800, 3_600, 7_200, 21_600, 43_200, 86_400)
BREAK_S = 60.0
TRIAL = ["unit_id", "model", "run"]


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
        rows = np.asarray(list(data.history()), dtype=float).reshape(-1, 4)
        when, sent, throttled = rows[:, 0], rows[:, 1], rows[:, 2]
        clock = _Clock.of(when, when + 1)
        when = when - clock.shift
    else:
        attempts, clock = _timed(data, "throttle_rate", ("throttled",))
        when, throttled = attempts["sent"].to_numpy(), attempts["throttled"].to_numpy(float)
        sent = np.ones(len(when))
    ax = _axes(ax)
    edges = _bins(clock.span_s, sent.sum())
    counts, _ = np.histogram(when, edges, weights=sent)
    share = 100 * np.histogram(when, edges, weights=throttled)[0] / np.where(counts, counts, math.nan)
    behind = ax.twinx()
    behind.stairs(counts, edges / clock.per, fill=True, color=GREY, alpha=0.25)
    behind.set_ylim(0, max(1.0, 1.08 * counts.max()))
    behind.set_ylabel(f"attempts per {_span(edges[1])}", color=GREY)
    behind.tick_params(axis="y", colors=GREY)
    behind.spines[["top", "left"]].set_visible(False)
    _whole(behind.yaxis)
    # The twin would cover the line; the main Axes must not cover the twin.
    ax.set_zorder(behind.get_zorder() + 1)
    ax.patch.set_visible(False)
    ax.stairs(share, edges / clock.per, baseline=None, color=WAIT, linewidth=2)
    ax.set_ylim(0, 105)
    ax.set_ylabel("throttled attempts (%)", color=WAIT)
    clock.label(ax)
    if not len(when):
        return _nothing(ax, "no attempts yet")
    return _title(ax, f"{_share(throttled.sum(), sent.sum())} of {_count(sent.sum(), 'attempt')} throttled")


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

    attempts, clock = _timed(data, "wait_time", ())
    ax = _axes(ax)
    x, waits = attempts["sent"] / clock.per, attempts["wait_s"]
    if len(waits) > MOST_POINTS:
        edges = _bins(clock.span_s, len(waits))
        bins = waits.groupby(np.digitize(attempts["sent"], edges) - 1)
        median, p90 = (bins.quantile(q).reindex(range(len(edges) - 1)).to_numpy() for q in (0.5, 0.9))
        ax.stairs(p90, edges / clock.per, baseline=median, fill=True, color=WAIT, alpha=0.3, label="to 90th percentile")
        ax.stairs(median, edges / clock.per, baseline=None, color=WAIT, linewidth=2, label="median")
        _legend(ax)
    else:
        ax.scatter(x, waits, s=9, color=WAIT, alpha=0.5, linewidths=0)
    top = 1.05 * max(waits.max(), 0.01) if len(waits) else 1.0
    ax.set_ylim(0, top)
    ax.set_ylabel("wait for the limiter (s)")
    clock.label(ax)
    side = make_axes_locatable(ax).append_axes("right", size="18%", pad=0.08, sharey=ax)
    counts, edges = np.histogram(waits, bins=30, range=(0, top))
    side.stairs(100 * counts / max(1, len(waits)), edges, orientation="horizontal", fill=True, color=WAIT, alpha=0.6)
    side.set_xlabel("share (%)")
    side.set_xlim(left=0)
    side.xaxis.get_major_locator().set_params(nbins=2, integer=True)
    side.tick_params(axis="y", left=False, labelleft=False)
    side.spines[["top", "right"]].set_visible(False)
    if not len(waits):
        return _nothing(ax, "no attempts yet")
    return _title(ax, f"Half waited at most {_span(waits.median())}, 90 % at most {_span(waits.quantile(0.9))}")


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
        Horizontal stacked bars in US$, or in tokens if no cost at all is known. What is unknown is named, not drawn.
    """
    if by not in BY:
        raise InputError(f"by={by!r}: choose one of {', '.join(map(repr, BY))}.")
    attempts = _frame(data, "token_costs", "attempts", (*TRIAL, "attempt", "status", "cost_usd", "total_tokens"))
    group, names = _groups(data, attempts, by)
    ax = _axes(ax)
    tokens, usd = (attempts[name].to_numpy(float, na_value=math.nan) for name in ("total_tokens", "cost_usd"))
    money = not len(usd) or not np.isnan(usd).all()
    amount = usd if money else tokens
    sums = np.full((len(ATTEMPT_STATUSES), len(names)), math.nan)
    for row, status in zip(sums, ATTEMPT_STATUSES, strict=True):
        here = (attempts["status"] == status).to_numpy() & ~np.isnan(amount)
        known = np.bincount(group[here], minlength=len(names)) > 0
        row[known] = np.bincount(group[here], amount[here], minlength=len(names))[known]
    # A call that failed is seldom billed, one that timed out or was cancelled may be.
    silent = (attempts["status"] == "call_error").to_numpy() & np.isnan(amount)
    if "error_type" in attempts:
        silent &= ~attempts["error_type"].isin(["TimeoutError", "CancelledError"]).to_numpy()
    unknown = np.isnan(amount) & ~silent
    open_end = np.bincount(group[unknown], minlength=len(names)) > 0
    sums, open_end, names = _largest(sums, open_end, names)

    left = np.zeros(len(names))
    for row, status in zip(sums, ATTEMPT_STATUSES, strict=True):
        known = ~np.isnan(row)
        if known.any():
            at = np.flatnonzero(known)
            ax.barh(at, row[known], 0.7, left[known], color=OUTCOMES[status], label=_word(status))
        left += np.where(known, row, 0.0)
    unpriced = np.isnan(sums).all(axis=0)
    for at, total in enumerate(left):
        text = (
            "unknown" if unpriced[at] else ("≥ " if open_end[at] else "") + (_usd(total) if money else f"{total:,.0f}")
        )
        ax.annotate(text, (total, at), (4, 0), textcoords="offset points", va="center", fontsize="small")
    ax.set_yticks(range(len(names)), [_short(name) for name in names])
    ax.set_ylim(max(len(names), 2) - 0.4, -0.6)
    ax.set_ylabel(by)
    ax.set_xlim(0, 1.25 * left.max() if left.any() else 1)
    ax.xaxis.get_major_locator().set_params(nbins=5)
    ax.set_xlabel("\n".join([r"cost (US\$)" if money else "tokens", *_gaps(attempts, tokens, unknown, silent, money)]))
    if ax.containers:
        _legend(ax)
    if not len(attempts):
        return _nothing(ax, "no attempts yet")
    total, failed = left.sum(), np.nansum(sums[1:])
    if not total:
        return ax if money else _nothing(ax, "no usage reported")
    amount_text = _usd(total) if money else f"{total:,.0f} tokens, no price known"
    return _title(ax, f"{amount_text}, {_share(failed, total)} of it for attempts that failed")


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

    attempts, clock = _timed(data, "timeline", (*TRIAL, "attempt", "status"))
    ax = _axes(ax)
    attempts = attempts.sort_values("sent", kind="stable")
    trial = attempts.groupby(TRIAL, sort=False, dropna=False, observed=True).ngroup().to_numpy()
    trials = int(trial.max()) + 1 if len(trial) else 0
    shown = np.unique(np.linspace(0, trials - 1, min(trials, MOST_ROWS)).round().astype(int))
    attempts = attempts[np.isin(trial, shown)]
    row = np.searchsorted(shown, trial[np.isin(trial, shown)])

    def bars(start: pd.Series, end: pd.Series, which: Any, colour: str, height: float, label: str) -> None:
        which = np.asarray(which) & (end > start).to_numpy()
        if which.any():
            x0, x1, y = start.to_numpy()[which] / clock.per, end.to_numpy()[which] / clock.per, row[which]
            low, high = y - height / 2, y + height / 2
            corners = np.stack([x0, low, x0, high, x1, high, x1, low], axis=1).reshape(-1, 4, 2)
            # An edge keeps a short call visible in a long run.
            edge = 0.0 if label.startswith("waits") else 0.5
            ax.add_collection(PolyCollection(list(corners), facecolors=colour, edgecolors=colour, linewidths=edge,
                                             rasterized=len(corners) > MOST_ROWS, label=label), autolim=False)  # fmt: skip

    everyone = np.ones(len(attempts), bool)
    bars(attempts["begin"], attempts["queued"], everyone, "#d0d0d0", 0.5, "waits for a slot")
    bars(attempts["queued"], attempts["sent"], everyone, "#99c7e0", 0.5, "waits for the limiter")
    for status, colour in OUTCOMES.items():
        bars(attempts["sent"], attempts["done"], attempts["status"] == status, colour, 0.9, _word(status))
    ax.set_ylim(max(len(shown), 5) - 0.4, -0.6)
    ax.set_ylabel("trials, in order of sending" if len(shown) == trials else f"{len(shown)} of {trials:,} trials")
    ax.set_yticks([])
    clock.label(ax)
    if not trials:
        return _nothing(ax, "no attempts yet")
    return _legend(ax, columns=5)


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
    elif isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 < limit < math.inf:
        raise InputError(f"limit={limit!r}: requests per minute, a number more than 0, or None for what results know.")
    attempts, clock = _timed(data, "progress_over_time", (*TRIAL, "attempt", "status"))
    predictions = getattr(data, "predictions", None)
    trials = len(attempts[TRIAL].drop_duplicates()) if predictions is None else len(predictions)
    ax = _axes(ax)
    ok = attempts[attempts["status"] == "ok"].sort_values("done").drop_duplicates(TRIAL)["done"].to_numpy()
    _steps(ax, attempts["sent"].sort_values().to_numpy(), clock, color=GREY, linewidth=1.2, label="attempts sent")
    _steps(ax, ok, clock, color=OUTCOMES["ok"], linewidth=2.2, label="trials answered")
    at_best = math.inf
    if limit and trials:
        at_best = 60 * trials / limit
        x = np.array([0.0, min(at_best, clock.span_s)])
        label = f"the limit, {limit:,.4g} per minute"
        ax.plot(x / clock.per, x * limit / 60, color=ax.xaxis.label.get_color(), linestyle=(0, (4, 3)),
                linewidth=1.2, label=label)  # fmt: skip
    ax.set_ylim(0, 1.08 * max(trials, len(attempts), 1))
    ax.set_ylabel("count")
    _whole(ax.yaxis)
    clock.label(ax)
    if not len(attempts):
        return _nothing(ax, "no attempts yet")
    _legend(ax)
    took = f" in {_span(clock.span_s)}"
    best = f"; {_span(at_best)} is the limit's best" if at_best < math.inf else ""
    return _title(ax, f"{len(ok):,} of {_count(trials, 'trial')} answered{took}{best}")


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
    predictions = _frame(data, "agreement", "predictions", (*TRIAL, "prediction", "status"))
    ax = _axes(ax)
    ok = predictions[predictions["status"] == "ok"]
    # Answers may be unhashable: what they print decides whether they are the same.
    counted = ok[TRIAL[:2]].assign(answer=ok["prediction"].astype(object).map(repr).to_numpy())
    votes = counted.groupby(["model", "unit_id", "answer"], sort=False, observed=True).size()
    units = votes.groupby(level=["model", "unit_id"], sort=False).agg(["sum", "max"])
    several = units[units["sum"] >= 2]
    share = (several["max"] / several["sum"]).to_numpy().round(6)
    models = list(predictions["model"].drop_duplicates())
    at = pd.Index(models).get_indexer(several.index.get_level_values("model"))
    levels = sorted(set(share), reverse=True)
    if len(levels) > len(AGREE):
        levels = [1.0, 0.75, 0.5, 0.25, 0.0]
    sizes = np.bincount(at, minlength=len(models))
    left, above = np.zeros(len(models)), math.inf
    for level, colour in zip(levels, AGREE, strict=False):
        here = np.bincount(at[(share >= level) & (share < above)], minlength=len(models))
        exact, above = level in share and set(share[(share >= level) & (share < above)]) == {level}, level
        width = 100 * here / np.where(sizes, sizes, 1)
        name = "all agree" if level == 1 else f"{100 * level:.0f} %" + ("" if exact else " or more")
        ax.barh(range(len(models)), width, 0.7, left, color=colour, label=name)
        for y in np.flatnonzero(width > 7):
            ax.text(left[y] + width[y] / 2, y, f"{width[y]:.0f} %", ha="center", va="center", fontsize="small",
                    color="white" if colour == AGREE[0] else "black")  # fmt: skip
        left += width
    for y in np.flatnonzero(sizes == 0):
        ax.text(1, y, "no unit with two answers", va="center", fontsize="small")
    ax.set_yticks(range(len(models)), [_short(model) for model in models])
    ax.set_ylim(max(len(models), 2) - 0.4, -0.6)
    ax.set_ylabel("model")
    ax.set_xlim(0, 100)
    asked = len(predictions[TRIAL[:2]].drop_duplicates())
    left_out = [f"not counted: {asked - len(several):,} without two answered runs"] if asked > len(several) else []
    ax.set_xlabel("\n".join(["units (%)", *left_out]))
    if not len(several):
        return _nothing(ax, "agreement needs two answered runs of a unit" if asked else "no predictions yet")
    _legend(ax, title="runs with the majority answer:")
    return ax


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
    for chart, ax in zip(
        (progress_over_time, throttle_rate, wait_time, timeline, token_costs, agreement), axes.flat, strict=True
    ):
        chart(results, ax=ax)
    return axes


@dataclass(frozen=True)
class _Clock:
    """Time since the start, without long breaks: seconds to take off each row, and how the axis says it."""

    shift: np.ndarray
    span_s: float
    breaks_s: list[float]
    idle_s: float

    @classmethod
    def of(cls, begin: np.ndarray, end: np.ndarray) -> _Clock:
        """From when each row began to be busy, and until when it was; epoch seconds."""
        if not len(begin):
            return cls(begin, 1.0, [], 0.0)
        order = np.argsort(begin, kind="stable")
        until = np.maximum.accumulate(end[order])
        gap = np.append(0.0, begin[order][1:] - until[:-1])
        active = until[-1] - begin.min() - gap[gap > BREAK_S].sum()
        cut = np.where(gap > max(BREAK_S, active / 10), gap - active / 50, 0.0)
        shift = np.empty(len(begin))
        shift[order] = begin.min() + np.cumsum(cut)
        at = (begin - shift)[order][cut > 0] - active / 100
        return cls(shift, max((end - shift).max(), 0.1), list(at), gap[cut > 0].sum())

    @property
    def per(self) -> float:
        return 1.0 if self.span_s < 180 else 60.0 if self.span_s < 10_800 else 3600.0

    def label(self, ax: Axes) -> None:
        ax.set_xlim(0, self.span_s / self.per)
        for at in self.breaks_s:
            ax.axvline(at / self.per, color=GREY, linestyle=":", linewidth=1)
        without = f", without {_count(len(self.breaks_s), 'break')} of {_span(self.idle_s)}" if self.breaks_s else ""
        ax.set_xlabel(f"time since the start ({ {1.0: 's', 60.0: 'min', 3600.0: 'h'}[self.per] }{without})")


def _timed(data: Any, chart: str, columns: Iterable[str]) -> tuple[pd.DataFrame, _Clock]:
    """The attempts that were sent, with begin, queued, sent and done in s since the start, and their clock."""
    attempts = _frame(data, chart, "attempts", ("started_at", "queue_s", "wait_s", "latency_s", *columns))
    attempts = attempts[attempts["started_at"].notna()]
    at = pd.to_datetime(attempts["started_at"], utc=True)
    sent = (at - pd.Timestamp(0, tz="UTC")).dt.total_seconds().to_numpy()
    names = ("queue_s", "wait_s", "latency_s", *(["retry_in_s"] if "retry_in_s" in attempts else []))
    queue, wait, latency, *retry = (attempts[name].fillna(0).to_numpy(float) for name in names)
    clock = _Clock.of(sent - wait - queue, sent + latency + (retry[0] if retry else 0.0))
    sent = sent - clock.shift
    times = {"begin": sent - wait - queue, "queued": sent - wait, "sent": sent, "done": sent + latency, "wait_s": wait}
    return attempts.reset_index(drop=True).assign(**times), clock


def _frame(data: Any, chart: str, name: str, columns: Iterable[str]) -> pd.DataFrame:
    """The frame itself, or that of the results."""
    frame = data if isinstance(data, pd.DataFrame) else getattr(data, name, None)
    if not isinstance(frame, pd.DataFrame):
        also = ", or a RateLimiter" if chart == "throttle_rate" else ""
        raise InputError(f"{chart} takes Results or their frame `{name}`{also}, not {type(data).__name__}.")
    missing = [column for column in columns if column not in frame]
    if missing:
        raise InputError(f"{chart} takes Results or their frame `{name}`; this frame has no {', '.join(missing)}.")
    return frame


def _axes(ax: Any) -> Axes:
    """The given Axes, or those of a new pyplot figure, which a notebook shows at the end of the cell."""
    if ax is None:
        import matplotlib.pyplot as plt

        ax = plt.subplots(figsize=(8, 3.8), layout="constrained")[1]
    elif not hasattr(ax, "add_collection"):
        raise InputError(f"ax takes one matplotlib Axes, not {type(ax).__name__}.")
    ax.spines[["top", "right"]].set_visible(False)
    return ax


def _groups(data: Any, attempts: pd.DataFrame, by: str) -> tuple[np.ndarray, list[str]]:
    """Per attempt the number of its bar, and the bars' names."""
    if by == "category":
        if isinstance(data, pd.DataFrame):
            raise InputError("by='category' takes Results: attempts alone know no category. Or by='model', 'attempt'.")
        predictions = _frame(data, "token_costs", "predictions", (*TRIAL, "prediction"))
        answers = predictions["prediction"]
        known = [str(name) for name in answers.cat.categories] if isinstance(answers.dtype, pd.CategoricalDtype) else []
        texts = answers.astype(object).map(str, na_action="ignore").fillna("(no answer)")
        at = pd.MultiIndex.from_frame(predictions[TRIAL]).get_indexer(pd.MultiIndex.from_frame(attempts[TRIAL]))
        key = pd.Series(np.where(at < 0, "(no answer)", texts.to_numpy(object)[at] if len(texts) else "(no answer)"))
        names = [name for name in dict.fromkeys([*known, *key]) if name in set(key)]
        names.sort(key="(no answer)".__eq__)
    else:
        key = attempts[by]
        names = sorted(set(key)) if by == "attempt" else list(dict.fromkeys(key))
    return pd.Index(names).get_indexer(pd.Index(key)), [str(name) for name in names]


def _largest(sums: np.ndarray, open_end: np.ndarray, names: list[str]) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """The bars in their order, the smallest of too many put together."""
    if len(names) <= MOST_BARS:
        return sums, open_end, names
    size = np.nansum(sums, axis=0)
    kept = np.sort(np.argsort(-size, kind="stable")[: MOST_BARS - 1])
    rest = np.setdiff1d(np.arange(len(names)), kept)
    unknown = np.isnan(sums[:, rest]).all(axis=1)
    others = np.where(unknown, math.nan, np.nansum(sums[:, rest], axis=1))
    names = [*(names[at] for at in kept), f"{len(rest):,} others"]
    return np.column_stack([sums[:, kept], others]), np.append(open_end[kept], open_end[rest].any()), names


def _gaps(
    attempts: pd.DataFrame, tokens: np.ndarray, unknown: np.ndarray, silent: np.ndarray, money: bool
) -> list[str]:
    """What the bars lack, in lines below the axis."""
    unpriced = unknown & ~np.isnan(tokens) if money else np.zeros(len(tokens), bool)
    parts = []
    if unpriced.any():
        models = ", ".join(_short(name) for name in attempts["model"][unpriced].drop_duplicates()[:4])
        parts.append(f"{_count(unpriced.sum(), 'attempt')} of unknown price ({models})")
    if (unknown & ~unpriced).any():
        parts.append(f"{_count((unknown & ~unpriced).sum(), 'attempt')} that reported no usage")
    if silent.any():
        parts.append(f"{_count(silent.sum(), 'failed call')} without usage")
    return textwrap.wrap(f"not included: {'; '.join(parts)}", 64) if parts else []


def _bins(span_s: float, rows: float) -> np.ndarray:
    """Edges in s over the run: round widths, at most `MOST_BINS`, and some five rows in each."""
    wanted = span_s / max(1.0, min(MOST_BINS, rows / 5))
    width = next((width for width in BIN_S if width >= wanted), 86_400 * math.ceil(wanted / 86_400))
    return np.arange(max(1, math.ceil(span_s / width - 1e-9)) + 1) * float(width)


def _steps(ax: Axes, times: np.ndarray, clock: _Clock, **style: Any) -> None:
    """A line that counts the times, from 0 to the end of the run."""
    count = np.arange(1, len(times) + 1)
    every = max(1, len(times) // MOST_POINTS)
    x = np.concatenate([[0.0], times[::-every][::-1], [clock.span_s]]) / clock.per
    ax.step(x, np.concatenate([[0], count[::-every][::-1], [len(times)]]), where="post", **style)


def _nothing(ax: Axes, text: str) -> Axes:
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color=GREY)
    return ax


def _title(ax: Axes, text: str) -> Axes:
    # Leaves room for the row of the legend.
    ax.set_title(text, loc="left", fontsize="medium", pad=22 if ax.get_legend() else 8)
    return ax


def _legend(ax: Axes, columns: int = 3, title: str | None = None) -> Axes:
    """One row above the Axes, where no data is."""
    ax.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, frameon=False, fontsize="small", title=title,
              borderaxespad=0.2, handlelength=1.2, columnspacing=1.2, handletextpad=0.5)  # fmt: skip
    return ax


def _whole(axis: Any) -> None:
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def _share(part: float, whole: float) -> str:
    percent = 100 * part / whole
    return f"{percent:.0f} %" if percent == round(percent) or 1 < percent < 99 else f"{percent:.1f} %"


def _count(number: float, word: str) -> str:
    return f"{number:,.0f} {word}" + ("" if number == 1 else "s")


def _usd(usd: float) -> str:
    digits = 2 if usd >= 1 or usd <= 0 else min(10, 2 - math.floor(math.log10(usd)))
    return rf"\${usd:,.{digits}f}"


def _span(seconds: float) -> str:
    """A duration in words: 10 ms is the finest."""
    for size, unit in ((10_800, "h"), (180, "min")):
        if seconds >= size:
            return f"{seconds / {'h': 3600, 'min': 60}[unit]:.3g} {unit}"
    return f"{max(seconds, 0.01):.2g} s" if seconds < 1 else f"{seconds:.3g} s"


def _word(status: str) -> str:
    return status.replace("_", " ")


def _short(name: object) -> str:
    """A name for an axis: one line, no mathematics."""
    text = " ".join(str(name).split())
    return (text if len(text) <= 26 else f"{text[:15]}…{text[-10:]}").replace("$", r"\$")
