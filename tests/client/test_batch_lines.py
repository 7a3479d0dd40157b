"""Requests become JSONL files no larger than a provider takes; result lines become the replies that a live call gives."""

import json
from dataclasses import replace

import pytest

from llmlab.client.batch import BatchState, Problem
from llmlab.client.batch_lines import lacking_lines, read_lines, refused_lines, write_line
from llmlab.client.images import image
from llmlab.errors import InputError

BODY = {"model": "m", "messages": [{"role": "user", "content": "é \ud83d \u2028 x"}]}
USAGE = {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15}


def result(custom_id="0", *, status=200, error=None, response=..., **body):
    message = {"message": {"role": "assistant", "content": "yes\u2028"}, "finish_reason": "stop"}
    body = {"model": "m-2", "choices": [message], "usage": USAGE} | body
    given = {"status_code": status, "request_id": "req_1", "body": body} if response is ... else response
    return json.dumps({"custom_id": custom_id, "response": given, "error": error}, ensure_ascii=False).encode()


def test_a_line_is_one_request_as_it_would_be_sent_live():
    body = BODY | {"seed": 3, "extra_headers": {"X-Own": "1"}, "extra_query": {"a": "b"}}
    written = write_line("a", body)
    assert written.endswith(b"\n")
    assert written.count(b"\n") == 1
    line = json.loads(written)
    assert line.pop("body") == {
        "model": "m", "messages": [{"role": "user", "content": "é \ufffd \u2028 x"}], "seed": 3,
    }  # fmt: skip
    assert line == {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions"}


def test_a_picture_stands_in_its_line_whole():
    picture = b"\x89PNG\r\n\x1a\n" + bytes(16)
    line = write_line("a", {"model": "m", "messages": [{"role": "user", "content": [image(picture)]}]})
    (part,) = json.loads(line)["body"]["messages"][0]["content"]
    assert part["image_url"]["url"].startswith("data:image/png;base64,")


@pytest.mark.parametrize("body", [BODY | {"seed": float("nan")}, BODY | {"messages": [{1, 2}]}])
def test_what_is_no_json_is_an_input_error(body):
    with pytest.raises(InputError, match="cannot be sent as JSON"):
        write_line("a", body)


def test_a_result_line_reads_like_a_live_answer():
    ((custom_id, reply),) = read_lines(result("7") + b"\n")
    assert (custom_id, reply.content, reply.error, reply.http_status) == ("7", "yes\u2028", None, 200)
    assert (reply.usage.total_tokens, reply.request_id, reply.model_returned) == (15, "req_1", "m-2")
    assert reply.may_be_billed


@pytest.mark.parametrize(
    ("line", "kind", "billed"),
    [
        (result(status=500, choices=None, error={"message": "no"}), "OverloadedError", False),
        (result(status=0), "OverloadedError", False),
        (result(response=None, error={"code": "batch_expired", "message": "too late"}), "TimeoutError", False),
        (result(response=None, error={"code": "batch_cancelled"}), "CancelledError", False),
        (result(response=None, error={"code": "request_timeout"}), "TimeoutError", True),
        (result(response=None, error={"code": "something_new"}), "OverloadedError", False),
        (result(response=None), "BadResponseError", True),
        (result(response="text"), "BadResponseError", True),
    ],
)
def test_a_line_without_an_answer_is_an_ordinary_error(line, kind, billed):
    ((_, reply),) = read_lines(line)
    assert (type(reply.error).__name__, reply.may_be_billed) == (kind, billed)


def test_lines_that_are_no_results_are_passed_over():
    content = b"\n".join([b"", b"{", b"[1]", b"null", b'{"custom_id": null}', result("ok"), result("cut")[:40]])
    assert [custom_id for custom_id, _ in read_lines(content)] == ["ok"]


def test_a_key_that_is_echoed_is_taken_out():
    key = "sk-5ecre7-5ecre7-5ecre7"
    line = result(status=400, choices=None, error={"message": f"bad key {key}"})
    ((_, reply),) = read_lines(line, key=key)
    assert key not in str(reply)


@pytest.mark.parametrize(
    ("status", "is_whole", "kind", "billed"),
    [
        ("completed", True, "BadResponseError", True),
        ("gone", False, "BadResponseError", True),
        ("cancelled", False, "BadResponseError", True),
        ("cancelled", True, "CancelledError", False),
        ("expired", True, "TimeoutError", False),
        ("failed", True, "OverloadedError", False),
    ],
)
def test_a_missing_line_may_have_been_paid_for_unless_the_batch_never_came_to_it(status, is_whole, kind, billed):
    replies = lacking_lines(replace(BatchState.gone("b"), status=status), 2, is_whole=is_whole)
    assert [(type(reply.error).__name__, reply.may_be_billed) for reply in replies] == [(kind, billed)] * 2


@pytest.mark.parametrize(
    ("problems", "kinds"),
    [
        ([Problem("token_limit_exceeded", "Enqueued token limit reached", None)], ["RateLimitError"] * 3),
        ([Problem("too_many_tasks", "more than 2", None)], ["RateLimitError"] * 3),
        ([Problem("model_not_found", "no such model", None)], ["ModelNotFoundError"] * 3),
        ([Problem("internal_error", "try again", None)], ["OverloadedError"] * 3),
        ([Problem("invalid_request", "bad", 2)], ["OverloadedError", "RequestError", "OverloadedError"]),
        ([Problem("invalid_request", "bad", 9)], ["OverloadedError"] * 3),
        ([], ["OverloadedError"] * 3),
    ],
)
def test_of_a_batch_that_failed_each_line_knows_whether_it_is_to_blame(problems, kinds):
    replies = refused_lines(problems, 3)
    assert [type(reply.error).__name__ for reply in replies] == kinds
    assert not any(reply.may_be_billed for reply in replies)
