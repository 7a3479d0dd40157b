"""What the tests of charts share: results of every kind, frames of any size, and what a chart shows."""

from types import SimpleNamespace

import matplotlib as mpl
import numpy as np
import pandas as pd

from tests.helpers import START, attempt, failing, keys_of, results_of, trial_of

mpl.use("Agg")


def results(units=6, runs=3, models=("a", "b"), prompts=(), *, labels=None, failures=True, queue=0.0, units_frame=None):
    """A real Results: every 4th trial needs a second attempt, the last one fails."""
    keys = keys_of([f"u{u}" for u in range(units)], runs=runs, models=models, prompts=prompts)
    sent = []
    for at in range(len(keys)):
        trial, last, number = trial_of(keys, at), at == len(keys) - 1, 1
        usual = {"queue_s": queue, "wait_s": 1.0, "throttled": True, "latency_s": 0.5, "cost_usd": 0.01}
        if failures and at % 4 == 3:
            unread = usual | {"status": "parse_error", "cost_usd": 0.002, "retry_in_s": 0.0}
            sent.append((attempt(trial, **unread, started_at=START + at + 1), None))
            number = 2
        if failures and last:
            broken = failing(started_at=START + at + 3, wait_s=1.0, throttled=True, latency_s=0.5)
            sent.append((attempt(trial, number, **broken), None))
        else:
            label = labels(trial.unit_id, trial.model, trial.run) if labels else "x"
            sent.append((attempt(trial, number, **usual, started_at=START + at + 2), label))
    return results_of(
        keys, sent, units=units_frame, categories=None if labels else ["x", "y"], requests_per_minute=120.0
    )


def synthetic(trials, *, spread_s=None):
    """Frames alone, of any size."""
    draw = np.random.default_rng(1)
    keys = pd.DataFrame({"unit_id": np.arange(trials) // 6, "model": "m", "run": np.arange(trials) % 3 + 1})
    keys["model"] = np.where(np.arange(trials) % 6 < 3, "m1", "m2")
    status = draw.choice(["ok", "parse_error", "call_error"], trials, p=[0.9, 0.06, 0.04])
    sent = pd.to_timedelta(np.sort(draw.uniform(0, spread_s or trials / 10, trials)), unit="s")
    attempts = keys.assign(
        attempt=1,
        status=status,
        started_at=(pd.Timestamp("2026-01-01", tz="UTC") + sent).astype("datetime64[us, UTC]"),
        queue_s=draw.uniform(0, 3, trials),
        wait_s=draw.gamma(3, 2, trials),
        latency_s=draw.lognormal(0, 0.5, trials),
        throttled=draw.random(trials) < 0.7,
        total_tokens=pd.array(draw.integers(50, 500, trials), dtype="Int64"),
        cost_usd=pd.array(draw.gamma(2, 1e-4, trials), dtype="Float64"),
        may_be_billed=status != "call_error",
    )
    labels = pd.Categorical(draw.choice(["x", "y"], trials))
    predictions = keys.assign(prediction=labels, status=np.where(status == "ok", "ok", "failed"))
    return SimpleNamespace(attempts=attempts, predictions=predictions, description={}, categories=["x", "y"])


def bars(chart):
    """{label: {bar: width}} of the horizontal bars."""
    ax = chart.axes
    names = [text.get_text() for text in ax.get_yticklabels()]
    return {
        one.get_label(): {names[round(p.get_y() + p.get_height() / 2)]: p.get_width() for p in one.patches}
        for one in ax.containers
    }


def texts(chart):
    """What is written among the data."""
    return [text.get_text() for text in chart.axes.texts]


def legend(chart):
    return [text.get_text() for text in chart.axes.get_legend().get_texts()]


def rows(chart):
    """The names at the y axis."""
    return [text.get_text() for text in chart.axes.get_yticklabels()]
