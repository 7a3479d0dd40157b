"""Where requests go and with which key, checked before anything is sent."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from llmlab.errors import InputError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

OPENAI_URL = "https://api.openai.com/v1"
OPENROUTER_URL = "https://openrouter.ai/api/v1"
# What the openai package sets as the key of a client that has none of its own.
_STAND_INS = ("<missing API key>", "workload-identity-auth")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go, and with which key.

    Attributes
    ----------
    base_url : str
        Without `/chat/completions` and without a slash at its end.
    api_key : str
        Left out of the repr. Empty if the client asks a function for its keys.
    client : AsyncOpenAI or None
        The client that the user passed. Its retries are switched off; its connections are replaced unless its
        `http_client` is the user's own.
    simulated : bool
        Whether it is a simulated provider, whose key is no secret.
    """

    base_url: str
    api_key: str = field(repr=False)
    client: AsyncOpenAI | None = field(default=None, repr=False)
    simulated: bool = False

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must be in no text; a simulated provider's key is an ordinary word."""
        return () if self.simulated or not self.api_key else (self.api_key,)

    @property
    def account(self) -> str:
        """Whose limits count: the key, or the address where the client asks a function for its keys."""
        return self.api_key or self.base_url


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy of the environment; `name` holds no password, `url` may."""

    name: str
    url: str = field(repr=False)


def resolve(base_url: str | None = None, api_key: str | None = None, client: object = None) -> Endpoint:
    """The endpoint that these arguments and the environment mean.

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
        if key in _STAND_INS:
            # The client has a function for its keys, or a token.
            key = ""
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
    """The key, if it can be sent in a header; the error names its source and never shows it."""
    key = key if as_it_is else key.strip()
    if not key:
        raise InputError(f"{source} is empty.")
    for place, character in enumerate(key, 1):
        if not (32 < ord(character) < 127):
            what = "a line break" if character in "\r\n" else "not a printable ASCII character"
            raise InputError(f"{source} cannot be a key: character {place} of {len(key)} is {what}.")
    return key


def _checked_url(url: str) -> str:
    """The base URL in its plain form, if it can be called; the error shows no password and no query."""
    url = url.strip().rstrip("/").removesuffix("/chat/completions").rstrip("/")
    shown = re.sub(r"//.*@|\?.*", "//…", url)
    why = ""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        parts = port = None
        why = f": {error}" if shown == url else ""
    if parts is None:
        # Raised out here, so that the first error, which may quote a password, does not travel along with it.
        raise InputError(f"base_url {shown!r} cannot be read{why}.")
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


def proxy_of(base_url: str) -> Proxy | None:
    """The proxy that the environment sets for this address.

    Raises
    ------
    InputError
        A kind of proxy that cannot be used.
    """
    parts, proxies = urlsplit(base_url), getproxies()
    scheme = next((scheme for scheme in (parts.scheme, "all") if proxies.get(scheme)), None)
    if scheme is None or proxy_bypass(parts.hostname or ""):
        return None
    name, url = f"{scheme.upper()}_PROXY", proxies[scheme]
    if "://" not in url:
        url = "http://" + url
    proxy = urlsplit(url)
    if proxy.scheme not in ("http", "https"):
        raise InputError(
            f"{name} names a {proxy.scheme} proxy, which llmlab cannot use: unset it, or put {parts.hostname} into "
            "NO_PROXY, or pass client=openai.AsyncOpenAI(...) with an http_client= that can."
        )
    return Proxy(f"{name} ({proxy.hostname})", url)
