"""A fault of a real provider, declared: what goes over the wire, and how it is counted."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from llmlab.simulate.reply import Headers, Reply, as_http

Wire = Literal["reply", "idle_close", "slow", "cut", "cut_eof", "cut_chunk", "raw", "reset", "hang", "drip"]

LABEL = '{"label": "yes"}'
USAGE = {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15}
SLOW_S = 2.0
DRIP_S = 0.2


@dataclass(frozen=True, slots=True)
class Call:
    """What a fault may echo or refer to: the request it answers.

    Attributes
    ----------
    key : str
        The API key that came in.
    port : int
        The provider's port.
    now : float
        Seconds since the epoch.
    """

    key: str
    port: int
    now: float


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes
    ----------
    status : int
        HTTP status; meaningless where `wire` sends none.
    headers : mapping of str to (str or callable or None)
        A callable gets the `Call`; `None` leaves the header out.
    body : bytes or callable
        A callable gets the `Call`.
    wire : str
        How it is sent: `reply` whole; `idle_close` whole, then closed although keep-alive was promised; `slow` after
        `SLOW_S`; `cut` and `cut_eof` half the body, with and without a Content-Length; `cut_chunk` half a chunk;
        `raw` the body without HTTP around it; `reset` a TCP reset; `hang` nothing, ever; `drip` an empty line
        every `DRIP_S`, for ever.
    tokens : mapping of str to int
        What a careful reader can count: usage that was sent whole and uncompressed, or well compressed.
    billed : bool
        Whether a real provider would charge for it; if so and `tokens` is empty, 15 tokens were spent unseen.
    after : int
        So many requests are answered well first.
    limit, period_s : int or None, float
        Plays only above this many requests in a period, in seconds.
    max_in_flight : int or None
        Plays only above this many requests at a time.
    """

    status: int = 200
    headers: Mapping[str, str | Callable[[Call], str] | None] = field(default_factory=dict)
    body: bytes | Callable[[Call], bytes] = b""
    wire: Wire = "reply"
    tokens: Mapping[str, int] = field(default_factory=dict)
    billed: bool = False
    after: int = 0
    limit: int | None = None
    period_s: float = 1.0
    max_in_flight: int | None = None

    def play(self, call: Call) -> Played:
        """The reply to this call."""
        unseen = {"usage_missing": 1, "unsent_tokens": USAGE["total_tokens"]} if self.billed else {}
        return Played(
            self.status,
            self.body(call) if callable(self.body) else self.body,
            {name: value(call) if callable(value) else value for name, value in self.headers.items()},
            {"faults": 1, **(self.tokens or unseen)},
            SLOW_S if self.wire == "slow" else 0.0,
            self.wire,
        )


def countable(usage: object) -> dict[str, int]:
    """The token counts that a careful reader takes from a `usage` of any shape.

    Integers from 0 up and strings of digits count; floats, booleans, negative numbers and the rest do not.
    """
    if not isinstance(usage, Mapping):
        return {}
    values = {name: usage.get(name) for name in ("prompt_tokens", "completion_tokens", "total_tokens")}
    for name, details in (
        ("cached_tokens", "prompt_tokens_details"),
        ("reasoning_tokens", "completion_tokens_details"),
    ):
        inner = usage.get(details)
        values[name] = inner.get(name) if isinstance(inner, Mapping) else None
    return {
        name: int(value)
        for name, value in values.items()
        if (isinstance(value, int) and not isinstance(value, bool) and value >= 0)
        or (isinstance(value, str) and value.isdecimal())
    }


def page(title: str) -> bytes:
    """A web page as a proxy serves it where an API's answer was expected."""
    rest = "<hr><center>nginx</center>" + "<!-- a padding to disable MSIE and Chrome friendly error page -->\n" * 6
    return f"<html>\n<head><title>{title}</title></head>\n<body><h1>{title}</h1>\n{rest}</body>\n</html>\n".encode()


@dataclass(frozen=True)
class Played(Reply):
    """A fault on its way to the client that made this call."""

    wire: Wire = "reply"

    @property
    def outcome(self) -> str:
        """As of any reply, if it is whole."""
        return super().outcome if self.wire in ("reply", "slow", "idle_close") else "errors"

    async def send(self, transport: asyncio.Transport, headers: Headers) -> bool:
        """Send it, a `slow` one at once; returns whether the connection can carry another request."""
        sent, half = {**headers, **self.headers}, len(self.body) // 2
        if self.wire in ("hang", "drip"):
            if self.wire == "drip":
                transport.write(as_http(200, {**sent, "Transfer-Encoding": "chunked"}, b"", length=False))
            while not transport.is_closing():
                await asyncio.sleep(DRIP_S)
                if self.wire == "drip":
                    transport.write(b"1\r\n\n\r\n")
        elif self.wire == "reset":
            reset(transport)
        elif self.wire == "raw":
            transport.write(self.body)
        elif self.wire == "cut":
            transport.write(as_http(self.status, sent, self.body)[: -len(self.body) + half])
        elif self.wire == "cut_eof":
            transport.write(as_http(self.status, {**sent, "Connection": "close"}, self.body[:half], length=False))
        elif self.wire == "cut_chunk":
            chunk = b"%x\r\n%s\r\n" % (len(self.body), self.body[:half])
            transport.write(as_http(self.status, {**sent, "Transfer-Encoding": "chunked"}, chunk, length=False))
        else:
            transport.write(as_http(self.status, sent, self.body))
        return self.wire in ("reply", "slow")


def reset(transport: asyncio.Transport) -> None:
    """Close a connection with RST instead of FIN."""
    linger = transport.get_extra_info("socket")
    if linger is not None:
        linger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
