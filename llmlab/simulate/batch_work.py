"""One batch of a simulated provider: what its input must look like, and what becomes of each line."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llmlab.simulate.completion import Request, checked_body
from llmlab.simulate.reply import Reply
from llmlab.simulate.settings import Settings

ENDPOINT = "/v1/chat/completions"
WINDOW_S = 86_400
LOST_EVERY = 10
"""A fault that concerns lines concerns every tenth."""

Answer = Callable[[Request, bool], Reply]
"""Answers a request; the second argument says whether the answer will ever be seen, for the counts."""


@dataclass
class File:
    """An uploaded or written file of JSON lines."""

    id: str
    key: str
    name: str
    purpose: str
    content: bytes
    created_at: float

    def shown(self) -> dict[str, Any]:
        """As the API describes it."""
        return {
            "id": self.id, "object": "file", "bytes": len(self.content), "created_at": int(self.created_at),
            "filename": self.name, "purpose": self.purpose, "status": "processed",
        }  # fmt: skip


@dataclass
class Batch:
    """A batch on its way; `at` holds when it got into which state, in seconds since the epoch."""

    id: str
    key: str
    input_file_id: str
    metadata: Mapping[str, str] | None
    at: dict[str, float]
    fault: str = "none"
    status: str = "validating"
    lines: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    completed: int = 0
    failed: int = 0
    output_file_id: str | None = None
    error_file_id: str | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more happens to it."""
        return self.status in ("completed", "failed", "expired", "cancelled")

    def become(self, status: str, now: float) -> None:
        """Enter a state."""
        self.status = status
        self.at[status] = now

    def shown(self) -> dict[str, Any]:
        """As the API describes it."""
        states = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
        times = {f"{state}_at": int(self.at[state]) if state in self.at else None for state in states}
        return {
            "id": self.id, "object": "batch", "endpoint": ENDPOINT, "input_file_id": self.input_file_id,
            "completion_window": "24h", "status": self.status, "created_at": int(self.at["created"]),
            "expires_at": int(self.at["created"]) + WINDOW_S, **times,
            "errors": {"object": "list", "data": self.errors} if self.errors else None,
            "output_file_id": self.output_file_id, "error_file_id": self.error_file_id, "metadata": self.metadata,
            "request_counts": {"total": len(self.lines), "completed": self.completed, "failed": self.failed},
        }  # fmt: skip


def what_is_wrong(
    batch: Batch, file: File | None, waiting: Sequence[Batch], settings: Settings
) -> Iterator[dict[str, Any]]:
    """Read the lines of a batch's input; gives what is wrong with it, beside the batches that wait already."""
    rows = file.content.splitlines() if file else []
    if not rows:
        yield _wrong("empty_file", "The batch file is empty, or it is gone.")
    if len(rows) > settings.batch_lines:
        yield _wrong("too_many_tasks", f"The batch file has more than {settings.batch_lines} requests.")
    seen: set[str] = set()
    for number, row in enumerate(rows, start=1):
        try:
            line = json.loads(row)
            custom_id, body = line["custom_id"], line["body"]
        except (ValueError, KeyError, TypeError):
            yield _wrong("invalid_json_line", "This line is not a request.", number)
            continue
        if custom_id in seen:
            yield _wrong("duplicate_custom_id", f"The custom_id '{custom_id}' occurs twice.", number)
        seen.add(custom_id)
        if isinstance(checked_body(body), Reply):
            yield _wrong("invalid_request", "The body of this request is wrong.", number)
        elif batch.lines and batch.lines[0]["body"]["model"] != body["model"]:
            yield _wrong("mismatched_model", "All requests of a batch must have the same model.", number)
        batch.lines.append(line)
    limit = settings.enqueued_tokens
    if limit is not None and batch.lines and _enqueued([batch, *waiting], batch.lines[0]["body"]["model"]) > limit:
        yield _wrong(
            "token_limit_exceeded",
            f"Enqueued token limit reached for {batch.lines[0]['body']['model']} (simulated). Limit: {limit:,} "
            "enqueued tokens. Please try again once some in_progress batches have been completed.",
        )


def failure() -> list[dict[str, Any]]:
    """What a batch is told that fails by no fault of its own."""
    return [_wrong("internal_error", "The batch could not be validated. Please try again.")]


def _enqueued(batches: Sequence[Batch], model: str) -> int:
    """Tokens of all lines that wait for a model, as roughly as providers count them."""
    bodies = (line["body"] for batch in batches for line in batch.lines)
    return sum(len(json.dumps(body["messages"])) // 4 for body in bodies if body["model"] == model)


def work(batch: Batch, status: str, done: int, answer: Answer, seed: int) -> tuple[list[bytes], list[bytes]]:
    """Answer the first `done` lines of a batch that ends in this status: the lines of the output and the error file."""
    output: list[bytes] = []
    errors: list[bytes] = []
    for at, line in enumerate(batch.lines):
        lost = batch.fault if at % LOST_EVERY == 0 else "none"
        if at >= done:
            code = "batch_expired" if status == "expired" else "batch_cancelled"
            errors.append(_row(line, None, {"code": code, "message": f"The request was not executed: {code}."}))
        elif lost == "errors":
            errors.append(_row(line, _response(500, b'{"error": {"message": "The server had an error."}}'), None))
        else:
            seen = batch.fault != "gone" and lost != "missing"
            reply = answer(Request(line["body"], batch.key, tier="batch"), seen)
            rows = [_row(line, _response(reply.status, reply.body), None)] * (2 if lost == "doubled" else 1)
            if lost != "missing":
                (output if reply.status == 200 else errors).extend(rows)
    # Nobody may rely on the order of lines.
    random.Random(seed).shuffle(output)
    return output, errors


def _response(status: int, body: bytes) -> dict[str, Any]:
    try:
        read = json.loads(body)
    except ValueError:
        read = body.decode("utf-8", "replace")
    return {"status_code": status, "request_id": "req_batch", "body": read}


def _row(line: Mapping[str, Any], response: Mapping[str, Any] | None, error: Mapping[str, Any] | None) -> bytes:
    row = {"id": "batch_req_simulated", "custom_id": line["custom_id"], "response": response, "error": error}
    return json.dumps(row).encode()


def _wrong(code: str, message: str, line: int | None = None) -> dict[str, Any]:
    return {"code": code, "message": message, "param": None, "line": line}
