"""What took the time: of every moment of a run, what it was waiting for."""

from __future__ import annotations

import numpy as np
import pandas as pd

from llmlab.records import BATCH, trial_key

CHANGE = {
    "outage": "nothing, as the provider did not answer",
    "provider's pause": "a lower requests_per_minute: the provider refused requests (429)",
    "rate limit": "a higher requests_per_minute, if the provider allows it",
    "free slots": "a higher max_concurrent",
    "batch queue": "asking live, without batch=, at twice the price",
    "answers": "a faster model, as all requests were sent",
    "retries": "shorter waits between attempts: retry=RetryPolicy(...)",
}
"""What a run can wait for, the strongest first, and what would make it shorter."""

AFTER_REFUSALS = {"rate limit": "nothing, as the provider refuses more than this (429)"}
"""What is true instead where many requests were refused."""

# So many failures in a row, with no answer between them, are an outage and no accident.
_IN_A_ROW = 3
# A smaller share of refused requests is chance, or somebody else's on the key, and not the limit.
_MANY_REFUSED = 0.01
_NO_CAPACITY = ("ConnectionError", "OverloadedError")


def bottleneck(attempts: pd.DataFrame) -> pd.DataFrame:
    """Divide the time of a run by what it waited for.

    At every moment that is the first of: an *outage* (failures without an answer between them, until the next answer),
    the *provider's pause* (after a 429, until the next request is sent), the *rate limit* (a request waits for it),
    *free slots* (a request waits for one of `max_concurrent`), the *batch queue* (requests are in the provider's),
    *answers* (requests are in flight, and nothing waits), *retries* (trials wait for their next attempt, and nothing is
    in flight). Breaks between sessions count as nothing.

    Parameters
    ----------
    attempts : DataFrame
        `Results.attempts`.

    Returns
    -------
    DataFrame
        A row for each that took time, longest first: `waited_for`, `seconds`, `share` (of the time, 0 to 1), `change`
        (what would make the run shorter).
    """
    spans = _spans(attempts)
    edges = np.unique(np.concatenate([span.ravel() for span in spans.values()]))
    length = np.diff(edges)
    covered = {name: _covered(span, edges) for name, span in spans.items()}
    busy = np.logical_or.reduce([covered[name] for name in CHANGE if name not in ("outage", "provider's pause")])
    covered["outage"] &= busy
    covered["provider's pause"] &= covered["rate limit"]
    strongest = np.select([covered[name] for name in CHANGE], range(len(CHANGE)), -1)
    seconds = np.bincount(strongest[strongest >= 0], length[strongest >= 0], minlength=len(CHANGE))
    table = pd.DataFrame({"waited_for": list(CHANGE), "seconds": seconds})
    table["share"] = seconds / max(seconds.sum(), np.finfo(float).tiny)
    refused = float(attempts["http_status"].eq(429).sum()) >= _MANY_REFUSED * max(1, len(attempts))
    table["change"] = list((CHANGE | AFTER_REFUSALS if refused else CHANGE).values())
    return table[seconds > 0].sort_values("seconds", ascending=False, kind="stable").reset_index(drop=True)


def _spans(attempts: pd.DataFrame) -> dict[str, np.ndarray]:
    """Begin and end of every wait and call in seconds since the epoch, each as an array of shape (n, 2)."""
    at = pd.to_datetime(attempts["started_at"], utc=True) - pd.Timestamp(0, tz="UTC")
    sent = at.dt.total_seconds().to_numpy(float)
    queue, wait, latency = (attempts[name].to_numpy(float) for name in ("queue_s", "wait_s", "latency_s"))
    done, queued = sent + latency, sent - wait
    begin = queued - queue
    # A trial waits for a retry only if one followed: the last wait of a run that was stopped never came to its end.
    # Of each key column its codes: a text may hold half a surrogate pair, which no index can.
    key = [pd.factorize(attempts[name].astype(object))[0] for name in trial_key(attempts.columns)]
    following = pd.Series(begin).groupby(key, sort=False).shift(-1)
    due = done + attempts["retry_in_s"].astype("Float64").to_numpy(float, na_value=np.nan)
    again = np.fmin(due, following.to_numpy(float))
    # Frames of somebody else's making may lack the column.
    in_queue = attempts.get("service_tier", pd.Series(index=attempts.index, dtype=object)).eq(BATCH)
    batch = in_queue.fillna(False).to_numpy(bool)
    calls = np.column_stack([sent, done])
    retried = following.notna().to_numpy(bool) & (again > done)
    return {
        "free slots": np.column_stack([begin, queued]),
        "rate limit": np.column_stack([queued, sent]),
        "batch queue": calls[batch],
        "answers": calls[~batch],
        "retries": np.column_stack([done, again])[retried],
        "provider's pause": _pauses(attempts, sent, done),
        "outage": _outages(attempts, done),
    }


def _pauses(attempts: pd.DataFrame, sent: np.ndarray, done: np.ndarray) -> np.ndarray:
    """From each refusal to the next request that was sent."""
    refused = np.sort(done[attempts["http_status"].eq(429).fillna(False).to_numpy(bool)])
    sends = np.append(np.sort(sent), np.inf)
    until = sends[np.searchsorted(sends, refused, side="right")]
    return np.column_stack([refused, until])[np.isfinite(until)]


def _outages(attempts: pd.DataFrame, done: np.ndarray) -> np.ndarray:
    """From the first of several failures in a row, none answered, to the next answer or the last failure."""
    order = np.argsort(done, kind="stable")
    down = attempts["error_type"].isin(_NO_CAPACITY).to_numpy(bool)[order]
    ends = done[order]
    # Where a row of failures begins, and where the first attempt stands that is none of it.
    change = np.flatnonzero(np.diff(np.concatenate([[False], down, [False]]).astype(int)))
    first, after = change[::2], change[1::2]
    long = after - first >= _IN_A_ROW
    first, after = first[long], after[long]
    return np.column_stack([ends[first], ends[np.minimum(after, len(ends) - 1)]]) if len(first) else np.empty((0, 2))


def _covered(spans: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Which pieces between the edges lie in at least one of the spans."""
    spans = spans[spans[:, 1] > spans[:, 0]]
    change = np.zeros(len(edges), "int64")
    np.add.at(change, np.searchsorted(edges, spans[:, 0]), 1)
    np.subtract.at(change, np.searchsorted(edges, spans[:, 1]), 1)
    return change.cumsum()[:-1] > 0
