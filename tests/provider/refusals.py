"""Faults that are said by the HTTP status: refusals, limits, outages, redirects."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from email.utils import formatdate
from typing import Any

from tests.provider.faults import Call, Fault, page


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _error(status: int, message: str, headers: Mapping[str, Any] | None = None, /, **fields: object) -> Fault:
    return Fault(status, headers or {}, _json({"error": {"message": message, **fields}}))


def _router(status: int, message: str, headers: Mapping[str, Any] | None = None, /, **fields: object) -> Fault:
    """OpenRouter's form: the code is a number."""
    return Fault(status, headers or {}, _json({"error": {"code": status, "message": message, **fields}}))


def _html(status: int, title: str, **more: Any) -> Fault:
    return Fault(status, {"Content-Type": "text/html"}, page(title), **more)


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


_SCHEMA_ERROR = (
    "Invalid schema for response_format 'label': In context=(), 'additionalProperties' is required to be supplied "
    "and to be false."
)
_EFFORTS = "Supported values are: 'low', 'medium', and 'high'."
# The query keeps a redirect from being played again.
_TARGET = "/v1/chat/completions?redirected=1"
_NO_CREDIT = "Insufficient credits. Add more using https://openrouter.ai/settings/credits"
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
    "m-loop": _redirect(307, "/v1/chat/completions"),
    "m-cross": _redirect(307, lambda call: f"http://localhost:{call.port}{_TARGET}"),
}

_MEMORY = {
    "t-rpm": _rpm({}, limit=20, period_s=1.0),
    "t-crowd": replace(
        _error(429, "Too many requests at the same time: 8 allowed.", code="slow_down"), max_in_flight=8
    ),
    "t-broke": replace(_router(402, _NO_CREDIT, metadata={"limit_source": "openrouter_credits"}), after=20),
}

REFUSALS: Mapping[str, Fault] = _STATUS | _RATE | _REDIRECTS | _MEMORY
