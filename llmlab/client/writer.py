"""The request that the openai client writes for a model: its address and its headers.

The client knows where a provider's models are found (deployment, api-version, default query) and which headers it wants
(key or token, organisation, default headers). It is let write one request to a connection that sends nothing.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmlab.client.endpoint import Endpoint
from llmlab.client.quiet import make_quiet, quiet
from llmlab.client.sdk import sdk_of

if TYPE_CHECKING:
    from multidict import CIMultiDict
    from yarl import URL

PATH = "/chat/completions"
# What belongs to a connection and a body rather than to the request.
_OF_THE_CONNECTION = {"content-length", "transfer-encoding", "accept-encoding", "host"}
_HOLD_SECRETS = ("authorization", "api-key", "x-api-key", "proxy-authorization")


@dataclass(frozen=True, slots=True)
class Written:
    """Address and headers of a model's requests.

    Attributes
    ----------
    url : yarl.URL
    headers : CIMultiDict
    secrets : tuple of str
        The keys and tokens among them; of a simulated provider none, as its key is an ordinary word.
    stale_at : float
        When it is to be written anew, on the monotonic clock.
    """

    url: URL
    headers: CIMultiDict[str]
    secrets: tuple[str, ...]
    stale_at: float

    def __repr__(self) -> str:
        return f"Written(url={str(self.url)!r})"


def http_library() -> Any:
    """The HTTP library of the installed openai package: httpx for openai 2, httpx2 for openai 3."""
    import openai

    base = openai.DefaultAsyncHttpxClient.__mro__[1]
    return sys.modules[base.__module__.partition(".")[0]]


def secrets_of(headers: Mapping[str, str]) -> tuple[str, ...]:
    """The keys and tokens in a request's headers."""
    found = (headers.get(name, "") for name in _HOLD_SECRETS)
    return tuple(value.removeprefix("Bearer ").strip() for value in found if value)


class RequestWriter:
    """Has requests written by the endpoint's openai client.

    Parameters
    ----------
    endpoint : Endpoint
    fresh_s : float
        Seconds until a request is to be written anew.
    """

    def __init__(self, endpoint: Endpoint, fresh_s: float) -> None:
        library = http_library()
        nowhere = library.AsyncClient(
            transport=library.MockTransport(lambda request: library.Response(200)), trust_env=False
        )
        self._response = library.Response
        self._fresh_s = fresh_s
        self._secrets, self._simulated = endpoint.secrets, endpoint.simulated
        self._client = sdk_of(endpoint, nowhere)
        make_quiet(library.__name__)

    def timeouts_s(self) -> tuple[float | None, float | None]:
        """The client's own limits in seconds for connecting and for silence; `None` where it has no own."""
        import openai

        given = self._client.timeout
        if given is None or given == openai.DEFAULT_TIMEOUT:
            return None, None
        own = openai.Timeout(given) if isinstance(given, (int, float)) else given
        return own.connect, own.read

    async def write(self, model: str, headers: Mapping[str, str], query: Mapping[str, Any]) -> Written:
        """Address and headers of the requests to `model`.

        Parameters
        ----------
        headers, query : mapping
            The user's own, which the client adds to its own.

        Raises
        ------
        Exception
            Whatever the client raises, or the user's function that gives its key.
        """
        from multidict import CIMultiDict
        from yarl import URL

        options: dict[str, Any] = {}
        if headers:
            options["headers"] = headers
        if query:
            options["params"] = query
        # Nothing is sent, and the headers that would be logged may hold a key.
        with quiet(logging.CRITICAL):
            response = await self._client.post(
                PATH,
                cast_to=self._response,
                body={"model": model, "messages": []},
                options=options,  # type: ignore[arg-type]
            )
        request = response.request
        kept = CIMultiDict(
            (name, value) for name, value in request.headers.multi_items() if name.lower() not in _OF_THE_CONNECTION
        )
        # zlib is always there; other codings depend on what is installed.
        kept["Accept-Encoding"] = "gzip, deflate"
        if request.headers["host"] != request.url.netloc.decode("ascii"):
            kept["Host"] = request.headers["host"]
        return Written(
            url=URL(str(request.url), encoded=True),
            headers=kept,
            secrets=() if self._simulated else tuple(dict.fromkeys((*self._secrets, *secrets_of(request.headers)))),
            stale_at=time.monotonic() + self._fresh_s,
        )
