"""What the headers of an answer say about waiting and about limits, as plain numbers.

Providers write the same wait as seconds, milliseconds, a duration such as `6m0s`, a date, or a point in time in seconds
or milliseconds since 1970; some say it only in the words of their message.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from llmlab.records import Feedback

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|us|µs|[dhms])")
# Words for a wait; the unit may be written out, and is seconds where there is none.
_IN_TEXT = re.compile(
    r"(?:try(?:ing)? again|retry(?:ing)?|available|resets?|wait|later)(?:\s+(?:in|after|for|at least|about))*\s+"
    r"(?P<wait>(?:\d+(?:\.\d+)?\s*(?:milliseconds?|seconds?|minutes?|hours?|days?|msecs?|secs?|mins?|hrs?|ms|[dhms])(?![a-z]),?\s*)+"
    r"|\d+(?:\.\d+)?(?=\s*(?:$|[.,;)])))",
    re.IGNORECASE,
)
_WRITTEN_OUT = re.compile(
    r"(\d)\s*(milliseconds?|msecs?|seconds?|secs?|minutes?|mins?|hours?|hrs?|days?)(?![a-z]),?", re.IGNORECASE
)
_UNIT_S = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}


def duration_s(text: str, now: float | None = None) -> float | None:
    """Seconds to wait, from `12`, `1s200ms`, `6m0s`, a time since 1970 in s or ms, or an RFC 3339 date.

    `None` if the text is none of these, or not in the future.

    Parameters
    ----------
    now : float, optional
        The provider's clock in seconds since 1970, with which points in time are compared. Default: ours.
    """
    text = text.strip()
    now = datetime.now(UTC).timestamp() if now is None else now
    try:
        value = float(text)
        if value > 1e11:
            value = value / 1000 - now
        elif value > 1e9:
            value -= now
    except ValueError:
        parts = _DURATION.findall(text)
        if parts and not _DURATION.sub("", text).strip():
            value = sum(float(number) * _UNIT_S[unit] for number, unit in parts)
        else:
            try:
                when = datetime.fromisoformat(text)
            except ValueError:
                return None
            value = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() - now
    return value if 0 < value < 1e9 else None


def _date(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def retry_after_s(
    headers: Mapping[str, str], text: str = "", waits: Iterable[tuple[str, object]] = (), *, resets: bool = True
) -> float | None:
    """How long the provider asks to wait, in seconds: from its headers, else from its body's fields, else its words.

    `None` if it says nothing, or something zero, negative, past or unreadable.

    Parameters
    ----------
    text : str
        The provider's message.
    waits : iterable of (str, value)
        Waits in fields of the body, such as `retrydelay` or `estimatedtime`.
    resets : bool
        Whether to read when a rate limit resets, too: providers send that with every answer, and it asks for a wait
        only where the limit was met.
    """
    # Dates are compared with the provider's own clock (its Date header): ours may be wrong.
    now = _date(headers.get("date", ""))
    for name, value in headers.items():
        # Gateways put their own word before it: llm_provider-retry-after.
        if name.lower().endswith("retry-after-ms"):
            wait = duration_s(value, now)
            if wait is not None:
                return wait / 1000
    for name, value in headers.items():
        if name.lower().endswith("retry-after"):
            wait = _explicit(value, now)
            if wait is not None:
                return wait
    reset = max(_resets(headers, now), default=None) if resets else None
    if reset is not None:
        return reset
    for name, value in waits:
        wait = duration_s(str(value), now) if isinstance(value, (str, int, float)) and value is not True else None
        if wait is not None:
            return wait / 1000 if name.endswith("ms") else wait
    said = _IN_TEXT.search(text)
    if said is None:
        return None
    return duration_s(_WRITTEN_OUT.sub(lambda match: match[1] + _unit(match[2]), said["wait"]).replace(",", ""), now)


def _unit(word: str) -> str:
    """The short form of a unit of time."""
    word = word.lower()
    return "ms" if word.startswith(("mil", "ms")) else word[0]


def _explicit(value: str, now: float | None) -> float | None:
    """A `Retry-After`: a duration or a date."""
    wait = duration_s(value, now)
    date = _date(value) if wait is None else None
    if date is not None:
        wait = date - (datetime.now(UTC).timestamp() if now is None else now)
    return wait if wait is not None and wait > 0 else None


def _resets(headers: Mapping[str, str], now: float | None) -> Iterator[float]:
    """Seconds until the limits reset of which nothing remains."""
    for header, value in headers.items():
        name = header.lower()
        if "ratelimit" in name and "reset" in name:
            remaining = headers.get(name.replace("reset", "remaining"))
            wait = duration_s(value, now)
            if wait is not None and remaining in (None, "0", ""):
                yield wait


def _number(headers: Mapping[str, str], *names: str) -> float | None:
    for name in names:
        try:
            value = float(headers.get(name, ""))
        except ValueError:
            continue
        if 0 < value < 1e12:
            return value
    return None


def feedback(headers: Mapping[str, str]) -> Feedback:
    """The provider's own limits, from the headers of OpenAI, Azure, Anthropic and their kin."""
    return Feedback(
        limit_requests=_number(
            headers, "x-ratelimit-limit-requests", "anthropic-ratelimit-requests-limit", "x-ratelimit-limit"
        ),
        limit_tokens=_number(headers, "x-ratelimit-limit-tokens", "anthropic-ratelimit-tokens-limit"),
    )
