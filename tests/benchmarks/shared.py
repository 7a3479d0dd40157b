"""Several processes on one key, against a strict server: `python -m tests.benchmarks.shared [--record]`.

The record is SHARED.md beside this file. `tests/scenarios/test_shared_limits.py` plays shorter versions and asserts
that nothing is refused and nothing lost; how long it takes is asserted nowhere.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import llmlab as ll
from llmlab.limits.common import Limits, Report, Request
from llmlab.limits.shared_file import FileStore
from llmlab.limits.shared_redis import RedisStore

HERE = Path(__file__).parent
LIMIT, PERIOD_S = 250, 5.0


class Redis:
    """A server of one's own on a free port, without a disk; it can be stopped and started again."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.where = f"redis://127.0.0.1:{self.port}/0"
        self._folder = tempfile.mkdtemp()
        self.start()

    def start(self) -> None:
        program = shutil.which("redis-server") or shutil.which("valkey-server")
        assert program is not None, "needs redis-server (Debian: apt-get install redis-server)"
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen(
            [program, *options, "--dir", self._folder], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for _ in range(200):
            with socket.socket() as probe:
                if not probe.connect_ex(("127.0.0.1", self.port)):
                    return
            time.sleep(0.02)
        raise AssertionError("redis-server did not start")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


@contextmanager
def redis() -> Iterator[Redis]:
    """A server that is gone afterwards."""
    server = Redis()
    try:
        yield server
    finally:
        server.close()


@dataclass(frozen=True)
class Played:
    """What the server saw, and what the processes that lived to the end said."""

    arrivals: list[float]
    answered: int
    refused: int
    processes: list[dict[str, Any]]

    @property
    def took_s(self) -> float:
        return self.arrivals[-1] - self.arrivals[0]

    @property
    def most_in_window(self) -> int:
        most, first = 0, 0
        for last, at in enumerate(self.arrivals):
            while self.arrivals[first] <= at - PERIOD_S:
                first += 1
            most = max(most, last - first + 1)
        return most

    @property
    def least_share(self) -> float:
        """The least that a process sent while all were at it, as a share of an equal part."""
        since = max(one["sent"][0] for one in self.processes)
        until = min(one["sent"][-1] for one in self.processes)
        sent = [sum(since <= at <= until for at in one["sent"]) for one in self.processes]
        return min(sent) / (sum(sent) / len(sent))

    @property
    def messages(self) -> list[str]:
        """What was said of the store."""
        return [message for one in self.processes for message in one["messages"] if "the store" in message]


Meanwhile = Callable[[list[subprocess.Popen[str]], Any], None]
"""What happens to the processes while they ask the provider."""


def play(
    where: str,
    processes: int,
    units: int,
    *,
    meanwhile: Meanwhile = lambda *_: None,
    clocks_off_s: tuple[float, ...] = (),
    light: bool = False,
) -> Played:
    """Let `processes` ask `units` each, all at the same time; `light` asks without an experiment around it."""
    environment = os.environ | {"PYTHONPATH": str(HERE.parents[1])}
    with ll.simulate.client(latency_s=0.1, arrival_jitter_s=0.05, limit=LIMIT, period_s=PERIOD_S) as provider:
        command = [sys.executable, "-m", "tests.benchmarks.sharer", "--base-url", provider.base_url]
        command += ["--where", where, "--units", str(units), "--limit", str(LIMIT), "--period-s", str(PERIOD_S)]
        command += ["--light"] * light
        players = [
            subprocess.Popen(
                [*command, "--clock-off-s", str(clocks_off_s[n] if clocks_off_s else 0.0)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
            )
            for n in range(processes)
        ]  # fmt: skip
        try:
            for one in players:
                assert one.stdout is not None
                assert one.stdout.readline() == "ready\n"
            for one in players:
                assert one.stdin is not None
                one.stdin.write("go\n")
                one.stdin.flush()
            meanwhile(players, provider)
            said = [one.communicate()[0] for one in players]
        finally:
            for one in players:
                one.kill()
                one.wait()
        arrivals = sorted(arrival.at_s for arrival in provider.arrivals())
        counts = provider.counts()
    return Played(arrivals, counts.ok, counts.refused, [json.loads(text) for text in said if text.strip()])


def after(requests: int, provider: Any) -> None:
    """Wait until the provider has seen so many."""
    while provider.counts().requests < requests:
        time.sleep(0.02)


def kill_one(requests: int) -> Meanwhile:
    """`kill -9` of the first, after so many requests of all."""

    def meanwhile(players: list[subprocess.Popen[str]], provider: Any) -> None:
        after(requests, provider)
        players[0].kill()

    return meanwhile


def stop_one(requests: int, for_s: float) -> Meanwhile:
    """SIGSTOP of the first, and SIGCONT later."""

    def meanwhile(players: list[subprocess.Popen[str]], provider: Any) -> None:
        after(requests, provider)
        players[0].send_signal(signal.SIGSTOP)
        time.sleep(for_s)
        players[0].send_signal(signal.SIGCONT)

    return meanwhile


def without_redis(server: Redis, requests: int, for_s: float) -> Meanwhile:
    """The server stopped, and started again with nothing in it."""

    def meanwhile(_: list[subprocess.Popen[str]], provider: Any) -> None:
        after(requests, provider)
        server.stop()
        time.sleep(for_s)
        server.start()

    return meanwhile


def cost_ms(store: FileStore | RedisStore, steps: int = 2000) -> tuple[float, float]:
    """(CPU of this process, elapsed) per step in ms, each with one answer and one grant, in a full window of 250."""
    limits = Limits(1e6, None, PERIOD_S, 1, 1.0)
    places = store.step("cost", Request(b"12345678", limits, weights=[0.0] * LIMIT)).granted
    cpu, wall = time.process_time(), time.perf_counter()
    for _ in range(steps):
        reports = [Report("answered", 0.01, places.pop(0), 40.0)]
        places += store.step("cost", Request(b"12345678", limits, reports, [0.0])).granted
    return 1000 * (time.process_time() - cpu) / steps, 1000 * (time.perf_counter() - wall) / steps


def _rows(folder: Path, server: Redis) -> Iterator[list[str]]:
    def row(what: str, played: Played) -> list[str]:
        bound_s = (played.answered + played.refused - 1) * PERIOD_S / LIMIT
        share = f"{played.least_share:.2f}" if len(played.processes) > 1 else ""
        figures = [f"{played.answered:,}", str(played.refused), str(played.most_in_window), f"{played.took_s:.1f}"]
        return [what, *figures, f"{played.took_s / bound_s:.3f}", share]

    file = str(folder / "limits.sqlite")
    for kind, where in (("file", file), ("Redis", server.where)):
        for processes in (2, 4):
            yield row(f"{processes} processes, {kind}", play(where, processes, 1500 // processes))
    yield row("2 processes, file, `kill -9` of one after 300 requests", play(file, 2, 750, meanwhile=kill_one(300)))
    yield row("2 processes, file, SIGSTOP of one for 10 s", play(file, 2, 750, meanwhile=stop_one(300, 10)))
    yield row("2 processes, Redis, clocks 5 s apart", play(server.where, 2, 750, clocks_off_s=(0.0, 5.0)))
    played = play(server.where, 2, 1000, meanwhile=without_redis(server, 300, 20))
    yield row("2 processes, Redis stopped for 20 s and started empty", played)
    yield row("2 processes that do not share, for comparison", play("", 2, 750))


def main() -> None:
    """Play everything, and print or write down what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.shared", description=__doc__)
    parser.add_argument("--record", action="store_true", help="write SHARED.md")
    given = parser.parse_args()
    lines = [
        "# Shared limits: the last recorded run",
        "",
        f"{date.today()}, {os.cpu_count()} cores, Python {platform.python_version()}. Each process asks through",
        "`run_experiment`; the simulated provider lets 250 requests through in any 5 s, answers after 0.1 s, and sees",
        "requests up to 0.05 s late. Bound: one request (refused ones too) every 20 ms. Least share: the least that a process sent while",
        "all were at it, as a share of an equal part. The machine was shared with other work.",
        "",
        "| situation | answered | refused | most in 5 s | took s | took / bound | least share |",
        "|---|---|---|---|---|---|---|",
    ]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory() as folder, redis() as server:
        for cells in _rows(Path(folder), server):
            lines.append("| " + " | ".join(cells) + " |")
            print(lines[-1], flush=True)
        lines += ["", "| one step, 250 in the window | CPU ms | elapsed ms |", "|---|---|---|"]
        for name, store in (
            ("file", FileStore(Path(folder) / "cost.sqlite")),
            ("Redis on loopback", RedisStore(server.where)),
        ):
            figures = [cost_ms(store) for _ in range(3)]
            cells = [f"{statistics.median(column):.3f}" for column in zip(*figures, strict=True)]
            lines.append("| " + " | ".join([name, *cells]) + " |")
            store.close()
        print("\n".join(lines[-4:]), flush=True)
    if given.record:
        (HERE / "SHARED.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
