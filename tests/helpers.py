"""What several tests share: virtual time, still clocks, threads, HTTP requests, made-up results, experiments."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import aiohttp
import looptime
import pandas as pd
from aiohttp import web

import llmlab as ll
from llmlab.errors import AttemptError
from llmlab.limits import RateLimiter
from llmlab.parsing import make_parser
from llmlab.records import TokenUsageAttempt, Trial, Usage
from llmlab.results import Results, Store

CATEGORIES = ["account", "billing", "bug", "delivery", "feature", "other"]
INSTRUCTION = make_parser(CATEGORIES).instruction

HANGS_S = 1e6
"""Virtual seconds after which a test hangs; reached at once where nothing else is scheduled."""
START = 1_700_000_000.0
"""When the first attempt of made-up results is sent, seconds since the epoch."""


def virtual_loop(start: float = 0.0):
    return looptime.patch_event_loop(asyncio.new_event_loop(), start=start, noop_cycles=2)


def virtual(test):
    """Run an async test in virtual time and check that the limiter leaves no task and no timer behind."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        loop = virtual_loop()
        try:
            loop.run_until_complete(asyncio.wait_for(test(*args, **kwargs), HANGS_S))
            assert not asyncio.all_tasks(loop)
            assert not timers(loop)
        finally:
            loop.close()

    return run


def timers(loop) -> list[asyncio.TimerHandle]:
    """Live timers that code of llmlab has set."""
    return [
        handle
        for handle in loop._scheduled
        if not handle.cancelled() and getattr(handle._callback, "__module__", "").startswith("llmlab")
    ]


def now() -> float:
    return asyncio.get_running_loop().time()


def limited(limit, **settings) -> RateLimiter:
    """A limiter on the running loop's time."""
    return RateLimiter(limit, clock=asyncio.get_running_loop().time, **settings)


class Clock:
    """Stands still until told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def start(*coroutines) -> list[asyncio.Task]:
    return [asyncio.ensure_future(coroutine) for coroutine in coroutines]


async def queue(limiter: RateLimiter, *weights: float) -> list[asyncio.Task]:
    """Tasks that have asked, one for each weight in tokens."""
    tasks = start(*(limiter.acquire(weight) for weight in weights))
    await asyncio.sleep(0)
    return tasks


async def stamp(limiter: RateLimiter, count: int, tokens: float = 0) -> list[float]:
    """When `count` requests leave that ask one after the other and are answered at once."""
    stamps = []
    for _ in range(count):
        (await limiter.acquire(tokens)).answered()
        stamps.append(now())
    return stamps


async def cancelled(*tasks: asyncio.Task) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError):
            await task


def most_in_window(stamps: list[float], period_s: float = 60.0) -> int:
    """Most arrivals in any half-open window of one period."""
    stamps = sorted(stamps)
    first, most = 0, 0
    for last, stamp in enumerate(stamps):
        while stamps[first] <= stamp - period_s + 1e-6:
            first += 1
        most = max(most, last - first + 1)
    return most


def eventually(condition) -> None:
    """Wait for other threads, at most ten seconds."""
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("never came true")


@contextlib.contextmanager
def thread(main):
    """Run `asyncio.run(main())` in a thread; a deadlock fails the test instead of hanging it."""
    errors = []

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            errors.append(error)

    running = threading.Thread(target=run, daemon=True)
    running.start()
    yield running
    running.join(10)
    assert not running.is_alive()
    assert not errors


def messages(text):
    return [{"role": "user", "content": f"Which category fits?\n\n{text}\n\n{INSTRUCTION}"}]


class HttpClient:
    """Posts to one provider and keeps nothing but the connection."""

    def __init__(self, provider, key="simulated"):
        self.provider, self.key = provider, key

    async def __aenter__(self):
        connector = aiohttp.TCPConnector(limit=0)
        self.session = aiohttp.ClientSession(headers={"Authorization": f"Bearer {self.key}"}, connector=connector)
        return self

    async def __aexit__(self, *_):
        await self.session.close()

    async def ask(self, text="hi", model="m", base_url=None, **body):
        body = {"model": model, "messages": messages(text)} | body
        url = f"{base_url or self.provider.base_url}/chat/completions"
        async with self.session.post(url, json=body, allow_redirects=False) as response:
            return response.status, response.headers, await response.read()

    async def label(self, text, model="m", **body):
        status, _, raw = await self.ask(text, model, **body)
        assert status == 200
        return json.loads(json.loads(raw)["choices"][0]["message"]["content"])["label"]


TRIAL = Trial(0, "u", "m", 1)


def attempt(trial: Trial = TRIAL, number: int = 1, **changes: Any) -> TokenUsageAttempt:
    """One attempt that gave an answer for half a dollar, but for the `changes`."""
    values = {
        "trial": trial, "attempt": number, "status": "ok", "error_type": None, "error": None, "started_at": START,
        "queue_s": 0.0, "wait_s": 0.0, "latency_s": 0.1, "retry_in_s": None, "throttled": False,
        "usage": Usage(10, 5, None, None, 15), "cost_usd": 0.5, "finish_reason": "stop", "model_returned": trial.model,
        "request_id": None, "http_status": 200, "content": "x", "may_be_billed": True,
    }  # fmt: skip
    return TokenUsageAttempt(**values | changes)


def failing(**changes: Any) -> dict[str, Any]:
    """The changes that make an attempt one that got no answer: a 500, for which nothing is charged."""
    return {
        "status": "call_error", "error_type": "OverloadedError", "error": "no capacity", "usage": Usage(),
        "cost_usd": None, "http_status": 500, "content": None, "may_be_billed": False,
    } | changes  # fmt: skip


def keys_of(
    units: Sequence[Any], *, runs: int = 1, models: Sequence[str] = ("m",), prompts: Sequence[str] = ()
) -> pd.DataFrame:
    """The trials of an experiment, in its order."""
    rows = [
        (at, unit, model, prompt, run)
        for at, unit in enumerate(units)
        for model in models
        for prompt in prompts or (None,)
        for run in range(1, runs + 1)
    ]
    keys = pd.DataFrame(rows, columns=["unit", "unit_id", "model", "prompt", "run"])
    return keys if prompts else keys.drop(columns="prompt")


def trial_of(keys: pd.DataFrame, at: int) -> Trial:
    """The trial in row `at`."""
    row = keys.iloc[at]
    return Trial(at, row["unit_id"], row["model"], int(row["run"]), row.get("prompt"))


def results_of(
    keys: pd.DataFrame,
    attempts: Sequence[tuple[TokenUsageAttempt, object]],
    *,
    units: pd.DataFrame | None = None,
    unsent: Mapping[int, AttemptError] | None = None,
    stopped: str | None = None,
    again: Callable[..., Any] | None = None,
    **description: Any,
) -> Results:
    """Results of these attempts, each with the prediction that it gave."""
    store = Store()
    for one, value in attempts:
        store.record(one, value)
    for at, error in (unsent or {}).items():
        store.fail(trial_of(keys, at), error)
    ids = list(dict.fromkeys(keys["unit_id"]))
    units = pd.DataFrame(index=pd.Index(ids, name="unit_id")) if units is None else units
    return Results(keys=keys, units=units, store=store, stopped=stopped, description=description, again=again)


MODEL = "openai/gpt-4o-mini"


def settings(provider, **more):
    """The settings of an experiment with a simulated provider: no limit, no progress."""
    return {"model": MODEL, "requests_per_minute": None, "progress": False, "client": provider} | more


async def ask(provider, units, prompt="{text}", **more):
    """An experiment with a simulated provider."""
    return await ll.run_experiment(units, prompt, **settings(provider, **more))


def texts(count):
    return [f"text number {n}" for n in range(count)]


async def until(condition, timeout_s=20):
    """Wait for something that happens in another thread or on the network."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it never happened"
        await asyncio.sleep(0.005)


def said(text="fine", finish_reason="stop"):
    """A whole chat completion."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 40, "completion_tokens": 6, "total_tokens": 46}
    return {"id": "c", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}


@contextlib.asynccontextmanager
async def serving(reply, *, give_up=False, models=(404, {})):
    """A server on loopback whose answers a function makes; gives the settings to ask it.

    `reply(body)` returns, or is awaited for, a body or (status, body, headers); a text is sent as a web page. With
    `give_up` a request whose client has gone is worked on no longer, as most model servers do. `models` is what it says
    when it is asked for its models.
    """

    async def handle(request):
        made = reply(await request.json()) if request.method == "POST" else models
        made = await made if asyncio.iscoroutine(made) else made
        status, body, headers = (*made, {})[:3] if isinstance(made, tuple) else (200, made, {})
        if isinstance(body, str):
            return web.Response(status=status, text=body, content_type="text/html", headers=headers)
        return web.json_response(body, status=status, headers=headers)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, handler_cancellation=give_up)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/v1"
        yield {
            "base_url": url, "api_key": "sk-local-0123456789", "model": "m", "requests_per_minute": None,
            "progress": False,
        }  # fmt: skip
    finally:
        await runner.cleanup()
