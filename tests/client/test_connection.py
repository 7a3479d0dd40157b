"""Answers are read wherever the openai client's own transport reads them; connections close, open and end in good time."""

import asyncio
import gzip
import zlib

import aiohttp
import pytest

from llmlab.client.connection import Connection, Connector, decoded, open_session
from llmlab.client.writer import http_library
from tests.helpers import virtual
from tests.servers import bytes_server

BODY = b'{"ok":1}'
LONG = "x" * 60_000


def http(body=BODY, *lines, status="HTTP/1.1 200 OK", length=True, sep="\r\n"):
    """One answer, byte by byte."""
    sized = [f"Content-Length: {len(body)}"] if length else []
    return (sep.join([status, "Content-Type: application/json", *lines, *sized]) + 2 * sep).encode("latin-1") + body


def chunked(*lines, extension=b"", trailer=b""):
    head = http(b"", *lines, length=False)
    return head + b"3%b\r\n" % extension + BODY[:3] + b"\r\n5\r\n" + BODY[3:] + b"\r\n0\r\n" + trailer + b"\r\n"


CHUNKED = "Transfer-Encoding: chunked"
ANSWERS = {
    "plain": http(),
    "a header of 60 KB": http(BODY, f"Content-Security-Policy: {LONG}"),
    "a header of 90 KB": http(BODY, "X-A: " + "x" * 90_000),
    "a hundred headers": http(BODY, *[f"X-{n}: {LONG[:600]}" for n in range(100)]),
    "a thousand headers": http(BODY, *[f"X-{n}: 1" for n in range(1000)]),
    "names of any kind": http(BODY, "X_A: 1", "X.A: 2", "X-A : 3"),
    "blanks within the status": http(status="HTTP/1.1  200 OK"),
    "a reason in UTF-8": "HTTP/1.1 200 très bien".encode() + http()[len("HTTP/1.1 200 OK") :],
    "an odd keep-alive": http(BODY, "Keep-Alive: timeout=0, max=-1", "Connection: Keep-Alive, , X"),
    "an upgrade": http(BODY, "Upgrade: h2c", "Connection: Upgrade"),
    "no coding": http(BODY, "Transfer-Encoding: identity"),
    "sizes with zeros": http(b"", "Transfer-Encoding: chunked", length=False) + b"0008\r\n" + BODY + b"\r\n0\r\n\r\n",
    "a long reason": http(status="HTTP/1.1 200 " + LONG),
    "no reason": http(status="HTTP/1.1 200"),
    "two equal lengths": http(BODY, f"Content-Length: {len(BODY)}"),
    "two lengths that differ": http(BODY, "Content-Length: 5"),
    "a list of lengths": http(BODY, f"Content-Length: {len(BODY)}, {len(BODY)}", length=False),
    "a length with blanks": http(BODY, f"Content-Length:   {len(BODY)}  ", length=False),
    "a length that is no number": http(BODY, "Content-Length: many", length=False),
    "chunks": chunked(CHUNKED),
    "chunks and a length": chunked("Content-Length: 100", CHUNKED),
    "chunks with extensions and a trailer": chunked(CHUNKED, extension=b";a=b", trailer=b"X-T: 1\r\n"),
    "CHUNKED": chunked("transfer-encoding: Chunked"),
    "continue": b"HTTP/1.1 100 Continue\r\n\r\n" + http(),
    "early hints": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 3 + http(),
    "HTTP/1.0": http(BODY, "Connection: keep-alive", status="HTTP/1.0 200 OK"),
    "lines that end in LF": http(sep="\n"),
    "a folded line": http(BODY, "X-A: a\r\n b"),
    "bytes that are no ASCII": http(BODY, "X-A: caf\xe9"),
    "no value": http(BODY, "X-A:"),
    "gzip": http(gzip.compress(BODY), "Content-Encoding: GZIP"),
    "gzip twice": http(gzip.compress(gzip.compress(BODY)), "Content-Encoding: gzip, gzip"),
    "gzip and padding": http(gzip.compress(BODY) + b"\0\0\0", "Content-Encoding: gzip"),
    "gzip of nothing": http(b"", "Content-Encoding: gzip"),
    "gzip that is none": http(BODY, "Content-Encoding: gzip"),
    "gzip that was cut": http(gzip.compress(BODY)[:14], "Content-Encoding: gzip"),
    "deflate": http(zlib.compress(BODY), "Content-Encoding: deflate"),
    "deflate without a head": http(zlib.compress(BODY)[2:-4], "Content-Encoding: deflate"),
    "a coding that is not known": http(BODY, "Content-Encoding: utf-8"),
    "a coding that was not asked for": http(BODY, "Content-Encoding: br"),
    "cookies of any kind": http(BODY, "Set-Cookie: a=b; c=\x80; =;;", "Set-Cookie: [x]=1; expires=never"),
    "a redirect to nowhere": http(BODY, "Location: http://[bad", status="HTTP/1.1 307 T"),
    "an odd status": http(status="HTTP/1.1 999 Odd"),
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
}


async def ours(url):
    async with open_session(connections=1, tls=None, connect_s=5, read_s=1) as session:
        for _ in range(2):
            # The second one on the same connection: nothing of the first is left there.
            async with session.post(url, data=b"{}", allow_redirects=False) as response:
                body = decoded(await response.read(), response.headers.get("content-encoding", ""))
        return response.status, body


async def the_sdks(url):
    async with http_library().AsyncClient(timeout=1) as client:
        for _ in range(2):
            response = await client.post(url, content=b"{}")
        return response.status_code, response.content


@pytest.mark.parametrize("raw", list(ANSWERS.values()), ids=list(ANSWERS))
async def test_an_answer_is_read_wherever_the_sdk_reads_it(raw):
    async with bytes_server(lambda request, of_connection: raw) as server:
        try:
            expected = await the_sdks(server.url)
        except Exception:
            with pytest.raises((aiohttp.ClientError, zlib.error)):
                await ours(server.url)
        else:
            assert await ours(server.url) == expected


@pytest.mark.parametrize("raw", [http() + b"EXTRA", http(BODY, status="HTTP/1.1 204 No Content")])
async def test_bytes_after_an_answer_are_left_and_their_connection_is_used_no_more(raw):
    connections = []

    def answer(request, of_connection):
        connections.append(of_connection)
        return raw

    async with bytes_server(answer) as server:
        status, body = await ours(server.url)
    assert (status, body) in ((200, BODY), (204, b""))
    assert connections == [1, 1]


async def test_an_answer_may_arrive_byte_by_byte():
    async def handle(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        for at in range(len(raw)):
            writer.write(raw[at : at + 1])
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()

    raw = b"HTTP/1.1 100 Continue\r\n\r\n" + http(BODY, "Content-Length: 8", "Connection: close")
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server, open_session(connections=1, tls=None, connect_s=5, read_s=1) as session:
        port = server.sockets[0].getsockname()[1]
        async with session.post(f"http://127.0.0.1:{port}/", data=b"{}") as response:
            assert await response.read() == BODY


class Closing(asyncio.Transport):
    """A transport whose server has gone."""

    def is_closing(self):
        return False

    def close(self):
        pass


@virtual
async def test_a_close_is_one_of_an_idle_connection_only_if_it_is_silent_reused_and_at_once():
    async def lost(*, uses, after_s=0.0, heard=b""):
        connection = Connection(asyncio.get_running_loop())
        connection.connection_made(Closing())
        for use in range(uses):
            connection.set_response_params()
            if use + 1 < uses:
                connection.data_received(http())
                message, payload = await connection.read()
                assert (message.code, await payload.read()) == (200, BODY)
        if heard:
            connection.data_received(heard)
        await asyncio.sleep(after_s)
        connection.connection_lost(None)
        return type(connection.exception()).__name__

    assert await lost(uses=2) == "ClosedWhileIdle"
    assert await lost(uses=1) == "ServerDisconnectedError"
    assert await lost(uses=2, after_s=30) == "ServerDisconnectedError"
    assert await lost(uses=2, heard=b"HTTP/1.1 2") == "ServerDisconnectedError"
    assert await lost(uses=2, heard=b"HTTP/1.1 100 Continue\r\n\r\n") == "ServerDisconnectedError"


class Opening(aiohttp.TCPConnector):
    """Counts how many connections are being opened at a time; each takes a moment."""

    refuse = False
    now = most = 0

    async def _create_connection(self, *arguments, **named):
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(0.01)
            if self.refuse:
                raise ConnectionRefusedError
            return await super()._create_connection(*arguments, **named)
        finally:
            self.now -= 1


class Watched(Connector, Opening):
    pass


async def test_connections_are_opened_eight_at_a_time_and_then_more():
    async def post(session, url):
        async with session.post(url, data=b"{}") as response:
            return response.status

    slow = http(BODY, "Connection: close")
    async with bytes_server(lambda request, of_connection: slow) as server:
        connector = Watched(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            await asyncio.gather(*(post(session, server.url) for _ in range(8)))
            assert connector.most == 8
            assert await asyncio.gather(*(post(session, server.url) for _ in range(100))) == [200] * 100
            assert 16 <= connector.most < 100
            # Those that do not wait for their turn any longer keep nobody else from it.
            waiting = [asyncio.ensure_future(post(session, server.url)) for _ in range(200)]
            await asyncio.sleep(0.005)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            assert await post(session, server.url) == 200
            connector.refuse = True
            refused = await asyncio.gather(*(post(session, server.url) for _ in range(100)), return_exceptions=True)
            assert all(isinstance(error, OSError) for error in refused)
            connector.refuse, connector.most = False, 0
            await asyncio.gather(*(post(session, server.url) for _ in range(8)))
            assert connector.most == 8
