"""What a chart reads: a frame of results, its attempts on a clock, its rows in groups."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pandas as pd

from llmlab.display.clock import Clock
from llmlab.errors import InputError
from llmlab.records import TRIAL_KEY, arm_columns, trial_key

MOST_BARS, MOST_LABELS = 12, 12
NO_ANSWER = "no answer"
# The column `prompt` is there only where several were asked.
KEY = tuple(name for name in TRIAL_KEY if name != "prompt")


def read(data: Any, chart: str, name: str, *columns: str) -> pd.DataFrame:
    """The frame itself, or that of the results, and the column `arm`: the model, or model and prompt."""
    frame = data if isinstance(data, pd.DataFrame) else getattr(data, name, None)
    also = " or a RateLimiter" if chart == "throttle_rate" else ""
    takes = f"{chart} takes Results or their frame `{name}`{also}"
    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"{takes}, not {type(data).__name__}.")
    missing = [column for column in columns if column not in frame]
    if missing:
        raise InputError(f"{takes}; this frame has no {', '.join(missing)}.")
    return frame.assign(arm=arms(frame))


def arms(frame: pd.DataFrame) -> pd.Series:
    """What is compared in a chart: the model, or "model · prompt" where several prompts were asked."""
    arm = frame["model"].astype(str)
    return arm + " · " + frame["prompt"].astype(str) if "prompt" in arm_columns(frame.columns) else arm


def labels(data: Any, chart: str) -> pd.DataFrame:
    """The predictions that a chart of labels draws: those of `labelled`, or the frame itself."""
    frame = read(data, chart, "predictions", *KEY, "prediction", "status")
    if isinstance(data, pd.DataFrame):
        return frame
    return frame.assign(prediction=labelled(data)[1]["prediction"])


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
    kept = [*trial_key(frame.columns), "arm", *columns]
    timed = frame[list(dict.fromkeys(kept))].assign(
        **{name: clock.read(time) for name, time in times.items()}, wait_s=wait
    )
    return timed, clock


def groups(data: Any, attempts: pd.DataFrame, by: str) -> tuple[np.ndarray, list[str]]:
    """Per attempt the number of its bar, and the bars' names; of too many, the rare ones share a bar."""
    order: list[str] = []
    if by == "category":
        if isinstance(data, pd.DataFrame):
            raise InputError("by='category' takes Results: attempts alone know no category. Or by='model', 'attempt'.")
        predictions = read(data, "token_costs", "predictions", *KEY, "prediction", "status")
        answers = predictions["prediction"]
        order = [str(one) for one in answers.cat.categories] if isinstance(answers.dtype, pd.CategoricalDtype) else []
        texts = [*answers.astype(object).map(str).where(predictions["status"] == "ok", NO_ANSWER), NO_ANSWER]
        columns = trial_key(predictions.columns)
        trials, asked = (pd.MultiIndex.from_frame(frame[columns]) for frame in (predictions, attempts))
        key = pd.Series(np.array(texts, object)[trials.get_indexer(asked)], dtype=object)
    elif by == "attempt":
        key = attempts[by].clip(upper=MOST_BARS)
        order = [str(number) for number in range(1, MOST_BARS)]
        key = key.astype(str).mask(attempts[by] > MOST_BARS, f"{MOST_BARS} or later")
    else:
        key = attempts["arm"].astype(object)
    sizes = key.value_counts()
    others = f"{len(sizes) - MOST_BARS + 1:,} others"
    if len(sizes) > MOST_BARS:
        key = key.where(key.isin(sizes.index[: MOST_BARS - 1]), others)
    found = set(key)
    names = [name for name in dict.fromkeys([*order, *key]) if name in found]
    names.sort(key=lambda name: (name in (others, NO_ANSWER), name == NO_ANSWER))
    return pd.Index(names, dtype=object).get_indexer(pd.Index(key, dtype=object)), names


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
    fields = [name for name in results.description.get("fields") or () if name in predictions]
    for name in fields or ["prediction"]:
        column = predictions.loc[answered, name]
        with contextlib.suppress(TypeError):
            distinct = column.nunique()
            if 0 < distinct <= MOST_LABELS and distinct * 3 <= len(column):
                return str(name), predictions.assign(prediction=predictions[name])
    return "", predictions
