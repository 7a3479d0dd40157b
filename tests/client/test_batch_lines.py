"""Requests become JSONL files no larger than a provider takes; result lines become the replies that a live call gives."""

import json

import pytest

from llmlab.client.batch_lines import missing_line, read_lines, write_files
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
    (file,) = write_files([("a", BODY), ("b", BODY)])
    assert file.custom_ids == ("a", "b")
    first, second, end = file.content.split(b"\n")
    line = json.loads(first)
    assert line.pop("body")["messages"][0]["content"] == "é \ufffd \u2028 x"
    assert line == {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions"}
    assert (json.loads(second)["custom_id"], end) == ("b", b"")


ONE = len(next(write_files([("0", BODY)])).content)


def test_a_picture_stands_in_its_line_whole():
    picture = b"\x89PNG\r\n\x1a\n" + bytes(16)
    (file,) = write_files([("a", {"model": "m", "messages": [{"role": "user", "content": [image(picture)]}]})])
    (part,) = json.loads(file.content)["body"]["messages"][0]["content"]
    assert part["image_url"]["url"].startswith("data:image/png;base64,")


@pytest.mark.parametrize(
    ("lines", "size", "sizes"), [(3, 10**6, [3, 3, 1]), (100, 3 * ONE, [3, 3, 1]), (100, 10**6, [7])]
)
def test_files_are_no_larger_than_a_provider_takes(lines, size, sizes):
    requests = [(str(at), BODY) for at in range(7)]
    files = list(write_files(iter(requests), most_lines=lines, most_bytes=size))
    assert [len(file.custom_ids) for file in files] == sizes
    assert all(len(file.content) <= size for file in files)
    assert [custom_id for file in files for custom_id in file.custom_ids] == [custom_id for custom_id, _ in requests]


def test_files_are_written_when_they_are_asked_for():
    seen = []

    def requests():
        for at in range(10):
            seen.append(at)
            yield str(at), BODY

    assert len(next(write_files(requests(), most_lines=2)).custom_ids) == 2
    assert seen == [0, 1, 2]


@pytest.mark.parametrize("body", [BODY | {"seed": float("nan")}, BODY | {"messages": {1, 2}}])
def test_what_is_no_json_is_an_input_error(body):
    with pytest.raises(InputError, match="cannot be sent as JSON"):
        list(write_files([("a", body)]))


def test_one_request_larger_than_a_file_is_named():
    with pytest.raises(InputError, match=r"100 in all\. Ask it live"):
        list(write_files([("a", BODY)], most_bytes=100))


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
    content = b"\n".join([b"", b"{", b"[1]", b"null", b'{"custom_id": 3}', result("ok"), result("cut")[:40]])
    assert [custom_id for custom_id, _ in read_lines(content)] == ["ok"]


def test_a_key_that_is_echoed_is_taken_out():
    key = "sk-5ecre7-5ecre7-5ecre7"
    line = result(status=400, choices=None, error={"message": f"bad key {key}"})
    ((_, reply),) = read_lines(line, key=key)
    assert key not in str(reply)


def test_a_missing_line_may_have_been_paid_for():
    assert missing_line().may_be_billed
