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
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from llmlab.simulate.completion import Request, complete, read_body, tokens_of, unseen
from llmlab.simulate.counts import Arrival, Book, Counts
from llmlab.simulate.faults import FAULTS
from llmlab.simulate.reply import Reply, as_json, refuse
from llmlab.simulate.settings import Settings
from llmlab.simulate.window import Window

MODELS = ("simulated/small", "simulated/large")
"""The models that are listed when no others are set; any other name is answered too."""

_FAULT_MODEL = "fault/"


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
        self._server = self._make_server(port)
        self._server.start()
        self.base_url = f"http://127.0.0.1:{self._server.port}/v1"
        self._finalizer = weakref.finalize(self, self._server.stop)

    def _make_server(self, port: int) -> Server:
        return Server(self.settings, port)

    def counts(self) -> Counts:
        """What was served until now; also after closing."""
        return self._server.counts()

    def arrivals(self) -> list[Arrival]:
        """All requests in the order in which the rate limit saw them."""
        return self._server.book.arrivals()

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
    """The provider's state and its thread; it knows nothing of the `SimulatedProvider` that owns it.

    Parameters
    ----------
    settings : Settings
    port : int
        Of 127.0.0.1; 0 is any free one.
    """

    def __init__(self, settings: Settings, port: int) -> None:
        self.settings = settings
        self.book = Book()
        self.windows: dict[str, Window] = {}
        self.answered: Counter[bytes] = Counter()
        self.faulty_since: float | None = None
        self.random = random.Random(settings.seed)
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

    def counts(self) -> Counts:
        """What was served until now."""
        return self.book.counts(max((window.peak for window in list(self.windows.values())), default=0))

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
        return await self._send(request, self.elsewhere(request.method, path), {})

    def elsewhere(self, method: str, path: str) -> Reply:
        """The reply to a request for anything but an answer."""
        if path == "/v1/chat/completions":
            return refuse(405, f"{method} is not allowed here; POST is.")
        if path == "/v1/models":
            names = self.settings.models or MODELS
            listed = [{"id": name, "object": "model", "created": 0, "owned_by": "llmlab simulate"} for name in names]
            return as_json({"object": "list", "data": listed})
        if path == "/stats":
            return as_json(vars(self.counts()))
        return refuse(404, f"There is nothing at {path}; try /v1/chat/completions.")

    async def _chat(self, request: Any, query: str) -> _Written:
        """Take in one request, decide its reply at once, and send it when its time has come."""
        raw = await request.read()
        if self.settings.arrival_jitter_s:
            await asyncio.sleep(self.random.uniform(0, self.settings.arrival_jitter_s))
        body = read_body(raw)
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        came = Request({} if isinstance(body, Reply) else body, key, time.monotonic(), query)
        number = self.book.open(came.model, came.at_s)
        outcome, tally = "dropped", {}
        try:
            reply = body if isinstance(body, Reply) else self.decide(came)
            tally = unseen(reply.tally)
            if reply.delay_s:
                await asyncio.sleep(reply.delay_s)
            if request.transport is None or request.transport.is_closing():
                return _Written(False)
            outcome, tally = reply.outcome, reply.tally
            self.book.end(number, came.model, outcome, tally)
            return await self._send(request, reply, {"x-request-id": f"req_{number:08x}"})
        finally:
            self.book.end(number, came.model, outcome, tally)
            self.book.in_flight[came.model] -= 1

    @staticmethod
    async def _send(request: Any, reply: Reply, headers: Mapping[str, str | None]) -> _Written:
        keep = {} if request.keep_alive else {"Connection": "close"}
        return _Written(await reply.send(request.transport, {**headers, **keep}) and request.keep_alive)

    def decide(self, request: Request) -> Reply:
        """A fault, a refusal, an error or an answer; the state that it depends on is booked here."""
        fault = self.fault(request)
        if fault is not None:
            return replace(fault, delay_s=fault.delay_s + self.settings.latency_s)
        most = self.settings.max_in_flight
        if most is not None and self.book.in_flight.total() > most:
            return refuse(429, f"Too many requests at the same time: {most} allowed.", "requests", "slow_down")
        limit, tokens, period_s = self.settings.window
        window = self.windows.setdefault(request.key, Window(limit, tokens, period_s))
        digest = request.digest(self.settings.seed)
        # The answer is made first only where its tokens are needed to decide.
        reply = complete(self.settings, request, digest, self.answered[digest]) if tokens else None
        weight = tokens_of(reply.tally) if reply else 0
        wait_s = window.admit(request.at_s, weight, self.settings.count_refused)
        if wait_s:
            return window.refusal(request.model, request.at_s, wait_s, weight)
        reply = reply or complete(self.settings, request, digest, self.answered[digest])
        self.answered[digest] += 1
        return replace(reply, headers=window.headers(request.at_s))

    def fault(self, request: Request) -> Reply | None:
        """The fault that this request meets, if any: the one its model is named after, or the one that is set."""
        if request.model.startswith(_FAULT_MODEL):
            name = request.model.removeprefix(_FAULT_MODEL)
            unknown = refuse(404, f"There is no fault {name!r}; there are {', '.join(FAULTS)}.", code="model_not_found")
            return FAULTS.get(name, unknown)
        if self.settings.fault is None or self.answered.total() < self.settings.fault_after:
            return None
        if self.faulty_since is None:
            self.faulty_since = request.at_s
        lasts_s = self.settings.fault_s
        over = lasts_s is not None and request.at_s - self.faulty_since >= lasts_s
        return None if over else FAULTS[self.settings.fault]


class _Written:
    """Tells aiohttp that the response is on the wire already."""

    status, body_length = 200, 0

    def __init__(self, keep_alive: bool) -> None:
        self.keep_alive = keep_alive

    async def prepare(self, request: object) -> None:
        pass

    async def write_eof(self) -> None:
        pass
