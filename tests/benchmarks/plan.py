"""What 100,000,000 trials would take, on paper: `python -m tests.benchmarks.plan`.

Bytes and CPU are measured with a tenth of a thousandth of them, on this machine and against a local server; the rest is
arithmetic on the assumptions at the top, which are printed along.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
import string
import sys
import tempfile
import time
from pathlib import Path

import psutil

import llmlab as ll
from tests.benchmarks.__main__ import server

TRIALS, RUNS = 100_000_000, 3
# A short text and a label; list prices of a small model, in US dollars per million tokens; a high tier's limit.
TEXT_CHARACTERS, TOKENS_IN, TOKENS_OUT = 400, 200, 10
USD_IN, USD_OUT = 0.15, 0.60
REQUESTS_PER_MINUTE = 30_000
PART = 1_000_000
BATCH_LINES = 50_000


async def measure(trials: int) -> tuple[float, float, float]:
    """Per trial: CPU in ms, bytes of memory, bytes of the journal."""
    chance = random.Random(1)
    words = ["".join(chance.choices(string.ascii_lowercase, k=chance.randint(2, 10))) for _ in range(5000)]
    units = [" ".join(chance.choices(words, k=TEXT_CHARACTERS // 7)) for _ in range(trials // RUNS)]
    with tempfile.TemporaryDirectory() as folder, server(0.05) as port:
        path, process = Path(folder) / "book.sqlite", psutil.Process()
        given = {"model": "m", "base_url": f"http://127.0.0.1:{port}/v1", "api_key": "k", "progress": False}
        given |= {"categories": ["bug", "other"], "requests_per_minute": None, "runs": RUNS}
        await ll.run_experiment(units[:500], "{text}", **given)
        gc.collect()
        before, cpu = process.memory_info().rss, time.process_time()
        results = await ll.run_experiment(units, "{text}", **given, journal=path)
        cpu = time.process_time() - cpu
        gc.collect()
        memory, made = process.memory_info().rss - before, len(results)
        return 1000 * cpu / made, memory / made, path.stat().st_size / made


def plan(cpu_ms: float, memory: float, disk: float) -> list[str]:
    """The figures for all of them."""
    usd = TRIALS * (TOKENS_IN * USD_IN + TOKENS_OUT * USD_OUT) / 1e6
    hours = TRIALS / REQUESTS_PER_MINUTE / 60
    return [
        f"{TRIALS:,} trials: {TRIALS // RUNS:,} units x {RUNS} runs, {TOKENS_IN} tokens in and {TOKENS_OUT} out",
        f"money   ${usd:,.0f} at ${USD_IN} and ${USD_OUT} per million; ${usd / 2:,.0f} through the batch queue",
        f"time    {hours:,.0f} h at {REQUESTS_PER_MINUTE:,} a minute",
        f"CPU     {cpu_ms:.2f} ms a trial: {TRIALS * cpu_ms / 3.6e6:,.0f} h in all, {60_000 / cpu_ms:,.0f} a minute and core",
        f"memory  {memory:,.0f} bytes a trial: {TRIALS * memory / 1e9:,.0f} GB at once, {PART * memory / 1e9:.1f} GB in parts of {PART:,}",
        f"disk    {disk:,.0f} bytes a trial: {TRIALS * disk / 1e9:,.0f} GB",
        f"files   {TRIALS // PART} journals of {PART:,} trials ({PART * disk / 1e9:.1f} GB each); or {TRIALS // BATCH_LINES:,} batches of {BATCH_LINES:,}",
    ]


def main() -> None:
    """Measure, and print the plan."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.plan", description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000, help="with which bytes and CPU are measured")
    print("\n".join(plan(*asyncio.run(measure(parser.parse_args().trials)))), file=sys.stdout)


if __name__ == "__main__":
    main()
