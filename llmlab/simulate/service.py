"""What a simulated provider decides: for each request a fault, a refusal or an answer, and what is counted of it."""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import replace

from llmlab.simulate.batches import Batches
from llmlab.simulate.completion import Request, complete, tokens_of, unseen
from llmlab.simulate.counts import Book, Counts
from llmlab.simulate.faults import FAULTS
from llmlab.simulate.reply import Reply, as_json, refuse
from llmlab.simulate.settings import Settings
from llmlab.simulate.window import Window

MODELS = ("simulated/small", "simulated/large")
"""The models that are listed when no others are set; any other name is answered too."""

_FAULT_MODEL = "fault/"


class Service:
    """The provider's state, used by its server's thread alone.

    Parameters
    ----------
    settings : Settings

    Attributes
    ----------
    book : Book
        What was served; safe to read from another thread.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.book = Book()
        self.batches = Batches(settings, self.answer_line)
        self.windows: dict[str, Window] = {}
        self.answered: Counter[bytes] = Counter()
        self.faulty_since: float | None = None

    def counts(self) -> Counts:
        """What was served until now."""
        return self.book.counts(max((window.peak for window in list(self.windows.values())), default=0))

    def decide(self, request: Request) -> Reply:
        """A fault, a refusal, an error or an answer; the state that it depends on is booked here."""
        fault = self.fault(request)
        if fault is not None:
            return replace(fault, delay_s=fault.delay_s + self.settings.latency_s)
        most = self.settings.max_in_flight
        if most is not None and self.book.in_flight.total() > most:
            return refuse(429, f"Too many requests at the same time: {most} allowed.", "requests", "slow_down")
        limit, tokens, period_s = self.settings.window
        window = self.windows.setdefault(request.key, Window(limit, tokens, period_s))
        digest = request.digest(self.settings.seed)
        # The answer is made first only where its tokens are needed to decide.
        reply = complete(self.settings, request, digest, self.answered[digest]) if tokens else None
        weight = tokens_of(reply.tally) if reply else 0
        wait_s = window.admit(request.at_s, weight, self.settings.count_refused)
        if wait_s:
            return window.refusal(request.model, request.at_s, wait_s, weight)
        return replace(self._complete(request), headers=window.headers(request.at_s))

    def fault(self, request: Request) -> Reply | None:
        """The fault that this request meets, if any: the one its model is named after, or the one that is set."""
        if request.model.startswith(_FAULT_MODEL):
            name = request.model.removeprefix(_FAULT_MODEL)
            unknown = refuse(404, f"There is no fault {name!r}; there are {', '.join(FAULTS)}.", code="model_not_found")
            return FAULTS.get(name, unknown)
        if self.settings.fault is None or self.answered.total() < self.settings.fault_after:
            return None
        if self.faulty_since is None:
            self.faulty_since = request.at_s
        lasts_s = self.settings.fault_s
        over = lasts_s is not None and request.at_s - self.faulty_since >= lasts_s
        return None if over else FAULTS[self.settings.fault]

    def answer_line(self, request: Request, seen: bool) -> Reply:
        """The answer to one line of a batch."""
        reply = self.fault(request) or self._complete(request)
        self.book.add(request.model, {"batch_lines": 1, **(reply.tally if seen else unseen(reply.tally))})
        return reply

    def _complete(self, request: Request) -> Reply:
        digest = request.digest(self.settings.seed)
        reply = complete(self.settings, request, digest, self.answered[digest])
        self.answered[digest] += 1
        return reply

    def upload(self, key: str, name: str, purpose: str, content: bytes) -> Reply:
        """Take a file for the batch queue."""
        fault = self.fault(Request({}, key, time.monotonic()))
        return fault or self.batches.upload(key, name, purpose, content, time.time())

    def queue(self, method: str, path: str, key: str, raw: bytes) -> Reply:
        """Anything else about the batch queue; `path` begins with "/files" or "/batches"."""
        try:
            body = json.loads(raw or b"{}")
        except ValueError:
            return refuse(400, "The body is not JSON.")
        fault = self.fault(Request({}, key, time.monotonic()))
        return fault or self.batches.request(method, path, key, body, time.time())

    def elsewhere(self, method: str, path: str) -> Reply:
        """The reply to a request for anything but an answer."""
        if path == "/v1/chat/completions":
            return refuse(405, f"{method} is not allowed here; POST is.")
        if path == "/v1/models":
            names = self.settings.models or MODELS
            listed = [{"id": name, "object": "model", "created": 0, "owned_by": "llmlab simulate"} for name in names]
            return as_json({"object": "list", "data": listed})
        if path == "/stats":
            return as_json(vars(self.counts()))
        return refuse(404, f"There is nothing at {path}; try /v1/chat/completions.")
