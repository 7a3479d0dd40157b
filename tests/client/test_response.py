"""Status, headers and bytes become a reply: the tokens first and always, then the text or the error; nothing raises."""

import gzip
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmlab import errors
from llmlab.client.response import prompt_tokens, read_reply, read_usage
from llmlab.records import UNKNOWN_USAGE, Usage
from llmlab.simulate import faults

KEY = "abcd-5ecre7/key+with=odd"
USAGE = {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15}


def completion(content="fine", *, finish="stop", usage=USAGE, **top):
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish}
    return {"id": "c1", "model": "m-1", "choices": [choice], "usage": usage} | top


def read(body, status=200, headers=None, **more):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_reply(status, {"content-type": "application/json"} | (headers or {}), raw, **more)


# tokens


@pytest.mark.parametrize(
    ("raw", "expected", "notes"),
    [
        (USAGE, Usage(11, 4, None, None, 15), []),
        ({"prompt_tokens": 11, "completion_tokens": 4}, Usage(11, 4, None, None, 15), []),
        (USAGE | {"prompt_tokens_details": {"cached_tokens": 8}, "completion_tokens_details": {"reasoning_tokens": 2}},
         Usage(11, 4, 2, 8, 15), []),
        (USAGE | {"prompt_tokens_details": None, "completion_tokens_details": "odd"}, Usage(11, 4, None, None, 15), []),
        (USAGE | {"prompt_tokens_details": {"cached_tokens": 99}}, Usage(11, 4, None, 99, 15), ["odd token details"]),
        ({"prompt_tokens": "11", "completion_tokens": 4.0, "total_tokens": "15"}, Usage(11, 4, None, None, 15),
         ["odd prompt_tokens", "odd completion_tokens", "odd total_tokens"]),
        ({"prompt_tokens": True, "completion_tokens": -4, "total_tokens": 1.5}, UNKNOWN_USAGE,
         ["odd prompt_tokens", "odd completion_tokens", "odd total_tokens", "no usage"]),
        ({"prompt_tokens": 10**40, "completion_tokens": float("inf"), "total_tokens": float("nan")}, UNKNOWN_USAGE,
         ["odd prompt_tokens", "odd completion_tokens", "odd total_tokens", "no usage"]),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, UNKNOWN_USAGE, ["zero usage", "no usage"]),
        ({"total_tokens": 15}, Usage(total_tokens=15), ["partial usage"]),
        (USAGE | {"total_tokens": 915}, Usage(11, 4, None, None, 915), ["total_tokens is not the sum"]),
        (None, UNKNOWN_USAGE, ["no usage"]),
        ([1], UNKNOWN_USAGE, ["no usage"]),
        ({}, UNKNOWN_USAGE, ["no usage"]),
    ],
)  # fmt: skip
def test_usage_of_any_shape_is_read_as_far_as_it_can_be_known(raw, expected, notes):
    assert read_usage(raw) == (expected, tuple(notes))


@pytest.mark.parametrize(
    ("raw", "cost", "notes"),
    [
        ({"cost": 0.5}, 0.5, []),
        ({"cost": "0.5"}, 0.5, ["odd cost"]),
        ({"cost": -0.5}, None, ["odd cost"]),
        ({"cost": True}, None, ["odd cost"]),
        ({"cost": "free"}, None, ["odd cost"]),
        ({"cost": 10**400}, None, ["odd cost"]),
        ({"cost": 0, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.25}}, 0.25,
         ["own key: upstream cost added"]),
        ({"cost": 0.5, "is_byok": False, "cost_details": {"upstream_inference_cost": None}}, 0.5, []),
        ({}, None, []),
    ],
)  # fmt: skip
def test_the_providers_own_price_is_a_number_of_dollars_or_unknown(raw, cost, notes):
    usage, said = read_usage(USAGE | raw)
    assert (usage.cost_usd, said) == (cost, tuple(notes))


@pytest.mark.parametrize(
    "body",
    [
        completion(error={"code": 502, "message": "x"}),
        completion(choices=[]),
        completion(finish="content_filter"),
        {"usage": USAGE},
        json.dumps(completion()).encode() + b" trailing",
        json.dumps(completion()).encode().replace(b"fine", b"f\xffne"),
    ],
)
def test_tokens_are_kept_whatever_else_is_wrong(body):
    assert read(body).usage.total_tokens == 15
    assert read(body, 500).usage.total_tokens == 15


@settings(deadline=None)
@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.dictionaries(st.sampled_from([*USAGE, "cost", "is_byok", "cost_details", "prompt_tokens_details",
                                                   "cached_tokens", "upstream_inference_cost"]), inner, max_size=6),
))  # fmt: skip
def test_no_usage_raises_or_counts_less_than_nothing(raw):
    usage, _ = read_usage(raw)
    for value in (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens, usage.cached_tokens):
        assert value is None or (type(value) is int and 0 <= value < 2**62)
    assert usage.cost_usd is None or usage.cost_usd >= 0


def test_the_estimate_of_a_prompt_is_its_characters():
    messages = [{"content": "x" * 40}, {"content": [{"type": "text", "text": "y"}]}]
    assert 10 < prompt_tokens({"messages": messages}) < 30


# text


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("text", "text"),
        ("", ""),
        (None, None),
        ([{"type": "text", "text": "a"}, {"type": "thinking", "text": "no"}, {"type": "text", "text": "b"}, 3], "ab"),
        ([], ""),
        ({"label": "yes"}, '{"label": "yes"}'),
        (4, "4"),
        ("half \ud83d", "half \ud83d"),
    ],
)
def test_the_text_is_found_in_strings_parts_and_objects(content, expected):
    assert read(completion(content)).content == expected


def test_what_the_reply_says_of_itself_is_kept():
    reply = read(completion(), headers={"x-request-id": "req-1"})
    assert (reply.model_returned, reply.request_id, reply.http_status) == ("m-1", "req-1", 200)
    assert (reply.finish_reason, reply.error, reply.notes) == ("stop", None, ())
    assert read(completion()).request_id == "c1"
    assert read(completion(id=None), headers={"cf-ray": "ray"}).request_id == "ray"


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        (b"", errors.BadResponseError, "empty"),
        (b" \n" * 9, errors.BadResponseError, "empty"),
        (b"null", errors.BadResponseError, "but null"),
        (b'"upstream error"', errors.BadResponseError, "upstream error"),
        (b"[]", errors.BadResponseError, "but []"),
        (b"{}", errors.BadResponseError, "no choices"),
        (b'{"id": "c1", "choi', errors.BadResponseError, "cut off"),
        (b"[" * 100_000, errors.BadResponseError, ""),
        (b'{"a":' * 900 + b"1" + b"}" * 900, errors.BadResponseError, ""),
        ([{"error": {"code": 429, "message": "in a list"}}], errors.RateLimitError, "in a list"),
        ({"error": "model overloaded"}, errors.BadResponseError, "model overloaded"),
        ({"error": {"code": "401", "message": "no"}}, errors.AuthenticationError, "no"),
        ({"error": {"code": float("inf"), "message": "no"}}, errors.BadResponseError, "no"),
        ({"message": "Not authenticated"}, errors.AuthenticationError, "Not authenticated"),
        (completion(choices={"0": "yes"}), errors.BadResponseError, "no choices"),
        (completion(choices=["yes"]), errors.BadResponseError, "no message"),
        (completion(finish="SAFETY"), errors.ModerationError, "safety"),
        (completion("par", finish="error"), errors.OverloadedError, ""),
        (completion(choices=[{"message": {"content": None, "refusal": "I can't"}}]), errors.RefusalError, "I can't"),
        (completion(choices=[{"message": {"content": None, "refusal": {"odd": 1}}}]), errors.RefusalError, "odd"),
    ],
)
def test_a_200_that_is_no_answer_says_what_it_is(body, kind, said):
    reply = read(body)
    assert type(reply.error) is kind
    assert said in str(reply.error)


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        (b"<html><h1>Welcome</h1>", "text/html", errors.ConfigError),
        (b"  <!DOCTYPE html>", "", errors.ConfigError),
        (b"<!-- generated --><html>", "text/plain", errors.ConfigError),
        (b"<div>Please sign in</div>", "text/html; charset=utf-8", errors.ConfigError),
        (b"<html>", "application/json", errors.BadResponseError),
        (b"<label>yes</label>", "text/plain", errors.BadResponseError),
    ],
)
def test_a_web_page_means_a_wrong_address_unless_it_claims_to_be_json(body, kind, expected):
    assert type(read(body, headers={"content-type": kind}).error) is expected


def test_an_unreadable_body_may_be_billed_and_an_empty_one_not():
    assert read(b" \n" * 9).error.may_be_billed
    assert read(b'{"cut').error.may_be_billed
    assert not read(b"").error.may_be_billed
    assert not read(b"null").error.may_be_billed


def test_event_streams_and_comments_are_read():
    chunks = [
        {"model": "m", "choices": [{"index": 0, "delta": {"content": "fi"}}]},
        {"model": "m", "choices": [{"index": 0, "delta": {"content": "ne"}, "finish_reason": "stop"}]},
        {"model": "m", "choices": [], "usage": USAGE},
    ]
    stream = ": PROCESSING\n\n" + "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks)
    for body in (stream, f"{stream}data: [DONE]\n\n", f": PROCESSING\n\n{json.dumps(completion())}"):
        reply = read(body.encode())
        assert (reply.content, reply.usage.total_tokens, reply.error) == ("fine", 15, None)
        assert "rescued from an event stream" in reply.notes
    assert read(stream[: len(stream) // 2].encode()).error.may_be_billed


def test_one_wrong_byte_does_not_cost_the_answer():
    reply = read(json.dumps(completion("caf\xe9"), ensure_ascii=False).encode("latin-1"))
    assert (reply.content, reply.error) == ("caf\ufffd", None)
    assert reply.notes == ("bytes that are no UTF-8 were replaced",)


# secrets


@pytest.mark.parametrize("escape", [lambda text: text, lambda text: text.replace("/", "\\/"),
                                    lambda text: text.replace("5ec", "\\u0035ec")])  # fmt: skip
def test_an_echoed_key_is_taken_out_of_every_text(escape):
    body = escape(json.dumps(completion(f"your key is {KEY}", finish=f"stop {KEY}", model=f"m {KEY}", id=KEY)))
    reply = read(body.encode(), key=KEY, headers={"x-request-id": f"req {KEY}"})
    assert KEY not in repr(reply)
    assert reply.content == "your key is [key]"
    assert reply.request_id == "req [key]"
    refused = read({"error": {"message": f"wrong: {KEY}", "code": KEY}}, 401, key=KEY)
    assert KEY not in repr(refused) + str(refused.error)
    for odd in (f'"{KEY}"'.encode(), f"{{}} {KEY}".encode(), f"<html><title>{KEY}</title>".encode(),
                json.dumps(completion(choices=[{"message": {"refusal": KEY}}])).encode()):  # fmt: skip
        for status in (200, 302, 500):
            reply = read(odd, status, {"location": f"http://x/{KEY}", "retry-after": KEY}, key=KEY)
            assert KEY not in repr(reply) + str(reply.error)


def test_a_key_as_short_as_a_word_spoils_no_answer():
    assert read(completion("the best test"), key="test").content == "the best test"


# anything


def every_fault():
    call = faults.Call(KEY, 1, 1_790_000_000.0)
    for name, fault in faults.FAULTS.items():
        body = fault.body(call) if callable(fault.body) else fault.body
        if fault.headers.get("Content-Encoding") == "gzip" and name == "b-gzip":
            body = gzip.decompress(body)
        yield pytest.param(fault, body, id=name)


@pytest.mark.parametrize(("fault", "body"), list(every_fault()))
def test_every_fault_cut_at_any_place_is_read(fault, body):
    headers = {"content-type": "application/json"}
    whole = read_reply(fault.status, headers, body, key=KEY)
    if fault.tokens.get("total_tokens") and fault.status == 200:
        assert whole.usage.total_tokens == fault.tokens["total_tokens"]
    for at in range(0, min(len(body), 2000), 97):
        read_reply(fault.status, headers, body[:at], key=KEY)
        # A cut answer is never taken for a whole one.
        if fault.wire == "reply" and body[:at].strip() and body.startswith(b"{"):
            assert read_reply(200, headers, body[:at], key=KEY).error is not None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["choices", "message", "content", "error", "code", "finish_reason", "usage", "refusal", "index",
                         "model", "id", "detail", "delta", "type", "text"]),
        inner,
        max_size=5,
    ),
    max_leaves=15,
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(json_values | st.binary(max_size=60), st.sampled_from([200, 204, 302, 400, 429, 500]))
@example(b'{"usage": {"total_tokens": Infinity, "prompt_tokens": 1}, "choices": [{"message": {"content": "x"}}]}', 200)
@example(b'data: {"choices": [null]}\n\ndata: [DONE]', 200)
def test_nothing_raises_whatever_the_bytes_are(body, status):
    reply = read(body if isinstance(body, bytes) else json.dumps(body).encode(), status, key=KEY, learn=True)
    assert reply.error is not None or reply.content is None or isinstance(reply.content, str)
    assert isinstance(reply.finish_reason, str | None)
    assert isinstance(reply.model_returned, str | None)
    assert isinstance(reply.request_id, str | None)


def test_it_is_read_at_any_depth_of_the_stack():
    def deeper(depth):
        return deeper(depth - 1) if depth else read(b'{"choices":' + b"[" * 700 + b"]" * 700 + b"}")

    assert isinstance(deeper(200).error, errors.AttemptError)
