"""A simulated OpenAI-compatible provider on loopback: real HTTP, no real model, no key, no cost.

`client(...)` starts one and returns at once; `python -m llmlab.simulate` runs one in the foreground. It holds a strict
rate limit per API key, answers category prompts with a keyword model that errs as often as it is told to, reports usage
like a real provider, counts what it served, and plays the faults of `llmlab.faults`.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import math
import random
import signal
import threading
import time
import weakref
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, NamedTuple

from llmlab.errors import InputError
from llmlab.simulate import faults
from llmlab.simulate.model import Reader, say, spoil, texts_of

MODELS = ("simulated/small", "simulated/large")
_EFFORT_TOKENS = {"none": 0, "minimal": 16, "low": 64, "medium": 256, "high": 768, "xhigh": 1536}
_PRICE_USD = (0.15e-6, 0.60e-6)
_FINE = (11, 4)
_FAULT_MODEL = "fault/"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a simulated provider behaves.

    Parameters
    ----------
    latency_s, jitter_s : float
        Seconds from a request's arrival to its answer, and the most that a uniform draw adds to it.
    arrival_jitter_s : float
        The most seconds, uniform, before a request is seen by the rate limit: the network's part.
    requests_per_minute, tokens_per_minute : int or None
        Requests and tokens accepted in any 60 s, per API key; `None` is unlimited.
    limit, tokens, period_s : int or None, int or None, float
        The same for another period, in seconds.
    count_refused : bool
        Whether refused requests use up the limit too, as some providers do.
    max_in_flight : int or None
        Requests worked on at a time; more are refused.
    accuracy : float
        Share of right categories over `data/tickets.csv`, 0-1.
    models : mapping of str to float
        Another accuracy for these models.
    malformed_rate : float
        Share of answers, 0-1, that are paid for and cannot be read: broken JSON, prose, an unknown label, cut off.
    error_rate : float
        Share of requests, 0-1, that get a 500; not billed.
    missing_usage_rate : float
        Share of answers, 0-1, without usage.
    cost : bool
        Whether usage has a `cost` in US dollars, as OpenRouter's.
    seed : int
        Everything but the two jitters' order follows from it, the model, the messages, and how many times these
        messages were accepted before.

    Raises
    ------
    InputError
        For a value out of range; it names the range.
    """

    latency_s: float = 0.3
    jitter_s: float = 0.0
    arrival_jitter_s: float = 0.0
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    limit: int | None = None
    tokens: int | None = None
    period_s: float = 60.0
    count_refused: bool = False
    max_in_flight: int | None = None
    accuracy: float = 0.85
    models: Mapping[str, float] = field(default_factory=dict)
    malformed_rate: float = 0.0
    error_rate: float = 0.0
    missing_usage_rate: float = 0.0
    cost: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("latency_s", "jitter_s", "arrival_jitter_s"):
            _check(name, getattr(self, name), 0, math.inf, "seconds, 0 or more")
        if self.period_s == 0:
            raise InputError("period_s=0: seconds, more than 0")
        _check("period_s", self.period_s, 0, math.inf, "seconds, more than 0")
        for name in ("accuracy", "malformed_rate", "error_rate", "missing_usage_rate"):
            _check(name, getattr(self, name), 0, 1, "a share from 0 to 1")
        for model, accuracy in self.models.items():
            _check(f"models[{model!r}]", accuracy, 0, 1, "an accuracy from 0 to 1")
        for name in ("requests_per_minute", "tokens_per_minute", "limit", "tokens", "max_in_flight"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise InputError(f"{name}={value!r}: a whole number, 1 or more, or None for unlimited")
        for minute, other in (("requests_per_minute", "limit"), ("tokens_per_minute", "tokens")):
            if getattr(self, minute) is not None and (getattr(self, other) is not None or self.period_s != 60):
                raise InputError(f"{minute} is {other} with period_s=60; give one of them")


def _check(name: str, value: Any, low: float, high: float, meaning: str) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not low <= value <= high or value == math.inf:
        raise InputError(f"{name}={value!r}: {meaning}")


@dataclass(frozen=True)
class Counts:
    """What was served until now.

    Every request ends as one of `ok` (a whole 2xx reply), `refused` (429), `errors` (another status, or it broke below
    HTTP) or `dropped` (the client was gone before the answer); until then it is only in `requests`.

    Attributes
    ----------
    malformed : int
        Of `ok`: answers made unreadable by `malformed_rate`.
    faults : int
        Requests that met a fault of `llmlab.faults`, whatever its outcome.
    prompt_tokens, completion_tokens, reasoning_tokens, cached_tokens, total_tokens : int
        Usage that reached the wire, as far as a careful reader can count it.
    usage_missing, unsent_tokens : int
        Answers that were paid for without their usage reaching the wire, and the total tokens of them.
    peak_in_flight : int
        Most requests at a time.
    max_in_window : int
        Most requests accepted in any one period, for one API key.
    models : mapping of str to (mapping of str to int)
        The counts down to `unsent_tokens`, by model.
    """

    requests: int = 0
    ok: int = 0
    refused: int = 0
    errors: int = 0
    dropped: int = 0
    malformed: int = 0
    faults: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0
    total_tokens: int = 0
    usage_missing: int = 0
    unsent_tokens: int = 0
    peak_in_flight: int = 0
    max_in_window: int = 0
    models: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


class Arrival(NamedTuple):
    """One request: when the rate limit saw it (`time.monotonic()`, s), and how it ended; "open" until then."""

    at_s: float
    outcome: str


class _Reply(NamedTuple):
    """What goes back, when, and what to count of it."""

    status: int
    body: bytes
    headers: Mapping[str, str | None] = {}
    outcome: str = "errors"
    tally: Mapping[str, int] = {}
    delay_s: float = 0.0
    fault: faults.Fault | None = None


class _Window:
    """A strict sliding window: never more requests and tokens than the limits in any period."""

    def __init__(self, limit: int | None, tokens: int | None, period_s: float) -> None:
        self.limit, self.tokens, self.period_s = limit, tokens, period_s
        self.entries: deque[tuple[float, int, bool]] = deque()
        self.used_tokens = self.accepted = self.peak = 0

    def admit(self, at: float, tokens: int, count_refused: bool) -> float:
        """Seconds to wait, 0 if accepted; infinite if it can never fit."""
        while self.entries and at - self.entries[0][0] >= self.period_s:
            _, weight, accepted = self.entries.popleft()
            self.used_tokens -= weight
            self.accepted -= accepted
        leaves = -math.inf
        if self.limit is not None and len(self.entries) >= self.limit:
            leaves = self.entries[len(self.entries) - self.limit][0]
        if self.tokens is not None and self.used_tokens + tokens > self.tokens:
            excess = self.used_tokens + tokens - self.tokens
            for entered, weight, _ in self.entries:
                excess -= weight
                if excess <= 0:
                    leaves = max(leaves, entered)
                    break
            else:
                return math.inf
        wait_s = max(0.0, leaves + self.period_s - at)
        if not wait_s:
            self.entries.append((at, tokens, True))
            self.used_tokens += tokens
            self.accepted += 1
            self.peak = max(self.peak, self.accepted)
        elif count_refused:
            self.entries.append((at, 0, False))
        return wait_s

    def headers(self, at: float, wait_s: float = 0.0) -> dict[str, str | None]:
        """`x-ratelimit-*`: limits per minute, what remains, and when there is room for one more."""
        oldest_s = self.entries[0][0] + self.period_s - at if self.entries else 0.0
        found: dict[str, str | None] = {}
        for name, limit, used in (
            ("requests", self.limit, len(self.entries)),
            ("tokens", self.tokens, self.used_tokens),
        ):
            if limit is not None:
                found[f"x-ratelimit-limit-{name}"] = str(max(1, round(limit * 60 / self.period_s)))
                found[f"x-ratelimit-remaining-{name}"] = str(max(0, limit - used))
                found[f"x-ratelimit-reset-{name}"] = _duration(wait_s or oldest_s)
        return found


def _duration(seconds: float) -> str:
    """Seconds as OpenAI writes them: "20ms", "1s", "1.5s", "6m0s", "1h0m0s"."""
    ms = math.ceil(seconds * 1000)
    if ms < 1000:
        return f"{ms}ms"
    minutes, ms = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + (f"{minutes}m" if hours or minutes else "") + f"{ms / 1000:g}s"


def _effort(body: Mapping[str, Any]) -> str:
    """OpenAI's `reasoning_effort`, or OpenRouter's `reasoning`."""
    reasoning = body.get("reasoning")
    return str(body.get("reasoning_effort") or (isinstance(reasoning, dict) and reasoning.get("effort")) or "none")


def _complete(settings: Settings, body: Mapping[str, Any], digest: bytes, times: int, fine: str | None) -> _Reply:
    """The answer to these messages when asked for the n-th time, as one whole reply."""
    draws = hashlib.blake2b(digest + times.to_bytes(8, "big")).digest()
    luck = [int.from_bytes(draws[at : at + 4], "big") / 2**32 for at in range(0, 32, 4)]
    delay_s = settings.latency_s + settings.jitter_s * luck[0]
    if luck[1] < settings.error_rate:
        message = "The server had an error while processing your request. Sorry about that!"
        return _refuse(500, message, "server_error")._replace(delay_s=delay_s)
    model, texts = body["model"], texts_of(body["messages"])
    reader = Reader("", settings.models.get(model, settings.accuracy), luck[2])
    content, finish = say(body, texts, reader, fine), "stop"
    malformed = luck[3] < settings.malformed_rate
    if malformed:
        content, finish = spoil(content, reader.picked, luck[4])
    reasoning = round(_EFFORT_TOKENS[_effort(body)] * (0.5 + luck[5]))
    prompt = sum(len(text.encode("utf-8", "replace")) + 16 for text in texts) // 4 + 3
    written = -(-len(content.encode("utf-8", "replace")) // 4)
    if content == fine:
        prompt, written = _FINE
    most = body.get("max_completion_tokens") or body.get("max_tokens")
    if most and reasoning + written > most:
        reasoning = min(reasoning, most)
        written, finish = most - reasoning, "length"
        content = content[: written * 4]
    cached = prompt // 128 * 128 if times and prompt >= 1024 else 0
    usage: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": reasoning + written,
        "total_tokens": prompt + reasoning + written,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }
    tally: dict[str, int] = faults.countable(usage) | {"malformed": int(malformed)}
    if settings.cost:
        usage["cost"] = round(prompt * _PRICE_USD[0] + (reasoning + written) * _PRICE_USD[1], 9)
    end = f',"usage":{json.dumps(usage)}}}'
    if luck[6] < settings.missing_usage_rate:
        tally, end = _unsent(tally) | {"malformed": int(malformed)}, "}"
    text = (
        f'{{"id":"chatcmpl-{draws[:12].hex()}","object":"chat.completion","created":{int(time.time())},'
        f'"model":{json.dumps(model + " (simulated)")},"provider":"llmlab simulate","system_fingerprint":"simulated",'
        f'"choices":[{{"index":0,"message":{{"role":"assistant","content":{json.dumps(content)},"refusal":null}},'
        f'"logprobs":null,"finish_reason":"{finish}"}}]{end}'
    )
    return _Reply(200, text.encode(), {}, "ok", tally, delay_s)


def _unsent(tally: Mapping[str, int]) -> dict[str, int]:
    """The same counts when the answer, or its usage, does not reach the client."""
    total = tally.get("total_tokens", 0) or tally.get("unsent_tokens", 0)
    return {"usage_missing": 1, "unsent_tokens": total} if total else {}


def _refuse(status: int, message: str, kind: str = "invalid_request_error", code: str | None = None) -> _Reply:
    """OpenAI's error JSON."""
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return _Reply(status, json.dumps(body).encode(), {}, "refused" if status == 429 else "errors")


def _read(raw: bytes) -> dict[str, Any] | _Reply:
    """The request's body, or what is wrong with it."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        return _refuse(400, "The body is not JSON.")
    if not isinstance(body, dict) or not isinstance(body.get("model"), str) or not body["model"]:
        return _refuse(400, "You must provide a model parameter.")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(_is_message(message) for message in messages):
        return _refuse(400, "'messages' must be a list of at least one object with a 'content' of text or parts.")
    for most in (body.get("max_tokens"), body.get("max_completion_tokens")):
        if most is not None and (not isinstance(most, int) or most < 1):
            return _refuse(
                400, f"{most!r} is less than the minimum of 1 for max_tokens.", code="integer_below_min_value"
            )
    form = body.get("response_format")
    if form is not None and not (isinstance(form, dict) and isinstance(form.get("json_schema", {}), dict)):
        return _refuse(400, "'response_format' must be an object, and its 'json_schema' too.")
    if body.get("stream"):
        return _refuse(400, "The simulated provider does not stream; leave out 'stream'.")
    if _effort(body) not in _EFFORT_TOKENS:
        known = ", ".join(repr(effort) for effort in _EFFORT_TOKENS)
        message = (
            f"Unsupported value: 'reasoning_effort' does not support {_effort(body)!r}. Supported values are: {known}."
        )
        return _refuse(400, message, code="unsupported_value")
    return body


def _is_message(message: Any) -> bool:
    return isinstance(message, dict) and isinstance(message.get("content", ""), str | list | None)


class _Written:
    """Tells aiohttp that the response is on the wire already."""

    status, body_length = 200, 0

    def __init__(self, keep_alive: bool) -> None:
        self.keep_alive = keep_alive

    async def prepare(self, request: object) -> None:
        pass

    async def write_eof(self) -> None:
        pass


class _Server:
    """The provider's state and its thread; knows nothing of the `SimulatedProvider` that owns it."""

    def __init__(self, settings: Settings, port: int) -> None:
        self.settings = settings
        minute = settings.requests_per_minute, settings.tokens_per_minute
        self.limits = (minute[0] or settings.limit, minute[1] or settings.tokens, settings.period_s)
        self.lock = threading.Lock()
        self.tally: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.arrived: list[float] = []
        self.outcomes: list[str] = []
        self.in_flight: Counter[str] = Counter()
        self.peak_in_flight = 0
        self.windows: dict[tuple[str, str], _Window] = {}
        self.asked: Counter[bytes] = Counter()
        self.played: Counter[object] = Counter()
        self.since: dict[str, float] = {}
        self.sides: dict[str, tuple[str, Any]] = {}
        self.random = random.Random(settings.seed)
        self.port = port
        self.loop = asyncio.new_event_loop()
        self.stopping = asyncio.Event()
        self.ready = threading.Event()
        self.failed: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name="llmlab-simulate", daemon=True)

    def start(self) -> None:
        self.thread.start()
        self.ready.wait()
        if self.failed:
            self.thread.join(5)
            raise self.failed

    def stop(self) -> None:
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
        self.web = web.Server(handler, request_factory=request, handler_cancellation=True, access_log=None)
        listener = await self.loop.create_server(self.web, "127.0.0.1", self.port, backlog=4096)
        self.port = listener.sockets[0].getsockname()[1]
        self.ready.set()
        await self.stopping.wait()
        for closable in [listener, *(opened for _, many in self.sides.values() for opened in many)]:
            closable.close()
        await self.web.shutdown(0.001)
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        # The transports close in the loop's next rounds.
        await asyncio.sleep(0.01)

    async def open_side(self, name: str) -> str:
        """Open a side port, or find it open."""
        if name not in self.sides and name == "no_dns":
            self.sides[name] = "http://no-such-host.invalid/v1", []
        elif name not in self.sides and name in ("blackhole", "refused"):
            sockets = faults.fill_accept_queue() if name == "blackhole" else faults.unlistened()
            self.sides[name] = f"http://127.0.0.1:{sockets[0].getsockname()[1]}/v1", sockets
        elif name not in self.sides:
            secure = name == "tls_self_signed"
            serve: Any = self.web if secure else faults.Resetting
            server = await self.loop.create_server(serve, "127.0.0.1", 0, ssl=faults.self_signed() if secure else None)
            port = server.sockets[0].getsockname()[1]
            self.sides[name] = f"http{'s' if secure else ''}://127.0.0.1:{port}/v1", [server]
        return self.sides[name][0]

    async def _handle(self, request: Any) -> _Written:
        path, _, query = request.raw_path.partition("?")
        fault = ""
        if path.startswith("/fault/") and "/v1" in path:
            fault, _, path = path[len("/fault/") :].partition("/v1")
            path = "/v1" + path
        if path == "/v1/chat/completions" and request.method == "POST":
            return await self._chat(request, fault, "redirected=1" in query)
        if path == "/v1/chat/completions":
            reply = _refuse(405, f"{request.method} is not allowed here; POST is.")
        elif path == "/v1/models":
            names = self.settings.models or MODELS
            listed = [{"id": name, "object": "model", "created": 0, "owned_by": "llmlab simulate"} for name in names]
            reply = _Reply(200, json.dumps({"object": "list", "data": listed}).encode())
        elif path == "/stats":
            reply = _Reply(200, json.dumps(vars(self.counts())).encode())
        elif path == "/login":
            reply = _Reply(200, faults.page("Please sign in"), {"Content-Type": "text/html"})
        else:
            reply = _refuse(404, f"There is nothing at {path}; try /v1/chat/completions.")
        return self._send(request, reply, {})

    async def _chat(self, request: Any, fault: str, redirected: bool) -> _Written:
        """Take in one request, decide its reply at once, and send it when its time has come."""
        raw = await request.read()
        if self.settings.arrival_jitter_s:
            await asyncio.sleep(self.random.uniform(0, self.settings.arrival_jitter_s))
        body, at = _read(raw), time.monotonic()
        model = "" if isinstance(body, _Reply) else body["model"]
        if model.startswith(_FAULT_MODEL) and not redirected:
            fault = model[len(_FAULT_MODEL) :]
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        headers: dict[str, str | None] = {"x-request-id": f"req_{len(self.arrived):08x}"}
        with self.lock:
            place = len(self.arrived)
            self.arrived.append(at)
            self.outcomes.append("open")
            self.tally[model]["requests"] += 1
            self.in_flight[fault] += 1
            self.peak_in_flight = max(self.peak_in_flight, self.in_flight.total())
        outcome, tally = "dropped", {}
        try:
            reply = body if isinstance(body, _Reply) else self._decide(body, key, fault, at, redirected)
            tally = _unsent(reply.tally)
            if reply.delay_s:
                await asyncio.sleep(reply.delay_s)
            transport = request.transport
            if transport is None or transport.is_closing():
                return _Written(False)
            outcome, tally = reply.outcome, reply.tally
            self._count(place, model, outcome, tally)
            if not reply.fault:
                return self._send(request, reply, headers)
            call = faults.Call(key, self.port, time.time())
            return _Written(await faults.play(reply.fault, transport, call, headers) and request.keep_alive)
        finally:
            self._count(place, model, outcome, tally)
            self.in_flight[fault] -= 1

    def _count(self, place: int, model: str, outcome: str, tally: Mapping[str, int]) -> None:
        """Book how a request ended, once; before it is sent, so that whoever has the answer finds it counted."""
        with self.lock:
            if self.outcomes[place] == "open":
                self.outcomes[place] = outcome
                self.tally[model][outcome] += 1
                self.tally[model].update(tally)

    def _send(self, request: Any, reply: _Reply, headers: Mapping[str, str | None]) -> _Written:
        keep = {} if request.keep_alive else {"Connection": "close"}
        request.transport.write(faults.http_reply(reply.status, {**headers, **reply.headers, **keep}, reply.body))
        return _Written(request.keep_alive)

    def _decide(self, body: dict[str, Any], key: str, fault: str, at: float, redirected: bool) -> _Reply:
        """A fault, a refusal, an error or an answer; the state it depends on is booked here."""
        named = json.dumps([self.settings.seed, body["model"], body["messages"]]).encode()
        digest = hashlib.blake2b(named, digest_size=16).digest()
        (limit, tokens, period_s), most, lane = self.limits, self.settings.max_in_flight, ""
        if fault:
            try:
                spec = faults.parse(fault)
            except ValueError as error:
                return _refuse(404, f"{error}.", code="model_not_found")
            if spec.fault.limit or spec.fault.max_in_flight:
                limit, tokens, period_s = spec.fault.limit, None, spec.fault.period_s
                most, lane = spec.fault.max_in_flight, fault
            elif self._plays(spec, digest, at):
                spent = {"usage_missing": 1, "unsent_tokens": sum(_FINE)} if spec.fault.billed else {}
                tally = {"faults": 1, **(spec.fault.tokens or spent)}
                delay_s = self.settings.latency_s + (faults.SLOW_S if spec.fault.wire == "slow" else 0)
                return _Reply(0, b"", {}, spec.fault.outcome, tally, delay_s, spec.fault)
        marked = {"faults": 1} if lane else {}
        if most is not None and self.in_flight[fault] > most:
            message = f"Too many requests at the same time: {most} allowed."
            return _refuse(429, message, "requests", "slow_down")._replace(tally=marked)
        window = self.windows.setdefault((lane, key), _Window(limit, tokens, period_s))
        fine = faults.LABEL if fault or redirected else None
        # The answer is made first only where its tokens are needed to decide.
        reply = _complete(self.settings, body, digest, self.asked[digest], fine) if tokens else None
        weight = reply.tally.get("total_tokens", 0) or reply.tally.get("unsent_tokens", 0) if reply else 0
        wait_s = window.admit(at, weight, self.settings.count_refused)
        if wait_s:
            return self._refusal(body["model"], window, at, wait_s, weight)._replace(tally=marked)
        reply = reply or _complete(self.settings, body, digest, self.asked[digest], fine)
        self.asked[digest] += 1
        return reply._replace(headers=window.headers(at))

    def _plays(self, spec: faults.Spec, digest: bytes, at: float) -> bool:
        """Whether all conditions of a fault hold for this request."""
        self.played[spec.text] += 1
        if self.played[spec.text] <= spec.after:
            return False
        if spec.window_s is not None and at - self.since.setdefault(spec.text, at) >= spec.window_s:
            return False
        self.played[spec.text, digest] += 1
        return spec.times is None or self.played[spec.text, digest] <= spec.times

    @staticmethod
    def _refusal(model: str, window: _Window, at: float, wait_s: float, weight: int) -> _Reply:
        if wait_s == math.inf:
            message = (
                f"Request too large for {model} on tokens per min (TPM): Limit {window.tokens}, Requested {weight}."
            )
            return _refuse(429, message, "tokens", "rate_limit_exceeded")
        full = window.limit is not None and len(window.entries) >= window.limit
        kind, limit = ("requests", window.limit) if full else ("tokens", window.tokens)
        message = (
            f"Rate limit reached for {model} (simulated) on {kind}: Limit {limit} in {window.period_s:g} s. "
            f"Please try again in {_duration(wait_s)}."
        )
        reply = _refuse(429, message, kind, "rate_limit_exceeded")
        hints = {"Retry-After": str(math.ceil(wait_s)), "retry-after-ms": str(math.ceil(wait_s * 1000))}
        return reply._replace(headers=hints | window.headers(at, wait_s))

    def counts(self) -> Counts:
        with self.lock:
            models = {model: dict(counter) for model, counter in self.tally.items()}
            total = sum(self.tally.values(), Counter())
            peak = max((window.peak for window in list(self.windows.values())), default=0)
            return Counts(**total, peak_in_flight=self.peak_in_flight, max_in_window=peak, models=models)


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
        self._server = _Server(self.settings, port)
        self._server.start()
        self.base_url = f"http://127.0.0.1:{self._server.port}/v1"
        self._finalizer = weakref.finalize(self, self._server.stop)

    def counts(self) -> Counts:
        """What was served until now; also after closing."""
        return self._server.counts()

    def arrivals(self) -> list[Arrival]:
        """All requests in the order in which the rate limit saw them."""
        with self._server.lock:
            return [Arrival(*pair) for pair in zip(self._server.arrived, self._server.outcomes, strict=True)]

    def fault_url(self, fault: str) -> str:
        """The base URL at which every model meets this fault of `llmlab.faults.FAULTS`, as in "s503-html/w5"."""
        faults.parse(fault)
        return f"{self.base_url.removesuffix('/v1')}/fault/{fault}/v1"

    def side_url(self, name: str) -> str:
        """The base URL of a fault that needs a port of its own: one of `llmlab.faults.SIDES`."""
        if name not in faults.SIDES:
            raise InputError(f"no side port {name!r}; there are {', '.join(faults.SIDES)}")
        return asyncio.run_coroutine_threadsafe(self._server.open_side(name), self._server.loop).result(10)

    def close(self) -> None:
        """End the thread and close every connection; again is harmless."""
        self._finalizer()

    def __enter__(self) -> SimulatedProvider:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        limit, tokens, period_s = self._server.limits
        rates = [f"{n} {what} in {period_s:g} s" for n, what in ((limit, "requests"), (tokens, "tokens")) if n]
        state = "" if self._finalizer.alive else ", closed"
        return f"<simulated provider, no real model: {self.base_url}, {' and '.join(rates) or 'unlimited'}{state}>"


def client(**settings: Any) -> SimulatedProvider:
    """Start a simulated provider.

    Parameters
    ----------
    **settings
        Of `Settings`: `latency_s`, `requests_per_minute`, `malformed_rate`, `accuracy`, `seed` and so on.

    Returns
    -------
    SimulatedProvider
        With `base_url` and `api_key`.

    Raises
    ------
    InputError
        For an unknown setting or a value out of range.

    Examples
    --------
    >>> with client(latency_s=0.1, requests_per_minute=300) as provider:
    ...     provider.counts().requests
    0
    """
    known = [one.name for one in fields(Settings)]
    for name in settings:
        if name not in known:
            near = get_close_matches(name, known, 1)
            raise InputError(
                f"no setting {name!r}; "
                + (f"did you mean {near[0]}? " if near else "")
                + f"There are {', '.join(known)}"
            )
    return SimulatedProvider(Settings(**settings))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a simulated provider in the foreground until Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m llmlab.simulate", description="A simulated provider; no real model."
    )
    parser.add_argument("--port", type=int, default=0, help="of 127.0.0.1; any free one by default")
    for one in fields(Settings):
        flag, kind = f"--{one.name.replace('_', '-')}", str(one.type)
        if kind == "bool":
            parser.add_argument(flag, action="store_true")
        elif one.name == "models":
            parser.add_argument(flag, nargs="*", default=[], metavar="NAME=ACCURACY")
        else:
            parser.add_argument(flag, type=float if kind == "float" else int, default=one.default)
    given = vars(parser.parse_args(arguments))
    port = given.pop("port")
    try:
        given["models"] = {name: float(share) for name, _, share in (pair.rpartition("=") for pair in given["models"])}
        provider = SimulatedProvider(Settings(**given), port)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(f"Simulated provider: no real model, no cost. {provider!r}")
    print(f"Use it:  OPENAI_BASE_URL={provider.base_url} OPENAI_API_KEY={provider.api_key} your-program")
    print(f"Counts:  {provider.base_url.removesuffix('/v1')}/stats    Stop: Ctrl-C", flush=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        counts = provider.counts()
        print(f"\nServed {counts.requests} requests: {counts.ok} ok, {counts.refused} refused, {counts.errors} errors.")
    finally:
        provider.close()
