"""One request → one `Reply`, whatever happens on the way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from llmlab import errors
from llmlab.client.endpoint import Endpoint
from llmlab.client.failures import explain
from llmlab.client.images import has_images, with_images_read
from llmlab.client.response import read_reply
from llmlab.client.transport import Request, make_transport
from llmlab.client.usage import text_tokens
from llmlab.errors import AttemptError, EmptyInputError, InputError
from llmlab.records import Reply

_WRITER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
_LOST = "\ufffd".encode()
_FIXED = {"stream", "stream_options", "model", "messages"}


def checked_request(request: Mapping[str, Any]) -> dict[str, Any]:
    """The user's further parameters of the request, with the contents of `extra_body` among them.

    Raises
    ------
    InputError
        A parameter that llmlab sets itself, or one that cannot be sent.
    """
    body = dict(request)
    for name in ("extra_body", "extra_headers", "extra_query"):
        if body.get(name) is not None and not isinstance(body[name], Mapping):
            raise InputError(f"{name} must be a mapping, not {type(body[name]).__name__}.")
    body |= body.pop("extra_body", None) or {}
    wrong = sorted(_FIXED & body.keys())
    if wrong:
        raise InputError(f"{', '.join(wrong)} cannot be passed on: llmlab sets it, or needs whole answers.")
    for name in [name for name, value in body.items() if value is None]:
        del body[name]
    for name, value in (body.get("extra_headers") or {}).items():
        if not (isinstance(value, str) and (name + value).isascii() and (name + value).isprintable()):
            raise InputError(f"extra_headers: {name!r} must be printable ASCII text.")
    try:
        sent = {name: value for name, value in body.items() if name not in ("extra_headers", "extra_query")}
        json.dumps(sent, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"These parameters cannot be sent as JSON: {error}.") from None
    return body


class ChatClient:
    """Sends requests to one endpoint and reads their answers, within one event loop.

    Parameters
    ----------
    endpoint : Endpoint
    timeout_s : float
        Deadline of one attempt in seconds, from sending to the last byte.
    connections : int
        Most connections at a time.
    learn : bool
        Whether replies carry the provider's limits.
    """

    def __init__(self, endpoint: Endpoint, *, timeout_s: float, connections: int, learn: bool = False) -> None:
        self._secrets = endpoint.secrets
        self._timeout_s = timeout_s
        self._learn = learn
        self._transport = make_transport(endpoint, timeout_s=timeout_s, connections=connections)

    async def close(self) -> None:
        """Close the connections that are not the user's."""
        await self._transport.close()

    async def send(self, body: dict[str, Any]) -> Reply:
        """Send one request and read its answer; every failure is a `Reply` with an error.

        Parameters
        ----------
        body : dict
            The request as JSON; `extra_headers` and `extra_query` are taken out of it.

        Raises
        ------
        asyncio.CancelledError
        InputError
            The messages cannot be written as JSON; nothing was sent.
        """
        headers, query = {}, {}
        if "extra_headers" in body or "extra_query" in body:
            body = dict(body)
            headers, query = body.pop("extra_headers", {}), body.pop("extra_query", {})
        if has_images(body["messages"]):
            try:
                # Reading and scaling pictures takes too long for the event loop.
                body = body | {"messages": await asyncio.to_thread(with_images_read, body["messages"])}
            except EmptyInputError as error:
                return Reply(error=error)
        content = encode(body)
        try:
            # Only this deadline ends a call: shorter ones would fire whenever the loop is busy.
            async with asyncio.timeout(self._timeout_s):
                answer = await self._transport.send(Request(body, content, headers, query))
        except TimeoutError as raised:
            return Reply(error=self._too_slow(raised))
        except AttemptError as error:
            return Reply(error=error)
        except Exception as raised:
            # Whatever the SDK, its transport or the decoder raises is a failed attempt, not the end of the run.
            return Reply(error=explain(raised, self._secrets, self._transport.proxy))
        reply = read_reply(answer.status, answer.headers, answer.body, key=answer.secrets, learn=self._learn)
        notes = ("U+FFFD in the prompt: a character was lost",) * (_LOST in content) + _checked_length(
            body, content, reply
        )
        return replace(reply, notes=reply.notes + notes) if notes else reply

    def _too_slow(self, raised: TimeoutError) -> AttemptError:
        if type(raised) is not TimeoutError:
            # A shorter limit of the user's client, or the one for having a connection.
            return explain(raised, self._secrets, self._transport.proxy)
        error = errors.TimeoutError(f"no complete answer within {self._timeout_s:g} s; it may be billed")
        error.may_be_billed = True
        return error


def _checked_length(body: dict[str, Any], content: bytes, reply: Reply) -> tuple[str, ...]:
    """A note if the provider counted far fewer tokens than the prompt has: some cut long prompts without a word."""
    counted = reply.usage.prompt_tokens
    # The bytes of a request are more than the characters of its texts, and quickly counted.
    if counted is None or counted >= len(content) / 16:
        return ()
    return ("few prompt_tokens: was the prompt cut?",) * (counted < text_tokens(body) / 4)


def encode(body: dict[str, Any]) -> bytes:
    """The request as bytes; lone surrogates, which are no text in UTF-8, become U+FFFD.

    Raises
    ------
    InputError
        It cannot be written as JSON.
    """
    try:
        text = _WRITER.encode(body)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"The messages of this unit cannot be sent as JSON: {error}.") from None
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
