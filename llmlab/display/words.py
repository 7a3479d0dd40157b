"""Numbers in words: the panel, the summary and the charts say an amount the same way."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from datetime import datetime

from llmlab.analysis import Total
from llmlab.display.tally import QueuedBatch

MOST_BATCHES = 3


def usd(amount: float) -> str:
    """US dollars with four decimals; with two digits below a tenth of a cent, with cents from a dollar on."""
    if amount <= 0:
        return "$0"
    if amount >= 1:
        return f"${amount:,.2f}"
    if amount >= 0.001:
        return f"${amount:.4f}"
    return f"${amount:.{1 - math.floor(math.log10(amount))}f}".rstrip("0")


def cost(total: Total) -> str:
    """A sum of US dollars: `$0.0002`, `≥ $0.0002 (16 unknown)` or `unknown`."""
    if not total.unknown:
        return usd(total.known)
    return f"≥ {usd(total.known)} ({total.unknown:,} unknown)" if total.reported else "unknown"


def tokens(total: Total) -> str:
    """A sum of tokens: `62,414`, `≥ 62,414` or `unknown`."""
    if not total.unknown:
        return f"{total.known:,.0f}"
    return f"≥ {total.known:,.0f}" if total.reported else "unknown"


def before(answered: int, from_book: bool) -> str:
    """What was answered before: `89 from the book`, or `89 from before` without a journal."""
    return f"{answered:,} from {'the book' if from_book else 'before'}"


def count(number: float, word: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{number:,.0f} {word}" + ("" if number == 1 else "s")


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`; empty of none."""
    return " and ".join(names) if len(names) < 3 else f"{', '.join(names[:-1])} and {names[-1]}"


def share(part: float, whole: float) -> str:
    """`part` of `whole` in percent; 0 % and 100 % mean none and all."""
    percent = 100 * part / whole if whole else 0.0
    return f"{percent:.0f} %" if percent in (0, 100) or 1 <= percent <= 99 else f"{percent:.1f} %"


def duration(seconds: float) -> str:
    """Seconds as `42 s`, `12:30` or `1:02:03`."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def eta(seconds: float | None) -> str:
    """Seconds to the end: `ETA 12:30`, or that there is no telling."""
    return "ETA: no telling yet" if seconds is None else f"ETA {duration(seconds)}"


def span(seconds: float) -> str:
    """A duration with two or three digits: `0.25 s`, `4.5 min`, `24 h`; 10 ms is the finest."""
    if seconds < 1:
        return f"{max(seconds, 0.01):.2g} s"
    size, unit = (
        (3600, "h") if seconds >= 10_800 else (60, "min") if seconds >= 180 or seconds in (60, 120) else (1, "s")
    )
    return f"{seconds / size:.3g} {unit}"


def batches(queued: Sequence[QueuedBatch], now: float | None = None) -> list[str]:
    """The batches in the provider's queue, a line each, and that nobody has to wait for them; nothing without any.

    Parameters
    ----------
    now : float, optional
        Seconds since the epoch; by default the present.
    """
    if not queued:
        return []
    lines = [_batch(one, time.time() if now is None else now) for one in queued[:MOST_BATCHES]]
    if len(queued) > MOST_BATCHES:
        rest = queued[MOST_BATCHES:]
        done, total = sum(one.done for one in rest), sum(one.total for one in rest)
        lines.append(f"{len(rest):,} more: {done:,} of {total:,} done")
    return [*lines[:-1], f"{lines[-1]} · closing the notebook is fine"]


def _batch(one: QueuedBatch, now: float) -> str:
    where = f"batch {one.number} of {one.of}: {one.done:,} of {one.total:,} done"
    if one.submitted_at is None:
        return f"{where} · to be submitted"
    submitted = f"{where} · submitted {_moment(one.submitted_at, now)}"
    if one.ends_by is None:
        return submitted
    # Providers may be late: the batch goes on, and is waited for.
    return f"{submitted} · {'ends' if one.ends_by > now else 'was to end'} by {_moment(one.ends_by, now)}"


def _moment(at: float, now: float) -> str:
    """`14:02`, `14:02 tomorrow`, `14:02 on 3 Dec`; local time."""
    then, today = datetime.fromtimestamp(at), datetime.fromtimestamp(now)
    days = (then.date() - today.date()).days
    named = {0: "", 1: " tomorrow", -1: " yesterday"}
    return f"{then:%H:%M}" + named.get(days, f" on {then.day} {then:%b}")
