"""What a million answered trials cost: `python -m tests.benchmarks.million`; `--record` writes MILLION.md.

The book is made of answers that nobody gave: 500,000 units × 2 runs, one trial in a hundred with a failed attempt
before its answer.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import date
from importlib.metadata import version
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


def pending(frame: pd.DataFrame, **more: Any) -> Any:
    """The experiment, not begun; where it would send requests nobody listens."""
    return ll.run_experiment(
        frame,
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
    asks = pending(units(trials // 2)).setup.asks
    Results(
        keys=asks.plan.keys(),
        units=asks.plan.units.frame,
        store=answers(trials),
        description=asks.description,
        sent=InMemory(asks),
    ).save(folder)


class Timed:
    """Notes what each step took, and how much the process grew."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def __call__(self, what: str, work: Callable[[], Any]) -> Any:
        gc.collect()
        before, began, cpu = resident_mb(), time.perf_counter(), time.process_time()
        made = work()
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        self.rows.append({"what": what, "s": took, "cpu_s": cpu, "grew_mb": resident_mb() - before})
        return made


def resident_mb() -> float:
    """Memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def resume(folder: Path, trials: int, timed: Timed) -> None:
    """The same cell again: nothing is sent."""
    import openai  # noqa: F401 - a second that every process pays once

    frame = units(trials // 2)
    book = folder / "results.sqlite"
    results = timed("the same cell again (`journal=`), all answered", lambda: asyncio.run(asked_again(frame, book)))
    assert results.summary()["answered_before"] == trials


async def asked_again(frame: pd.DataFrame, book: Path) -> Results:
    """The results of the same cell."""
    return await pending(frame, journal=book)


def load(folder: Path, trials: int, timed: Timed) -> None:
    """What is in the book, its frames, and every finding."""
    import matplotlib as mpl
    import openai  # noqa: F401

    mpl.use("agg")
    results = timed("`load_results(book)`", lambda: ll.load_results(folder / "results.sqlite"))
    assert len(results) == trials
    predictions = timed("`results.predictions`", lambda: results.predictions)
    attempts = timed("`results.attempts`", lambda: results.attempts)
    frames_mb = sum(frame.memory_usage(deep=True).sum() for frame in (predictions, attempts)) / 1e6
    timed.rows[-1] |= {"frames_mb": frames_mb, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    timed("`results.summary()`", results.summary)
    timed("`_repr_html_()`", results._repr_html_)
    timed("`charts.overview(results)`", lambda: ll.charts.overview(results))
    timed("`consensus()`", results.consensus)
    timed("`agreement()`", results.agreement)
    timed('`score("gold")`', lambda: results.score("gold"))


def look(folder: Path, trials: int, timed: Timed) -> None:
    """What `experiment.predictions` does during a run, when a fifth of the trials is answered."""
    store, asks = answers(trials // 5), pending(units(trials // 10)).setup.asks
    keys = asks.plan.keys()

    def predictions() -> pd.DataFrame:
        return Results(keys=keys, units=asks.plan.units.frame, store=store.copy(), description=asks.description,
                       sent=InMemory(asks)).predictions  # fmt: skip

    predictions()
    timed(f"`experiment.predictions` at {trials // 5:,} answers (the loop stands still)", predictions)


def from_folder(folder: Path, trials: int, timed: Timed) -> None:
    """The folder as llmlab reads it, and its frames as pandas does."""
    timed("`load_results(folder)`", lambda: ll.load_results(folder))
    timed("pandas alone: both Parquet files of it", lambda: [pd.read_parquet(folder / f"{name}.parquet") for name in
                                                             ("predictions", "attempts")])  # fmt: skip


STEPS = {one.__name__: one for one in (resume, load, from_folder, look)}


def measure(step: str, folder: Path, trials: int) -> list[dict[str, Any]]:
    """The rows of one step, in a process of its own."""
    command = [sys.executable, "-m", "tests.benchmarks.million", "--step", step, "--folder", str(folder)]
    done = subprocess.run([*command, "--trials", str(trials)], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def table(trials: int, folder: Path) -> Iterator[str]:
    """A markdown table, and what the frames hold."""
    yield from (f"## {trials:,} trials", "", "| step | CPU s | elapsed s | grew by MB |", "|---|---|---|---|")
    for step in STEPS:
        for row in measure(step, folder, trials):
            yield f"| {row['what']} | {row['cpu_s']:.2f} | {row['s']:.2f} | {row['grew_mb']:,.0f} |"
            if "frames_mb" in row:
                sizes = f"both frames hold {row['frames_mb']:,.0f} MB; the process is {row['peak_mb']:,.0f} MB large at most"
                yield f"| ({sizes}) | | | |"
    yield ""


def main() -> None:
    """Measure, and print or write down what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.million", description=__doc__)
    parser.add_argument("--record", action="store_true", help="write MILLION.md")
    parser.add_argument("--trials", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, help="with results that an earlier run has written")
    parser.add_argument("--step", choices=STEPS)
    given = parser.parse_args()
    if given.step:
        timed = Timed()
        STEPS[given.step](given.folder, given.trials[0], timed)
        print(json.dumps(timed.rows))
        return
    lines = [
        "# A million answered trials",
        "",
        f"{date.today()}, {os.cpu_count()} cores, Python {platform.python_version()}, pandas {version('pandas')}; load of",
        f"the machine {os.getloadavg()[0]:.1f}: with others at work compare the CPU. Half as many units × 2 runs, one trial",
        "in a hundred with an attempt that failed; each part in a process of its own.",
        "",
    ]
    with tempfile.TemporaryDirectory() as temporary:
        for trials in given.trials:
            folder = (given.folder or Path(temporary)) / str(trials)
            if not folder.exists():
                make(folder, trials)
            lines += table(trials, folder)
            print("\n".join(lines[-20:]), flush=True)
    if given.record:
        (HERE / "MILLION.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
