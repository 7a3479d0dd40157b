"""Ports at which no provider answers: a reset, silence, nobody, an untrusted certificate, a name that is none."""

from __future__ import annotations

import asyncio
import socket
import ssl

import trustme

from tests.provider.faults import reset

SIDES = {
    "reset": "accepts, then resets",
    "blackhole": "answers no SYN: its accept queue is full (Linux)",
    "refused": "a port on which nobody listens",
    "tls_self_signed": "https with a certificate that nobody trusts",
    "no_dns": "a host that does not exist",
}


class Resetting(asyncio.Protocol):
    """Accepts a connection and resets it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Reset."""
        if isinstance(transport, asyncio.Transport):
            reset(transport)


async def open_side(name: str) -> tuple[str, list]:
    """Open one of `SIDES` in the running loop: its base URL, and what is to be closed in the end."""
    if name == "no_dns":
        return "http://no-such-host.invalid/v1", []
    if name in ("blackhole", "refused"):
        sockets = full_queue() if name == "blackhole" else unlistened()
        return f"http://127.0.0.1:{sockets[0].getsockname()[1]}/v1", sockets
    secure = untrusted() if name == "tls_self_signed" else None
    server = await asyncio.get_running_loop().create_server(Resetting, "127.0.0.1", 0, ssl=secure)
    port = server.sockets[0].getsockname()[1]
    return f"http{'s' if secure else ''}://127.0.0.1:{port}/v1", [server]


def untrusted() -> ssl.SSLContext:
    """A TLS server context with a certificate for 127.0.0.1 whose authority no client trusts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context


def full_queue() -> list[socket.socket]:
    """A port, the first socket's, that drops every further SYN; keep all of them open."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(0)
    sockets = [listener]
    for _ in range(4):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(listener.getsockname())
        sockets.append(filler)
    return sockets


def unlistened() -> list[socket.socket]:
    """A port that is taken, and on which nobody listens."""
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    return [taken]
