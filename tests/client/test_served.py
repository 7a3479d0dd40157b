"""Who served an answer, its thinking and its tokens' probabilities are read, and nothing odd among them raises."""

import json

import pytest

from llmlab.client.response import read_reply
from llmlab.client.served import read_served
from llmlab.records import NOT_TOLD, SaidToken


def completion(message=None, logprobs=None, **top):
    choice = {
        "index": 0,
        "message": {"content": "bug", **(message or {})},
        "finish_reason": "stop",
        "logprobs": logprobs,
    }
    return {"choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}} | top


def test_what_a_router_tells_is_kept():
    data = completion(provider="DeepInfra", system_fingerprint="fp_1", service_tier="flex")
    served = read_reply(200, {}, json.dumps(data).encode()).served
    assert (served.provider, served.system_fingerprint, served.service_tier) == ("DeepInfra", "fp_1", "flex")
    assert served.reasoning is None
    assert served.tokens == ()


@pytest.mark.parametrize("message", [
    {"reasoning": "well"}, {"reasoning_content": "well"}, {"reasoning": None, "reasoning_content": "well"},
    {"thinking": [{"type": "thinking", "text": "we"}, {"text": "ll"}]},
])  # fmt: skip
def test_thinking_that_stands_apart_is_found_under_its_names(message):
    assert read_served(completion(message)).reasoning == "well"


def test_the_probabilities_of_the_tokens():
    content = [
        {"token": "bu", "logprob": -0.5, "top_logprobs": [{"token": "Bu", "logprob": -2}, {"token": 3}, None]},
        {"token": "g", "logprob": 0.0, "bytes": None},
    ]
    tokens = read_served(completion(logprobs={"content": content})).tokens
    assert tokens == (SaidToken("bu", -0.5, (("Bu", -2.0),)), SaidToken("g", 0.0))


@pytest.mark.parametrize("data", [
    None, [], "x", {}, {"choices": None}, {"choices": [None]}, {"choices": [{"message": 3, "logprobs": []}]},
    {"provider": 3, "service_tier": [], "system_fingerprint": ""},
    completion({"reasoning": 7, "reasoning_content": "  ", "thinking": [1]}, {"content": [{"token": "x"}]}),
    completion(logprobs={"content": [{"token": "x", "logprob": float("nan")}]}),
    completion(logprobs={"content": [{"token": "x", "logprob": True}]}),
])  # fmt: skip
def test_what_is_odd_is_left_out(data):
    assert read_served(data) == NOT_TOLD


def test_no_key_is_in_it():
    key = "sk-5ecre7-5ecre7"
    served = read_served(completion({"reasoning": f"the key is {key}"}, provider=key), key)
    assert key not in repr(served)


def test_an_answer_from_a_gateways_cache_is_noted():
    body = json.dumps(completion(id="c1")).encode()
    assert read_reply(200, {"x-cache": "HIT from edge"}, body).notes == ("from a gateway's cache",)
    reply = read_reply(200, {"x-cache": "MISS"}, body)
    assert (reply.notes, reply.served.completion_id) == ((), "c1")
