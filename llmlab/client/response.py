"""Status, headers and bytes of one HTTP answer → `Reply`.

The tokens are read first, so that they are kept whatever else is wrong. Nothing here raises, whatever the bytes are.
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Mapping
from typing import Any

from llmlab import errors
from llmlab.client.error_body import ErrorBody, read_error_body
from llmlab.client.failures import diagnose
from llmlab.client.headers import feedback
from llmlab.client.redact import one_line, without
from llmlab.client.served import read_served
from llmlab.client.usage import read_usage
from llmlab.errors import AttemptError
from llmlab.finish_reasons import Ended, ended
from llmlab.records import NO_FEEDBACK, Reply


def read_reply(
    status: int, headers: Mapping[str, str], body: bytes, *, key: str | tuple[str, ...] = "", learn: bool = False
) -> Reply:
    """One HTTP answer as a `Reply`.

    Parameters
    ----------
    status : int
    headers : mapping
        Looked up in lower case.
    body : bytes
        Decompressed, otherwise as received.
    key : str or tuple of str
        The API key or keys; removed wherever the provider echoes them.
    learn : bool
        Whether to read the provider's limits from the headers.
    """
    data, notes, unreadable = _load(body)
    if isinstance(data, list) and len(data) == 1 and isinstance(data[0], dict) and data[0].get("error"):
        data = data[0]
    usage, usage_notes = read_usage(data.get("usage") if isinstance(data, dict) else None)
    if status < 300:
        # An error answer reports no usage, which is nothing odd.
        notes += usage_notes
    content = finish_reason = None
    error: AttemptError | None = None
    try:
        if status >= 300:
            error = diagnose(status, headers, _text(body) if data is None else data, key=key)
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
    if "hit" in headers.get("x-cache", "").lower():
        notes += ("from a gateway's cache",)
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
        served=read_served(data, key),
    )


def _load(body: bytes) -> tuple[Any, tuple[str, ...], str | None]:
    """The parsed body, notes, and why it cannot be used (`None` if it can).

    An unusable body may still be parsed in part, for its usage.
    """
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
    """The completion in a stream of server-sent events, which some gateways send though none was asked for.

    `None` if there is none, or if the stream was cut off. Also for one JSON body between comment lines.
    """
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
    data: dict[str, Any], headers: Mapping[str, str], key: str | tuple[str, ...]
) -> tuple[str | None, str | None, AttemptError | None, tuple[str, ...]]:
    """Text, finish reason, error and notes of a 200's JSON object."""
    choices = data.get("choices")
    said = _stated_error(data, beside_an_answer=isinstance(choices, list) and len(choices) > 0)
    if said is not None:
        return None, None, diagnose(said.status, headers, data, key=key), ()
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
    how = ended(finish_reason)
    error: AttemptError | None = None
    if first.get("error") or (how is Ended.FAILED and (finish_reason or "").casefold() == "error"):
        said = read_error_body({"error": first.get("error")})
        error = diagnose(said.status or 502, headers, {"error": first.get("error")}, key=key)
    elif how is Ended.FILTERED:
        error = errors.ModerationError(
            f"stopped by a content filter (finish_reason {one_line(finish_reason or '', key)})"
        )
    elif how is Ended.FAILED:
        error = errors.OverloadedError("the provider ran out of resources while answering")
    elif message.get("refusal"):
        error = errors.RefusalError(one_line(f"the model declined: {message['refusal']}", key))
    return content, finish_reason, error, notes


def _content(content: object) -> str | None:
    """The text of an answer, which may come in parts; parts that hold thinking are left out."""
    if isinstance(content, list):
        parts = (part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text")
        return "".join(part for part in parts if isinstance(part, str))
    if isinstance(content, (dict, int, float)):
        return json.dumps(content, ensure_ascii=False)
    return content if isinstance(content, str) else None


def _stated_error(data: dict[str, Any], *, beside_an_answer: bool) -> ErrorBody | None:
    """The error that the body of a 200 states, if it does.

    Gateways send empty errors, and MiniMax the status 0, along with good answers; without an answer any message tells
    what is wrong.
    """
    own = data.get("base_resp")
    stated = {name: data[name] for name in ("error", "base_resp") if data.get(name)}
    if isinstance(own, dict) and own.get("status_code") in (0, "0"):
        del stated["base_resp"]
    if stated:
        said = read_error_body(stated)
        if said.says_something:
            return said
    if beside_an_answer:
        return None
    said = read_error_body(data)
    return said if said.message else None


def _text(body: bytes) -> str:
    return body.decode("utf-8-sig", "replace")


def _unreadable(why: str, headers: Mapping[str, str], body: bytes) -> AttemptError:
    kind = headers.get("content-type", "").lower()
    begins = (b"<",) if "html" in kind else (b"<!doctype", b"<html", b"<!--")
    if "json" not in kind and body[:200].lstrip().lower().startswith(begins):
        page = errors.ConfigError(
            "the server answered with a web page, not with an answer: is base_url right (is /v1 missing)?"
        )
        # At an address that has answered before it is a gateway's, for a while or for this text.
        page.ends_once_answered = "attempt"
        return page
    error = errors.BadResponseError(why)
    # Blanks count as a begun answer: some providers send them to keep the connection alive while the model works.
    error.may_be_billed = bool(body)
    return error


def _str(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else reprlib.repr(value)
