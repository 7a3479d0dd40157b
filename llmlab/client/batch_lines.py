"""The lines of a provider's batch queue: requests written as JSONL files, and result lines read as replies."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llmlab import errors
from llmlab.client.batch import BatchState, Problem
from llmlab.client.chat import encode
from llmlab.client.images import with_images_read
from llmlab.client.response import read_reply
from llmlab.errors import AttemptError
from llmlab.records import Reply

MOST_LINES, MOST_BYTES = 50_000, 200_000_000
"""Of one batch."""
ENDPOINT = "/v1/chat/completions"


def write_line(custom_id: str, body: Mapping[str, Any]) -> bytes:
    """One request of a batch as a line of JSON, with what would be sent live.

    Parameters
    ----------
    custom_id : str
        What it is called; its result comes back under this name.
    body : mapping
        The request; its own headers and query have no place in a batch.

    Raises
    ------
    InputError
        It cannot be written as JSON.
    TrialError
        A picture of it cannot be read, or it is larger than a whole batch may be.
    """
    said = {name: value for name, value in body.items() if name not in ("extra_headers", "extra_query")}
    line = b'{"custom_id":%s,"method":"POST","url":"%s","body":%s}\n' % (
        json.dumps(custom_id).encode(),
        ENDPOINT.encode(),
        encode({**said, "messages": with_images_read(body["messages"])}),
    )
    if len(line) > MOST_BYTES:
        raise errors.TooLongError(f"the request has {len(line):,} bytes; a batch takes {MOST_BYTES:,} in all")
    return line


def read_lines(content: bytes, *, key: str | tuple[str, ...] = "") -> Iterator[tuple[str, Reply]]:
    """The results in an output or error file, each under the name of its request.

    A line that is no result is passed over: its request counts as missing.

    Parameters
    ----------
    content : bytes
    key : str or tuple of str
        The API key or keys; removed wherever the provider echoes them.
    """
    # Not `splitlines`, which also splits at characters that may stand within a JSON text.
    for line in content.split(b"\n"):
        try:
            row = json.loads(line)
            custom_id, response, error = row["custom_id"], row.get("response"), row.get("error")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue
        if isinstance(custom_id, (str, int)):
            yield str(custom_id), _reply(response, error, key)


def lacking_lines(state: BatchState, lines: int, *, is_whole: bool) -> list[Reply]:
    """The replies for the lines of a batch that has ended, in case that neither file has one.

    Parameters
    ----------
    lines : int
        How many the batch had.
    is_whole : bool
        Whether the files have as many results as the provider says that there are.
    """
    if state.status == "failed":
        return refused_lines(state.problems, lines)
    if is_whole and state.status in ("cancelled", "expired"):
        return [Reply(error=_unexecuted(f"batch_{state.status}", f"the batch was {state.status} before"))] * lines
    return [missing_line()] * lines


def missing_line() -> Reply:
    """The reply for a request of which neither file has a line, and nobody says why."""
    error = errors.BadResponseError("the batch has ended without a line for this request; it may be billed")
    error.may_be_billed = True
    return Reply(error=error)


def refused_lines(problems: Sequence[Problem], lines: int) -> list[Reply]:
    """The replies for the lines of a batch that failed as a whole; nothing was charged for any.

    Parameters
    ----------
    problems : sequence of Problem
        What the provider says is wrong.
    lines : int
        How many lines the batch had.
    """
    said = "; ".join(dict.fromkeys(problem.message or problem.code for problem in problems))[:500]
    codes = " ".join(problem.code for problem in problems)
    if "limit" in codes or "too_many" in codes or "too_large" in codes:
        everyone: AttemptError = errors.RateLimitError(f"batch: {said}")
    elif "model" in codes and "mismatched" not in codes:
        everyone = errors.ModelNotFoundError(f"batch: {said}")
    else:
        everyone = errors.OverloadedError(f"batch: it failed as a whole: {said}")
    replies = [Reply(error=everyone)] * lines
    for problem in problems:
        if problem.line is not None and 1 <= problem.line <= lines:
            replies[problem.line - 1] = Reply(error=errors.RequestError(f"batch: {problem.message or problem.code}"))
    return replies


def _reply(response: Any, error: Any, key: str | tuple[str, ...]) -> Reply:
    if isinstance(response, Mapping):
        said = str(response.get("status_code"))
        status = int(said) if said.isdecimal() and 100 <= int(said) < 600 else 500
        headers = {"x-request-id": str(response.get("request_id") or "")}
        body = response.get("body")
        return read_reply(status, headers, (body if isinstance(body, str) else json.dumps(body)).encode(), key=key)
    if isinstance(error, Mapping):
        code = str(error.get("code") or "")
        return Reply(error=_unexecuted(code, str(error.get("message") or code)))
    return missing_line()


def _unexecuted(code: str, message: str) -> AttemptError:
    """For a request that the batch never came to, or that ended on the way."""
    said = f"batch: {message or code}"[:500]
    if "cancel" in code:
        error: AttemptError = errors.CancelledError(said)
        error.may_be_billed = False
    elif code == "request_timeout":
        error = errors.TimeoutError(said)
        error.may_be_billed = True
    elif "expired" in code:
        error = errors.TimeoutError(said)
    else:
        error = errors.OverloadedError(said)
    return error
