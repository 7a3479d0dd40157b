"""Servers on loopback that tests tell what to answer: with chat completions, or with bytes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from types import SimpleNamespace

from aiohttp import web

USAGE = {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15}


def completion(content="fine", *, finish="stop", usage=USAGE, **top):
    """A whole chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish}
    return {"id": "c1", "model": "m-1", "choices": [choice], "usage": usage} | top


@contextlib.asynccontextmanager
async def chat_server(answer=lambda body, number: completion(), tls=None):
    """An endpoint on loopback: `answer(body, number)` gives a body, or (status, body, headers), or is a coroutine.

    Gives its `url`, and `seen`: what arrived, as namespaces of `path`, `query`, `headers` and `body`.
    """
    seen = []

    async def handle(request):
        body = json.loads(await request.read())
        seen.append(SimpleNamespace(path=request.path, query=request.query, headers=request.headers, body=body))
        made = answer(body, len(seen))
        made = await made if asyncio.iscoroutine(made) else made
        status, data, headers = made if isinstance(made, tuple) else (200, made, {})
        return web.json_response(data, status=status, headers=headers)

    application = web.Application(client_max_size=2**27)
    application.router.add_post("/{path:.*}", handle)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        scheme = "http" if tls is None else "https"
        yield SimpleNamespace(url=f"{scheme}://localhost:{runner.addresses[0][1]}/v1", seen=seen)
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def bytes_server(answer):
    """A server on loopback that answers with bytes: `answer(request, of_connection)` gives them, or `None` to close.

    `request` counts all requests, `of_connection` those of a connection, both from 1. Bytes that do not end the
    connection are followed by the next request on it. Gives its `url` and `requests`, how many arrived.
    """
    state = SimpleNamespace(requests=0)

    async def handle(reader, writer):
        try:
            for of_connection in range(1, 1000):
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.lower().split(b"\r\n")
                await reader.readexactly(next(int(x[15:]) for x in lines if x.startswith(b"content-length:")))
                state.requests += 1
                made = answer(state.requests, of_connection)
                if made is None:
                    break
                writer.write(made)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    state.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield state
    finally:
        server.close()
