"""A provider's error answer, or an exception on the way → one `AttemptError`.

The class of the error says what follows: wait, end this trial, or end the run. The provider's words are read before the
status, because gateways renumber each other's errors and keep the words.
"""

from __future__ import annotations

import contextlib
import errno
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping

from llmlab import errors
from llmlab.client.headers import retry_after_s
from llmlab.client.redact import one_line
from llmlab.errors import AttemptError


def _said(body: object) -> tuple[str, str, object, str | None]:
    """The message, the whole body in lower case, `code` and `param` of an error body of any shape."""
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
        # OpenRouter says only "Provider returned error"; what the provider itself said stands in here.
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
    """One entry of FastAPI's list of validation errors as `place: message`."""
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


def diagnose(
    status: int | None, headers: Mapping[str, str], body: object, *, key: str | tuple[str, ...] = ""
) -> AttemptError:
    """The error that an error answer means.

    Parameters
    ----------
    status : int or None
        The HTTP status, or the code inside a 200; `None` if the body gave no number.
    body : object
        Parsed JSON, or the text.
    key : str or tuple of str
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


# With 524 the gateway gave up waiting; the provider may have finished the answer and charge for it.
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


def explain(raised: Exception, key: str | tuple[str, ...] = "", proxy: str = "") -> AttemptError:
    """The error that an exception of the SDK, its transport or a decoder means, read from the chain of its causes.

    Parameters
    ----------
    proxy : str
        The proxy that the request went through, as it is named in messages; empty if there was none.
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
    if any_of("NotHttp", "BadStatusLine"):
        return errors.ConnectionError(f"no HTTP server answers there: {said}")
    # httpx-aiohttp reports a lost connection as ConnectTimeout too; aiohttp's own exception tells the two apart.
    lost = any_of("ServerDisconnected", "ClientOSError", "ConnectionReset", "BrokenPipe")
    if any_of("ConnectTimeout", "ConnectionTimeoutError") and not lost:
        return errors.TimeoutError(f"could not connect in time{through}; nothing was sent")
    if any_of("Decod") or any(isinstance(link, zlib.error) for link in chain):
        error: AttemptError = errors.BadResponseError(f"the body cannot be decoded: {said}")
    elif any_of("Timeout") and not lost:
        error = errors.TimeoutError("the server went silent; it may be billed")
    else:
        error = errors.ConnectionError(f"the connection broke{through} before the answer was complete: {said}")
    error.may_be_billed = True
    return error


def _causes(raised: BaseException) -> Iterator[BaseException]:
    """The exception, its causes, and the members of exception groups, at most eight links deep."""
    link: BaseException | None = raised
    for _ in range(8):
        if link is None:
            break
        yield link
        if isinstance(link, BaseExceptionGroup):
            yield from link.exceptions
        link = link.__cause__ or link.__context__
