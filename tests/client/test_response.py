"""Status, headers and bytes become a reply: the tokens first and always, then the text or the error; nothing raises."""

import gzip
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmlab import errors
from llmlab.client.response import read_reply
from tests.provider.catalogue import FAULTS
from tests.provider.faults import Call
from tests.servers import USAGE, completion

KEY = "abcd-5ecre7/key+with=odd"


def read(body, status=200, headers=None, **more):
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_reply(status, {"content-type": "application/json"} | (headers or {}), raw, **more)


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
        (completion(finish="SAFETY"), errors.ModerationError, "SAFETY"),
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


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        (completion(), 200, True),
        (completion(usage=None), 200, True),
        ({"error": {"code": 429, "message": "x"}}, 200, True),
        (b"", 200, True),
        ({"error": {"message": "x"}}, 429, False),
        (b"", 302, False),
        (b"", 500, False),
        (b"<html>", 524, True),
    ],
)
def test_what_may_be_billed_is_an_answer_or_one_that_was_lost(body, status, expected):
    assert read(body, status).may_be_billed is expected


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


# anything


def every_fault():
    call = Call(KEY, 1, 1_790_000_000.0)
    for name, fault in FAULTS.items():
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
