"""One chat request and its answer: what was asked for is checked, the answer gets its usage, seeded by the request."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmlab.simulate.model import Reader, say, spoil, texts_of
from llmlab.simulate.reply import Reply, refuse
from llmlab.simulate.settings import Settings

PRICE_USD = (0.15e-6, 0.60e-6)
"""US dollars per prompt token and per completion token."""
DISCOUNTS = {"default": 1.0, "flex": 0.5, "batch": 0.5}
"""The share of the price that is charged, by tier."""
FLEX_SLOWER = 4
"""So many times longer a request of the flex tier takes."""

_EFFORT_TOKENS = {"none": 0, "minimal": 16, "low": 64, "medium": 256, "high": 768, "xhigh": 1536}


@dataclass(frozen=True)
class Request:
    """One chat request as it came in.

    Attributes
    ----------
    body : mapping
        The request's JSON; `{}` if it could not be read.
    key : str
        The API key.
    at_s : float
        When the rate limit saw it (`time.monotonic()`, s).
    query : str
        What follows the "?" in its address.
    tier : str
        How it is processed: "default", "flex" or "batch".
    """

    body: Mapping[str, Any]
    key: str = ""
    at_s: float = 0.0
    query: str = ""
    tier: str = "default"

    @property
    def model(self) -> str:
        """The model that is asked; "" if the body could not be read."""
        return self.body.get("model", "")

    def digest(self, seed: int) -> bytes:
        """The same for the same seed, model and messages: all that an answer follows from."""
        named = json.dumps([seed, self.model, self.body.get("messages")]).encode()
        return hashlib.blake2b(named, digest_size=16).digest()


def read_body(raw: bytes) -> dict[str, Any] | Reply:
    """The request's body, or the refusal that says what is wrong with it."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return refuse(400, "The body is not JSON.")
    return checked_body(body)


def checked_body(body: Any) -> dict[str, Any] | Reply:
    """The body of a chat request, or the refusal that says what is wrong with it."""
    if not isinstance(body, dict) or not isinstance(body.get("model"), str) or not body["model"]:
        return refuse(400, "You must provide a model parameter.", param="model")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(_is_message(message) for message in messages):
        message = "'messages' must be a list of at least one object with a 'content' of text or parts."
        return refuse(400, message, param="messages")
    for name in ("max_tokens", "max_completion_tokens"):
        most = body.get(name)
        if most is not None and (not isinstance(most, int) or most < 1):
            message = f"{most!r} is less than the minimum of 1 for {name}."
            return refuse(400, message, code="integer_below_min_value", param=name)
    form = body.get("response_format")
    if form is not None and not (isinstance(form, dict) and isinstance(form.get("json_schema", {}), dict)):
        return refuse(400, "'response_format' must be an object, and its 'json_schema' too.", param="response_format")
    if body.get("stream"):
        return refuse(400, "The simulated provider does not stream; leave out 'stream'.", param="stream")
    if _effort(body) not in _EFFORT_TOKENS:
        known = ", ".join(repr(effort) for effort in _EFFORT_TOKENS)
        message = (
            f"Unsupported value: 'reasoning_effort' does not support {_effort(body)!r}. Supported values are: {known}."
        )
        return refuse(400, message, code="unsupported_value", param="reasoning_effort")
    return body


def complete(settings: Settings, request: Request, digest: bytes, times: int) -> Reply:
    """The answer to a request whose messages, known by their digest, were answered `times` times before."""
    body, model, texts = request.body, request.model, texts_of(request.body["messages"])
    draws = hashlib.blake2b(digest + times.to_bytes(8, "big")).digest()
    luck = [int.from_bytes(draws[at : at + 4], "big") / 2**32 for at in range(0, 32, 4)]
    delay_s = (settings.latency_s + settings.jitter_s * luck[0]) * (FLEX_SLOWER if request.tier == "flex" else 1)
    if luck[1] < settings.error_rate:
        message = "The server had an error while processing your request. Sorry about that!"
        return _late(refuse(500, message, "server_error"), delay_s)
    reader = Reader("", (settings.models or {}).get(model, settings.accuracy), luck[2])
    content, finish = say(body, texts, reader), "stop"
    malformed = luck[3] < settings.malformed_rate
    if malformed:
        content, finish = spoil(content, reader.picked, luck[4])
    reasoning = round(_EFFORT_TOKENS[_effort(body)] * (0.5 + luck[5]))
    prompt = sum(len(text.encode("utf-8", "replace")) + 16 for text in texts) // 4 + 3
    written = -(-len(content.encode("utf-8", "replace")) // 4)
    most = body.get("max_completion_tokens") or body.get("max_tokens")
    if most and reasoning + written > most:
        reasoning = min(reasoning, most)
        written, finish = most - reasoning, "length"
        content = content[: written * 4]
    spent_usd = prompt * PRICE_USD[0] + (reasoning + written) * PRICE_USD[1]
    tally = {
        "prompt_tokens": prompt,
        "completion_tokens": reasoning + written,
        "total_tokens": prompt + reasoning + written,
        "cached_tokens": prompt // 128 * 128 if times and prompt >= 1024 else 0,
        "reasoning_tokens": reasoning,
        "malformed": int(malformed),
        "cost_usd": round(spent_usd * DISCOUNTS[request.tier], 10),
    }
    end = f',"usage":{json.dumps(_usage(tally, settings.cost))}}}'
    if luck[6] < settings.missing_usage_rate:
        tally, end = unseen(tally) | {"malformed": int(malformed)}, "}"
    text = (
        f'{{"id":"chatcmpl-{draws[:12].hex()}","object":"chat.completion","created":{int(time.time())},'
        f'"model":{json.dumps(model + " (simulated)")},"provider":"llmlab simulate","system_fingerprint":"simulated",'
        f'"choices":[{{"index":0,"message":{{"role":"assistant","content":{json.dumps(content)},"refusal":null}},'
        f'"logprobs":null,"finish_reason":"{finish}"}}],"service_tier":"{_served(request)}"{end}'
    )
    return Reply(200, text.encode(), tally=tally, delay_s=delay_s)


def tokens_of(tally: Mapping[str, float]) -> int:
    """The total tokens of a reply, whether or not its usage reaches the client."""
    return int(tally.get("total_tokens", 0) or tally.get("unsent_tokens", 0))


def unseen(tally: Mapping[str, float]) -> dict[str, int]:
    """The same tally when the answer, or its usage, does not reach the client."""
    total = tokens_of(tally)
    return {"usage_missing": 1, "unsent_tokens": total} if total else {}


def _served(request: Request) -> str:
    """The tier as the answer names it; of a batch it says nothing, as at real providers."""
    return "flex" if request.tier == "flex" else "default"


def _usage(tally: Mapping[str, float], cost: bool) -> dict[str, Any]:
    usage: dict[str, Any] = {name: tally[name] for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
    usage["prompt_tokens_details"] = {"cached_tokens": tally["cached_tokens"]}
    usage["completion_tokens_details"] = {"reasoning_tokens": tally["reasoning_tokens"]}
    if cost:
        usage["cost"] = tally["cost_usd"]
    return usage


def _late(reply: Reply, delay_s: float) -> Reply:
    return Reply(reply.status, reply.body, reply.headers, reply.tally, delay_s)


def _effort(body: Mapping[str, Any]) -> str:
    """OpenAI's `reasoning_effort`, or OpenRouter's `reasoning`."""
    reasoning = body.get("reasoning")
    return str(body.get("reasoning_effort") or (isinstance(reasoning, dict) and reasoning.get("effort")) or "none")


def _is_message(message: Any) -> bool:
    return isinstance(message, dict) and isinstance(message.get("content", ""), str | list | None)
