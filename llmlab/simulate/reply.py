"""What goes back to a client: an HTTP response, or something that only begins like one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from http import HTTPStatus

Headers = Mapping[str, str | None]


@dataclass(frozen=True)
class Reply:
    """One reply, decided before it is sent.

    Attributes
    ----------
    status : int
        HTTP status.
    body : bytes
    headers : mapping of str to (str or None)
        `None` leaves a header out that is usually sent.
    tally : mapping of str to float
        What to add to the provider's counts when the reply has been sent whole.
    delay_s : float
        Seconds from the request's arrival until it is sent.
    """

    status: int
    body: bytes = b""
    headers: Headers = field(default_factory=dict)
    tally: Mapping[str, float] = field(default_factory=dict)
    delay_s: float = 0.0

    @property
    def outcome(self) -> str:
        """`ok` (a whole 2xx reply), `refused` (429) or `errors` (the rest), as counted by the provider."""
        if self.status == 429:
            return "refused"
        return "ok" if self.status < 300 else "errors"

    async def send(self, transport: asyncio.Transport, headers: Headers) -> bool:
        """Send it with these headers beside its own; returns whether the connection can carry another request."""
        transport.write(as_http(self.status, {**headers, **self.headers}, self.body))
        return True


class Silence(Reply):
    """Nothing is sent, and the connection stays open."""

    @property
    def outcome(self) -> str:
        """Not an answer, whatever its status."""
        return "errors"

    async def send(self, transport: asyncio.Transport, headers: Headers) -> bool:
        """Wait; the client's leaving, or the end of the provider, cancels it."""
        await asyncio.Event().wait()
        return False


class Cut(Reply):
    """The connection ends in the middle of the body."""

    @property
    def outcome(self) -> str:
        """Not an answer, whatever its status."""
        return "errors"

    async def send(self, transport: asyncio.Transport, headers: Headers) -> bool:
        """Send all but the second half of the body."""
        whole = as_http(self.status, {**headers, **self.headers}, self.body)
        transport.write(whole[: len(whole) - len(self.body) // 2])
        return False


def as_json(value: object, status: int = 200) -> Reply:
    """A reply whose body is this value."""
    return Reply(status, json.dumps(value).encode())


def refuse(
    status: int, message: str, kind: str = "invalid_request_error", code: str | None = None, param: str | None = None
) -> Reply:
    """An error in OpenAI's form."""
    return as_json({"error": {"message": message, "type": kind, "param": param, "code": code}}, status)


def as_http(status: int, headers: Headers, body: bytes, *, length: bool = True) -> bytes:
    """One HTTP/1.1 response, as bytes.

    Parameters
    ----------
    status : int
    headers : mapping of str to (str or None)
        Beside `Content-Type: application/json`, `Date` and `Content-Length`; `None` leaves a header out.
    body : bytes
    length : bool
        Whether `Content-Length` is sent.
    """
    lines = {"Content-Type": "application/json", "Date": formatdate(usegmt=True), **headers}
    if length and status != 204:
        lines["Content-Length"] = str(len(body))
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = "Unknown"
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value is not None)
    return f"HTTP/1.1 {status} {reason}\r\n{head}\r\n".encode("latin-1", "replace") + body
