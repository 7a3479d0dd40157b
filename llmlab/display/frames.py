"""What a chart reads: a frame of results, its attempts on a clock, its rows in groups."""

from __future__ import annotations

import contextlib
from typing import Any

import pandas as pd

from llmlab import analysis
from llmlab.display.clock import Clock
from llmlab.errors import InputError
from llmlab.records import OPTIONAL_KEY, TRIAL_KEY, trial_key

MOST_LABELS = 12
KEY = tuple(name for name in TRIAL_KEY if name not in OPTIONAL_KEY)


def read(data: Any, chart: str, name: str, *columns: str) -> pd.DataFrame:
    """The frame itself, or that of the results, if it has the columns."""
    frame = data if isinstance(data, pd.DataFrame) else getattr(data, name, None)
    also = " or a RateLimiter" if chart == "throttle_rate" else ""
    takes = f"{chart} takes Results or their frame `{name}`{also}"
    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"{takes}, not {type(data).__name__}.")
    missing = [column for column in columns if column not in frame]
    if missing:
        raise InputError(f"{takes}; this frame has no {', '.join(missing)}.")
    return frame


def labels(data: Any, chart: str) -> pd.DataFrame:
    """The predictions that a chart of labels draws: those of `labelled`, or the frame itself."""
    frame = read(data, chart, "predictions", *KEY, "prediction", "status")
    if isinstance(data, pd.DataFrame):
        return frame
    return frame.assign(prediction=labelled(data)[1]["prediction"])


def judged(data: Any, chart: str) -> pd.DataFrame:
    """As `labels`, of results without the units that are examples in the prompt, as in `score`."""
    frame = labels(data, chart)
    if isinstance(data, pd.DataFrame):
        return frame
    return analysis.without_examples(frame, data.units, data.description)


def timed(data: Any, chart: str, *columns: str) -> tuple[pd.DataFrame, Clock]:
    """The attempts that were sent, with begin, queued, sent and done on the clock."""
    columns = ("started_at", "queue_s", "wait_s", "latency_s", *columns)
    frame = read(data, chart, "attempts", *columns)
    frame = frame[frame["started_at"].notna()].reset_index(drop=True)
    at = pd.to_datetime(frame["started_at"], utc=True) - pd.Timestamp(0, tz="UTC")
    sent = at.dt.total_seconds().to_numpy(float)
    queue, wait, latency, retry = (
        frame[name].fillna(0).to_numpy(float) if name in frame else 0.0
        for name in ("queue_s", "wait_s", "latency_s", "retry_in_s")
    )
    clock = Clock.of(sent - wait - queue, sent + latency + retry)
    times = {"begin": sent - wait - queue, "queued": sent - wait, "sent": sent, "done": sent + latency}
    kept = [*trial_key(frame.columns), *columns]
    timed = frame[list(dict.fromkeys(kept))].assign(
        **{name: clock.read(time) for name, time in times.items()}, wait_s=wait
    )
    return timed, clock


def labelled(results: Any) -> tuple[str, pd.DataFrame]:
    """The predictions as labels: of answers with fields, `prediction` is the first field that is a category.

    Returns
    -------
    tuple of str and DataFrame
        The name of the label, empty if the predictions are free text or objects, and the predictions.
    """
    predictions = results.predictions
    if results.categories is not None:
        return "label", predictions
    answered = predictions["status"] == "ok"
    fields = analysis.known_fields(results.description.get("fields"))
    name = analysis.main_field(fields)
    if name is not None:
        return name, analysis.one_field(predictions, name, fields)[0]
    fields = [name for name in fields if name in predictions]
    for name in fields or ["prediction"]:
        column = predictions.loc[answered, name]
        with contextlib.suppress(TypeError):
            distinct = column.nunique()
            if 0 < distinct <= MOST_LABELS and distinct * 3 <= len(column):
                return str(name), predictions.assign(prediction=predictions[name])
    return "", predictions
