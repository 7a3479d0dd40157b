"""What a simulated provider has served: the other side of every attempt that a client records."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Counts:
    """What was served until now.

    Every request ends as one of `ok` (a whole 2xx reply), `refused` (429), `errors` (another status, or it broke below
    HTTP) or `dropped` (the client was gone before the answer); until then it is only in `requests`.

    Attributes
    ----------
    malformed : int
        Of `ok`: answers made unreadable by `malformed_rate`.
    faults : int
        Requests that met a named fault, whatever its outcome.
    prompt_tokens, completion_tokens, reasoning_tokens, cached_tokens, total_tokens : int
        Usage that reached the wire, as far as a careful reader can count it.
    usage_missing, unsent_tokens : int
        Answers that were paid for without their usage reaching the wire, and the total tokens of them.
    cost_usd : float
        What the answers cost whose usage reached the wire, in US dollars, at the prices of `gpt-4o-mini`; half for flex
        and batch.
    batch_lines : int
        Lines of batches that were worked on; not in `requests`, but in the tokens and the cost.
    peak_in_flight : int
        Most requests at a time.
    max_in_window : int
        Most requests accepted in any one period, for one API key.
    models : mapping of str to (mapping of str to float)
        The counts down to `batch_lines`, by model.
    """

    requests: int = 0
    ok: int = 0
    refused: int = 0
    errors: int = 0
    dropped: int = 0
    malformed: int = 0
    faults: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reasoning_tokens: int = 0
    cached_tokens: int = 0
    total_tokens: int = 0
    usage_missing: int = 0
    unsent_tokens: int = 0
    cost_usd: float = 0.0
    batch_lines: int = 0
    peak_in_flight: int = 0
    max_in_window: int = 0
    models: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


class Arrival(NamedTuple):
    """One request: when the rate limit saw it (`time.monotonic()`, s), and how it ended; "open" until then."""

    at_s: float
    outcome: str


class Book:
    """The running counts, safe to read from another thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tally: defaultdict[str, Any] = defaultdict(Counter)
        self._arrived: list[float] = []
        self._outcomes: list[str] = []
        self._peak_in_flight = 0
        self.in_flight: Counter[str] = Counter()
        """Requests worked on now, by model; only for the server's own thread."""

    def open(self, model: str, at_s: float) -> int:
        """Count a request in; returns its number, from 0."""
        with self._lock:
            self._arrived.append(at_s)
            self._outcomes.append("open")
            self._tally[model]["requests"] += 1
            self.in_flight[model] += 1
            self._peak_in_flight = max(self._peak_in_flight, self.in_flight.total())
            return len(self._arrived) - 1

    def end(self, number: int, model: str, outcome: str, tally: Mapping[str, float]) -> None:
        """Count how a request ended, once; before it is sent, so that whoever has the answer finds it counted."""
        with self._lock:
            if self._outcomes[number] == "open":
                self._outcomes[number] = outcome
                self._tally[model][outcome] += 1
                self._tally[model].update(tally)

    def add(self, model: str, tally: Mapping[str, float]) -> None:
        """Count something that is no request of its own."""
        with self._lock:
            self._tally[model].update(tally)

    def counts(self, max_in_window: int) -> Counts:
        """A snapshot."""
        with self._lock:
            models = {model: dict(counter) for model, counter in self._tally.items()}
            total = sum(self._tally.values(), Counter())
            return Counts(**total, peak_in_flight=self._peak_in_flight, max_in_window=max_in_window, models=models)

    def arrivals(self) -> list[Arrival]:
        """All requests in the order in which the rate limit saw them."""
        with self._lock:
            return [Arrival(*pair) for pair in zip(self._arrived, self._outcomes, strict=True)]
