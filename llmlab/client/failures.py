"""What went wrong: a refusal or an exception → one `AttemptError`, with the wait that the provider asks for.

The rules go from what is said (credit, day's quota, too long, …) to what is only numbered (the status): gateways
wrap, renumber and translate each other's errors.
"""

from __future__ import annotations

import contextlib
import errno
import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from llmlab import errors
from llmlab.errors import AttemptError
from llmlab.records import Feedback

MESSAGE_LENGTH = 300
SHORTEST_KEY = 8
_SECRET = re.compile(r"\b(?:(?:sk|xai)-|(?:gsk|hf)_|AIza|key-(?=\S*\d)|Bearer\s+)[\w\-*.]{5,}[\w*]")
_TITLE = re.compile(r"<(?:title|h1)[^>]*>(.*?)</(?:title|h1)>", re.IGNORECASE | re.DOTALL)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|us|µs|[dhms])")
_IN_TEXT = re.compile(
    r"(?:try again|retry|available|resets?) (?:in|after) ((?:\d+(?:\.\d+)?\s*(?:ms|[dhms])\s*)+|\d+(?:\.\d+)? sec)",
    re.IGNORECASE,
)
_UNIT_S = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6}


def without(key: str, text: str) -> str:
    """`text` without the key; one as short as an ordinary word is no secret."""
    return text.replace(key, "[key]") if len(key) >= SHORTEST_KEY else text


def one_line(text: str, key: str = "") -> str:
    """`text` as one short line without the key, anything shaped like a key, or a web page."""
    if "<" in text and re.match(r"\s*(<!doctype|<html|<\?xml|<head|<body)", text, re.IGNORECASE):
        title = _TITLE.search(text)
        text = "a web page" + (f": {re.sub('<[^>]*>', '', title[1])}" if title else "")
    text = " ".join(_SECRET.sub("[key]", without(key, text)).split())
    return text if len(text) <= MESSAGE_LENGTH else text[: MESSAGE_LENGTH - 1] + "…"


def duration_s(text: str, now: float | None = None) -> float | None:
    """Seconds in `1s200ms`, `6m0s`, `12`, an epoch in s or ms, or an RFC 3339 time; `None` if it is no future wait.

    Parameters
    ----------
    now : float, optional
        The provider's clock in epoch seconds, for absolute times.
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


def retry_after_s(headers: Mapping[str, str], text: str = "", *, resets: bool = True) -> float | None:
    """The provider's hint in seconds: headers first, then words; zero, negative, past and unreadable ones are none.

    Parameters
    ----------
    resets : bool
        Whether the times at which a limit resets count too; they say nothing where no limit was met.
    """
    # Compare with the provider's own clock: ours may be wrong.
    now = _date(headers.get("date", ""))
    explicit = headers.get("retry-after-ms")
    if explicit is not None:
        wait = duration_s(explicit, now)
        if wait is not None:
            return wait / 1000
    explicit = headers.get("retry-after")
    if explicit is not None:
        wait = duration_s(explicit, now)
        date = _date(explicit) if wait is None else None
        if date is not None:
            wait = date - (datetime.now(UTC).timestamp() if now is None else now)
        if wait is not None and wait > 0:
            return wait
    waits = []
    for name, value in headers.items() if resets else ():
        name = name.lower()
        if "ratelimit" in name and "reset" in name:
            remaining = headers.get(name.replace("reset", "remaining"))
            wait = duration_s(value, now)
            if wait is not None and remaining in (None, "0", ""):
                waits.append(wait)
    if waits:
        return max(waits)
    said = _IN_TEXT.search(text)
    if said:
        return duration_s(said[1].replace("sec", "s"), now)
    delay = re.search(r'retryDelay"?\s*:\s*"?([\d.]+s)', text)
    return duration_s(delay[1], now) if delay else None


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


def _said(body: object) -> tuple[str, str, object, str | None]:
    """(message, everything said in lower case, code, param) of an error body of any shape."""
    if isinstance(body, list) and body:
        body = body[0]
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, str):
        message, code, param = error, None, None
    elif isinstance(error, dict):
        message, code, param = error.get("message"), error.get("code"), error.get("param")
    elif isinstance(body, dict):
        message = body.get("message") or body.get("detail") or body.get("title")
        code, param = body.get("code"), body.get("param")
    else:
        message, code, param = body if isinstance(body, str) else None, None, None
    if isinstance(message, list):
        message = "; ".join(_detail(item) for item in message[:5])
    metadata = error.get("metadata") if isinstance(error, dict) else None
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    if raw:
        # A router says only "Provider returned error"; what the provider said is in here.
        inner = raw
        with contextlib.suppress(ValueError, RecursionError):
            inner = _said(json.loads(raw) if isinstance(raw, str) else raw)[0] or raw
        message = f"{message}: {inner}"
    everything = body if isinstance(body, str) else str(message)
    with contextlib.suppress(RecursionError):
        everything = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False, default=str)
    everything = everything.lower()
    return (
        str(message or ""),
        everything.replace("_", " ").replace("-", " "),
        code,
        param if isinstance(param, str) else None,
    )


def _detail(item: object) -> str:
    """One of the complaints of a validator: where, and what."""
    if not isinstance(item, dict):
        return str(item)
    place = item.get("loc")
    return f"{'.'.join(map(str, place)) if isinstance(place, list) else place or ''}: {item.get('msg') or ''}"


def _any(words: str) -> Callable[[str], bool]:
    pattern = re.compile("|".join(line.strip() for line in words.strip().splitlines()))
    return lambda text: pattern.search(text) is not None


_CREDIT = _any(r"""
    insufficient (quota|credit|balance|funds)
    credit balance
    billing
    key limit exceeded
    budget
    exceeded your current quota
    add (more )?(using|credits to continue)
    payment required
    spend(ing)? limit
""")
_DAY = _any(r"""
    per day
    \btpd\b
    \brpd\b
    daily
    per month
    monthly
""")
_TOO_LONG = _any(r"""
    context length
    maximum context
    too (long|large)
    reduce the length
    (prompt|input) (tokens )?exceed
    string above max
""")
_MODERATED = _any(r"""
    content filter
    content management policy
    content policy
    moderation
    \bflagged\b
    prohibited content
    safety
""")
_KEY = _any(r"""
    api key
    not authenticated
    unauthori[sz]ed
    authentication
    invalid token
    no auth
""")
_MODEL = _any(r"""
    model not found
    not a valid model
    model .{0,80}(does not exist|not found|not available)
    no endpoints found
    unknown model
    invalid model
""")
_REGION = _any(r"""
    country
    region
    territory
""")
_SETTINGS = _any(r"""
    schema
    unsupported
    not supported
    does not support
    unrecognized
    unknown (parameter|field|name)
    response format
    extra inputs
    invalid (value|type) for
""")


def diagnose(status: int | None, headers: Mapping[str, str], body: object, *, key: str = "") -> AttemptError:
    """The error behind a refusal.

    Parameters
    ----------
    status : int or None
        The HTTP status, or the code inside a 200; `None` if the body gave no number.
    body : object
        Parsed JSON, or the text.
    key : str
        Removed from the message wherever it is echoed.

    Returns
    -------
    AttemptError
        Its class says what follows; its message is one line; `retry_after_s` is the provider's hint.
    """
    message, text, code, param = _said(body)
    is_page = isinstance(body, str) and "<" in body[:200]
    hint = retry_after_s(headers, message, resets=status in (None, 402, 403, 429, 503))
    if hint is None and not is_page:
        hint = retry_after_s({}, text.replace("retrydelay", "retryDelay"))
    kind = _kind(status, text, code, is_page, hint)
    line = one_line(message or (body if isinstance(body, str) else ""), key) or "no message"
    if kind is errors.ConfigError and status is not None and 300 <= status < 400:
        target = one_line(headers.get("location", "?"), key)
        line = f"base_url redirects to {target}: use that address as base_url, if you trust it"
    elif kind is errors.ConfigError and is_page:
        line = f"no chat API at this base_url (is /v1 missing?): the server sent {line}"
    elif kind is errors.QuotaError and hint is not None:
        line += f" (resets in {hint / 3600:.1f} h)" if hint > 3600 else f" (resets in {hint:.0f} s)"
    error = kind(f"{status}: {line}" if status is not None and status != 200 else line)
    error.retry_after_s, error.param = hint, param
    error.may_be_billed = status in _MAYBE_BILLED
    return error


def _kind(status: int | None, text: str, code: object, is_page: bool, hint: float | None) -> type[AttemptError]:
    client_side = status is None or 400 <= status < 500
    if client_side and not is_page:
        if _DAY(text) and (status in (429, 402, 403, None)):
            return errors.QuotaError
        if status == 402 and hint is not None:
            return errors.OverloadedError
        if status != 401 and (status == 402 or _CREDIT(text)) and (hint is None or "insufficient" in text):
            return errors.CreditError
        if _TOO_LONG(text) or status == 413:
            return errors.TooLongError
        if status in (400, 403, 422, None) and _MODERATED(text):
            return errors.ModerationError
        if status in (400, 403, None) and _KEY(text):
            return errors.AuthenticationError
        if status in (400, 404, 422, None) and _MODEL(text):
            return errors.ModelNotFoundError
        if status == 403 and _REGION(text):
            return errors.ConfigError
        if status in (400, 422) and _SETTINGS(text):
            return errors.ConfigError
    if status is None or status < 300:
        return errors.BadResponseError
    if status < 400:
        return errors.ConfigError
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return errors.OverloadedError if status >= 500 else errors.RequestError


# A gateway gave up on a provider that may still have answered.
_MAYBE_BILLED = {524}
_BY_STATUS: dict[int, type[AttemptError]] = {
    401: errors.AuthenticationError,
    402: errors.CreditError,
    403: errors.AuthenticationError,
    404: errors.ConfigError,
    405: errors.ConfigError,
    407: errors.ConfigError,
    408: errors.TimeoutError,
    409: errors.OverloadedError,
    413: errors.TooLongError,
    425: errors.OverloadedError,
    429: errors.RateLimitError,
    498: errors.OverloadedError,
    499: errors.ConnectionError,
    524: errors.TimeoutError,
}


def explain(raised: Exception, key: str = "", proxy: str | None = None) -> AttemptError:
    """The error behind an exception of the SDK, its transport or a decoder, read from the chain of its causes.

    Parameters
    ----------
    proxy : str, optional
        The proxy that calls go through, in words.
    """
    chain = list(_causes(raised))
    names = " ".join(type(link).__name__ for link in chain)
    said = one_line(next((str(link) for link in reversed(chain) if str(link)), "") or type(raised).__name__, key)

    def any_of(*words: str, within: str = names) -> bool:
        return any(word in within for word in words)

    if any_of("CertificateError", "CERTIFICATE_VERIFY_FAILED", "SSLCertVerification", within=names + said):
        return errors.ConfigError(
            f"the server's certificate is not trusted ({said}): point SSL_CERT_FILE to its authority, "
            "or add it to the system's store"
        )
    if any(isinstance(link, OSError) and link.errno in (errno.EMFILE, errno.ENFILE) for link in chain):
        return errors.ConfigError("out of file descriptors: lower max_concurrent, or raise the limit (ulimit -n)")
    if any_of("UnicodeEncodeError"):
        return errors.ConfigError("a header of the request cannot be sent: it is not ASCII")
    if any_of("UnsupportedProtocol", "InvalidURL", "InvalidUrl"):
        return errors.ConfigError(f"base_url cannot be called: {said}")
    through = f" through the proxy of {proxy}" if proxy else ""
    if proxy and any(getattr(link, "status", None) == 407 for link in chain):
        return errors.ConfigError(f"could not connect{through}: it wants a name and a password")
    if any_of("DNS", "gaierror"):
        unknown = errors.ConnectionError(f"the host of {proxy or 'base_url'} is not found: {said}")
        unknown.fatal_at_first = True
        return unknown
    if any_of("Connector", "ConnectError", "ProxyConnection", "ProxyError"):
        return errors.ConnectionError(f"could not connect{through}: {said}")
    if any_of("BadStatusLine"):
        return errors.ConnectionError(f"no HTTP server answers there: {said}")
    # The transport calls a lost connection a ConnectTimeout too; what aiohttp said tells them apart.
    lost = any_of("ServerDisconnected", "ClientOSError", "ConnectionReset", "BrokenPipe")
    if any_of("ConnectTimeout") and not lost:
        return errors.TimeoutError(f"could not connect in time{through}; nothing was sent")
    if any_of("Decod", "zlib"):
        error: AttemptError = errors.BadResponseError(f"the body cannot be decoded: {said}")
    elif any_of("Timeout") and not lost:
        error = errors.TimeoutError("the server went silent; it may be billed")
    else:
        error = errors.ConnectionError(f"the connection broke{through} before the answer was complete: {said}")
    error.may_be_billed = True
    return error


def _causes(raised: BaseException) -> Iterator[BaseException]:
    """An exception, what is behind it, and the members of groups, which hide what they are made of."""
    link: BaseException | None = raised
    for _ in range(8):
        if link is None:
            break
        yield link
        if isinstance(link, BaseExceptionGroup):
            yield from link.exceptions
        link = link.__cause__ or link.__context__
