"""A simulated OpenAI-compatible provider on loopback: real HTTP in a thread of this process.

It keeps a strict rate limit per API key, answers with a keyword model that errs as often as it is told to, reports
usage like a real provider, and counts what it served.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
import weakref
from collections.abc import Mapping
from typing import Any

from llmlab.simulate.completion import Request, read_body, unseen
from llmlab.simulate.counts import Arrival, Counts
from llmlab.simulate.reply import Reply
from llmlab.simulate.service import Service
from llmlab.simulate.settings import Settings


class SimulatedProvider:
    """An OpenAI-compatible provider in a thread of this process; no real model.

    Give it to `run_experiment(client=...)`, or its `base_url` and `api_key` to any OpenAI client. Keep it in a variable
    as long as it is needed: it ends when it is closed, left as a context manager, or collected.

    Parameters
    ----------
    settings : Settings
    port : int
        Of 127.0.0.1; 0 is any free one.

    Attributes
    ----------
    base_url : str
        `http://127.0.0.1:PORT/v1`.
    api_key : str
        "simulated"; every other key works too and has its own limit.
    simulated : bool
        True: whoever takes it for a provider can say that no real model answered.
    settings : Settings
    """

    api_key = "simulated"
    simulated = True

    def __init__(self, settings: Settings | None = None, port: int = 0) -> None:
        self.settings = settings or Settings()
        self._service = self._make_service()
        self._server = Server(self._service, port)
        self._server.start()
        self.base_url = f"http://127.0.0.1:{self._server.port}/v1"
        self._finalizer = weakref.finalize(self, self._server.stop)

    def _make_service(self) -> Service:
        return Service(self.settings)

    def counts(self) -> Counts:
        """What was served until now; also after closing."""
        return self._service.counts()

    def arrivals(self) -> list[Arrival]:
        """All requests in the order in which the rate limit saw them."""
        return self._service.book.arrivals()

    def close(self) -> None:
        """End the thread and close every connection; again is harmless."""
        self._finalizer()

    def __enter__(self) -> SimulatedProvider:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        limit, tokens, period_s = self.settings.window
        rates = [f"{n} {what} in {period_s:g} s" for n, what in ((limit, "requests"), (tokens, "tokens")) if n]
        state = "" if self._finalizer.alive else ", closed"
        return f"<simulated provider, no real model: {self.base_url}, {' and '.join(rates) or 'unlimited'}{state}>"


class Server:
    """The provider's thread, its port and HTTP; it knows nothing of the `SimulatedProvider` that owns it.

    Parameters
    ----------
    service : Service
        Decides what is replied.
    port : int
        Of 127.0.0.1; 0 is any free one.
    """

    def __init__(self, service: Service, port: int) -> None:
        self.service = service
        self.random = random.Random(service.settings.seed)
        self.port = port
        self.loop = asyncio.new_event_loop()
        self.stopping = asyncio.Event()
        self.ready = threading.Event()
        self.failed: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name="llmlab-simulate", daemon=True)

    def start(self) -> None:
        """Start the thread; returns when the port is open, or raises what kept it shut."""
        self.thread.start()
        self.ready.wait()
        if self.failed:
            self.thread.join(5)
            raise self.failed

    def stop(self) -> None:
        """End the thread; again is harmless."""
        try:
            self.loop.call_soon_threadsafe(self.stopping.set)
        except RuntimeError:
            return
        # The garbage collector may call this in the server's own thread.
        if threading.current_thread() is not self.thread:
            self.thread.join(5)

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_until_complete(self._serve())
        except BaseException as error:
            self.failed = error
        finally:
            self.ready.set()
            asyncio.set_event_loop(None)
            self.loop.close()

    async def _serve(self) -> None:
        from aiohttp import web

        def request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> Any:
            return web.BaseRequest(message, payload, protocol, writer, task, self.loop, client_max_size=2**26)

        handler: Any = self._handle
        requests = web.Server(handler, request_factory=request, handler_cancellation=True, access_log=None)
        listener = await self.loop.create_server(requests, "127.0.0.1", self.port, backlog=4096)
        self.port = listener.sockets[0].getsockname()[1]
        self.ready.set()
        await self.stopping.wait()
        listener.close()
        await requests.shutdown(0.001)
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        # The transports close in the loop's next rounds.
        await asyncio.sleep(0.01)

    async def _handle(self, request: Any) -> _Written:
        path, _, query = request.raw_path.partition("?")
        if path == "/v1/chat/completions" and request.method == "POST":
            return await self._chat(request, query)
        if path.startswith(("/v1/files", "/v1/batches")):
            reply = await self._queued(request, path.removeprefix("/v1"))
            await asyncio.sleep(reply.delay_s)
            return await self._send(request, reply, {})
        return await self._send(request, self.service.elsewhere(request.method, path), {})

    async def _queued(self, request: Any, path: str) -> Reply:
        """A request about the batch queue."""
        if request.method != "POST" or path != "/files":
            return self.service.queue(request.method, path, _key(request), await request.read())
        form = {part.name: (part.filename, bytes(await part.read())) async for part in await request.multipart()}
        name, content = form.get("file", (None, b""))
        _, purpose = form.get("purpose", (None, b""))
        return self.service.upload(_key(request), name or "", purpose.decode(), content)

    async def _chat(self, request: Any, query: str) -> _Written:
        """Take in one request, decide its reply at once, and send it when its time has come."""
        raw = await request.read()
        if self.service.settings.arrival_jitter_s:
            await asyncio.sleep(self.random.uniform(0, self.service.settings.arrival_jitter_s))
        body = read_body(raw)
        checked = {} if isinstance(body, Reply) else body
        tier = "flex" if checked.get("service_tier") == "flex" else "default"
        came = Request(checked, _key(request), time.monotonic(), query, tier)
        number = self.service.book.open(came.model, came.at_s)
        outcome, tally = "dropped", {}
        try:
            reply = body if isinstance(body, Reply) else self.service.decide(came)
            tally = unseen(reply.tally)
            if reply.delay_s:
                await asyncio.sleep(reply.delay_s)
            if request.transport is None or request.transport.is_closing():
                return _Written(False)
            outcome, tally = reply.outcome, reply.tally
            self.service.book.end(number, came.model, outcome, tally)
            return await self._send(request, reply, {"x-request-id": f"req_{number:08x}"})
        finally:
            self.service.book.end(number, came.model, outcome, tally)
            self.service.book.in_flight[came.model] -= 1

    @staticmethod
    async def _send(request: Any, reply: Reply, headers: Mapping[str, str | None]) -> _Written:
        keep = {} if request.keep_alive else {"Connection": "close"}
        return _Written(await reply.send(request.transport, {**headers, **keep}) and request.keep_alive)


def _key(request: Any) -> str:
    """The API key that a request came with."""
    return request.headers.get("Authorization", "").removeprefix("Bearer ")


class _Written:
    """Tells aiohttp that the response is on the wire already."""

    status, body_length = 200, 0

    def __init__(self, keep_alive: bool) -> None:
        self.keep_alive = keep_alive

    async def prepare(self, request: object) -> None:
        pass

    async def write_eof(self) -> None:
        pass
