"""How a request reaches the provider: written once by the openai client and repeated over aiohttp, or sent by it.

The openai client knows what a request to each kind of provider looks like, but takes a millisecond for each. So it
writes one request per model, and `DirectTransport` repeats its address and headers. A client that sends in a way of its
own (with its own `http_client`, class or way to sign) sends every request itself: `SdkTransport`.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol
from urllib.parse import urljoin, urlsplit

from llmlab.client.endpoint import Endpoint, proxy_of
from llmlab.client.quiet import make_quiet, quiet
from llmlab.client.redact import one_line
from llmlab.client.sdk import is_plain
from llmlab.client.writer import PATH, RequestWriter, Written, http_library, secrets_of
from llmlab.errors import AuthenticationError, InputError

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from yarl import URL

MOST_HOPS = 3
MOST_RESENDS = 3
# Functions that give tokens (Entra ID and others) replace them minutes before they expire.
FRESH_S = 60.0
ANOTHER_TRY_S = 5.0
LARGE_BODY = 2**20


class Request(NamedTuple):
    """One request.

    Attributes
    ----------
    body : mapping
        As JSON; names the model.
    content : bytes
        The same, written.
    headers, query : mapping of str to str
        The user's own, besides those of the openai client.
    """

    body: Mapping[str, Any]
    content: bytes
    headers: Mapping[str, str]
    query: Mapping[str, Any]


class Answer(NamedTuple):
    """One HTTP answer; `secrets` are the keys that it may repeat."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    secrets: tuple[str, ...]


class Transport(Protocol):
    """Sends requests to one endpoint, within one event loop.

    Attributes
    ----------
    proxy : str
        The proxy between, as messages name it; empty if there is none.
    """

    proxy: str

    async def send(self, request: Request) -> Answer:
        """Send one request once; raises what its connection raises."""
        ...

    async def close(self) -> None:
        """Close the connections that are not the user's."""
        ...


def make_transport(endpoint: Endpoint, *, timeout_s: float, connections: int) -> Transport:
    """The transport that suits the endpoint's client.

    Raises
    ------
    InputError
        Certificates, proxies or headers of the environment cannot be used.
    """
    if endpoint.client is None or is_plain(endpoint.client):
        return DirectTransport(endpoint, timeout_s=timeout_s, connections=connections)
    return SdkTransport(endpoint.client, endpoint.secrets)


def _next_hop(status: int, headers: Mapping[str, str], here: str) -> str | None:
    """Where a redirect leads that keeps the request as it is, if it stays on the same server."""
    if status not in (307, 308):
        return None
    target = urljoin(here, headers.get("location", here))
    # The key must not reach another server.
    return target if urlsplit(target)[:2] == urlsplit(here)[:2] else None


class SdkTransport:
    """Every request goes through the user's own client, with its connections, hooks and signatures.

    Parameters
    ----------
    client : AsyncOpenAI
    secrets : tuple of str
        Keys that answers may repeat.
    """

    def __init__(self, client: AsyncOpenAI, secrets: tuple[str, ...]) -> None:
        import openai

        self.proxy = ""
        self._client = client.with_options(max_retries=0)
        self._secrets = secrets
        library = http_library()
        make_quiet(library.__name__)
        self._raw = library.Response
        self._status_error = openai.APIStatusError

    async def send(self, request: Request) -> Answer:
        """Send one request once; raises what the client raises."""
        response = await self._post(PATH, request)
        for _ in range(MOST_HOPS):
            target = _next_hop(response.status_code, response.headers, str(response.request.url))
            if target is None:
                break
            response = await self._post(target, request)
        secrets = secrets_of(response.request.headers)
        return Answer(response.status_code, response.headers, response.content, (*self._secrets, *secrets))

    async def _post(self, path: str, request: Request) -> Any:
        options: dict[str, Any] = {"follow_redirects": False}
        if request.headers:
            options["headers"] = request.headers
        if request.query:
            options["params"] = request.query
        try:
            # Read back from what was written: a lone surrogate is replaced there.
            body = json.loads(request.content)
            with quiet(logging.INFO):
                return await self._client.post(path, cast_to=self._raw, options=options, body=body)  # type: ignore[arg-type]
        except self._status_error as error:
            return error.response

    async def close(self) -> None:
        """Leave the user's connections open."""


class DirectTransport:
    """Repeats over aiohttp the request that the openai client writes once for each model.

    It is written anew now and then and after a 401, since the key may come from a function.

    Parameters
    ----------
    endpoint : Endpoint
    timeout_s : float
        Deadline of one request in seconds; having a connection must take less.
    connections : int
        Most connections at a time.
    fresh_s : float
        Seconds until a request is written anew.
    """

    def __init__(self, endpoint: Endpoint, *, timeout_s: float, connections: int, fresh_s: float = FRESH_S) -> None:
        from aiohttp import ClientConnectionResetError

        from llmlab.client.connection import ClosedWhileIdle, decoded, open_session

        self._secrets = endpoint.secrets
        self._unprocessed = (ClosedWhileIdle, ClientConnectionResetError)
        self._decoded = decoded
        self._written: dict[tuple[str, str, str], Written] = {}
        self._writing = asyncio.Lock()
        proxy = proxy_of(endpoint.base_url)
        self.proxy = proxy.name if proxy else ""
        self._proxy_url = proxy.url if proxy else None
        with _setting_up(endpoint.secrets):
            self._writer = RequestWriter(endpoint, fresh_s)
            connect_s, read_s = self._writer.timeouts_s()
            # Loading the system's certificates takes 20 ms, which a plain http:// address does not need.
            plain = endpoint.base_url.startswith("http://") and proxy is None
            self._session = open_session(
                connections=connections,
                tls=None if plain else http_library().create_ssl_context(),
                connect_s=0.9 * timeout_s if connect_s is None else min(connect_s, 0.9 * timeout_s),
                read_s=read_s,
            )

    async def send(self, request: Request) -> Answer:
        """Send one request once; raises aiohttp's errors, and `AuthenticationError` if no key could be had."""
        known = (request.body["model"], str(request.headers), str(request.query))
        written = self._written.get(known)
        if written is None or time.monotonic() > written.stale_at:
            written = await self._write(known, request, instead_of=written)
        answer = await self._post(written, request.content)
        if answer.status == 401:
            refused, written = written, await self._write(known, request, instead_of=written)
            if written.headers != refused.headers:
                answer = await self._post(written, request.content)
        return answer

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def _write(self, known: tuple[str, str, str], request: Request, instead_of: Written | None) -> Written:
        """Have the request written anew, once for all that wait for it."""
        async with self._writing:
            written = self._written.get(known)
            if written is None or written is instead_of:
                try:
                    written = await self._writer.write(known[0], request.headers, request.query)
                except UnicodeError:
                    raise
                except Exception as error:
                    if written is None:
                        why = one_line(f"{type(error).__name__}: {error}", self._secrets)
                        raise AuthenticationError(f"the client could not write a request: {why}") from error
                    # A service of tokens may fail for a moment; the last token may still be good.
                    written = replace(written, stale_at=time.monotonic() + ANOTHER_TRY_S)
                self._written[known] = written
            return written

    async def _post(self, written: Written, content: bytes) -> Answer:
        url = written.url
        answer = await self._exchange(url, written, content)
        for _ in range(MOST_HOPS):
            target = _next_hop(answer.status, answer.headers, str(url))
            if target is None:
                break
            url = type(url)(target, encoded=True)
            answer = await self._exchange(url, written, content)
        return answer

    async def _exchange(self, url: URL, written: Written, content: bytes) -> Answer:
        resends = 0
        while True:
            # aiohttp warns of large bodies as bytes.
            data = content if len(content) < LARGE_BODY else io.BytesIO(content)
            try:
                response = await self._session.post(
                    url, data=data, headers=written.headers, allow_redirects=False, proxy=self._proxy_url
                )
                # Frees the connection, or closes it if the answer does not come whole.
                body = await response.read()
            except self._unprocessed:
                resends += 1
                if resends > MOST_RESENDS:
                    raise
                continue
            codings = response.headers.get("content-encoding")
            body = self._decoded(body, codings) if codings else body
            return Answer(response.status, response.headers, body, written.secrets)


@contextlib.contextmanager
def _setting_up(secrets: tuple[str, ...]) -> Iterator[None]:
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
        raise InputError(f"The connection cannot be set up: {one_line(str(error), secrets)}") from None
