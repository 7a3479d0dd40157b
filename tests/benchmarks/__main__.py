"""`make bench`: contenders in processes of their own, interleaved, against one local server; prints tables of medians.

The record of the last run on a quiet machine is RESULTS.md beside this file; `--record` writes it anew.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
BASE = "sdk_aiohttp"
CALLS = ("raw_aiohttp", "sdk_aiohttp", "sdk_httpx", "llmlab", "llmlab_journal", "llmlab_own_client")
FIGURES = {
    "cpu_ms_per_call": "CPU ms/call",
    "calls_per_s": "calls/s",
    "lag_p99_ms": "loop lag p99 ms",
    "lag_max_ms": "max ms",
    "peak_mb": "peak MB",
}


@contextmanager
def server(latency_s: float) -> Iterator[str]:
    """A server in a process of its own; gives its port."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "server.py"), str(latency_s)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


def measure(name: str, port: str, units: int, in_flight: int) -> dict[str, float]:
    """One contender's figures."""
    command = [sys.executable, "-m", "tests.benchmarks.contenders", name, port, str(units), str(in_flight)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def table(title: str, names: tuple[str, ...], units: int, in_flight: int, latency_s: float, rounds: int) -> list[str]:
    """A markdown table of medians over interleaved rounds."""
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    with server(latency_s) as port:
        for _ in range(rounds):
            for name in names:
                figures[name].append(measure(name, port, units, in_flight))
    head = ["contender", *FIGURES.values(), "answered", f"CPU / {BASE}"]
    lines = [f"## {title}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, runs in figures.items():
        medians = [f"{statistics.median(run[key] for run in runs):,.2f}" for key in FIGURES]
        pairs = zip(runs, figures.get(BASE, []), strict=False)
        ratios = [one["cpu_ms_per_call"] / base["cpu_ms_per_call"] for one, base in pairs]
        ratio = f"{statistics.median(ratios):.2f}" if ratios else ""
        lines.append("| " + " | ".join([name, *medians, f"{min(run['answered'] for run in runs):,}", ratio]) + " |")
    return [*lines, ""]


def main() -> None:
    """Run the benchmarks and print their tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--record", action="store_true", help="write RESULTS.md")
    options = parser.parse_args()
    names = ("openai", "httpx2", "aiohttp", "pandas")
    packages = ", ".join(f"{name} {version(name)}" for name in names)
    lines = [
        "# The last recorded benchmark",
        "",
        f"{date.today()}, {os.cpu_count()} cores, Python {platform.python_version()}, {packages}.",
        f"Medians of {options.rounds} interleaved rounds, each contender in a process of its own. The figures include",
        "the laying out of trials and both frames. The machine was shared: compare the ratios.",
        "",
    ]
    for section in (
        ("100 in flight, no latency", CALLS, 4000, 100, 0.0),
        ("1,000 in flight, 1 s latency", ("sdk_aiohttp", "llmlab"), 10_000, 1000, 1.0),
        ("1,000 in flight, no latency", ("sdk_aiohttp", "llmlab"), 10_000, 1000, 0.0),
        ("1,000 units", ("sdk_aiohttp", "llmlab"), 1000, 100, 0.0),
        ("30,000 units", ("sdk_aiohttp", "llmlab"), 30_000, 100, 0.0),
    ):
        found = table(*section, options.rounds)
        print("\n".join(found), flush=True)
        lines += found
    if options.record:
        (HERE / "RESULTS.md").write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
