"""The simulated provider speaks real HTTP, keeps strict limits, answers by seed alone, and counts what it served."""

import asyncio
import csv
import gc
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Literal

import aiohttp
import openai
import pydantic
import pytest

from llmlab.errors import InputError
from llmlab.simulate import faults
from llmlab.simulate import server as simulate

# Otherwise pytest-asyncio and looptime each make a loop for the first synchronous fixture, and nobody closes it.
asyncio.set_event_loop(None)

ROOT = Path(__file__).parents[2]
CATEGORIES = ["account", "billing", "bug", "delivery", "feature", "other"]
LISTED = ", ".join(json.dumps(name) for name in CATEGORIES)
INSTRUCTION = f'Answer with JSON only: {{"label": "<category>"}}, where <category> is one of: {LISTED}.'


def messages(text):
    return [{"role": "user", "content": f"Which category fits?\n\n{text}\n\n{INSTRUCTION}"}]


class Client:
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


@pytest.fixture
def start():
    """Start a provider that is closed after the test."""
    started = []

    def one(**settings):
        started.append(simulate.client(**{"latency_s": 0, **settings}))
        return started[-1]

    yield one
    for provider in started:
        provider.close()


@pytest.fixture(scope="module")
def fault_provider():
    with simulate.client(latency_s=0) as provider:
        yield provider


@pytest.fixture(scope="module")
def tickets():
    with open(ROOT / "data" / "tickets.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def most_in_any(times, period_s):
    times, first, most = sorted(times), 0, 0
    for last, at in enumerate(times):
        while at - times[first] >= period_s:
            first += 1
        most = max(most, last - first + 1)
    return most


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"latency_s": -1}, "seconds, 0 or more"),
        ({"jitter_s": float("nan")}, "seconds, 0 or more"),
        ({"period_s": 0}, "more than 0"),
        ({"malformed_rate": 1.5}, "a share from 0 to 1"),
        ({"models": {"m": 2}}, "an accuracy from 0 to 1"),
        ({"requests_per_minute": 0}, "1 or more, or None"),
        ({"limit": True}, "1 or more, or None"),
        ({"limit": 3, "requests_per_minute": 3}, "give one of them"),
        ({"requests_per_minute": 3, "period_s": 1}, "give one of them"),
        ({"latency": 1}, "did you mean latency_s"),
    ],
)
def test_settings_out_of_range_say_the_range(settings, words):
    with pytest.raises(InputError, match=words):
        simulate.client(**settings)


def test_it_says_that_it_is_no_real_model(start):
    provider = start(requests_per_minute=300)
    assert "simulated provider, no real model" in repr(provider)
    assert provider.base_url in repr(provider)
    assert "300 requests in 60 s" in repr(provider)
    assert provider.api_key == "simulated"


async def test_an_openai_client_gets_an_ordinary_completion(start):
    provider = start(cost=True)
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


async def test_the_window_is_strict_and_used_to_the_full(start):
    provider = start(limit=20, period_s=0.2, arrival_jitter_s=0.01)
    async with Client(provider) as client:
        end = time.monotonic() + 0.7

        async def insist():
            while time.monotonic() < end:
                status, _, _ = await client.ask()
                await asyncio.sleep(0.01 if status == 429 else 0)

        await asyncio.gather(*(insist() for _ in range(8)))
    arrivals, counts = provider.arrivals(), provider.counts()
    accepted = [arrival.at_s for arrival in arrivals if arrival.outcome == "ok"]
    assert most_in_any(accepted, 0.2) == 20 == counts.max_in_window
    assert len(accepted) == counts.ok >= 60
    assert [arrival.at_s for arrival in arrivals] == sorted(arrival.at_s for arrival in arrivals)
    assert counts.refused == len(arrivals) - len(accepted) > 0


@pytest.mark.parametrize("count_refused", [False, True])
async def test_refused_requests_use_up_the_limit_where_they_count(start, count_refused):
    provider = start(limit=5, period_s=0.15, count_refused=count_refused)
    async with Client(provider) as client:
        for _ in range(40):
            await client.ask()
            await asyncio.sleep(0.01)
    accepted = provider.counts().ok
    assert accepted == 5 if count_refused else accepted >= 10


async def test_a_refusal_says_when_to_come_back(start):
    provider = start(limit=2, period_s=1.5)
    async with Client(provider) as client:
        _, headers, _ = await client.ask()
        assert headers["x-ratelimit-limit-requests"] == "80"  # per minute
        assert headers["x-ratelimit-remaining-requests"] == "1"
        assert headers["x-ratelimit-reset-requests"] == "1.5s"
        await client.ask()
        status, headers, raw = await client.ask()
    assert status == 429
    assert headers["Retry-After"] == "2"
    assert 1000 < int(headers["retry-after-ms"]) <= 1500
    assert headers["x-ratelimit-remaining-requests"] == "0"
    error = json.loads(raw)["error"]
    assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
    assert "Please try again in 1." in error["message"]


async def test_each_key_has_its_own_limit(start):
    provider = start(requests_per_minute=1)
    async with Client(provider, "one") as one, Client(provider, "two") as two:
        statuses = [(await client.ask())[0] for client in (one, two, one, two)]
    assert statuses == [200, 200, 429, 429]


async def test_tokens_are_limited_too(start):
    provider = start(tokens=150, period_s=30)
    async with Client(provider) as client:
        statuses = [(await client.ask())[0] for _ in range(4)]
        _, headers, raw = await client.ask("x" * 2000)
    assert statuses == [200, 200, 429, 429]
    assert provider.counts().total_tokens <= 150
    assert "Request too large" in json.loads(raw)["error"]["message"]
    assert "Retry-After" not in headers


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.02, "20ms"), (1, "1s"), (1.2, "1.2s"), (360, "6m0s"), (3600, "1h0m0s"), (59.9999, "1m0s")],
)
def test_durations_look_like_openai_s(seconds, text):
    assert simulate._duration(seconds) == text


async def test_answers_do_not_depend_on_order_or_timing(start, tickets):
    texts = [row["text"] for row in tickets[:40]]
    rates = {"seed": 7, "malformed_rate": 0.2, "error_rate": 0.2, "missing_usage_rate": 0.2, "accuracy": 0.5}

    async def run(provider, order):
        answers = defaultdict(list)
        async with Client(provider) as client:
            for text in order:
                status, _, raw = await client.ask(text)
                body = json.loads(raw)
                answers[text].append((status, body.get("choices"), body.get("usage")))
        return answers

    calm = await run(start(**rates), texts * 3)
    jittered = await run(start(**rates, jitter_s=0.002), sorted(texts) * 3)
    assert calm == jittered
    assert len({str(answers) for text in texts for answers in calm[text]}) > 40
    assert any(len({str(answer) for answer in calm[text]}) > 1 for text in texts)
    assert calm != await run(start(**rates | {"seed": 8}), texts * 3)


async def test_refusals_change_no_later_answer(start, tickets):
    texts = [row["text"] for row in tickets[:20]]
    free, limited = start(error_rate=0.5), start(error_rate=0.5, limit=10, period_s=0.05)

    async def run(provider):
        async with Client(provider) as client:
            answers = []
            for text in texts * 2:
                while (answer := await client.ask(text))[0] == 429:
                    await asyncio.sleep(0.01)
                answers.append((answer[0], json.loads(answer[2]).get("choices")))
        return answers

    assert await run(free) == await run(limited)
    assert limited.counts().refused > 0


async def test_about_85_percent_of_the_tickets_are_labelled_right(start, tickets):
    provider = start(models={"good": 0.93, "poor": 0.6})

    async def share(client, model, runs=1):
        labels = await asyncio.gather(*(client.label(row["text"], model) for row in tickets for _ in range(runs)))
        gold = [row["gold"] for row in tickets for _ in range(runs)]
        flipped = sum(len(set(labels[at : at + runs])) > 1 for at in range(0, len(labels), runs))
        return sum(map(str.__eq__, labels, gold)) / len(gold), flipped

    async with Client(provider) as client:
        usual, flipped = await share(client, "usual", runs=3)
        good, poor = (await share(client, "good"))[0], (await share(client, "poor"))[0]
    assert 0.82 < usual < 0.88
    assert 0.90 < good < 0.96
    assert 0.55 < poor < 0.65
    assert 20 < flipped < 100  # hard units flip between repeats, clear ones do not


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Ich habe mein Passwort vergessen", "account"),
        ("Solicito el reembolso de la factura", "billing"),
        ("L'application plante, erreur 500", "bug"),
        ("A entrega da encomenda está atrasada", "delivery"),
        ("Proszę dodać nową funkcję", "feature"),
        ("ログインできません", "account"),
        ("أريد استرداد المبلغ", "billing"),
        ("zzz", "other"),
    ],
)
async def test_several_languages_are_understood(start, text, label):
    async with Client(start(accuracy=1.0)) as client:
        assert await client.label(text) == label


async def test_categories_come_from_a_schema_a_list_or_not_at_all(start):
    schema = {"type": "object", "properties": {"kind": {"enum": ["bug", "billing"]}}, "required": ["kind"]}
    async with Client(start(accuracy=1.0)) as client:

        async def say(content, **body):
            _, _, raw = await client.ask(messages=[{"role": "user", "content": content}], **body)
            return json.loads(raw)["choices"][0]["message"]["content"]

        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        assert await say("the app crashes", response_format=form) == '{"kind": "bug"}'
        asked = f"Answer with JSON only, matching this JSON schema: {json.dumps(schema)}"
        assert await say(f"refund!\n\n{asked}") == '{"kind": "billing"}'
        assert await say('the app crashes; one of: "bug", "billing"') == "bug"
        assert await say("Is it billing, bug or other? My parcel. Answer with one of: "
                         '"billing", "bug", "delivery"') == "delivery"  # fmt: skip
        assert await say('Say one of: "red", "green". The grass is green.') == "green"
        assert "simulated answer" in await say("Tell me a story.")


class Part(pydantic.BaseModel):
    name: str = pydantic.Field(min_length=3, max_length=12)
    parent: "Part | None" = None


class Ticket(pydantic.BaseModel):
    label: Literal["billing", "bug"]
    score: float = pydantic.Field(gt=0, lt=1)
    stars: int = pydantic.Field(ge=1, le=5)
    even: int = pydantic.Field(multiple_of=5, ge=6, le=11)
    urgent: bool
    tags: list[str] = pydantic.Field(min_length=2)
    pair: tuple[int, str]
    part: Part
    note: str | None


async def test_a_response_model_is_filled_so_that_it_validates(start):
    provider = start(accuracy=1.0)
    async with openai.AsyncOpenAI(base_url=provider.base_url, api_key="k", max_retries=0) as client:
        form = {"type": "json_schema", "json_schema": {"name": "t", "schema": Ticket.model_json_schema()}}
        for text in ("the app crashes", "an error, and again", "it is broken"):
            answer = await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": text}], response_format=form
            )
            assert Ticket.model_validate_json(answer.choices[0].message.content).label == "bug"


async def test_malformed_answers_are_paid_and_unreadable(start):
    provider = start(malformed_rate=1.0)
    seen, tokens = Counter(), 0
    async with Client(provider) as client:
        for at in range(60):
            _, _, raw = await client.ask(f"The app crashes, case {at}")
            body = json.loads(raw)
            content, finish = body["choices"][0]["message"]["content"], body["choices"][0]["finish_reason"]
            tokens += body["usage"]["total_tokens"]
            try:
                label = json.loads(content)["label"]
            except ValueError:
                label = None
            assert label not in CATEGORIES
            seen[finish if finish == "length" else "label" if label else "json" if "{" in content else "prose"] += 1
    assert set(seen) == {"length", "label", "json", "prose"}
    counts = provider.counts()
    assert (counts.malformed, counts.ok, counts.total_tokens) == (60, 60, tokens)


async def test_usage_is_like_the_real_thing(start):
    async with Client(start()) as client:

        async def usage(text="hi", **body):
            _, _, raw = await client.ask(text, **body)
            body = json.loads(raw)
            return body["usage"], body["choices"][0]

        plain, _ = await usage()
        assert plain["prompt_tokens"] == pytest.approx(len(str(messages("hi"))) / 4, abs=15)
        thought = [(await usage(reasoning_effort=effort))[0] for effort in ("low", "medium", "high")]
        reasoning = [one["completion_tokens_details"]["reasoning_tokens"] for one in thought]
        assert 0 < reasoning[0] < reasoning[1] < reasoning[2]
        assert all(one["completion_tokens"] > one["completion_tokens_details"]["reasoning_tokens"] for one in thought)
        cut, choice = await usage(max_tokens=2)
        assert (cut["completion_tokens"], choice["finish_reason"]) == (2, "length")
        first, again = (await usage("word " * 2000))[0], (await usage("word " * 2000))[0]
        assert first["prompt_tokens_details"]["cached_tokens"] == 0
        assert 2000 < again["prompt_tokens_details"]["cached_tokens"] <= again["prompt_tokens"]


async def test_the_counts_are_what_a_client_can_add_up(start, tickets):
    provider = start(malformed_rate=0.1, error_rate=0.1, missing_usage_rate=0.2, limit=150, models={"a": 0.9})
    async with Client(provider) as client:
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


async def test_a_client_that_leaves_is_dropped_and_its_tokens_unsent(start):
    provider = start(latency_s=5)
    async with Client(provider) as client:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.ask(), 0.05)
    await asyncio.sleep(0.05)
    counts = provider.counts()
    assert (counts.requests, counts.dropped, counts.ok, counts.total_tokens) == (1, 1, 0, 0)
    assert counts.unsent_tokens > 0
    assert provider.arrivals()[0].outcome == "dropped"


async def test_more_than_the_allowed_in_flight_are_refused(start):
    provider = start(latency_s=0.05, max_in_flight=3)
    async with Client(provider) as client:
        statuses = Counter(status for status, _, _ in await asyncio.gather(*(client.ask() for _ in range(10))))
        assert (await client.ask())[0] == 200
    assert statuses == {200: 3, 429: 7}
    assert 3 <= provider.counts().peak_in_flight <= 4


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"model": None}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": [{"content": 3}]}, "messages"),
        ({"stream": True}, "stream"),
        ({"reasoning_effort": "enormous"}, "Supported values are"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"response_format": "json"}, "response_format"),
        ({"model": "fault/nonsense"}, "no fault 'nonsense'"),
        ({"model": "fault/s408/x9"}, "w<seconds>"),
    ],
)
async def test_a_wrong_request_is_told_what_is_wrong(fault_provider, body, words):
    async with Client(fault_provider) as client:
        status, _, raw = await client.ask(**body)
    assert status in (400, 404)
    assert words in json.loads(raw)["error"]["message"]


async def test_other_paths_are_not_found(fault_provider):
    async with Client(fault_provider) as client:
        for method, path, status in (("POST", "/chat/completions", 404), ("GET", "/v1/chat/completions", 405)):
            async with client.session.request(method, fault_provider.base_url[:-3] + path) as response:
                assert response.status == status
                assert "error" in await response.json()


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


WHOLE = [name for name, fault in faults.FAULTS.items() if fault.wire == "reply" and not name.startswith("t-")]


@pytest.mark.parametrize("name", WHOLE)
async def test_a_fault_arrives_as_declared(fault_provider, name):
    fault = faults.FAULTS[name]
    before = fault_provider.counts()
    async with Client(fault_provider, "sk-my-key") as client:
        client.session._auto_decompress = False
        status, headers, body = await client.ask("hi", f"fault/{name}")
    after = fault_provider.counts()
    assert status == fault.status
    if not callable(fault.body):
        assert body == fault.body
    for header, value in fault.headers.items():
        if not callable(value):
            assert headers.get(header) == value
    assert getattr(after, fault.outcome) == getattr(before, fault.outcome) + 1
    assert after.faults == before.faults + 1
    assert after.total_tokens - before.total_tokens == fault.tokens.get("total_tokens", 0)
    assert after.unsent_tokens - before.unsent_tokens == (15 if fault.billed and not fault.tokens else 0)


async def test_faults_refer_to_the_request_and_the_clock(fault_provider):
    async with Client(fault_provider, "sk-my-key") as client:
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
    assert faults.countable(usage) == counted


async def test_a_fault_can_be_bound_to_conditions(start):
    provider = start()
    async with Client(provider) as client:

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
        assert [fine["usage"][name] for name in faults.USAGE] == [11, 4, 15]


async def test_a_fault_can_be_bound_to_the_base_url(start):
    provider = start()
    async with Client(provider) as client:
        assert (await client.ask(base_url=provider.fault_url("s408")))[0] == 408
        assert [(await client.ask(base_url=provider.fault_url("s408/a1")))[0] for _ in range(2)] == [200, 408]
    with pytest.raises(ValueError, match="s404-html, s404-model"):
        provider.fault_url("s404")


async def test_redirects_lead_where_they_say(start):
    provider = start()
    async with openai.AsyncOpenAI(base_url=provider.base_url, api_key="k", max_retries=0) as client:

        async def ask(name):
            return await client.chat.completions.create(model=f"fault/{name}", messages=messages("hi"))

        assert (await ask("m307")).choices
        assert (await ask("m-cross")).choices
        assert "Please sign in" in str(await ask("m302-login"))
        with pytest.raises(openai.APIStatusError, match="405"):
            await ask("m301")
        with pytest.raises(openai.APIConnectionError):
            await ask("m-loop")


async def test_faults_with_a_memory(start):
    provider = start(latency_s=0.02)
    async with Client(provider) as client:

        async def crowd(model, count):
            return Counter(one[0] for one in await asyncio.gather(*(client.ask("hi", model) for _ in range(count))))

        assert await crowd("fault/t-rpm", 30) == {200: 20, 429: 10}
        assert await crowd("fault/t-crowd", 30) == {200: 8, 429: 22}
        assert await crowd("fault/t-crowd", 8) == {200: 8}
        assert await crowd("fault/t-broke", 30) == {200: 20, 402: 10}
        assert await crowd("fault/t-broke", 3) == {402: 3}
        _, headers, _ = await client.ask(model="fault/t-rpm")
        assert 0 < int(headers["retry-after-ms"]) <= 1000
    assert provider.counts().faults == 10 + 22 + 10 + 3 + 1


async def test_side_ports(start):
    provider = start()
    assert set(faults.SIDES) >= {"reset", "blackhole", "tls_self_signed", "no_dns"}
    async with Client(provider) as client:
        with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
            await client.ask(base_url=provider.side_url("reset"))
        with pytest.raises(aiohttp.ClientConnectorError):
            await client.ask(base_url=provider.side_url("refused"))
        secure = provider.side_url("tls_self_signed")
        with pytest.raises(aiohttp.ClientConnectorCertificateError, match="self-signed"):
            await client.ask(base_url=secure)
        async with client.session.get(f"{secure}/models", ssl=False) as response:
            assert response.status == 200
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.ask(base_url=provider.side_url("blackhole")), 0.2)
    assert provider.side_url("no_dns").endswith(".invalid/v1")
    assert provider.side_url("reset") == provider.side_url("reset")
    with pytest.raises(InputError, match="blackhole"):
        provider.side_url("moon")


def simulated_threads():
    return [thread for thread in threading.enumerate() if thread.name == "llmlab-simulate"]


async def test_providers_work_side_by_side(start):
    first, second = start(limit=1), start()
    async with Client(first) as one, Client(second) as two:
        assert [(await one.ask())[0], (await one.ask())[0], (await two.ask())[0]] == [200, 429, 200]
    assert (first.counts().requests, second.counts().requests) == (2, 1)


async def test_closing_leaves_no_thread_and_no_socket():
    before = len(simulated_threads())
    with simulate.client(latency_s=30) as provider:
        provider.side_url("reset")
        provider.side_url("blackhole")
        async with Client(provider) as client:
            waiting = [asyncio.create_task(client.ask(model=model)) for model in ("m", "fault/w-hang", "fault/w-drip")]
            await asyncio.sleep(0.05)
            assert len(simulated_threads()) == before + 1
            started = time.monotonic()
            provider.close()
            assert time.monotonic() - started < 1
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


def test_a_taken_port_is_an_error(fault_provider):
    before = len(simulated_threads())
    with pytest.raises(OSError, match="in use"):
        simulate.SimulatedProvider(port=int(fault_provider.base_url.split(":")[2][:-3]))
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
