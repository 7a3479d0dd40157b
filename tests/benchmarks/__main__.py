"""`make bench`: contenders in processes of their own, interleaved, against one local server; prints tables of medians.

`--record` writes them to RESULTS.md beside this file. `--first COMMIT` adds an earlier version of llmlab, from the
history of this repository, as one more contender. The CPU is that of the whole process, in which nothing else runs.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FLOOR, LOOP, OURS, BOOK, FIRST = "raw_aiohttp", "sdk_aiohttp", "llmlab", "llmlab_journal", "llmlab_first"
CALLS = (FLOOR, LOOP, "sdk_httpx", OURS, BOOK)
FIGURES = {
    "cpu_ms_per_call": "CPU ms/call",
    "calls_per_s": "calls/s",
    "lag_p99_ms": "loop lag p99 ms",
    "lag_max_ms": "max ms",
    "kb_per_call": "KB/call",
    "peak_mb": "peak MB",
}
SECTIONS = (
    ("1 in flight, 1,000 calls", CALLS, 1000, 1),
    ("100 in flight, 5,000 calls", (*CALLS, "llmlab_own_client", FIRST), 5000, 100),
    ("1,000 in flight, 10,000 calls", (*CALLS, FIRST), 10_000, 1000),
)
WANTED = (
    (OURS, FLOOR, "llmlab ≤ 2.5 × the raw floor (or ≤ 0.30 ms)", 2.5),
    (OURS, LOOP, "llmlab ≤ 0.25 × the SDK's loop on aiohttp", 0.25),
    (BOOK, OURS, "with a journal ≤ 1.3 × without", 1.3),
)

NOTES = """\
One call at a time shows what a call costs beside its CPU: the journal writes and syncs each attempt by itself, where
with many in flight it writes them together. On a busy machine the longest lags are those of a process that was not
given the CPU; raw aiohttp has them too, since it never lets the loop turn while answers are there.
"""
Runs = dict[str, list[dict[str, float]]]


@contextmanager
def server(latency_s: float = 0.0) -> Iterator[str]:
    """A server in a process of its own; gives its port."""
    command = [sys.executable, str(HERE / "server.py"), str(latency_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


@contextmanager
def earlier(commit: str | None) -> Iterator[list[str]]:
    """The folder of llmlab as it was at a commit; none without one."""
    if commit is None:
        yield []
        return
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", commit, "llmlab"], cwd=ROOT, check=True, capture_output=True)
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        yield [folder]


def measure(name: str, port: str, units: int, in_flight: int, first: list[str]) -> dict[str, float]:
    """One contender's figures."""
    contender, other = (OURS, first) if name == FIRST else (name, [])
    command = [sys.executable, "-m", "tests.benchmarks.contenders", contender, port, str(units), str(in_flight), *other]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout)


def ratio(runs: Runs, one: str, other: str) -> float:
    """How many times the CPU per call of another contender one takes: the median over the rounds."""
    pairs = zip(runs[one], runs[other], strict=True)
    return statistics.median(mine["cpu_ms_per_call"] / theirs["cpu_ms_per_call"] for mine, theirs in pairs)


def table(title: str, runs: Runs) -> Iterator[str]:
    """A markdown table of medians."""
    head = ["contender", *FIGURES.values(), "answered", f"CPU / {FLOOR}", f"CPU / {LOOP}"]
    yield from (f"## {title}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head))
    for name, mine in runs.items():
        medians = [f"{statistics.median(run[key] for run in mine):,.2f}" for key in FIGURES]
        ratios = [f"{ratio(runs, name, other):.2f}" for other in (FLOOR, LOOP)]
        yield "| " + " | ".join([name, *medians, f"{min(run['answered'] for run in mine):,}", *ratios]) + " |"
    yield ""
    for one, other, what, most in WANTED:
        found = ratio(runs, one, other)
        yield f"- {what}: **{found:.2f}**, {'kept' if found <= most else 'not kept'}"
    if FIRST in runs:
        yield f"- CPU against the first version: **{ratio(runs, OURS, FIRST):.2f}**"
    yield ""


def main() -> None:
    """Run the benchmarks and print their tables."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--record", action="store_true", help="write RESULTS.md")
    parser.add_argument("--first", metavar="COMMIT", help="an earlier version of llmlab to compare with")
    options = parser.parse_args()
    packages = ", ".join(f"{name} {version(name)}" for name in ("openai", "httpx2", "aiohttp", "pandas"))
    lines = [
        "# The last recorded benchmark",
        "",
        f"{date.today()}, {os.cpu_count()} cores, Python {platform.python_version()}, {packages}; load of the machine",
        f"at the beginning {os.getloadavg()[0]:.1f}. Medians of {options.rounds} interleaved rounds, each contender in a",
        "process of its own after 50 calls to warm up. The figures include the laying out of trials and both frames;",
        "KB/call is what the peak of memory grew by. The server answers at once.",
        "",
    ]
    with earlier(options.first) as first, server() as port:
        for title, names, units, in_flight in SECTIONS:
            runs: Runs = {name: [] for name in names if first or name != FIRST}
            for _ in range(options.rounds):
                for name, mine in runs.items():
                    mine.append(measure(name, port, units, in_flight, first))
            lines += table(title, runs)
            print("\n".join(table(title, runs)), flush=True)
    lines += NOTES.splitlines()
    if options.record:
        (HERE / "RESULTS.md").write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
