"""What came over the wire → `Reply`: the tokens first, which never fails, then the text or the error.

Everything here is a pure function of status, headers and bytes, and raises nothing whatever the bytes are.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Mapping
from typing import Any

from llmlab import errors
from llmlab.client.failures import diagnose, feedback, one_line, without
from llmlab.errors import AttemptError
from llmlab.records import NO_FEEDBACK, UNKNOWN_USAGE, Reply, Usage

MOST_TOKENS = 1e12
_FILTERED = {"content_filter", "safety", "recitation", "prohibited_content", "blocklist", "spii", "image_safety"}


def read_reply(status: int, headers: Mapping[str, str], body: bytes, *, key: str = "", learn: bool = False) -> Reply:
    """One HTTP answer as a `Reply`.

    Parameters
    ----------
    status : int
    headers : mapping
        Looked up in lower case.
    body : bytes
        Decompressed, otherwise as received.
    key : str
        The API key; removed wherever the provider echoes it.
    learn : bool
        Whether to read the provider's limits from the headers.
    """
    data, notes, unreadable = _load(body)
    if isinstance(data, list) and len(data) == 1 and isinstance(data[0], dict) and data[0].get("error"):
        data = data[0]
    usage, usage_notes = read_usage(data.get("usage") if isinstance(data, dict) else None)
    notes += usage_notes
    content = finish_reason = None
    error: AttemptError | None = None
    try:
        if status >= 300:
            error = diagnose(status, headers, _text(body) if data is None else data, key=key)
            # A refused call used nothing that was reported; that is no oddity.
            notes = tuple(note for note in notes if note != "no usage")
        elif unreadable:
            error = _unreadable(unreadable, headers, body)
        elif not isinstance(data, dict):
            what = "null" if data is None else reprlib.repr(data)
            error = errors.BadResponseError(one_line(f"the body is no chat completion but {what}", key))
        else:
            content, finish_reason, error, more = _read_completion(data, headers, key)
            notes += more
    except RecursionError:
        error = errors.BadResponseError("the body is nested too deeply")
    top = data if isinstance(data, dict) else {}
    request_id = headers.get("x-request-id") or _str(top.get("id")) or headers.get("cf-ray")
    return Reply(
        content=content and without(key, content),
        usage=usage,
        error=error,
        finish_reason=finish_reason and without(key, finish_reason),
        model_returned=without(key, _str(top.get("model")) or "") or None,
        request_id=request_id and without(key, request_id),
        http_status=status,
        notes=notes,
        feedback=feedback(headers) if learn else NO_FEEDBACK,
    )


def read_usage(raw: object) -> tuple[Usage, tuple[str, ...]]:
    """Tokens and the provider's own cost; whatever is missing, negative or no number is `None`, and noted.

    Returns
    -------
    Usage
    tuple of str
        Notes.
    """
    if not isinstance(raw, dict):
        return UNKNOWN_USAGE, ("no usage",)
    notes: list[str] = []

    def count(source: dict[str, Any], name: str) -> int | None:
        value = source.get(name)
        if value is None or (type(value) is int and 0 <= value < MOST_TOKENS):
            return value
        try:
            number = float(value) if isinstance(value, (str, float)) else math.nan
        except ValueError:
            number = math.nan
        notes.append(f"odd {name}")
        return int(number) if 0 <= number < MOST_TOKENS and number == math.floor(number) else None

    prompt, completion, total = count(raw, "prompt_tokens"), count(raw, "completion_tokens"), count(raw, "total_tokens")
    if prompt == 0:
        # No prompt has no tokens: the provider did not count.
        notes.append("zero usage")
        prompt, completion, total = None, completion or None, total or None
    if total is None and prompt is not None and completion is not None:
        total = prompt + completion
    elif None not in (prompt, completion, total) and total != prompt + completion:  # type: ignore[operator]
        notes.append("total_tokens is not the sum")
    prompt_details, completion_details = raw.get("prompt_tokens_details"), raw.get("completion_tokens_details")
    cached = count(prompt_details, "cached_tokens") if isinstance(prompt_details, dict) else None
    reasoning = count(completion_details, "reasoning_tokens") if isinstance(completion_details, dict) else None
    if (cached or 0) > (prompt or math.inf) or (reasoning or 0) > (completion or math.inf):
        notes.append("odd token details")
    usage = Usage(prompt, completion, reasoning, cached, total, _cost(raw, notes))
    if usage == UNKNOWN_USAGE:
        notes.append("no usage")
    elif prompt is None or completion is None:
        notes.append("partial usage")
    return usage, tuple(notes)


def prompt_tokens(body: Mapping[str, Any]) -> float:
    """Characters / 4 of a request's messages: the estimate that needs no tokenizer."""
    contents = (message["content"] for message in body["messages"])
    return sum(len(content) if isinstance(content, str) else len(str(content)) for content in contents) / 4


def _cost(raw: dict[str, Any], notes: list[str]) -> float | None:
    def dollars(value: object) -> float | None:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            return None
        try:
            number = float(value)
        except (ValueError, OverflowError):
            return None
        return number if 0 <= number < math.inf else None

    if raw.get("cost") is None:
        return None
    cost = dollars(raw["cost"])
    if cost is None or isinstance(raw["cost"], str):
        notes.append("odd cost")
    details = raw.get("cost_details")
    upstream = dollars(details.get("upstream_inference_cost")) if isinstance(details, dict) else None
    if raw.get("is_byok") and upstream is not None:
        # With one's own key the router charges its fee, the provider the rest.
        notes.append("own key: upstream cost added")
        return (cost or 0.0) + upstream
    return cost


def _load(body: bytes) -> tuple[Any, tuple[str, ...], str | None]:
    """(data, notes, why it is unreadable); data may be there also when unreadable, for its usage."""
    try:
        return json.loads(body), (), None
    except (ValueError, RecursionError):
        pass
    text = _text(body)
    if not text.strip():
        return None, (), "the body is empty"
    lines = text.splitlines()
    if any(line.startswith((":", "data:")) for line in lines):
        rescued = _from_events(lines)
        if rescued is not None:
            return rescued, ("rescued from an event stream",), None
    text = text.lstrip("\ufeff \t\r\n")
    try:
        data, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return None, (), "the body is no JSON, or was cut off"
    if not text[end:].strip():
        return data, ("bytes that are no UTF-8 were replaced",), None
    return data, (), "there is more text after the JSON"


def _from_events(lines: list[str]) -> dict[str, Any] | None:
    """A completion out of server-sent events or between their comment lines."""
    plain = "\n".join(line for line in lines if not line.startswith((":", "data:", "event:", "id:", "retry:"))).strip()
    try:
        if plain:
            data = json.loads(plain)
            return data if isinstance(data, dict) else None
        whole: dict[str, Any] = {}
        content, finish_reason, done = "", None, False
        for line in lines:
            payload = line.removeprefix("data:").strip() if line.startswith("data:") else ""
            if payload == "[DONE]":
                done = True
            elif payload:
                chunk = json.loads(payload)
                whole |= {name: value for name, value in chunk.items() if value is not None}
                for choice in chunk.get("choices") or ():
                    message = choice.get("delta") or choice.get("message") or {}
                    content += message.get("content") or ""
                    finish_reason = choice.get("finish_reason") or finish_reason
    except (ValueError, RecursionError, TypeError, AttributeError):
        return None
    if not whole or not (done or finish_reason):
        return None
    return whole | {"choices": [{"index": 0, "message": {"content": content}, "finish_reason": finish_reason}]}


def _read_completion(
    data: dict[str, Any], headers: Mapping[str, str], key: str
) -> tuple[str | None, str | None, AttemptError | None, tuple[str, ...]]:
    choices = data.get("choices")
    if data.get("error") or ("choices" not in data and data.keys() & {"detail", "message"}):
        return None, None, diagnose(_code(data.get("error")), headers, data, key=key), ()
    if not isinstance(choices, list) or not choices:
        return None, None, errors.BadResponseError("the answer has no choices"), ()
    notes: tuple[str, ...] = ()
    if len(choices) > 1:
        notes += (f"{len(choices)} choices, the first is used",)
    first = next((c for c in choices if isinstance(c, dict) and c.get("index") == 0), choices[0])
    message = first.get("message") if isinstance(first, dict) else None
    if not isinstance(first, dict) or not isinstance(message, dict):
        return None, None, errors.BadResponseError("the answer has no message"), notes
    content = _content(message.get("content"))
    finish_reason = _str(first.get("finish_reason"))
    ended = (finish_reason or "").lower()
    error: AttemptError | None = None
    if first.get("error") or ended == "error":
        code = _code(first.get("error"))
        error = diagnose(code if code is not None else 502, headers, {"error": first.get("error")}, key=key)
    elif ended in _FILTERED:
        error = errors.ModerationError(f"stopped by a content filter ({ended})")
    elif ended == "insufficient_system_resource":
        error = errors.OverloadedError("the provider ran out of resources while answering")
    elif message.get("refusal"):
        error = errors.RefusalError(one_line(f"the model declined: {message['refusal']}", key))
    return content, finish_reason, error, notes


def _content(content: object) -> str | None:
    """The text of an answer, also when it comes in parts; thinking is not part of it."""
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text")
        return "".join(part for part in parts if isinstance(part, str))
    if isinstance(content, (dict, int, float)):
        return json.dumps(content, ensure_ascii=False)
    return content if isinstance(content, str) else None


def _code(error: object) -> int | None:
    """The HTTP status a 200's own error stands for."""
    code = error.get("code") if isinstance(error, dict) else None
    try:
        number = int(code)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if 300 <= number < 600 else None


def _text(body: bytes) -> str:
    return body.decode("utf-8-sig", "replace")


def _unreadable(why: str, headers: Mapping[str, str], body: bytes) -> AttemptError:
    kind = headers.get("content-type", "").lower()
    begins = (b"<",) if "html" in kind else (b"<!doctype", b"<html", b"<!--")
    if "json" not in kind and body[:200].lstrip().lower().startswith(begins):
        return errors.ConfigError(
            "the server answered with a web page, not with an answer: is base_url right (is /v1 missing)?"
        )
    error = errors.BadResponseError(why)
    # Blanks keep a connection alive while a model works.
    error.may_be_billed = bool(body)
    return error


def _str(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else reprlib.repr(value)
