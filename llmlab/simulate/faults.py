"""Faults of real providers, declared: what goes over the wire, by id.

A simulated provider plays a fault when the request's model is `fault/<id>`, or when the base URL is
`http://127.0.0.1:PORT/fault/<id>/v1`. An id may carry conditions; the request is answered well unless all of them
hold: `fault/s503-html/w5` plays for the first 5 seconds, `fault/s401-key/a10` after 10 good answers, and
`fault/s500-json/n2` the first 2 times the same messages are asked.

The first letter tells the family: `s` HTTP status, `r` 429, `m` redirect, `b` a 200 whose body is broken, `w` below
HTTP, `c` a completion without a usable message, `u` odd usage, `j` odd text of the answer, `t` a fault with a memory.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import re
import socket
import ssl
import struct
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Literal

Wire = Literal["reply", "idle_close", "slow", "cut", "cut_eof", "cut_chunk", "raw", "reset", "hang", "drip"]

LABEL = '{"label": "yes"}'
USAGE = {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15}
SLOW_S = 2.0
DRIP_S = 0.2


@dataclass(frozen=True, slots=True)
class Call:
    """What a fault may echo or refer to: the request it answers.

    Attributes
    ----------
    key : str
        The API key that came in.
    port : int
        The provider's port.
    now : float
        Seconds since the epoch.
    """

    key: str
    port: int
    now: float


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes
    ----------
    status : int
        HTTP status; meaningless where `wire` sends none.
    headers : mapping of str to (str or callable or None)
        A callable gets the `Call`; `None` leaves the header out.
    body : bytes or callable
        A callable gets the `Call`.
    wire : str
        How it is sent: `reply` whole; `idle_close` whole, then closed although keep-alive was promised; `slow` after
        `SLOW_S`; `cut` and `cut_eof` half the body, with and without a Content-Length; `cut_chunk` half a chunk;
        `raw` the body without HTTP around it; `reset` a TCP reset; `hang` nothing, ever; `drip` an empty line
        every `DRIP_S`, for ever.
    tokens : mapping of str to int
        What a careful reader can count: usage that was sent whole and uncompressed, or well compressed.
    billed : bool
        Whether a real provider would charge for it; if so and `tokens` is empty, 15 tokens were spent unseen.
    after : int
        So many requests are answered well first.
    limit, period_s : int or None, float
        Plays only above this many requests in a period, in seconds.
    max_in_flight : int or None
        Plays only above this many requests at a time.
    """

    status: int = 200
    headers: Mapping[str, str | Callable[[Call], str] | None] = field(default_factory=dict)
    body: bytes | Callable[[Call], bytes] = b""
    wire: Wire = "reply"
    tokens: Mapping[str, int] = field(default_factory=dict)
    billed: bool = False
    after: int = 0
    limit: int | None = None
    period_s: float = 1.0
    max_in_flight: int | None = None

    @property
    def outcome(self) -> str:
        """`ok` (a whole 2xx reply), `refused` (429) or `errors` (the rest), as counted by the provider."""
        if self.status == 429:
            return "refused"
        return "ok" if self.status < 300 and self.wire in ("reply", "slow", "idle_close") else "errors"


def countable(usage: object) -> dict[str, int]:
    """The token counts that a careful reader takes from a `usage` of any shape.

    Integers from 0 up and strings of digits count; floats, booleans, negative numbers and the rest do not.
    """
    if not isinstance(usage, Mapping):
        return {}
    values = {name: usage.get(name) for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
    for name, details in (
        ("cached_tokens", "prompt_tokens_details"),
        ("reasoning_tokens", "completion_tokens_details"),
    ):
        inner = usage.get(details)
        values[name] = inner.get(name) if isinstance(inner, Mapping) else None
    return {
        name: int(value)
        for name, value in values.items()
        if (isinstance(value, int) and not isinstance(value, bool) and value >= 0)
        or (isinstance(value, str) and value.isdecimal())
    }


def http_reply(status: int, headers: Mapping[str, str | None], body: bytes, *, length: bool = True) -> bytes:
    """One HTTP/1.1 response, as bytes.

    Parameters
    ----------
    status : int
    headers : mapping of str to (str or None)
        Beside `Content-Type: application/json`, `Date` and `Content-Length`; `None` leaves a header out.
    body : bytes
    length : bool
        Whether `Content-Length` is sent.
    """
    lines = {"Content-Type": "application/json", "Date": formatdate(usegmt=True), **headers}
    if length and status != 204:
        lines["Content-Length"] = str(len(body))
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = "Unknown"
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
    return f"HTTP/1.1 {status} {reason}\r\n{head}\r\n".encode("latin-1", "replace") + body


async def play(fault: Fault, transport: asyncio.Transport, call: Call, headers: Mapping[str, str | None]) -> bool:
    """Send a fault, a `slow` one at once; returns whether the connection can carry another request.

    Parameters
    ----------
    fault : Fault
    transport : asyncio.Transport
    call : Call
    headers : mapping
        Sent beside the fault's own.
    """
    body = fault.body(call) if callable(fault.body) else fault.body
    own = {name: value(call) if callable(value) else value for name, value in fault.headers.items()}
    sent = {**headers, **own}
    half = len(body) // 2
    if fault.wire in ("hang", "drip"):
        if fault.wire == "drip":
            transport.write(http_reply(200, {**sent, "Transfer-Encoding": "chunked"}, b"", length=False))
        while not transport.is_closing():
            await asyncio.sleep(DRIP_S)
            if fault.wire == "drip":
                transport.write(b"1\r\n\n\r\n")
        return False
    if fault.wire == "reset":
        reset(transport)
    elif fault.wire == "raw":
        transport.write(body)
    elif fault.wire == "cut":
        transport.write(http_reply(fault.status, sent, body)[: -len(body) + half])
    elif fault.wire == "cut_eof":
        transport.write(http_reply(fault.status, {**sent, "Connection": "close"}, body[:half], length=False))
    elif fault.wire == "cut_chunk":
        chunk = b"%x\r\n%s\r\n" % (len(body), body[:half])
        transport.write(http_reply(fault.status, {**sent, "Transfer-Encoding": "chunked"}, chunk, length=False))
    else:
        transport.write(http_reply(fault.status, sent, body))
    return fault.wire in ("reply", "slow")


def reset(transport: asyncio.Transport) -> None:
    """Close a connection with RST instead of FIN."""
    linger = transport.get_extra_info("socket")
    if linger is not None:
        linger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


@dataclass(frozen=True, slots=True)
class Spec:
    """A fault's id with its conditions, as in `s503-html/w5`.

    Attributes
    ----------
    text : str
        The whole, as asked for.
    fault : Fault
    window_s : float or None
        Plays for so many seconds from the first request.
    after : int
        Plays after so many good answers.
    times : int or None
        Plays so many times for the same messages.
    """

    text: str
    fault: Fault
    window_s: float | None
    after: int
    times: int | None


def parse(text: str) -> Spec:
    """Read `<id>` or `<id>/w<seconds>`, `/a<requests>`, `/n<times>`, also combined.

    Raises
    ------
    ValueError
        For an unknown id or condition; it names similar ids.
    """
    fault_id, *conditions = text.split("/")
    if fault_id not in FAULTS:
        near = sorted(known for known in FAULTS if known.startswith(fault_id[:1])) or sorted(FAULTS)
        raise ValueError(f"no fault {fault_id!r}; there are {', '.join(near)}")
    found: dict[str, float] = {}
    for condition in conditions:
        match = re.fullmatch(r"([wan])(\d+(?:\.\d+)?)", condition)
        if not match:
            raise ValueError(f"{condition!r} in {text!r} is no condition; use w<seconds>, a<requests> or n<times>")
        found[match[1]] = float(match[2])
    fault = FAULTS[fault_id]
    times = int(found["n"]) if "n" in found else None
    return Spec(text, fault, found.get("w"), int(found.get("a", fault.after)), times)


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _error(status: int, message: str, headers: Mapping[str, Any] | None = None, /, **fields: object) -> Fault:
    return Fault(status, headers or {}, _json({"error": {"message": message, **fields}}))


def _router(status: int, message: str, headers: Mapping[str, Any] | None = None, /, **fields: object) -> Fault:
    """OpenRouter's form: the code is a number."""
    return Fault(status, headers or {}, _json({"error": {"code": status, "message": message, **fields}}))


def page(title: str) -> bytes:
    """A web page as a proxy serves it where an API's answer was expected."""
    rest = "<hr><center>nginx</center>" + "<!-- a padding to disable MSIE and Chrome friendly error page -->\n" * 6
    return f"<html>\n<head><title>{title}</title></head>\n<body><h1>{title}</h1>\n{rest}</body>\n</html>\n".encode()


def _html(status: int, title: str, **more: Any) -> Fault:
    return Fault(status, {"Content-Type": "text/html"}, page(title), **more)


_NOTHING: Any = object()


def _completion(
    content: object = LABEL, *, usage: object = USAGE, finish: str = "stop", choices: object = _NOTHING, **top: object
) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, "refusal": None}
    whole = {"model": "m", "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}]}
    if choices is not _NOTHING:
        whole["choices"] = choices
    if usage is not _NOTHING:
        whole["usage"] = usage
    return whole | {"id": "chatcmpl-f98fd223c625", "object": "chat.completion", "created": 1795521100} | top


def _answer(content: object = LABEL, *, usage: object = USAGE, **more: Any) -> Fault:
    """A 200 with a whole completion."""
    body = _json(_completion(content, usage=usage, **more))
    return Fault(body=body, tokens=countable(usage), billed=True)


def _choice(**choice: object) -> Fault:
    """A completion with this one choice and nothing else in it."""
    return _answer(choices=[choice])


def _said(content: object, finish: str | None = "stop") -> Fault:
    return _choice(message={"content": content, "refusal": None}, finish_reason=finish)


def _usage(*counts: object, **more: object) -> Fault:
    """A good answer with this prompt, completion and total."""
    return _answer(usage=dict(zip(USAGE, counts, strict=False)) | more)


def _body(body: bytes, wire: Wire = "reply", *, readable: bool = True, **headers: str | None) -> Fault:
    """A paid 200 with these bytes; `readable` if a careful reader can find the usage in them."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Fault(headers=named, body=body, wire=wire, tokens=USAGE if readable else {}, billed=True)


def _unpaid(body: bytes, **headers: str) -> Fault:
    """A 200 with these bytes for which nobody would be charged."""
    return Fault(headers={name.replace("_", "-"): value for name, value in headers.items()}, body=body)


def _brotli(body: bytes) -> bytes:
    """A brotli stream with one stored block, at most 64 KiB."""
    return (1 | 5 << 1 | (len(body) - 1) << 7 | 1 << 23).to_bytes(3, "little") + body + b"\x03"


def _midnight_ms(call: Call) -> str:
    return str((int(call.now // 86400) + 1) * 86400 * 1000)


def _free_day(call: Call) -> bytes:
    headers = {"X-RateLimit-Limit": "50", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": _midnight_ms(call)}
    message = "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000 free model requests per day"
    return _json({"error": {"code": 429, "message": message, "metadata": {"headers": headers}}})


def _rpm(headers: Mapping[str, Any], again: str = "1s", **more: Any) -> Fault:
    """OpenAI's refusal with these headers."""
    message = (
        "Rate limit reached for gpt-x in organization org-x on requests per min (RPM): Limit 3, Used 3, Requested 1. "
        f"Please try again in {again}. Visit https://platform.openai.com/account/rate-limits to learn more."
    )
    body = _json({"error": {"message": message, "type": "requests", "param": None, "code": "rate_limit_exceeded"}})
    return Fault(429, headers, body, **more)


def _quota(message: str, code: str, kind: str = "insufficient_quota") -> Fault:
    return _error(429, message, type=kind, param=None, code=code)


def _redirect(status: int, location: str | Callable[[Call], str]) -> Fault:
    return Fault(status, {"Location": location}, b"")


_GOOD = _json(_completion())
_CHUNKS = (
    {"choices": [{"index": 0, "delta": {"content": '{"label": '}, "finish_reason": None}]},
    {"choices": [{"index": 0, "delta": {"content": '"yes"}'}, "finish_reason": "stop"}]},
    {"choices": [], "usage": USAGE},
)
_SSE = b": OPENROUTER PROCESSING\n\n" + b"".join(
    b"data: %s\n\n" % _json({"id": "c", "object": "chat.completion.chunk", "model": "m", **chunk}) for chunk in _CHUNKS
)
_SCHEMA_ERROR = (
    "Invalid schema for response_format 'label': In context=(), 'additionalProperties' is required to be supplied "
    "and to be false."
)
_EFFORTS = "Supported values are: 'low', 'medium', and 'high'."
# The query keeps a redirect from being played again where the fault is named by the model.
_TARGET = "/v1/chat/completions?redirected=1"
_NO_CREDIT = "Insufficient credits. Add more using https://openrouter.ai/settings/credits"
_PARTS = [{"type": "text", "text": LABEL}]
_THINKING = {"type": "thinking", "thinking": [{"type": "text", "text": 'Maybe {"label": "no"}?'}]}

_STATUS = {
    "s400-context": _error(
        400,
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens. "
        "Please reduce the length of the messages.",
        type="invalid_request_error",
        param="messages",
        code="context_length_exceeded",
    ),
    "s400-schema": _error(400, _SCHEMA_ERROR, type="invalid_request_error", param="response_format", code=None),
    "s400-value": _error(
        400,
        "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is supported.",
        type="invalid_request_error",
        param="temperature",
        code="unsupported_value",
    ),
    "s400-effort": _error(
        400,
        f"Unsupported value: 'reasoning_effort' does not support 'minimal' with this model. {_EFFORTS}",
        type="invalid_request_error",
        param="reasoning_effort",
        code="unsupported_value",
    ),
    "s400-filter": _error(
        400,
        "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. "
        "Please modify your prompt and retry.",
        type=None,
        param="prompt",
        code="content_filter",
        status=400,
        innererror={
            "code": "ResponsibleAIPolicyViolation",
            "content_filter_result": {
                "hate": {"filtered": False, "severity": "safe"},
                "violence": {"filtered": True, "severity": "medium"},
            },
        },
    ),
    "s400-gemini-list": Fault(
        400,
        body=_json(
            [
                {
                    "error": {
                        "code": 400,
                        "message": "API key not valid. Please pass a valid API key.",
                        "status": "INVALID_ARGUMENT",
                    }
                }
            ]
        ),
    ),
    "s400-router-model": _router(400, "foo/bar is not a valid model ID"),
    "s400-router-raw": _router(
        400,
        "Provider returned error",
        metadata={"raw": json.dumps({"error": {"message": _SCHEMA_ERROR}}), "provider_name": "OpenAI"},
    ),
    "s401-key": _error(
        401,
        "Incorrect API key provided: sk-abcde*************wxyz. You can find your API key at "
        "https://platform.openai.com/account/api-keys.",
        type="invalid_request_error",
        param=None,
        code="invalid_api_key",
    ),
    "s401-echo": Fault(
        401,
        body=lambda call: _json(
            {
                "error": {
                    "message": f"Incorrect API key provided: {call.key}.",
                    "type": "invalid_request_error",
                    "code": "invalid_api_key",
                }
            }
        ),
    ),
    "s402-credits": _router(402, _NO_CREDIT, metadata={"limit_source": "openrouter_credits"}),
    "s402-in-flight": _router(
        402,
        "Insufficient credits while other requests are in flight. Try again when they are settled.",
        {"Retry-After": "1"},
        metadata={"limit_source": "in_flight"},
    ),
    "s403-key-limit": _router(
        403, "Key limit exceeded (total limit). Manage it using https://openrouter.ai/settings/keys"
    ),
    "s403-region": _error(
        403,
        "Country, region, or territory not supported",
        type="request_forbidden",
        param=None,
        code="unsupported_country_region_territory",
    ),
    "s404-model": _error(
        404,
        "The model `gpt-9` does not exist or you do not have access to it.",
        type="invalid_request_error",
        param=None,
        code="model_not_found",
    ),
    "s404-endpoints": _router(
        404,
        "No endpoints found matching your data policy (Free model publication). "
        "Configure: https://openrouter.ai/settings/privacy",
    ),
    "s404-html": _html(404, "404 Not Found"),
    "s408": _router(408, "Request timed out"),
    "s409": _error(409, "The request conflicts with another in progress.", type="conflict_error"),
    "s413-html": _html(413, "413 Request Entity Too Large"),
    "s413-tpm": _error(
        413,
        "Request too large for model `llama-x` in organization `org_x` service tier `on_demand` on tokens per minute "
        "(TPM): Limit 6000, Requested 9120, please reduce your message size and try again.",
        type="tokens",
        code="rate_limit_exceeded",
    ),
    "s422-detail": Fault(
        422,
        body=_json(
            {"detail": [{"type": "missing", "loc": ["body", "messages"], "msg": "Field required", "input": {}}]}
        ),
    ),
    "s425": Fault(425, body=_json({"error": "Too Early"})),
    "s498-capacity": _error(498, "Flex tier capacity exceeded", type="server_error", code="capacity_exceeded"),
    "s499": _error(499, "Client closed request", type="server_error", code="client_closed_request"),
    "s500-json": _error(
        500, "The server had an error while processing your request. Sorry about that!", type="server_error"
    ),
    "s500-bad-request": _error(500, "Invalid JSON schema: unsupported keyword 'oneOf'", type="server_error"),
    "s501": _error(501, "Not implemented", type="server_error"),
    "s502-html": _html(502, "502 Bad Gateway"),
    "s503-html": _html(503, "503 Service Temporarily Unavailable"),
    "s503-after": _router(
        503, "Provider overloaded", {"Retry-After": "1"}, metadata={"error_type": "provider_overloaded"}
    ),
    "s504-html": _html(504, "504 Gateway Time-out"),
    "s520-html": _html(520, "520: Web server is returning an unknown error"),
    "s522-html": _html(522, "522: Connection timed out"),
    "s523-html": _html(523, "523: Origin is unreachable"),
    "s524-html": _html(524, "524: A timeout occurred", billed=True),
    "s525-html": _html(525, "525: SSL handshake failed"),
    "s529-overloaded": _error(529, "Overloaded", type="overloaded_error"),
    "s204": Fault(204, {"Content-Type": None}),
}

_RATE = {
    "r429-reset-6m": _rpm({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, again="6m0s"),
    "r429-text": _error(
        429,
        "Rate limit reached for `m` on tokens per minute (TPM): Limit 6000, Used 5900, Requested 400. "
        "Please try again in 1.2s.",
        type="tokens",
        code="rate_limit_exceeded",
    ),
    "r429-after": _rpm({"Retry-After": "1"}),
    "r429-date": _rpm({"Retry-After": lambda call: formatdate(call.now + 2, usegmt=True)}, again="2s"),
    "r429-ms-0": _rpm({"retry-after-ms": "0", "Retry-After": "2"}, again="2s"),
    "r429-days": _rpm({"Retry-After": "259200"}, again="72h0m0s"),
    "r429-zero": _rpm({"Retry-After": "0"}),
    "r429-nan": _rpm({"Retry-After": "nan"}),
    "r429-negative": _rpm({"Retry-After": "-5"}),
    "r429-garbage": _rpm({"Retry-After": "soon"}),
    "r429-no-retry": _rpm({"x-should-retry": "false"}),
    "r429-quota": _quota(
        "You exceeded your current quota, please check your plan and billing details.", "insufficient_quota"
    ),
    "r429-credit": _quota("Your credit balance is exhausted.", "credit_balance_exhausted"),
    "r429-inactive": _quota(
        "Your account is not active, please check your billing details on our website.",
        "billing_not_active",
        "billing_not_active",
    ),
    "r429-free-day": Fault(429, {"x-ratelimit-reset": _midnight_ms}, _free_day),
    "r429-tpd": _error(
        429,
        "Rate limit reached for model `m` on tokens per day (TPD): Limit 500000, Used 499980, Requested 900. "
        "Please try again in 2m32.064s.",
        {"Retry-After": "153"},
        type="tokens",
        code="rate_limit_exceeded",
    ),
    "r429-too-large": _error(
        429,
        "Request too large for gpt-x (for limit gpt-x) in organization org-x on tokens per min (TPM): Limit 30000, "
        "Requested 45000. The input or output tokens must be reduced in order to run successfully.",
        type="tokens",
        param=None,
        code="rate_limit_exceeded",
    ),
    "r429-upstream": _router(
        429,
        "Provider returned error",
        metadata={
            "raw": "m is temporarily rate-limited upstream. Please retry shortly, or add your own key to accumulate "
            "your rate limits: https://openrouter.ai/settings/integrations",
            "provider_name": "Chutes",
        },
    ),
    "r429-gemini": Fault(
        429,
        body=_json(
            [
                {
                    "error": {
                        "code": 429,
                        "message": "You exceeded your current quota. Please retry in 1.5s.",
                        "status": "RESOURCE_EXHAUSTED",
                        "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1.5s"}],
                    }
                }
            ]
        ),
    ),
}

_REDIRECTS = {
    "m301": _redirect(301, _TARGET),
    "m302-login": _redirect(302, "/login"),
    "m307": _redirect(307, _TARGET),
    "m308": _redirect(308, _TARGET),
    "m-loop": _redirect(307, "/fault/m-loop/v1/chat/completions"),
    "m-cross": _redirect(307, lambda call: f"http://localhost:{call.port}{_TARGET}"),
}

_BODIES = {
    "b-empty-json": _unpaid(b""),
    "b-blank": _body(b" \n" * 40, readable=False),
    "b-null": _unpaid(b"null"),
    "b-string": _unpaid(b'"upstream error"'),
    "b-number": _unpaid(b"0"),
    "b-object": _unpaid(b"{}"),
    "b-html": _unpaid(page("Welcome"), Content_Type="text/html"),
    "b-html-json": _body(page("Oops"), readable=False),
    "b-utf16": _body(b"\xff\xfe" + _GOOD.decode().encode("utf-16-le")),
    "b-text-type": _body(_GOOD, Content_Type="text/plain"),
    "b-no-type": _body(_GOOD, Content_Type=None),
    "b-space": _body(b" " * 4000 + b"\n" * 40 + _GOOD),
    "b-comments": _body(b": OPENROUTER PROCESSING\n\n" * 3 + _GOOD),
    "b-sse": _body(_SSE + b"data: [DONE]\n\n", Content_Type="text/event-stream"),
    "b-dup-keys": _body(_GOOD[:-1] + b', "choices": []}'),
    "b-nan": _body(_GOOD[:-1] + b', "score": NaN}'),
    "b-extra": _body(_GOOD + b'\n{"done": true}'),
    "b-deep": _unpaid(b"[" * 100_000 + b"]" * 100_000),
    "b-big": _answer("x" * 2_000_000),
    "b-gzip": _body(gzip.compress(_GOOD, mtime=0), Content_Encoding="gzip"),
    "b-gzip-cut": _body(gzip.compress(_GOOD, mtime=0)[:-40], readable=False, Content_Encoding="gzip"),
    "b-gzip-bad": _body(_GOOD, readable=False, Content_Encoding="gzip"),
    "b-br": _body(_brotli(_GOOD), readable=False, Content_Encoding="br"),
    "b-control": _answer("yes\x00\x07\x1b[31m"),
    "b-surrogate": _answer('{"label": "yes \ud83d"}'),
}

_BELOW = {
    "w-reset": _body(b"", "reset", readable=False),
    "w-cut-length": _body(_GOOD, "cut", readable=False),
    "w-cut-eof": _body(_GOOD, "cut_eof", readable=False),
    "w-cut-chunk": _body(_GOOD, "cut_chunk", readable=False),
    "w-garbage": Fault(body=b"SSH-2.0-OpenSSH_9.6\r\n", wire="raw"),
    "w-hang": _body(b"", "hang", readable=False),
    "w-drip": _body(b"", "drip", readable=False),
    "w-slow": _body(_GOOD, "slow"),
    "w-idle-close": _body(_GOOD, "idle_close"),
}

_MESSAGES = {
    "c-error-502": Fault(body=_json({"error": {"code": 502, "message": "Provider returned error"}})),
    "c-error-400": Fault(body=_json({"error": {"code": 400, "message": "Input is too long for requested model."}})),
    "c-error-text": Fault(body=_json({"error": "model overloaded"})),
    "c-detail": Fault(body=_json({"detail": "Not authenticated"})),
    "c-error-null-ok": _answer(error=None),
    "c-no-choices": Fault(body=_json({"model": "m", "usage": USAGE}), tokens=USAGE, billed=True),
    "c-choices-null": _answer(choices=None, usage=dict(zip(USAGE, (12, 4, 16), strict=True))),
    "c-choices-empty": _answer(choices=[], usage=dict(zip(USAGE, (12, 4, 16), strict=True))),
    "c-choices-dict": _answer(choices={"0": "yes"}, usage=dict(zip(USAGE, (12, 4, 16), strict=True))),
    "c-no-message": _choice(finish_reason="stop"),
    "c-content-null": _said(None),
    "c-content-empty": _said(""),
    "c-content-space": _said(" \n\t "),
    "c-content-parts": _said(_PARTS),
    "c-content-thinking": _said([_THINKING, *_PARTS]),
    "c-refusal": _choice(
        message={"content": None, "refusal": "I'm sorry, I can't assist with that request."}, finish_reason="stop"
    ),
    "c-filter": _said("", "content_filter"),
    "c-filter-safety": _choice(message={"role": "assistant"}, finish_reason="SAFETY"),
    "c-finish-error": _choice(
        message={"content": "par"},
        finish_reason="error",
        error={"code": 502, "message": "Upstream idle timeout exceeded"},
    ),
    "c-finish-system": _said('{"lab', "insufficient_system_resource"),
    "c-finish-null": _said(LABEL, None),
    "c-finish-odd": _said(LABEL, "eos_token"),
    "c-model-null": _answer(model=None, id=None),
    "c-two": _answer(
        choices=[
            {"message": {"content": LABEL}, "finish_reason": "stop"},
            {"index": 1, "message": {"content": '{"label": "no"}'}, "finish_reason": "stop"},
        ]
    ),
    "c-cut-prompt": _usage(2, 4, 6),
}

_ODD_USAGE = {
    "u-null": _answer(usage=None),
    "u-missing": _answer(usage=_NOTHING),
    "u-empty": _answer(usage={}),
    "u-partial": _answer(usage={"total_tokens": 15}),
    "u-zero": _usage(0, 0, 0),
    "u-strings": _usage("10", "5", "15"),
    "u-negative": _usage(10, -5, 5),
    "u-float": _usage(10.5, 5.5, 15.5),
    "u-bool": _usage(True, True, True),
    "u-mismatch": _usage(10, 5, 915),
    "u-details-null": _usage(10, 5, 15, prompt_tokens_details=None, completion_tokens_details=None),
    "u-details-odd": _usage(
        10, 5, 15, prompt_tokens_details={"cached_tokens": 99}, completion_tokens_details={"reasoning_tokens": 99}
    ),
    "u-cost": _usage(10, 5, 15, cost=0.00014, is_byok=False, cost_details={"upstream_inference_cost": None}),
    "u-cost-byok": _usage(10, 5, 15, cost=0, is_byok=True, cost_details={"upstream_inference_cost": 0.00014}),
    "u-cost-text": _usage(10, 5, 15, cost="0.000123"),
}

_TEXTS = {
    "j-fence": _answer(f"```json\n{LABEL}\n```"),
    "j-prose": _answer(f"Sure! Here is the JSON you asked for:\n\n{LABEL}\n\nLet me know if you need more."),
    "j-two": _answer(f'{LABEL}\nWait, on reflection: {{"label": "no"}}'),
    "j-braces-prose": _answer(f"Using the set {{yes, no}}: {LABEL}"),
    "j-think": _answer(f'<think>Maybe {{"label": "no"}}? Hmm.</think>\n\n{LABEL}'),
    "j-think-end": _answer(f"Let me see...</think>{LABEL}"),
    "j-think-inside": _answer('{"label": "yes", "why": "it says <think>no</think> and ```json {} ```"}'),
    "j-think-open": _answer('<think>Maybe {"label": "no"}'),
    "j-trailing-comma": _answer('{"label": "yes",}'),
    "j-single": _answer("{'label': 'yes'}"),
    "j-python": _answer("{'label': 'yes', 'sure': True, 'why': None}"),
    "j-smart": _answer("{\u201clabel\u201d: \u201cyes\u201d}"),
    "j-nan": _answer('{"label": "yes", "score": NaN}'),
    "j-infinity": _answer('{"label": "yes", "score": -Infinity}'),
    "j-dup": _answer('{"label": "yes", "label": "no"}'),
    "j-cut": _answer('{"label": "yes", "why": "beca'),
    "j-zero-width": _answer('{"label": "\u200byes\xa0"}'),
    "j-escaped": _answer(json.dumps(LABEL)),
    "j-scalar": _answer('"yes"'),
    "j-bare": _answer("yes"),
    "j-number": _answer('{"label": 1}'),
    "j-number-text": _answer('{"label": "yes", "score": "0,9"}'),
    "j-bool": _answer('{"label": true}'),
    "j-empty": _answer("{}"),
    "j-key-case": _answer('{"Label": "yes"}'),
    "j-unknown": _answer('{"label": "maybe"}'),
    "j-multi": _answer('{"label": "yes, no"}'),
    "j-label-list": _answer('{"label": ["yes", "no"]}'),
    "j-extra": _answer('{"label": "yes", "confidence": 0.9, "notes": "x"}'),
    "j-nested": _answer('{"result": {"label": "yes"}}'),
    "j-schema": _answer('{"type": "object", "properties": {"label": {"type": "string"}}, "required": ["label"]}'),
    "j-refuse": _answer("I'm sorry, but I can't help with that."),
    "j-flood": _answer(
        '{"label":' + " " * 16_000, finish="length", usage=dict(zip(USAGE, (11, 4096, 4107), strict=True))
    ),
    "j-loop": _answer(
        '{"why": "' + "and so on " * 1_600, finish="length", usage=dict(zip(USAGE, (11, 4096, 4107), strict=True))
    ),
    "j-xml": _answer("<label>yes</label>"),
}

_MEMORY = {
    "t-rpm": _rpm({}, limit=20, period_s=1.0),
    "t-crowd": replace(
        _error(429, "Too many requests at the same time: 8 allowed.", code="slow_down"), max_in_flight=8
    ),
    "t-broke": replace(_router(402, _NO_CREDIT, metadata={"limit_source": "openrouter_credits"}), after=20),
}

FAULTS: Mapping[str, Fault] = MappingProxyType(
    _STATUS | _RATE | _REDIRECTS | _BODIES | _BELOW | _MESSAGES | _ODD_USAGE | _TEXTS | _MEMORY
)

SIDES: Mapping[str, str] = MappingProxyType(
    {
        "reset": "accepts, then resets",
        "blackhole": "answers no SYN: its accept queue is full (Linux)",
        "refused": "a port on which nobody listens",
        "tls_self_signed": "https with a certificate nobody trusts",
        "no_dns": "a host that does not exist",
    }
)


def fill_accept_queue() -> list[socket.socket]:
    """A port, the first socket's, that drops every further SYN; keep all of them open."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    sockets = [listener]
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
        sockets.append(filler)
    return sockets


def unlistened() -> list[socket.socket]:
    """A port that is taken, and on which nobody listens."""
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    return [taken]


class Resetting(asyncio.Protocol):
    """Accepts a connection and resets it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Reset."""
        if isinstance(transport, asyncio.Transport):
            reset(transport)


def self_signed() -> ssl.SSLContext:
    """A TLS server context with a certificate for 127.0.0.1 that no client trusts.

    Written by hand, since the standard library makes none. Its private key is the number 1: it protects nothing.
    """

    def der(tag: int, *parts: bytes) -> bytes:
        body = b"".join(parts)
        size = len(body).to_bytes(2, "big").lstrip(b"\0") or b"\0"
        return bytes([tag]) + (size if len(body) < 128 else bytes([128 | len(size)]) + size) + body

    def oid(text: str) -> bytes:
        return der(0x06, bytes.fromhex(text))

    def when(days: int) -> bytes:
        return der(0x17, (datetime.now(UTC) + timedelta(days=days)).strftime("%y%m%d%H%M%SZ").encode())

    def pem(kind: str, body: bytes) -> bytes:
        return f"-----BEGIN {kind}-----\n{base64.encodebytes(body).decode()}-----END {kind}-----\n".encode()

    # The public key of the private key 1 is the curve's generator (P-256).
    generator = bytes.fromhex(
        "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
        "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
    )
    curve, one = oid("2a8648ce3d030107"), der(0x02, b"\1")
    point = der(0x03, b"\0", generator)
    signed_by = der(0x30, oid("2a8648ce3d040302"))
    name = der(0x30, der(0x31, der(0x30, oid("550403"), der(0x0C, b"simulated provider"))))
    address = der(0x30, oid("551d11"), der(0x04, der(0x30, der(0x87, bytes([127, 0, 0, 1])))))
    public = der(0x30, der(0x30, oid("2a8648ce3d0201"), curve), point)
    validity = der(0x30, when(-1), when(30))
    version, extensions = der(0xA0, der(0x02, b"\2")), der(0xA3, der(0x30, address))
    body = der(0x30, version, one, signed_by, name, validity, name, public, extensions)
    # A signature of (1, 1) is wrong, but an untrusted issuer is refused before it is looked at.
    certificate = der(0x30, body, signed_by, der(0x03, b"\0", der(0x30, one, one)))
    key = der(0x30, one, der(0x04, bytes(31) + b"\1"), der(0xA0, curve), der(0xA1, point))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as file:
        file.write(pem("CERTIFICATE", certificate) + pem("EC PRIVATE KEY", key))
        file.flush()
        context.load_cert_chain(file.name)
    return context
