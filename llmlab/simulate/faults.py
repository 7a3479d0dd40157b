"""A dozen faults of real providers, by name: what a request gets instead of an answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from llmlab.simulate.reply import Cut, Reply, Silence, refuse

_PAGE = b"<html>\n<head><title>%s</title></head>\n<body><h1>%s</h1><hr><center>nginx</center></body>\n</html>\n"
_USAGE = {"prompt_tokens": 40, "completion_tokens": 5, "total_tokens": 45}
_UNSEEN = {"usage_missing": 1, "unsent_tokens": _USAGE["total_tokens"]}


def _page(status: int, title: bytes) -> Reply:
    return Reply(status, _PAGE % (title, title), {"Content-Type": "text/html"})


def _completion(content: str | None, refusal: str | None = None) -> bytes:
    message = {"role": "assistant", "content": content, "refusal": refusal}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    whole = {"id": "chatcmpl-0", "object": "chat.completion", "created": 0, "model": "simulated", "choices": [choice]}
    return json.dumps(whole | {"usage": _USAGE}).encode()


_REPLIES: Mapping[str, Reply] = {
    "outage": _page(503, b"503 Service Temporarily Unavailable"),
    "overloaded": replace(refuse(529, "Overloaded", "overloaded_error"), headers={"Retry-After": "1"}),
    "server_error": refuse(500, "The server had an error while processing your request.", "server_error"),
    "bad_key": refuse(401, "Incorrect API key provided.", code="invalid_api_key"),
    "no_credit": refuse(402, "Insufficient credits.", "insufficient_credits", "insufficient_credits"),
    "no_quota": refuse(
        429,
        "You exceeded your current quota, please check your plan and billing details.",
        "insufficient_quota",
        "insufficient_quota",
    ),
    "unknown_model": refuse(404, "The model does not exist or you do not have access to it.", code="model_not_found"),
    "wrong_setting": refuse(
        400,
        "Unsupported value: 'temperature' does not support 0 with this model.",
        code="unsupported_value",
        param="temperature",
    ),
    "too_long": refuse(
        400,
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.",
        code="context_length_exceeded",
        param="messages",
    ),
    "moderated": refuse(400, "The prompt was filtered.", code="content_filter", param="prompt"),
    "web_page": _page(200, b"Welcome"),
    "declined": Reply(200, _completion(None, "I'm sorry, I can't assist with that request."), tally=_USAGE),
    "empty": Reply(200, _completion(""), tally=_USAGE),
    "silent": Silence(200, tally=_UNSEEN),
    "cut": Cut(200, _completion("simulated"), tally=_UNSEEN),
}
FAULTS: Mapping[str, Reply] = MappingProxyType(
    {name: replace(reply, tally={"faults": 1, **reply.tally}) for name, reply in _REPLIES.items()}
)
