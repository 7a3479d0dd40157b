"""A provider's error answer, or an exception on the way → one `AttemptError`.

The class of the error says what follows: wait, end this trial, or end more, as `ends` says.
"""

from __future__ import annotations

import errno
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace

from llmlab import errors
from llmlab.client.error_body import ErrorBody, read_error_body
from llmlab.client.headers import retry_after_s
from llmlab.client.redact import one_line
from llmlab.client.verdict import verdict
from llmlab.errors import AttemptError

# With 524 the gateway gave up waiting; the provider may have finished the answer and charge for it.
_MAYBE_BILLED = {524}
# No server behind the gateway, a full queue, a model that loads. A 500 is an error of a server that is there.
_AWAY = {498, 502, 503, 504, 521, 522, 523, 525, 529, 530}


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
        Its class says what follows, `ends` what ends with it; its message is one line; `retry_after_s` is the
        provider's hint.
    """
    is_page = isinstance(body, str) and "<" in body[:200]
    said = ErrorBody() if is_page else read_error_body(body)
    if header := headers.get("x-amzn-errortype"):
        said = replace(said, codes=said.codes | read_error_body({"code": header.partition(":")[0]}).codes)
    hint = retry_after_s(headers, said.message, said.waits, resets=status in (None, 402, 403, 429, 503))
    found = verdict(status, said, is_page=is_page, hint_s=hint)
    kind = found.kind
    line = one_line(said.message or (body if isinstance(body, str) else _shown(body)), key) or "no message"
    if kind is errors.ConfigError and status is not None and 300 <= status < 400:
        line = _redirected(status, one_line(headers.get("location", ""), key))
    elif kind is errors.ConfigError and is_page:
        line = f"no chat API at this base_url (is /v1 missing?): the server sent {line}"
    elif kind in (errors.QuotaError, errors.CreditError) and hint is not None:
        line += f" (resets in {hint / 3600:.1f} h)" if hint > 3600 else f" (resets in {hint:.0f} s)"
    error = kind(f"{status}: {line}" if status is not None and status != 200 else line)
    error.retry_after_s, error.param = hint, said.param
    error.about_settings = _about_settings(said)
    error.ends, error.ends_once_answered = found.ends or kind.ends, found.ends_once_answered
    error.away = found.away or (kind is errors.OverloadedError and status in _AWAY)
    error.may_be_billed = status in _MAYBE_BILLED
    return error


def _redirected(status: int, target: str) -> str:
    """What a redirect means that was not followed: those of 307 and 308 are, within the same server."""
    address, is_chat, _ = target.partition("/chat/completions")
    if "://" in target:
        return f"base_url redirects to {address}: use that address as base_url, if you trust it"
    if not is_chat:
        return f"base_url redirects to {target or 'nowhere'}: is it right, and does one have to log in first?"
    if status in (307, 308):
        return f"base_url redirects in a circle, to {target}"
    return f"base_url redirects to {target} on the same server: use that path, without /chat/completions, in base_url"


def _about_settings(said: ErrorBody) -> bool:
    if said.param is None:
        return False
    top = re.split(r"[.\[]", said.param)[0]
    # That there are no messages at all is no trial's own fault.
    return top not in errors.OF_ONE_TRIAL or (said.param == top and "missing" in said.codes)


def _shown(body: object) -> str:
    """A body without any known field, for people to read."""
    if body in (None, "", {}, []):
        return ""
    try:
        return json.dumps(body, ensure_ascii=False, default=str)
    except (RecursionError, ValueError):
        return ""


def explain(raised: Exception, key: str | tuple[str, ...] = "", proxy: str = "") -> AttemptError:
    """The error that an exception of the SDK, its transport or a decoder means, read from the chain of its causes.

    Parameters
    ----------
    proxy : str
        The proxy that the request went through, as it is named in messages; empty if there was none.
    """
    chain = list(_causes(raised))
    names = " ".join(type(link).__name__ for link in chain)
    # The innermost one says what happened; beneath the system's own may lie what the caller was just handling.
    told = [link for link in chain if isinstance(link, OSError) and str(link)] or [link for link in chain if str(link)]
    said = one_line(str(told[-1]) if told else type(raised).__name__, key)

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
        unknown = _away(errors.ConnectionError(f"the host of {proxy or 'base_url'} is not found: {said}"))
        unknown.fatal_at_first = True
        return unknown
    if any_of("Connector", "ConnectError", "ProxyConnection", "ProxyError"):
        return _away(errors.ConnectionError(f"could not connect{through}: {said}"))
    if any_of("NotHttp", "BadStatusLine"):
        return _away(errors.ConnectionError(f"no HTTP server answers there: {said}"))
    # httpx-aiohttp reports a lost connection as ConnectTimeout too; aiohttp's own exception tells the two apart.
    lost = any_of("ServerDisconnected", "ClientOSError", "ConnectionReset", "BrokenPipe")
    if any_of("ConnectTimeout", "ConnectionTimeoutError") and not lost:
        return _away(errors.TimeoutError(f"could not connect in time{through}; nothing was sent"))
    if any_of("Decod") or any(isinstance(link, zlib.error) for link in chain):
        error: AttemptError = errors.BadResponseError(f"the body cannot be decoded: {said}")
    elif any_of("Timeout") and not lost:
        error = errors.TimeoutError("the server went silent; it may be billed")
    else:
        error = errors.ConnectionError(f"the connection broke{through} before the answer was complete: {said}")
    error.may_be_billed = True
    return error


def _away(error: AttemptError) -> AttemptError:
    error.away = True
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
