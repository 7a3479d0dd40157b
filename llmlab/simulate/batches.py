"""The batch queue of a simulated provider: files go in, batches are worked on by a scaled clock, files come out.

A batch that takes hours at a real provider takes `Settings.batch_s`. What state it is in follows from the time that has
passed, whenever somebody asks: nothing runs in between.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from llmlab.simulate.batch_work import ENDPOINT, Answer, Batch, File, failure, what_is_wrong, work
from llmlab.simulate.reply import Reply, as_json, refuse
from llmlab.simulate.settings import Settings

BEGINS, ENDS = 0.1, 0.9
"""The shares of `batch_s` at which the work on the lines begins and ends."""
WORKING = ("in_progress", "finalizing")


class Batches:
    """The files and batches of one provider.

    Parameters
    ----------
    settings : Settings
    answer : callable
        What becomes of the request in one line, as a `Reply`.
    """

    def __init__(self, settings: Settings, answer: Answer) -> None:
        self.settings, self.answer = settings, answer
        self.files: dict[str, File] = {}
        self.batches: dict[str, Batch] = {}
        self.faults: Iterator[str] = iter(settings.batch_faults)
        self.numbers = Counter[str]()
        # A batch of another provider, with the same number, is not this one's.
        self.name = secrets.token_hex(4)

    def upload(self, key: str, name: str, purpose: str, content: bytes, now: float) -> Reply:
        """Keep a file."""
        if purpose != "batch":
            return refuse(400, f"'purpose' must be 'batch' here, not {purpose!r}.", param="purpose")
        return as_json(self._keep(key, name, purpose, content, now).shown())

    def request(self, method: str, path: str, key: str, body: Any, now: float) -> Reply:
        """Anything but an upload: `path` begins with "/files" or "/batches"."""
        self.settle(now)
        kind, _, rest = path.strip("/").partition("/")
        name, _, verb = rest.partition("/")
        if kind == "files":
            return self._file(method, name, verb, key)
        if method == "POST" and not name:
            return self._create(key, body if isinstance(body, dict) else {}, now)
        if method == "GET" and not name:
            mine = [batch.shown() for batch in reversed(self.batches.values()) if batch.key == key]
            return as_json({"object": "list", "data": mine, "has_more": False})
        batch = self.batches.get(name)
        if batch is None or batch.key != key:
            return refuse(404, f"No batch found with id '{name}'.")
        if method == "POST" and verb == "cancel":
            if batch.ended:
                return refuse(400, f"Cannot cancel a batch with status '{batch.status}'.")
            batch.become("cancelling", now)
        return as_json(batch.shown())

    def settle(self, now: float) -> None:
        """Bring every batch into the state that it has by now."""
        for batch in self.batches.values():
            if not batch.ended:
                self._advance(batch, now)

    def _file(self, method: str, name: str, verb: str, key: str) -> Reply:
        file = self.files.get(name)
        if file is None or file.key != key:
            return refuse(404, f"No such File object: {name}")
        if method == "DELETE":
            del self.files[name]
            return as_json({"id": name, "object": "file", "deleted": True})
        if verb == "content":
            return Reply(200, file.content, {"Content-Type": "application/octet-stream"})
        return as_json(file.shown())

    def _create(self, key: str, body: Mapping[str, Any], now: float) -> Reply:
        file = self.files.get(str(body.get("input_file_id")))
        if file is None or file.key != key:
            return refuse(400, f"No such File object: {body.get('input_file_id')}", param="input_file_id")
        if body.get("endpoint") != ENDPOINT or body.get("completion_window") != "24h":
            return refuse(400, f"'endpoint' must be {ENDPOINT} and 'completion_window' 24h.", param="endpoint")
        batch = Batch(self._name("batch"), key, file.id, body.get("metadata"), {"created": now})
        self.batches[batch.id] = batch
        return as_json(batch.shown())

    def _advance(self, batch: Batch, now: float) -> None:
        """What has happened to a batch since somebody last asked."""
        share = (now - batch.at["created"]) / self.settings.batch_s
        if batch.status == "validating" and share >= BEGINS:
            self._validate(batch, now)
        if batch.status == "cancelling":
            self._end(batch, "cancelled", now, self._worked_on(batch, batch.at["cancelling"]))
        elif batch.status == "in_progress":
            half = len(batch.lines) // 2
            batch.completed = self._worked_on(batch, now)
            if batch.fault in ("expired", "cancelled") and share >= ENDS:
                self._end(batch, batch.fault, now, half)
            elif share >= 1:
                self._end(batch, "completed", now, len(batch.lines))
            elif share >= ENDS:
                batch.become("finalizing", now)
        elif batch.status == "finalizing" and share >= 1:
            self._end(batch, "completed", now, len(batch.lines))

    def _worked_on(self, batch: Batch, now: float) -> int:
        """The lines that are done by then."""
        share = (now - batch.at["created"]) / self.settings.batch_s
        return int(len(batch.lines) * min(1.0, max(0.0, (share - BEGINS) / (ENDS - BEGINS))))

    def _validate(self, batch: Batch, now: float) -> None:
        """Read the input; a batch with anything wrong in it fails whole, and is not charged."""
        file = self.files.get(batch.input_file_id)
        waiting = [one for one in self.batches.values() if one.key == batch.key and one.status in WORKING]
        batch.errors = list(what_is_wrong(batch, file, waiting, self.settings))
        if not batch.errors:
            batch.fault = next(self.faults, "none")
            batch.errors = failure() if batch.fault == "failed" else []
        if batch.errors:
            batch.lines = []
        batch.become("failed" if batch.errors else "in_progress", now)

    def _end(self, batch: Batch, status: str, now: float, done: int) -> None:
        """Work on the first `done` lines, write both files, and end the batch."""
        output, errors = work(batch, status, done, self.answer, self.settings.seed)
        batch.completed, batch.failed = len(output), len(errors)
        batch.output_file_id = self._write(batch, "output", output, now)
        batch.error_file_id = self._write(batch, "errors", errors, now)
        if batch.fault == "gone" and batch.output_file_id:
            del self.files[batch.output_file_id]
        batch.become(status, now)

    def _write(self, batch: Batch, what: str, rows: list[bytes], now: float) -> str | None:
        if not rows:
            return None
        return self._keep(batch.key, f"{batch.id}_{what}.jsonl", "batch_output", b"\n".join(rows) + b"\n", now).id

    def _keep(self, key: str, name: str, purpose: str, content: bytes, now: float) -> File:
        file = File(self._name("file"), key, name, purpose, content, now)
        self.files[file.id] = file
        return file

    def _name(self, kind: str) -> str:
        self.numbers[kind] += 1
        return f"{kind}{'-' if kind == 'file' else '_'}{self.name}{self.numbers[kind]:06x}"
