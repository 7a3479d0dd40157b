"""What a million answered trials cost: `python -m tests.benchmarks.million`; `--record` writes MILLION.md.

The book is made of answers that nobody gave: 500,000 units × 2 runs, one trial in a hundred with a failed attempt
before its answer. Every step is measured in a process of its own, begun anew.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import llmlab as ll
from llmlab.records import ATTEMPT
from llmlab.results import InMemory, Results, Store

HERE = Path(__file__).parent
LABELS = ["account", "billing", "bug", "delivery", "feature", "other"]
START = 1_700_000_000.0
CHUNK = 100_000


def units(count: int) -> pd.DataFrame:
    """Tickets with a gold label."""
    gold = np.random.default_rng(0).integers(0, len(LABELS), count)
    return pd.DataFrame(
        {
            "id": np.arange(count),
            "text": [f"ticket {n}: the lamp that was delivered on Monday does not turn on" for n in range(count)],
            "gold": np.array(LABELS, dtype=object)[gold],
        }
    )


def pending(trials: int, **more: Any) -> Any:
    """The experiment, not begun; where it would send requests nobody listens."""
    return ll.run_experiment(
        units(trials // 2),
        "Which category fits?\n\n{text}",
        model="m",
        categories=LABELS,
        runs=2,
        base_url="http://127.0.0.1:9/v1",
        api_key="k" * 20,
        limiter=ll.RateLimiter(1e9, burst=1e9),
        progress=False,
        **more,
    )


def answers(trials: int) -> Store:
    """An answer for each trial, four out of five of them right."""
    rng = np.random.default_rng(1)
    right = np.repeat(np.random.default_rng(0).integers(0, len(LABELS), trials // 2), 2)
    said = np.where(rng.random(trials) < 0.8, right, rng.integers(0, len(LABELS), trials))
    store = Store()
    for first in range(0, trials, CHUNK):
        position, fields, values = _some(np.arange(first, min(trials, first + CHUNK)), said, rng)
        store.extend(position, fields, values)
    return store


def _some(trials: np.ndarray, said: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, dict[str, Any], list]:
    failed = rng.random(len(trials)) < 0.01
    position = np.repeat(trials, 1 + failed)
    last = np.append(position[1:] != position[:-1], True)
    count = len(position)
    prompt, completion = rng.integers(60, 90, count), rng.integers(1, 4, count)
    texts = [LABELS[code] if ok else "I cannot tell." for code, ok in zip(said[position], last, strict=True)]
    fields: dict[str, Any] = {
        name: [False] * count if one.dtype == "bool" else [None] * count for name, one in ATTEMPT.columns.items()
    }
    fields |= {
        "attempt": np.where(last & (np.append(0, position[:-1]) == position) & (position > 0), 2, 1).tolist(),
        "session": [1] * count,
        "status": ["ok" if ok else "parse_error" for ok in last],
        "error_type": [None if ok else "ParseError" for ok in last],
        "error": [None if ok else "no category in the answer" for ok in last],
        "started_at": (START + position / 500 + rng.random(count)).tolist(),
        "queue_s": [0.0] * count,
        "wait_s": rng.exponential(0.2, count).tolist(),
        "latency_s": rng.lognormal(-0.5, 0.4, count).tolist(),
        "retry_in_s": [None if ok else 0.0 for ok in last],
        "throttled": (rng.random(count) < 0.5).tolist(),
        "prompt_tokens": prompt.tolist(),
        "completion_tokens": completion.tolist(),
        "total_tokens": (prompt + completion).tolist(),
        "cost_usd": (1e-7 * prompt + 4e-7 * completion).tolist(),
        "may_be_billed": [True] * count,
        "finish_reason": ["stop"] * count,
        "model_returned": ["m"] * count,
        "answer_form": ["json_schema"] * count,
        "request_id": [f"req_{n:016x}" for n in rng.integers(0, 2**62, count).tolist()],
        "http_status": [200] * count,
        "content": texts,
    }
    return position, fields, [text if ok else None for text, ok in zip(texts, last, strict=True)]


def make(folder: Path, trials: int) -> None:
    """Write the folder of results, whose journal answers every trial."""
    asks = pending(trials).setup.asks
    Results(
        keys=asks.plan.keys(),
        units=asks.plan.units.frame,
        store=answers(trials),
        description=asks.description,
        sent=InMemory(asks),
    ).save(folder)


class Steps:
    """What is measured; each gives the work itself, and what must be there before it begins."""

    def __init__(self, folder: Path, trials: int) -> None:
        self.folder, self.trials = folder, trials

    def _loaded(self) -> Results:
        return ll.load_results(self.folder)

    def _framed(self) -> Results:
        results = self._loaded()
        assert len(results.predictions) == self.trials
        assert len(results.attempts) > self.trials
        return results

    def resume(self) -> Callable[[], object]:
        """The same cell again: nothing is sent."""
        experiment = pending(self.trials, journal=self.folder / "results.sqlite")

        def work() -> None:
            results = asyncio.run(_awaited(experiment))
            assert results.summary
            assert len(results) == self.trials
            assert results.copy_store().answered == set(range(self.trials))

        return work

    def load(self) -> Callable[[], object]:
        """load_results(book)"""
        return lambda: ll.load_results(self.folder / "results.sqlite")

    def load_folder(self) -> Callable[[], object]:
        """load_results(folder)"""
        return lambda: ll.load_results(self.folder)

    def load_and_frames(self) -> Callable[[], object]:
        """load_results(book), predictions, attempts"""
        return self._framed

    def predictions(self) -> Callable[[], object]:
        """results.predictions"""
        results = self._loaded()
        return lambda: results.predictions

    def attempts(self) -> Callable[[], object]:
        """results.attempts"""
        results = self._loaded()
        return lambda: results.attempts

    def summary(self) -> Callable[[], object]:
        """results.summary()"""
        return self._framed().summary

    def html(self) -> Callable[[], object]:
        """_repr_html_()"""
        return self._framed()._repr_html_

    def overview(self) -> Callable[[], object]:
        """charts.overview(results)"""
        results = self._framed()
        ll.charts.overview(results.of_first(100) if hasattr(results, "of_first") else results)
        return lambda: ll.charts.overview(results)

    def consensus(self) -> Callable[[], object]:
        """consensus()"""
        return self._framed().consensus

    def agreement(self) -> Callable[[], object]:
        """agreement()"""
        return self._framed().agreement

    def score(self) -> Callable[[], object]:
        """score("gold")"""
        results = self._framed()
        return lambda: results.score("gold")

    def save(self) -> Callable[[], object]:
        """save(folder)"""
        results = self._framed()
        folder = self.folder.with_name("saved")
        return lambda: results.save(folder)


async def _awaited(pending: Any) -> Any:
    return await pending


def measure(step: str, folder: Path, trials: int) -> dict[str, float]:
    """Seconds and memory of one step, in this process."""
    work = getattr(Steps(folder, trials), step)()
    before = _resident_mb()
    began, cpu = time.perf_counter(), time.process_time()
    work()
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {
        "s": took,
        "cpu_s": cpu,
        "before_mb": before,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


if __name__ == "__main__":
    if sys.argv[1] == "make":
        t = time.perf_counter()
        make(Path(sys.argv[2]), int(sys.argv[3]))
        print(time.perf_counter() - t)
    else:
        print(sys.argv[1], measure(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
