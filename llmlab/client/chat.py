"""One request → one `Reply`: the only module that talks to the openai package.

The SDK's own retries and redirects are off, and its parsing is not used: it gives the raw response, so that body,
headers and tokens are there whatever happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from llmlab import errors
from llmlab.client.endpoint import Endpoint, proxy_of
from llmlab.client.failures import explain
from llmlab.client.redact import one_line
from llmlab.client.response import read_reply
from llmlab.client.usage import prompt_tokens
from llmlab.errors import AttemptError, InputError
from llmlab.records import Reply

if TYPE_CHECKING:
    import httpx2

MOST_HOPS = 3
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


@contextlib.contextmanager
def _setting_up(key: str) -> Iterator[None]:
    """Turn what certificates, proxies or headers of the environment make fail into an `InputError` that names it."""
    try:
        yield
    except FileNotFoundError as error:
        named = {name: os.environ.get(name, "") for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")}
        gone = [f"{name}={path}" for name, path in named.items() if path and not os.path.exists(path)]
        raise InputError(
            f"{' and '.join(gone) or 'A certificate file'} cannot be found: unset it or correct it."
        ) from error
    except (ImportError, ValueError, UnicodeError) as error:
        raise InputError(f"The connection cannot be set up: {one_line(str(error), key)}") from None


class ChatClient:
    """A connection pool to one endpoint, for one event loop.

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
        import httpx2
        import openai

        # The key is taken out of whatever comes back; a simulated provider's key is an ordinary word and stays.
        self._key = "" if endpoint.simulated else endpoint.api_key
        self._own = endpoint.client is None
        # A whole address saves the SDK joining it for every call; a client of the user's may build its own.
        self._path = f"{endpoint.base_url}/chat/completions" if self._own else "/chat/completions"
        self._timeout_s = timeout_s
        self._learn = learn
        self._raw = httpx2.Response
        self._status_error = openai.APIStatusError
        self._options: dict[str, Any] = {} if self._own else {"follow_redirects": False}
        self._proxy: str | None = None
        self._connections: httpx2.AsyncClient | None = None
        if endpoint.client is not None and type(endpoint.client._client).__name__ != "AsyncHttpxClientWrapper":
            # The user chose this http_client; it is used as it is.
            self._sdk = endpoint.client.with_options(max_retries=0)
            return
        # Only the deadline in `send` ends a call: shorter timeouts would fire whenever the loop is busy.
        timeout = httpx2.Timeout(None, connect=timeout_s * 0.9)
        limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._proxy = proxy_of(endpoint.base_url)
        # Loading the system's certificates takes 20 ms, which a plain http:// address does not need.
        plain = endpoint.base_url.startswith("http://") and self._proxy is None
        with _setting_up(self._key):
            self._connections = openai.DefaultAioHttpClient(
                limits=limits,
                timeout=timeout,
                follow_redirects=False,
                verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else True,
            )
            if endpoint.client is not None:
                # Connections belong to one event loop; the user's client may be used in several.
                given = endpoint.client.timeout
                self._sdk = endpoint.client.with_options(
                    max_retries=0,
                    timeout=timeout if given == openai.DEFAULT_TIMEOUT else given,
                    http_client=self._connections,
                )
                return
            self._sdk = openai.AsyncOpenAI(
                base_url=endpoint.base_url,
                api_key=endpoint.api_key,
                max_retries=0,
                timeout=timeout,
                http_client=self._connections,
            )
        if not f".{urlsplit(endpoint.base_url).hostname}".endswith(".openai.com"):
            # OPENAI_ORG_ID, OPENAI_PROJECT_ID and OPENAI_CUSTOM_HEADERS are meant for OpenAI and sent to no other host.
            self._sdk.organization = self._sdk.project = None
            self._sdk._custom_headers = {}

    async def close(self) -> None:
        """Close the connections that are ours."""
        if self._connections is not None:
            await self._connections.aclose()

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
        options = self._options
        if "extra_headers" in body or "extra_query" in body:
            body = dict(body)
            options = options | {"headers": body.pop("extra_headers", None), "params": body.pop("extra_query", None)}
            options = {name: value for name, value in options.items() if value is not None}
        content = encode(body)
        lost = _LOST in content
        if lost and not self._own:
            body = json.loads(content)
        try:
            async with asyncio.timeout(self._timeout_s):
                reply = await self._exchange(body, content if self._own else None, options)
            notes = ("U+FFFD in the prompt: a character was lost",) * lost + _checked_length(body, reply)
            return replace(reply, notes=reply.notes + notes) if notes else reply
        except TimeoutError:
            error: AttemptError = errors.TimeoutError(
                f"no complete answer within {self._timeout_s:g} s; it may be billed"
            )
            error.may_be_billed = True
        except Exception as raised:
            # Whatever the SDK, its transport or the decoder raises is a failed attempt, not the end of the run.
            error = explain(raised, self._key, self._proxy)
        return Reply(error=error)

    async def _exchange(self, body: dict[str, Any], content: bytes | None, options: dict[str, Any]) -> Reply:
        response = await self._post(self._path, body, content, options)
        for _ in range(MOST_HOPS):
            if response.status_code not in (307, 308):
                break
            here = str(response.request.url)
            target = urljoin(here, response.headers.get("location", here))
            if urlsplit(target)[:2] != urlsplit(here)[:2]:
                # The key must not reach another server.
                break
            response = await self._post(target, body, content, options)
        return read_reply(response.status_code, response.headers, response.content, key=self._key, learn=self._learn)

    async def _post(self, path: str, body: dict[str, Any], content: bytes | None, options: Any) -> httpx2.Response:
        sent: dict[str, Any] = {"body": body} if content is None else {"content": content}
        try:
            return await self._sdk.post(path, cast_to=self._raw, options=options, **sent)
        except self._status_error as error:
            return error.response


def _checked_length(body: dict[str, Any], reply: Reply) -> tuple[str, ...]:
    """A note if the provider counted far fewer tokens than the prompt has: some cut long prompts without a word."""
    counted = reply.usage.prompt_tokens
    return ("few prompt_tokens: was the prompt cut?",) * (counted is not None and counted < prompt_tokens(body) / 4)


def encode(body: dict[str, Any]) -> bytes:
    """The request as bytes; lone surrogates, which are no text in UTF-8, become U+FFFD.

    Raises
    ------
    InputError
        It cannot be written as JSON.
    """
    try:
        text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"The messages of this unit cannot be sent as JSON: {error}.") from None
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
