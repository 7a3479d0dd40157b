"""The simulated provider speaks real HTTP, counts what it served, and leaves nothing behind."""

import asyncio
import gc
import json
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import aiohttp
import openai
import pytest

from llmlab import simulate
from tests.helpers import HttpClient, messages

ROOT = Path(__file__).parents[2]


def test_it_says_that_it_is_no_real_model(simulated):
    provider = simulated(requests_per_minute=300)
    assert "simulated provider, no real model" in repr(provider)
    assert provider.base_url in repr(provider)
    assert "300 requests in 60 s" in repr(provider)
    assert provider.api_key == "simulated"


async def test_an_openai_client_gets_an_ordinary_completion(simulated):
    provider = simulated(cost=True)
    async with openai.AsyncOpenAI(base_url=provider.base_url, api_key=provider.api_key, max_retries=0) as client:
        answer = await client.chat.completions.create(model="a/b", messages=messages("I was charged twice, refund me"))
        listed = await client.models.list()
    assert answer.choices[0].message.content == '{"label": "billing"}'
    assert (answer.model, answer.system_fingerprint) == ("a/b (simulated)", "simulated")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.cost > 0
    assert answer.provider == "llmlab simulate"
    assert answer._request_id.startswith("req_")
    assert [model.id for model in listed.data] == list(simulate.MODELS)


async def test_the_counts_are_what_a_client_can_add_up(simulated, tickets):
    provider = simulated(malformed_rate=0.1, error_rate=0.1, missing_usage_rate=0.2, limit=150, models={"a": 0.9})
    async with HttpClient(provider) as client:
        asked = (client.ask(row["text"], "ab"[at % 2], reasoning_effort="low") for at, row in enumerate(tickets[:200]))
        answers = await asyncio.gather(*asked)
        stats = json.loads(await (await client.session.get(provider.base_url[:-3] + "/stats")).read())
    counts = provider.counts()
    statuses = Counter(status for status, _, _ in answers)
    usages = [json.loads(raw).get("usage") for status, _, raw in answers if status == 200]
    known = [usage for usage in usages if usage]
    assert (counts.requests, counts.ok, counts.errors) == (200, statuses[200], statuses[500])
    assert counts.refused == statuses[429] == 50
    assert counts.usage_missing == len(usages) - len(known) > 0
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert getattr(counts, name) == sum(usage[name] for usage in known)
    reasoning = sum(usage["completion_tokens_details"]["reasoning_tokens"] for usage in known)
    assert counts.reasoning_tokens == reasoning > 0
    assert counts.unsent_tokens > 0
    assert counts.malformed > 0
    assert sum(one["requests"] for one in counts.models.values()) == 200
    assert stats["total_tokens"] == counts.total_tokens


async def test_a_client_that_leaves_is_dropped_and_its_tokens_unsent(simulated):
    provider = simulated(latency_s=5)
    async with HttpClient(provider) as client:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.ask(), 0.05)
    await asyncio.sleep(0.05)
    counts = provider.counts()
    assert (counts.requests, counts.dropped, counts.ok, counts.total_tokens) == (1, 1, 0, 0)
    assert counts.unsent_tokens > 0
    assert provider.arrivals()[0].outcome == "dropped"


async def test_other_paths_are_not_found(simulated):
    provider = simulated()
    async with HttpClient(provider) as client:
        for method, path, status in (("POST", "/chat/completions", 404), ("GET", "/v1/chat/completions", 405)):
            async with client.session.request(method, provider.base_url[:-3] + path) as response:
                assert response.status == status
                assert "error" in await response.json()


def simulated_threads():
    return [thread for thread in threading.enumerate() if thread.name == "llmlab-simulate"]


async def test_providers_work_side_by_side(simulated):
    first, second = simulated(limit=1), simulated()
    async with HttpClient(first) as one, HttpClient(second) as two:
        assert [(await one.ask())[0], (await one.ask())[0], (await two.ask())[0]] == [200, 429, 200]
    assert (first.counts().requests, second.counts().requests) == (2, 1)


async def test_closing_leaves_no_thread_and_no_socket():
    before = len(simulated_threads())
    with simulate.client(latency_s=30) as provider:
        async with HttpClient(provider) as client:
            waiting = [asyncio.create_task(client.ask(model=model)) for model in ("m", "fault/silent", "fault/cut")]
            await asyncio.sleep(0.05)
            assert len(simulated_threads()) == before + 1
            provider.close()
            ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(one, aiohttp.ClientError) for one in ended)
    assert len(simulated_threads()) == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(provider.base_url.split(":")[2][:-3])))
    assert provider.counts().requests == 3
    assert "closed" in repr(provider)
    provider.close()


def test_a_forgotten_provider_ends_too():
    before = len(simulated_threads())
    provider = simulate.client()
    assert len(simulated_threads()) == before + 1
    del provider
    gc.collect()
    assert len(simulated_threads()) == before


def test_a_taken_port_is_an_error(simulated):
    taken = simulated()
    before = len(simulated_threads())
    with pytest.raises(OSError, match="in use"):
        simulate.SimulatedProvider(port=int(taken.base_url.split(":")[2][:-3]))
    assert len(simulated_threads()) == before


def test_it_runs_in_the_foreground():
    command = [sys.executable, "-m", "llmlab.simulate", "--requests-per-minute", "60", "--latency-s", "0"]
    with subprocess.Popen(
        [*command, "--models", "a=0.9"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        said = "".join(process.stdout.readline() for _ in range(3))
        assert "no real model" in said
        assert "60 requests in 60 s" in said
        base_url = said.split("OPENAI_BASE_URL=")[1].split()[0]
        with openai.OpenAI(base_url=base_url, api_key="simulated", max_retries=0) as client:
            assert client.chat.completions.create(model="m", messages=messages("hi")).choices
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=5)
    assert "Served 1 requests: 1 ok" in rest
    assert process.returncode == 0, errors
