"""One process and a cluster of two workers, where CPU is the bound: `python -m tests.benchmarks.cluster [--record]`.

The record is CLUSTER.md beside this file. The server is a process of its own that does as little as it can; every answer
is read by a `parse` that computes for some milliseconds, as the reading of long answers does. What a worker that is
killed had in flight is answered by the server and heard by nobody: each answer has the same tokens, so that the counts
of both sides can be compared exactly.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import signal
import statistics
import tempfile
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import distributed
import psutil

import llmlab as ll
from tests.benchmarks.__main__ import server

HERE = Path(__file__).parent
LATENCY_S, TOKENS = 0.1, 45


def reader(cpu_ms: float) -> Callable[[str], int]:
    """A `parse` that takes so much CPU, whoever else wants it; it says which process it ran in."""

    def parse(text: str) -> int:
        end = time.thread_time() + cpu_ms / 1000
        while time.thread_time() < end:
            pass
        return os.getpid()

    return parse


@dataclass(frozen=True)
class Measured:
    """What one experiment came to."""

    what: str
    trials: int
    answered: int
    again: int
    told_lost: int
    took_s: float
    cpu_s: float
    workers_cpu_s: float
    tokens: int
    server_tokens: int

    @property
    def calls_per_s(self) -> float:
        return self.answered / self.took_s

    def row(self) -> str:
        cells = [
            self.what, f"{self.answered:,} of {self.trials:,}", f"{self.took_s:.1f}", f"{self.calls_per_s:.0f}",
            f"{1000 * self.cpu_s / self.trials:.2f}", f"{1000 * self.workers_cpu_s / self.trials:.2f}",
            f"{self.tokens:,}", f"{self.server_tokens:,}", str(self.again), str(self.told_lost),
        ]  # fmt: skip
        return "| " + " | ".join(cells) + " |"


def _cpu_s(pids: list[int]) -> float:
    return sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids if psutil.pid_exists(pid))


def _served(port: str) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/count") as answer:
        return int(answer.read())


async def measure(
    what: str, port: str, trials: int, parse: Callable[[str], int], client: Any = None, *, kill_after: int = 0
) -> Measured:
    """One experiment; of its workers one is killed after so many answers."""
    pids = list(client.run(os.getpid).values()) if client else []
    before, served = _cpu_s(pids), _served(port)
    cpu, wall = time.process_time(), time.perf_counter()
    experiment = ll.start_experiment(
        [f"the parcel {n} has not arrived" for n in range(trials)], "{text}", model="m", parse=parse, cluster=client,
        base_url=f"http://127.0.0.1:{port}/v1", api_key="sk-cluster-0123456789", requests_per_minute=None,
        max_concurrent=200, progress=False,
    )  # fmt: skip
    if kill_after:
        while _served(port) - served < kill_after:
            await asyncio.sleep(0.1)
        os.kill(min(pids), signal.SIGKILL)
        pids.remove(min(pids))
    results = await experiment
    took_s, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    statuses = results.attempts["status"].value_counts()
    return Measured(
        what, trials, int(results.predictions["status"].eq("ok").sum()), _served(port) - served - int(statuses["ok"]),
        int(statuses.sum() - statuses["ok"]), took_s, cpu_s, _cpu_s(pids) - before if not kill_after else float("nan"),
        int(results.attempts["total_tokens"].sum()), TOKENS * (_served(port) - served),
    )  # fmt: skip


async def play(trials: int, cpu_ms: float) -> list[Measured]:
    """Everything, one after the other: one process in between, so that a machine that changes is noticed."""
    with (
        tempfile.TemporaryDirectory() as folder,
        server(LATENCY_S) as port,
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        ll.share_limits(Path(folder) / "limits.sqlite")
        parse = reader(cpu_ms)
        await measure("warm up", port, 200, parse, client)
        alone, two = "one process", "two workers"
        measured = [await measure(alone, port, trials // 8, parse)]
        measured.append(await measure(two, port, trials, parse, client))
        measured.append(await measure(alone, port, trials // 8, parse))
        killed = "two workers, `kill -9` of one after a quarter"
        measured.append(await measure(killed, port, trials, parse, client, kill_after=trials // 4))
        measured.append(await measure(alone, port, trials // 8, parse))
        ll.share_limits(False)
    return measured


def main() -> None:
    """Play everything, and print or write down what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.cluster", description=__doc__)
    parser.add_argument("--record", action="store_true", help="write CLUSTER.md")
    parser.add_argument("--trials", type=int, default=20_000)
    parser.add_argument("--cpu-ms", type=float, default=4.0, help="CPU of `parse` per answer")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    measured = asyncio.run(play(given.trials, given.cpu_ms))
    alone = [one.calls_per_s for one in measured if one.what == "one process"]
    one_ms = statistics.median(one.cpu_s / one.trials for one in measured if one.what == "one process")
    per_worker = measured[1].workers_cpu_s / measured[1].trials / one_ms
    ratio = measured[1].calls_per_s / statistics.median(alone)
    lines = [
        "# A cluster of two workers: the last recorded run",
        "",
        f"{date.today()}, {os.cpu_count()} cores (load {load:.1f} before the run, from other work), Python",
        f"{platform.python_version()}, dask {distributed.__version__}. `parse` computes {given.cpu_ms:g} ms for every answer; the server",
        f"answers after {LATENCY_S:g} s and is a process of its own; at most 200 in flight. The experiment, the scheduler and the server",
        "need CPU of the same cores.",
        "",
        f"**Two workers: {ratio:.2f} × the calls per second of one process (the median of its runs), on these cores.** A call takes",
        f"{per_worker:.2f} × the CPU of one process at a worker, so that two workers with a core each and one for the experiment would",
        f"make {2 / per_worker:.2f} × as many; that was not measured here.",
        "",
        "| | answered | took s | calls/s | CPU ms per call here | at the workers | tokens in `attempts` | counted by the server "
        "| answered but never heard | told as lost |",
        "|---|---|---|---|---|---|---|---|---|---|",
        *(one.row() for one in measured),
        "",
        f"Every answer has {TOKENS} tokens. *Answered but never heard*: answers of the server that were in flight to the killed worker;",
        "their trials were asked again. *Told as lost*: rows of `attempts` with the error `CancelledError` and unknown tokens, which may",
        "have been billed: what the worker had in flight when it last reported, and what it may have sent since. For each row: tokens in `attempts` + "
        f"{TOKENS} ×",
        "(answered but never heard) = tokens counted by the server.",
    ]
    for one in measured:
        assert one.tokens + TOKENS * one.again == one.server_tokens, one
    print("\n".join(lines))
    if given.record:
        (HERE / "CLUSTER.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
