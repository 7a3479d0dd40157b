"""What of the user's reaches the wire, what llmlab keeps to itself, and what comes back as a reply."""

import json

import openai
import pytest

import llmlab as ll
from llmlab.client.chat import ChatClient, checked_request, encode
from llmlab.client.endpoint import Endpoint
from llmlab.errors import InputError
from tests.servers import chat_server

KEY = "sk-test-5ecre7-5ecre7"


# further parameters


def test_extra_body_is_folded_in_and_none_is_left_out():
    request = {
        "temperature": 0.2,
        "seed": None,
        "reasoning_effort": None,
        "extra_body": {"provider": {"sort": "price"}},
    }
    assert checked_request(request) == {"temperature": 0.2, "provider": {"sort": "price"}}
    assert "extra_body" in request


@pytest.mark.parametrize("name", ["stream", "stream_options", "messages", "model"])
def test_what_llmlab_decides_cannot_be_passed_on(name):
    with pytest.raises(InputError, match=name):
        checked_request({name: True})


@pytest.mark.parametrize("value", [object(), {1, 2}, float("nan"), b"bytes"])
def test_parameters_that_are_no_json_are_refused(value):
    with pytest.raises(InputError, match="cannot be sent as JSON"):
        checked_request({"temperature": value})
    with pytest.raises(InputError, match="cannot be sent as JSON"):
        checked_request({"extra_body": {"x": value}})


def test_lone_surrogates_are_replaced_and_the_rest_stays():
    body = {"messages": [{"content": "é 😀 \ud83d x"}]}
    assert json.loads(encode(body)) == {"messages": [{"content": "é 😀 \ufffd x"}]}


# the wire


@pytest.fixture
async def recorder():
    async with chat_server() as server:
        yield server


@pytest.fixture(params=[False, True], ids=["url", "client"])
async def where(recorder, request):
    """The recorder by its address, and as a client of the user's own."""
    if not request.param:
        yield {"base_url": recorder.url, "api_key": KEY}
        return
    async with openai.AsyncOpenAI(base_url=recorder.url, api_key=KEY, default_headers={"X-Own": "1"}) as own:
        yield {"client": own}
        assert not own.is_closed()


async def asked(recorder, **settings):
    results = await ll.run_experiment(["hello"], "Say: {text}", model="m/x", progress=False, **settings)
    assert results.attempts[["status", "content"]].values.tolist() == [["ok", "fine"]]
    assert len(recorder.seen) == 1
    return recorder.seen.pop()


async def test_everything_the_user_passes_reaches_the_wire(recorder, where):
    request = await asked(
        recorder, **where, reasoning_effort="low", temperature=0.5, seed=7, max_tokens=9, stop=["x"],
        extra_body={"provider": {"order": ["a"]}, "usage": {"include": True}}, extra_headers={"X-Title": "study"},
        extra_query={"api-version": "2026-01-01"},
    )  # fmt: skip
    assert request.body == {
        "model": "m/x", "messages": [{"role": "user", "content": "Say: hello"}], "reasoning_effort": "low",
        "temperature": 0.5, "seed": 7, "max_tokens": 9, "stop": ["x"], "provider": {"order": ["a"]},
        "usage": {"include": True},
    }  # fmt: skip
    assert request.query == {"api-version": "2026-01-01"}
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.headers["X-Title"] == "study"
    assert request.headers["x-stainless-retry-count"] == "0"
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers.get("X-Own") == ("1" if "client" in where else None)


async def test_nothing_is_sent_that_nobody_asked_for(recorder, monkeypatch):
    monkeypatch.setenv("OPENAI_ORG_ID", "org-5ecre7")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-5ecre7")
    request = await asked(recorder, base_url=recorder.url, api_key=KEY)
    assert request.body == {"model": "m/x", "messages": [{"role": "user", "content": "Say: hello"}]}
    assert request.query == {}
    assert "5ecre7" not in str(dict(request.headers)).replace(KEY, "")


async def test_texts_arrive_as_they_are(recorder, where):
    texts = ['é 😀 日本語 \u2028 \x00 \\ "quoted" {x}', "{text}", "x" * 5_000_000]
    results = await ll.run_experiment(texts, "{text}", model="m", progress=False, requests_per_minute=None, **where)
    assert results.predictions["status"].tolist() == ["ok"] * 3
    assert results.predictions["text"].tolist() == texts
    assert sorted(request.body["messages"][0]["content"] for request in recorder.seen) == sorted(texts)


async def test_half_a_surrogate_pair_is_replaced_on_the_wire_and_kept_in_the_frame(recorder):
    sent = {"base_url": recorder.url, "api_key": KEY}
    results = await ll.run_experiment(["half \ud83d pair"], "{text}", model="m", progress=False, **sent)
    assert recorder.seen[0].body["messages"][0]["content"] == "half \ufffd pair"
    assert results.predictions[["text", "prediction"]].values.tolist() == [["half \ud83d pair", "fine"]]


async def test_a_client_of_the_users_is_reused_and_stays_open(provider):
    simulated = provider()
    async with openai.AsyncOpenAI(base_url=simulated.base_url, api_key="own", max_retries=5) as own:
        for _ in range(2):
            results = await ll.run_experiment(["a", "b"], "{text}", model="m", client=own, progress=False,
                                              requests_per_minute=None)  # fmt: skip
            assert results.predictions["status"].tolist() == ["ok", "ok"]
        failed = await ll.run_experiment(["a"], "{text}", model="fault/s500-json", client=own, progress=False,
                                         max_retries=2, requests_per_minute=None)  # fmt: skip
    assert len(failed.attempts) == 2
    assert simulated.counts().requests == 6


async def test_the_key_is_in_no_reply_and_no_repr(provider):
    simulated = provider()
    client = ChatClient(Endpoint(simulated.base_url, KEY), timeout_s=5, connections=1)
    reply = await client.send({"model": "fault/s401-echo", "messages": [{"role": "user", "content": "x"}]})
    await client.close()
    assert reply.http_status == 401
    assert KEY not in repr(reply)
    assert KEY not in repr(Endpoint(simulated.base_url, KEY))
