"""Connections over aiohttp that read every answer that the openai client's own transport would read.

An answer that cannot be read is paid for all the same. So three things differ from plain aiohttp: heads of answers may
be as odd as httpx allows, connections are forgotten before servers close them, and many are opened gradually.
"""

from __future__ import annotations

import functools
import inspect
import re
import zlib
from asyncio import AbstractEventLoop, Future
from collections import deque
from ssl import SSLContext
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

# gunicorn closes idle connections after 2 s, uvicorn and hypercorn after 5 s.
KEEPALIVE_S = 1.5
MOST_HEADERS = 2_000
LONGEST_HEADER = 2**18
# Since aiohttp 3.14 there is a limit on how many headers there are, too.
_MANY: dict[str, Any] = {"max_headers": MOST_HEADERS}
_MANY_HEADERS = _MANY if "max_headers" in inspect.signature(aiohttp.ClientSession).parameters else {}
LONGEST_HEAD = 2**20
FIRST_OPENINGS = 8
LULL_S = 1.0
# A close that comes later than a round trip may mean that the server had begun to work on the request.
CLOSED_AT_ONCE_S = 1.0

_HEAD_END = re.compile(rb"\r?\n\r?\n")
_STATUS = re.compile(rb"HTTP/\d(?:\.\d)? +(\d{3})")
_LENGTH = re.compile(rb"\r?\ncontent-length:[^\r\n]*", re.IGNORECASE)
_FRAMING = re.compile(rb"\n(?:(content-length)|transfer-encoding):[ \t]*([^\r\n]*)", re.IGNORECASE)


class ClosedWhileIdle(aiohttp.ServerDisconnectedError):
    """A kept connection was closed just before the request arrived: nobody worked on it, it may be sent again."""


class NotHttp(aiohttp.ClientConnectionError):
    """What the server sent is no HTTP."""


class Connection(ResponseHandler):
    """One connection; hands its parser only such heads of answers as the parser takes."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        super().__init__(loop)
        self._requests = 0
        self._sent_at = 0.0
        self._silent = True
        self._in_head = False
        self._head = b""
        self._body_left: int | None = None
        self._surplus = False

    @property
    def should_close(self) -> bool:
        """Whether no further request may use it."""
        return self._surplus or super().should_close

    def set_response_params(self, **parameters: Any) -> None:
        """Begin the next request; aiohttp calls it when it has this connection for one."""
        self._requests += 1
        self._sent_at = self._loop.time()
        self._silent = self._in_head = True
        self._head, self._body_left = b"", None
        super().set_response_params(**parameters)

    def data_received(self, data: bytes) -> None:
        """Take bytes of an answer."""
        self._silent = False
        if self._in_head:
            self._head += data
            data = self._past_head()
        elif self._body_left is not None:
            data = self._within_body(data)
        if data:
            super().data_received(data)

    def set_exception(self, exc: BaseException, *cause: Any, **named: Any) -> None:
        """Fail the request in flight."""
        lost = isinstance(exc, (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError))
        if lost and self._silent and self._requests > 1 and self._loop.time() - self._sent_at < CLOSED_AT_ONCE_S:
            exc = ClosedWhileIdle(str(exc))
        super().set_exception(exc, *cause, **named)

    def _past_head(self) -> bytes:
        """The head in a form that the parser takes and what follows it; nothing as long as the head is not complete."""
        while True:
            head = self._head = self._head.lstrip(b"\r\n")
            end = _HEAD_END.search(head)
            if not b"HTTP/".startswith(head[:5].upper()):
                if self.transport is not None:
                    self.transport.close()
                self.set_exception(NotHttp(f"it sent {head[:40]!r}"))
                return b""
            if end is None and len(head) > LONGEST_HEAD:
                # Too long for the parser too, which says so.
                self._in_head = False
                return head
            if end is None:
                return b""
            head, rest = head[: end.end()], head[end.end() :]
            found = _STATUS.match(head)
            status = int(found[1]) if found else 0
            if 100 <= status < 200 and status != 101:
                # An interim answer (continue, early hints); the real one follows.
                self._head = rest
                continue
            self._in_head = False
            head, self._body_left = readable_head(head, status)
            return head + (rest if self._body_left is None else self._within_body(rest))

    def _within_body(self, data: bytes) -> bytes:
        assert self._body_left is not None
        if len(data) > self._body_left:
            # Bytes after the end of the answer belong to nothing: they are left, and this connection is used no more.
            self._surplus = True
            data = data[: self._body_left]
        self._body_left -= len(data)
        return data


def readable_head(head: bytes, status: int) -> tuple[bytes, int | None]:
    """The head of an answer with one Content-Length at most, and the length of its body if that is known.

    As httpx does: a length that is said several times counts once, and chunks count more than a length. Lengths that
    differ stay as they are, for the parser to refuse.
    """
    if status in (204, 304):
        return head, 0
    said = _FRAMING.findall(head)
    if len(said) == 1 and said[0][1].isdigit():
        return head, int(said[0][1])
    if any(b"chunked" in value.lower() for length, value in said if not length):
        return _LENGTH.sub(b"", head), None
    lengths = {part.strip() for length, value in said if length for part in value.split(b",")}
    if len(lengths) != 1 or not min(lengths).isdigit():
        return head, None
    length = lengths.pop()
    first, rest = _LENGTH.sub(b"", head).split(b"\n", 1)
    return first + b"\nContent-Length: " + length + b"\r\n" + rest, int(length)


class Connector(aiohttp.TCPConnector):
    """A pool that opens connections gradually: eight at a time at first, and one more at a time for each that opened.

    A server accepts a few hundred connections that arrive at once and lets the others wait or fail.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._factory = functools.partial(Connection, loop=self._loop)
        self._opening = 0
        self._at_a_time = FIRST_OPENINGS
        self._tried_at = 0.0
        self._turns: deque[Future[None]] = deque()

    async def _create_connection(self, *arguments: Any, **named: Any) -> ResponseHandler:
        await self._turn()
        try:
            connection = await super()._create_connection(*arguments, **named)
            self._at_a_time += 1
            return connection
        except Exception:
            self._at_a_time = max(FIRST_OPENINGS, self._at_a_time // 2)
            raise
        finally:
            self._opening -= 1
            self._next_turns()

    async def _turn(self) -> None:
        now = self._loop.time()
        if not self._opening and now - self._tried_at > LULL_S:
            self._at_a_time = FIRST_OPENINGS
        self._tried_at = now
        if self._opening < self._at_a_time:
            self._opening += 1
            return
        turn = self._loop.create_future()
        self._turns.append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                # It was this one's turn, which another may have.
                self._opening -= 1
                self._next_turns()
            raise

    def _next_turns(self) -> None:
        while self._turns and self._opening < self._at_a_time:
            turn = self._turns.popleft()
            if not turn.done():
                self._opening += 1
                turn.set_result(None)


def open_session(
    *, connections: int, tls: SSLContext | None, connect_s: float, read_s: float | None
) -> aiohttp.ClientSession:
    """A session of its own pool, for the running event loop.

    Parameters
    ----------
    connections : int
        Most connections at a time.
    tls : SSLContext or None
        Which certificates are trusted; not needed for http:// addresses.
    connect_s : float
        Deadline for having a connection, in seconds.
    read_s : float or None
        Longest silence of a server, in seconds.
    """
    return aiohttp.ClientSession(
        connector=Connector(
            limit=connections,
            ssl=True if tls is None else tls,
            keepalive_timeout=KEEPALIVE_S,
            resolver=aiohttp.ThreadedResolver(),
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, connect=connect_s, sock_read=read_s),
        auto_decompress=False,
        max_line_size=LONGEST_HEADER,
        max_field_size=LONGEST_HEADER,
        **_MANY_HEADERS,
    )


def decoded(body: bytes, codings: str) -> bytes:
    """The body without its content codings; a coding that is not known is left in place, as httpx does.

    A body that was cut off gives as much as there is of it.

    Raises
    ------
    zlib.error
        The body is damaged, or not coded at all.
    """
    for coding in reversed(codings.lower().split(",")):
        kind = coding.strip()
        if body and kind in ("gzip", "x-gzip"):
            body = _gunzipped(body)
        elif body and kind == "deflate":
            # Meant with a zlib header, and often sent without.
            body = zlib.decompressobj(zlib.MAX_WBITS if body[0] & 0x0F == 8 else -zlib.MAX_WBITS).decompress(body)
    return body


def _gunzipped(body: bytes) -> bytes:
    """All members of a gzip body, without padding after them."""
    whole = b""
    while True:
        member = zlib.decompressobj(zlib.MAX_WBITS | 16)
        whole += member.decompress(body)
        body = member.unused_data
        if not body.startswith(b"\x1f\x8b"):
            return whole
