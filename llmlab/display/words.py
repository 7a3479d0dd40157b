"""Numbers in words: the panel, the summary and the charts say an amount the same way."""

from __future__ import annotations

import math

from llmlab.analysis import Total


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
    return f"≥ {usd(total.known)} ({total.unknown:,} unknown)" if total.known else "unknown"


def tokens(total: Total) -> str:
    """A sum of tokens: `62,414`, `≥ 62,414` or `unknown`."""
    if not total.unknown:
        return f"{total.known:,.0f}"
    return f"≥ {total.known:,.0f}" if total.known else "unknown"


def count(number: float, word: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{number:,.0f} {word}" + ("" if number == 1 else "s")


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


def span(seconds: float) -> str:
    """A duration with two or three digits: `0.25 s`, `4.5 min`, `24 h`; 10 ms is the finest."""
    if seconds < 1:
        return f"{max(seconds, 0.01):.2g} s"
    size, unit = (
        (3600, "h") if seconds >= 10_800 else (60, "min") if seconds >= 180 or seconds in (60, 120) else (1, "s")
    )
    return f"{seconds / size:.3g} {unit}"
