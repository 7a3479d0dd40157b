"""Nobody there, or no room: trials wait, one request at a time looks, full queues get fewer at a time, none is lost.

The bodies are those that people reported to other tools, or that the servers' documentation shows.
"""

import asyncio
import time

import pytest
from aiohttp import web

import llmlab as ll
from llmlab.display.waiting import waiting_for
from tests.helpers import said, serving, texts, until

ONCE = ll.RetryPolicy(max_retries=1)
SOON = {"retry-after-ms": "40"}


def page(title):
    return f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"


FULL = {
    "Ollama": (503, {"error": {"message": "server busy, please try again.  maximum pending requests exceeded",
        "type": "api_error", "param": None, "code": None}}),
    "TGI": (429, {"error": "Model is overloaded", "error_type": "overloaded"}),
    "HAProxy": (503, page("503 Service Unavailable")),
    "nginx limit_conn": (503, page("503 Service Temporarily Unavailable")),
    "Anthropic": (529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
    "Gemini": (503, [{"error": {"code": 503, "message": "The model is overloaded. Please try again later.",
        "status": "UNAVAILABLE"}}]),
    "Envoy": (503, "upstream connect error or disconnect/reset before headers. reset reason: overflow"),
    "TorchServe": (503, {"code": 503, "type": "ServiceUnavailableException",
        "message": "Model \"m\" has no worker to serve inference request. Please use scale workers API to add workers."}),
    "Groq flex": (498, {"error": {"message": "Flex tier capacity exceeded", "type": "server_error",
        "code": "capacity_exceeded"}}),
    "LiteLLM": (429, {"error": {"message": "Max parallel request limit reached", "type": "None", "param": "None",
        "code": "429"}}),
}  # fmt: skip


@pytest.mark.parametrize("limit", [None, 100_000])
@pytest.mark.parametrize("kind", FULL)
async def test_a_full_queue_loses_no_row_also_under_a_limit(kind, limit):
    busy, most = 0, 0

    async def reply(body):
        nonlocal busy, most
        if busy >= 4:
            return FULL[kind]
        busy += 1
        most = max(most, busy)
        try:
            await asyncio.sleep(0.02)
        finally:
            busy -= 1
        return said()

    async with serving(reply) as server:
        server["requests_per_minute"] = limit
        results = await ll.run_experiment(texts(60), "{text}", retry=ONCE, **server)
    assert results.predictions["status"].eq("ok").all()
    assert results.stopped is None
    assert most == 4
    # The crowd does not come back with every answer.
    assert len(results.attempts) < 4 * 60


AWAY = {
    "llama.cpp": (503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, SOON),
    "Hugging Face": (503, {"error": "Model m is currently loading", "estimated_time": 20.0}, SOON),
    "nginx, no server": (502, page("502 Bad Gateway"), SOON),
    "nginx, a slow one": (504, page("504 Gateway Time-out"), SOON),
    "Envoy": (503, "no healthy upstream", SOON),
    "Cloudflare": (521, page("521: Web server is down"), SOON),
    "OpenRouter, in a 200": (200, {"error": {"code": 502, "message": "Provider returned error"}}, SOON),
}


@pytest.mark.parametrize("begins", [0, 5])
@pytest.mark.parametrize("kind", AWAY)
async def test_a_server_that_is_away_for_a_while_is_waited_for_with_one_request_at_a_time(kind, begins):
    asked, over = [], []

    async def reply(body):
        asked.append(len(asked) + 1)
        if len(asked) <= begins:
            return said()
        if not over:
            over.append(time.monotonic() + 0.3)
        return AWAY[kind] if time.monotonic() < over[0] else said()

    async with serving(reply) as server:
        results = await ll.run_experiment(texts(40), "{text}", retry=ONCE, max_concurrent=4, **server)
    assert results.predictions["status"].eq("ok").all()
    assert results.stopped is None
    refused = results.attempts["status"].eq("call_error").sum()
    # Four in flight when it begins, then a probe every 40 ms.
    assert 1 <= refused <= 4 + 12
    assert results.attempts.loc[results.attempts["status"] == "call_error", "retry_in_s"].notna().all()


async def test_a_model_that_is_away_does_not_hold_up_the_others():
    back = asyncio.Event()

    def reply(body):
        return said() if body["model"] == "up" or back.is_set() else AWAY["llama.cpp"]

    async with serving(reply) as server:
        experiment = ll.start_experiment(
            texts(40), "{text}", retry=ONCE, max_concurrent=4, **server | {"model": ["down", "up"]}
        )
        await until(lambda: experiment.predictions.query("model == 'up'")["status"].eq("ok").all())
        assert experiment.predictions.query("model == 'down'")["status"].eq("not_run").all()
        back.set()
        results = await experiment
    assert results.predictions["status"].eq("ok").all()


async def test_an_outage_without_end_is_given_up_and_says_so():
    async with serving(lambda body: AWAY["nginx, no server"]) as server:
        retry = ll.RetryPolicy(outage_s=0.2)
        results = await ll.run_experiment(texts(200), "{text}", retry=retry, max_concurrent=3, **server)
        assert results.stopped.startswith("nobody answered for 0 s: 502: a web page: 502 Bad Gateway; ")
        assert results.stopped.endswith("200 of 200 trials are not answered")
        assert results.predictions["status"].eq("not_run").all()
        assert len(results.attempts) < 20


async def test_one_model_given_up_does_not_end_the_others():
    def reply(body):
        return said() if body["model"] == "up" else AWAY["llama.cpp"]

    async with serving(reply) as server:
        results = await ll.run_experiment(
            texts(5), "{text}", retry=ll.RetryPolicy(outage_s=0.1), **server | {"model": ["down", "up"]}
        )
    assert results.predictions.query("model == 'up'")["status"].eq("ok").all()
    assert results.predictions.query("model == 'down'")["status"].eq("not_run").all()
    assert results.stopped.startswith("down: nobody answered for")


async def test_where_no_server_ever_was_five_refused_connections_end_the_run(unused_tcp_port):
    results = await ll.run_experiment(
        texts(750), "{text}", model="m", base_url=f"http://127.0.0.1:{unused_tcp_port}/v1", api_key="k" * 20,
        requests_per_minute=6000, progress=False,
    )  # fmt: skip
    assert len(results.attempts) <= 5 + 16
    assert results.stopped.startswith("nobody answers at base_url, the first 5 requests got no connection: could not")
    assert results.predictions["status"].isin(["failed", "not_run"]).all()


async def test_a_server_that_restarts_loses_no_row(unused_tcp_port):
    async def start():
        app = web.Application()
        app.router.add_post("/{path:.*}", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
        return runner

    async def answer(request):
        await request.read()
        await asyncio.sleep(0.01)
        return web.json_response(said())

    first = await start()
    experiment = ll.start_experiment(
        texts(400), "{text}", model="m", base_url=f"http://127.0.0.1:{unused_tcp_port}/v1", api_key="k" * 20,
        requests_per_minute=None, max_concurrent=4, progress=False,
    )  # fmt: skip
    await until(lambda: experiment._run.tally.done >= 50)
    await first.cleanup()
    await until(lambda: experiment._run.tally.errors["ConnectionError"] >= 3)
    second = await start()
    try:
        results = await experiment
    finally:
        await second.cleanup()
    assert results.predictions["status"].eq("ok").all()
    assert results.attempts["status"].ne("ok").sum() < 20


async def test_timeouts_at_a_slow_server_narrow_until_all_are_answered():
    places = asyncio.Semaphore(2)

    async def two_at_a_time(body):
        async with places:
            await asyncio.sleep(0.1)
        return said()

    async with serving(two_at_a_time, give_up=True) as server:
        results = await ll.run_experiment(texts(60), "{text}", timeout=2, **server)
    assert results.predictions["status"].eq("ok").sum() >= 58
    assert 1 <= results.attempts["error_type"].eq("TimeoutError").sum() <= 60


async def test_when_everything_is_refused_for_longer_than_allowed_the_run_says_so():
    async with serving(lambda body: (429, {"error": {"message": "Too many"}}, {"retry-after-ms": "50"})) as server:
        retry = ll.RetryPolicy(max_wait_s=0.3, max_retries=99)
        results = await ll.run_experiment(texts(50), "{text}", retry=retry, max_concurrent=3, **server)
    assert results.stopped.startswith("every request has been refused for 0 s, nothing was answered: 429: Too many")
    assert len(results.attempts) < 100


async def test_while_nobody_answers_the_panel_says_when_the_next_try_is(simulated):
    provider = simulated(fault="outage", fault_after=20, fault_s=0.5)
    experiment = ll.start_experiment(
        texts(60), "{text}", model="m", client=provider, requests_per_minute=6000, progress=False
    )
    said = []

    def tried_again():
        said.append(waiting_for(experiment._run.tally).text)
        return said[-1].startswith("the provider does not answer; next try in ")

    await until(tried_again)
    results = await experiment
    assert results.predictions["status"].eq("ok").all()
    assert results.bottleneck()["waited_for"].iloc[0] == "outage"
