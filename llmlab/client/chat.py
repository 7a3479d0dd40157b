"""One trial → one `Reply`: the only module that talks to the openai package.

The SDK's own retries are off, its redirects too, and its parsing is passed by: it gives the raw response, so that body,
headers and tokens are there whatever happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from llmlab import errors
from llmlab.client.failures import explain, one_line
from llmlab.client.response import prompt_tokens, read_reply
from llmlab.errors import AttemptError, InputError
from llmlab.records import Reply

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI

OPENAI_URL = "https://api.openai.com/v1"
OPENROUTER_URL = "https://openrouter.ai/api/v1"
MOST_HOPS = 3
_LOST = "\ufffd".encode()
_FIXED = {"stream", "stream_options", "model", "messages"}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to send, and with which key.

    Attributes
    ----------
    base_url : str
        Ends without `/chat/completions`.
    api_key : str
        Not in the repr.
    client : AsyncOpenAI or None
        The user's own client, used as it is but for its retries, and for its connections if they are the SDK's.
    simulated : bool
        Whether no real model is behind it.
    """

    base_url: str
    api_key: str = field(repr=False)
    client: AsyncOpenAI | None = field(default=None, repr=False)
    simulated: bool = False


def resolve(base_url: str | None = None, api_key: str | None = None, client: object = None) -> Endpoint:
    """The endpoint meant by these arguments and the environment.

    A key found in the environment for one host is never sent to another.

    Parameters
    ----------
    base_url : str, optional
        Default: OpenRouter if `OPENROUTER_API_KEY` is set, else `OPENAI_BASE_URL` or OpenAI.
    api_key : str, optional
    client : AsyncOpenAI or object with `base_url` and `api_key`, optional
        For example `llmlab.simulate.client(...)`.

    Raises
    ------
    InputError
        No key, a key that cannot be a header, a URL that cannot be called. The key is not shown.
    """
    if client is not None:
        if base_url is not None or api_key is not None:
            raise InputError("Give either client= or base_url=/api_key=, not both: the client has its own.")
        url, key = getattr(client, "base_url", None), getattr(client, "api_key", None)
        if url is None or not isinstance(key, str):
            raise InputError(
                f"client= takes an openai.AsyncOpenAI or llmlab.simulate.client(...), not {type(client).__name__}."
            )
        if not hasattr(client, "with_options"):
            simulated = bool(getattr(client, "simulated", False))
            return Endpoint(_checked_url(str(url)), _checked_key(key, "client.api_key"), simulated=simulated)
        from openai import AsyncOpenAI

        if not isinstance(client, AsyncOpenAI):
            raise InputError("client= needs the asynchronous client: openai.AsyncOpenAI(...), not OpenAI(...).")
        if key:
            _checked_key(key, "client.api_key", as_it_is=True)
        return Endpoint(str(url).rstrip("/"), key, client)
    names = ("OPENROUTER_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL")
    env = {name: os.environ.get(name, "").strip() for name in names}
    openai_url = env["OPENAI_BASE_URL"] or OPENAI_URL
    if base_url is None:
        routed = bool(env["OPENROUTER_API_KEY"]) if api_key is None else api_key.strip().startswith("sk-or-")
        base_url = OPENROUTER_URL if routed else openai_url
    base_url = _checked_url(base_url)
    if api_key is not None:
        return Endpoint(base_url, _checked_key(api_key, "api_key"))
    host = urlsplit(base_url).hostname
    for name, owner in (("OPENROUTER_API_KEY", OPENROUTER_URL), ("OPENAI_API_KEY", openai_url)):
        if env[name] and host == urlsplit(owner).hostname:
            return Endpoint(base_url, _checked_key(env[name], name))
    found = [name for name in ("OPENROUTER_API_KEY", "OPENAI_API_KEY") if env[name]]
    seen = f"{' and '.join(found)} belongs to another host and is not sent there." if found else (
        "OPENROUTER_API_KEY and OPENAI_API_KEY are not set."
    )  # fmt: skip
    raise InputError(
        f"No API key for {base_url}: {seen} Set one, or pass api_key=... "
        "(any text for a server that needs none), or try without: client=llmlab.simulate.client()."
    )


def _checked_key(key: str, source: str, *, as_it_is: bool = False) -> str:
    key = key if as_it_is else key.strip()
    if not key:
        raise InputError(f"{source} is empty.")
    for place, character in enumerate(key, 1):
        if not (32 < ord(character) < 127):
            what = "a line break" if character in "\r\n" else "not a printable ASCII character"
            raise InputError(f"{source} cannot be a key: character {place} of {len(key)} is {what}.")
    return key


def _checked_url(url: str) -> str:
    url = url.strip().rstrip("/").removesuffix("/chat/completions").rstrip("/")
    shown = re.sub(r"//.*@|\?.*", "//…", url)
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        why = f": {error}" if shown == url else ""
        raise InputError(f"base_url {shown!r} cannot be read{why}.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        hint = f" Did you mean https://{shown.split('://')[-1]}?" if url else ""
        raise InputError(f"base_url must begin with https:// (or http://) and name a host, not {shown!r}.{hint}")
    if port == 0:
        raise InputError(f"base_url {shown!r} has no usable port.")
    if parts.username is not None or parts.query or parts.fragment:
        raise InputError(
            "base_url must end with its path, such as /v1, and hold no password: "
            "keys go to api_key=, a query to extra_query=."
        )
    return url


def _proxy_of(base_url: str) -> str | None:
    """The proxy that the environment sets for this address, by the variable's name and without its password."""
    parts, proxies = urlsplit(base_url), getproxies()
    scheme = next((scheme for scheme in (parts.scheme, "all") if proxies.get(scheme)), None)
    if scheme is None or proxy_bypass(parts.hostname or ""):
        return None
    name, proxy = (
        f"{scheme.upper()}_PROXY",
        urlsplit(proxies[scheme] if "://" in proxies[scheme] else "http://" + proxies[scheme]),
    )
    if proxy.scheme not in ("http", "https"):
        raise InputError(
            f"{name} names a {proxy.scheme} proxy, which llmlab cannot use: unset it, or put {parts.hostname} into "
            "NO_PROXY, or pass client=openai.AsyncOpenAI(...) with httpx2[socks] installed."
        )
    return f"{name} ({proxy.hostname})"


def checked_request(request: Mapping[str, Any]) -> dict[str, Any]:
    """The user's further parameters of the request, `extra_body` folded in; refused where llmlab decides itself."""
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
    """Certificates, proxies and headers come from the environment too: what is wrong there is named."""
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

        # A simulated key is an ordinary word; a real one is taken out of whatever comes back.
        self._key = "" if endpoint.simulated else endpoint.api_key
        self._own = endpoint.client is None
        # The whole address spares the SDK joining it for every call; a client of the user's may have its own ways.
        self._path = f"{endpoint.base_url}/chat/completions" if self._own else "/chat/completions"
        self._timeout_s = timeout_s
        self._learn = learn
        self._raw = httpx2.Response
        self._status_error = openai.APIStatusError
        self._options: dict[str, Any] = {} if self._own else {"follow_redirects": False}
        self._proxy: str | None = None
        self._connections: httpx2.AsyncClient | None = None
        if endpoint.client is not None and type(endpoint.client._client).__name__ != "AsyncHttpxClientWrapper":
            # Not the SDK's own: the transport is the user's choice too.
            self._sdk = endpoint.client.with_options(max_retries=0)
            return
        # Only the deadline below ends a call: shorter ones fire when the loop is busy, without any fault.
        timeout = httpx2.Timeout(None, connect=timeout_s * 0.9)
        limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
        self._proxy = _proxy_of(endpoint.base_url)
        # Reading the system's authorities takes 20 ms; where there is no TLS, none is trusted.
        plain = endpoint.base_url.startswith("http://") and self._proxy is None
        with _setting_up(self._key):
            self._connections = openai.DefaultAioHttpClient(
                limits=limits,
                timeout=timeout,
                follow_redirects=False,
                verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if plain else True,
            )
            if endpoint.client is not None:
                # Connections belong to one event loop, a client of the user's may outlive it.
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
            # OPENAI_ORG_ID, OPENAI_PROJECT_ID and OPENAI_CUSTOM_HEADERS are not for others.
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
            # Whatever the SDK, its transport or the decoder raises is one attempt's row.
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
                # The key goes to no other server.
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
    """Note when the server counted far fewer tokens than the prompt has: it may have cut it in silence."""
    counted = reply.usage.prompt_tokens
    return ("few prompt_tokens: was the prompt cut?",) * (counted is not None and counted < prompt_tokens(body) / 4)


def encode(body: dict[str, Any]) -> bytes:
    """The request as bytes; lone surrogates, which no JSON reader takes, become U+FFFD.

    Raises
    ------
    InputError
        It is no JSON.
    """
    try:
        text = json.dumps(body, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"The messages of this unit cannot be sent as JSON: {error}.") from None
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
