"""The faults arrive as they are declared, and are counted as a careful reader would."""

import asyncio
import json
import socket
import time
from collections import Counter

import aiohttp
import openai
import pytest

from tests.helpers import HttpClient, messages
from tests.provider.catalogue import FAULTS
from tests.provider.faults import USAGE, Call, countable
from tests.provider.server import FaultProvider
from tests.provider.sides import SIDES


@pytest.fixture(scope="module")
def fault_provider():
    with FaultProvider() as provider:
        yield provider


def receive(provider, model, seconds):
    """Everything that comes back within some seconds, and how it ended: "open", "closed" or "reset"."""
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    received = b""
    with socket.create_connection(("127.0.0.1", int(provider.base_url.split(":")[2][:-3]))) as connection:
        connection.sendall(head + body)
        end = time.monotonic() + seconds
        try:
            while True:
                connection.settimeout(max(0.001, end - time.monotonic()))
                if not (chunk := connection.recv(1 << 20)):
                    break
                received += chunk
        except TimeoutError:
            return received, "open"
        except ConnectionResetError:
            return received, "reset"
    return received, "closed"


WHOLE = [name for name, fault in FAULTS.items() if fault.wire == "reply" and not name.startswith("t-")]


@pytest.mark.parametrize("name", WHOLE)
async def test_a_fault_arrives_as_declared(fault_provider, name):
    fault = FAULTS[name]
    before = fault_provider.counts()
    async with HttpClient(fault_provider, "sk-my-key") as client:
        client.session._auto_decompress = False
        status, headers, body = await client.ask("hi", f"fault/{name}")
    after = fault_provider.counts()
    assert status == fault.status
    if not callable(fault.body):
        assert body == fault.body
    for header, value in fault.headers.items():
        if not callable(value):
            assert headers.get(header) == value
    outcome = fault.play(Call("", 1, 0.0)).outcome
    assert getattr(after, outcome) == getattr(before, outcome) + 1
    assert after.faults == before.faults + 1
    assert after.total_tokens - before.total_tokens == fault.tokens.get("total_tokens", 0)
    assert after.unsent_tokens - before.unsent_tokens == (15 if fault.billed and not fault.tokens else 0)


async def test_faults_refer_to_the_request_and_the_clock(fault_provider):
    async with HttpClient(fault_provider, "sk-my-key") as client:
        assert b"provided: sk-my-key." in (await client.ask(model="fault/s401-echo"))[2]
        headers = (await client.ask(model="fault/r429-free-day"))[1]
        assert 0 < int(headers["x-ratelimit-reset"]) / 1000 - time.time() <= 86_400
        assert (await client.ask(model="fault/r429-date"))[1]["Retry-After"].endswith("GMT")
        assert "localhost:" in (await client.ask(model="fault/m-cross"))[1]["Location"]


@pytest.mark.parametrize(
    ("name", "start", "end", "state"),
    [
        ("w-reset", b"", b"", "reset"),
        ("w-cut-length", b"HTTP/1.1 200 OK", b"", "closed"),
        ("w-cut-eof", b"HTTP/1.1 200 OK", b"", "closed"),
        ("w-cut-chunk", b"HTTP/1.1 200 OK", b"\r\n", "closed"),
        ("w-garbage", b"SSH-2.0", b"\r\n", "closed"),
        ("w-hang", b"", b"", "open"),
        ("w-drip", b"HTTP/1.1 200 OK", b"1\r\n\n\r\n", "open"),
        ("w-slow", b"", b"", "open"),
        ("w-idle-close", b"HTTP/1.1 200 OK", b"}", "closed"),
    ],
)
def test_faults_below_http(fault_provider, name, start, end, state):
    received, ended = receive(fault_provider, f"fault/{name}", 0.3)
    assert ended == state
    assert received.startswith(start)
    assert received.endswith(end)
    if name in ("w-cut-length", "w-cut-eof", "w-cut-chunk"):
        assert b'"choices"' in received
        assert not received.endswith(b"}")
    assert (b"Content-Length" in received) == (name in ("w-cut-length", "w-idle-close"))


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        (None, {}),
        ({"prompt_tokens": "10", "completion_tokens": -5, "total_tokens": 5}, {"prompt_tokens": 10, "total_tokens": 5}),
        ({"prompt_tokens": 10.5, "total_tokens": True}, {}),
        ({"prompt_tokens_details": {"cached_tokens": 3}, "completion_tokens_details": None}, {"cached_tokens": 3}),
    ],
)
def test_odd_usage_counts_as_a_careful_reader_would(usage, counted):
    assert countable(usage) == counted


async def test_a_fault_can_be_bound_to_conditions(provider):
    playing = provider()
    async with HttpClient(playing) as client:

        async def statuses(model, texts):
            return [(await client.ask(text, model))[0] for text in texts]

        assert await statuses("fault/s401-key/a3", "abcde") == [200, 200, 200, 401, 401]
        assert await statuses("fault/s500-json/n2", "aabaab") == [500, 500, 500, 200, 200, 500]
        assert await statuses("fault/s503-html/w0.1", "ab") == [503, 503]
        await asyncio.sleep(0.11)
        assert await statuses("fault/s503-html/w0.1", "a") == [200]
        _, _, raw = await client.ask(model="fault/s500-json/n0", messages=[{"role": "user", "content": "hi"}])
        fine = json.loads(raw)
        assert fine["choices"][0]["message"]["content"] == '{"label": "yes"}'
        assert [fine["usage"][name] for name in USAGE] == [11, 4, 15]


async def test_every_request_can_meet_a_fault_until_the_provider_is_mended(provider):
    playing = provider(fault="s408/a1")
    async with HttpClient(playing) as client:
        assert [(await client.ask())[0] for _ in range(2)] == [200, 408]
        playing.fault = None
        assert (await client.ask())[0] == 200
    with pytest.raises(ValueError, match="s404-html, s404-model"):
        playing.fault = "s404"


async def test_redirects_lead_where_they_say(provider):
    playing = provider()
    async with openai.AsyncOpenAI(base_url=playing.base_url, api_key="k", max_retries=0) as client:

        async def ask(name):
            return await client.chat.completions.create(model=f"fault/{name}", messages=messages("hi"))

        assert (await ask("m307")).choices
        assert (await ask("m-cross")).choices
        assert "Please sign in" in str(await ask("m302-login"))
        with pytest.raises(openai.APIStatusError, match="405"):
            await ask("m301")
        with pytest.raises(openai.APIConnectionError):
            await ask("m-loop")


async def test_faults_with_a_memory(provider):
    playing = provider(latency_s=0.02)
    async with HttpClient(playing) as client:

        async def crowd(model, count):
            return Counter(one[0] for one in await asyncio.gather(*(client.ask("hi", model) for _ in range(count))))

        assert await crowd("fault/t-rpm", 30) == {200: 20, 429: 10}
        assert await crowd("fault/t-crowd", 30) == {200: 8, 429: 22}
        assert await crowd("fault/t-crowd", 8) == {200: 8}
        assert await crowd("fault/t-broke", 30) == {200: 20, 402: 10}
        assert await crowd("fault/t-broke", 3) == {402: 3}
        _, headers, _ = await client.ask(model="fault/t-rpm")
        assert 0 < int(headers["retry-after-ms"]) <= 1000
    assert playing.counts().faults == 10 + 22 + 10 + 3 + 1


async def test_side_ports(provider):
    playing = provider()
    assert set(SIDES) >= {"reset", "blackhole", "tls_self_signed", "no_dns"}
    async with HttpClient(playing) as client:
        with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
            await client.ask(base_url=playing.side_url("reset"))
        with pytest.raises(aiohttp.ClientConnectorError):
            await client.ask(base_url=playing.side_url("refused"))
        secure = playing.side_url("tls_self_signed")
        with pytest.raises(aiohttp.ClientConnectorCertificateError, match="certificate verify failed"):
            await client.ask(base_url=secure)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.ask(base_url=playing.side_url("blackhole")), 0.2)
    assert playing.side_url("no_dns").endswith(".invalid/v1")
    assert playing.side_url("reset") == playing.side_url("reset")
    with pytest.raises(ValueError, match="blackhole"):
        playing.side_url("moon")
