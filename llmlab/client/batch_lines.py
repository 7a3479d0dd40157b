"""The lines of a provider's batch queue: requests written as JSONL files, and result lines read as replies."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llmlab import errors
from llmlab.client.chat import encode
from llmlab.client.images import with_images_read
from llmlab.client.response import read_reply
from llmlab.errors import AttemptError, InputError
from llmlab.records import Reply

MOST_LINES = 50_000
MOST_BYTES = 200_000_000
ENDPOINT = "/v1/chat/completions"


@dataclass(frozen=True, slots=True)
class BatchFile:
    """The requests of one batch.

    Attributes
    ----------
    content : bytes
        One JSON object per line.
    custom_ids : tuple of str
        What each line is called; the results come back under these names, in any order.
    """

    content: bytes
    custom_ids: tuple[str, ...]


def write_files(
    requests: Iterable[tuple[str, Mapping[str, Any]]], most_lines: int = MOST_LINES, most_bytes: int = MOST_BYTES
) -> Iterator[BatchFile]:
    """Write requests as JSONL, in files as large as a provider takes; lazily, one file at a time.

    Parameters
    ----------
    requests : iterable of (str, mapping)
        What the request is called, unique, and its body; of one model.
    most_lines, most_bytes : int
        Of one file.

    Raises
    ------
    InputError
        A request cannot be written as JSON, or is larger than a whole file may be.
    EmptyInputError
        A picture of a request cannot be read.
    """
    lines: list[bytes] = []
    custom_ids: list[str] = []
    size = 0
    for custom_id, body in requests:
        line = b'{"custom_id":%s,"method":"POST","url":"%s","body":%s}\n' % (
            json.dumps(custom_id).encode(),
            ENDPOINT.encode(),
            encode({**body, "messages": with_images_read(body["messages"])}),
        )
        if len(line) > most_bytes:
            raise InputError(f"One request has {len(line):,} bytes; a batch takes {most_bytes:,} in all. Ask it live.")
        if lines and (len(lines) == most_lines or size + len(line) > most_bytes):
            yield BatchFile(b"".join(lines), tuple(custom_ids))
            lines, custom_ids, size = [], [], 0
        lines.append(line)
        custom_ids.append(custom_id)
        size += len(line)
    if lines:
        yield BatchFile(b"".join(lines), tuple(custom_ids))


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
        if isinstance(custom_id, str):
            yield custom_id, _reply(response, error, key)


def missing_line() -> Reply:
    """The reply for a request of which neither file has a line."""
    error = errors.BadResponseError("the batch has ended without a line for this request; it may be billed")
    error.may_be_billed = True
    return Reply(error=error)


def not_executed(code: str, message: str) -> Reply:
    """The reply for a request that the batch never came to; nothing was charged."""
    return Reply(error=_unexecuted(code, message))


def _reply(response: Any, error: Any, key: str | tuple[str, ...]) -> Reply:
    if isinstance(response, Mapping):
        status = response.get("status_code")
        status = status if isinstance(status, int) and 100 <= status < 600 else 500
        headers = {"x-request-id": str(response.get("request_id") or "")}
        return read_reply(status, headers, json.dumps(response.get("body")).encode(), key=key)
    if isinstance(error, Mapping):
        return not_executed(str(error.get("code") or ""), str(error.get("message") or error.get("code") or ""))
    return missing_line()


def _unexecuted(code: str, message: str) -> AttemptError:
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
