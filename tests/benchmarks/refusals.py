"""How the pace follows refusals: a closed loop in simulated time, against servers that refuse for various reasons.

`python -m tests.benchmarks.refusals` prints a table; `--record` writes REFUSALS.md beside this file. The times are
simulated, so the figures are the same on every machine, and `tests/limits/test_refusals.py` asserts them.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from llmlab.limits.schedule import Schedule

HERE = Path(__file__).parent
LATENCY_S = 0.3
JITTER_S = 0.1
Limits = list[tuple[float, float]]
"""From when on which limit per minute holds."""


class Server(Protocol):
    """Takes a request or refuses it."""

    def ask(self, now: float) -> tuple[bool, float | None]:
        """(taken, Retry-After in s or `None`)."""
        ...


def _limit(limits: Limits, now: float) -> float:
    return [limit for since, limit in limits if since <= now][-1]


@dataclass
class Window:
    """A sliding window of `period_s`; `hint` is no Retry-After, the exact one, or always one second."""

    limits: Limits
    hint: str = ""
    period_s: float = 60.0
    counts_refused: bool = False
    seen: deque[float] = field(default_factory=deque)

    def ask(self, now: float) -> tuple[bool, float | None]:
        while self.seen and self.seen[0] <= now - self.period_s:
            self.seen.popleft()
        limit = int(_limit(self.limits, now))
        taken = len(self.seen) < limit
        exact = None if taken else self.seen[-limit] + self.period_s - now
        if taken or self.counts_refused:
            self.seen.append(now)
        return taken, None if taken else {"": None, "exact": exact, "one": 1.0}[self.hint]


@dataclass
class Bucket:
    """A token bucket that holds what comes in `depth_s`."""

    limits: Limits
    hint: str = ""
    depth_s: float = 3.0
    level: float = 1.0
    since: float = 0.0

    def ask(self, now: float) -> tuple[bool, float | None]:
        rate = _limit(self.limits, now) / 60.0
        self.level = min(max(1.0, rate * self.depth_s), self.level + (now - self.since) * rate)
        self.since = now
        if self.level >= 1 - 1e-9:
            self.level -= 1
            return True, None
        return False, {"": None, "exact": (1 - self.level) / rate, "one": 1.0}[self.hint]


@dataclass
class AtRandom:
    """Refuses a share at any rate."""

    share: float
    luck: random.Random
    hint_s: float | None = None

    def ask(self, now: float) -> tuple[bool, float | None]:
        return (False, self.hint_s) if self.luck.random() < self.share else (True, None)


@dataclass
class Outage:
    """Refuses everything for a while."""

    since: float
    until: float
    hint_s: float | None = None

    def ask(self, now: float) -> tuple[bool, float | None]:
        return (False, self.hint_s) if self.since <= now < self.until else (True, None)


@dataclass(frozen=True)
class Run:
    """What became of it.

    Attributes
    ----------
    took_s : float
        Until the last answer.
    arrivals : list
        (time, taken) of every request.
    factor : float
        At the end.
    asked_s : float
        How long the server wanted to be left alone, by its Retry-After.
    """

    took_s: float
    arrivals: list[tuple[float, bool]]
    factor: float
    asked_s: float

    @property
    def refused(self) -> int:
        return sum(not taken for _, taken in self.arrivals)

    def taken(self, since: float, until: float) -> int:
        return sum(taken for at, taken in self.arrivals if since <= at < until)

    def refused_share(self, since: float = 0.0, until: float = math.inf) -> float:
        some = [taken for at, taken in self.arrivals if since <= at < until]
        return some.count(False) / max(1, len(some))


def play(schedule: Schedule, server: Server, units: int, *, until: float = math.inf, seed: int = 0) -> Run:
    """Send `units` requests as fast as the schedule allows, refused ones again, until all are answered."""
    luck, order, now, answered, waiting = random.Random(seed), itertools.count(), 0.0, 0, units
    arrivals: list[tuple[float, bool]] = []
    asked_s = asked_until = 0.0
    events: list[tuple[float, int, Callable[[], None]]] = []

    def later(in_s: float, what: Callable[[], None]) -> None:
        heapq.heappush(events, (now + in_s, next(order), what))

    def send() -> None:
        place = schedule.book(0, now, now)

        def arrive() -> None:
            taken, hint_s = server.ask(now)
            arrivals.append((now, taken))
            later(0.7 * LATENCY_S, lambda: come_back(taken, hint_s))

        def come_back(taken: bool, hint_s: float | None) -> None:
            nonlocal answered, waiting, asked_s, asked_until
            if taken:
                schedule.answered(place, None, now)
                answered += 1
            else:
                ends = max(asked_until, now + (hint_s or 0.0))
                asked_s, asked_until = asked_s + ends - max(asked_until, now), ends
                schedule.refused(place, hint_s, now)
                waiting += 1

        later(0.2 * LATENCY_S + JITTER_S * luck.random(), arrive)

    while answered < units and now < until:
        ready = max(now, schedule.ready_at(0, now)) if waiting else math.inf
        if events and events[0][0] <= ready:
            now, _, what = heapq.heappop(events)
            what()
        elif ready > now:
            now = ready
        else:
            waiting -= 1
            send()
    return Run(now, arrivals, schedule.factor(now), asked_s)


def schedule(limit: float) -> Schedule:
    """Requests per minute, paced."""
    return Schedule(limit, period_s=60.0, tokens=None, burst=1, margin_s=1.0)


def _rows() -> list[list[str]]:
    rows = []

    def row(what: str, limit: float, bound_s: float, runs: list[Run], *, asked: bool = False) -> None:
        worst = max(runs, key=lambda run: run.took_s)
        bound_s += worst.asked_s if asked else 0.0
        answered = sum(taken for _, taken in worst.arrivals)
        figures = [f"{worst.took_s:,.0f}", f"{worst.took_s / bound_s:.2f}", f"{100 * worst.refused / answered:.1f} %"]
        rows.append([what, f"{limit:g}", f"{answered:,}", f"{bound_s:,.0f}", *figures])

    for limit in (60, 300, 1200):
        alone_s = 749 * 60 / limit
        for hint_s, words in ((None, ""), (1.0, ", Retry-After: 1")):
            runs = [play(schedule(limit), AtRandom(0.02, random.Random(seed), hint_s), 750) for seed in range(6)]
            row(f"2 % refused at random{words} (worst of 6)", limit, alone_s, runs, asked=True)
            for since in (2.0, 20.0):
                run = play(schedule(limit), Outage(since, since + 5, hint_s), 750)
                row(f"everything refused for 5 s after {since:g} s{words}", limit, alone_s + 5, [run])
    for limit in (120, 600, 2400):
        units = max(750, 6 * limit)
        for name, hint in (("no Retry-After", ""), ("exact Retry-After", "exact"), ("Retry-After: 1", "one")):
            # A window lets its first limit through at the doubled pace, so that half a period is won.
            bound_s = units * 60 / (limit / 2) - 30
            run = play(schedule(limit), Window([(0, limit / 2)], hint), units)
            row(f"sliding window of half the limit, {name}", limit, bound_s, [run])
            run = play(schedule(limit), Bucket([(0, limit / 2)], hint), units)
            row(f"token bucket of half the limit, {name}", limit, bound_s + 30, [run])
    return rows


def _changes() -> list[list[str]]:
    """What is taken, in shares of the provider's limit, in the first, second and third minute after a change."""
    rows = []
    for limit in (120, 600, 2400):
        for what, limits in (("halved", [(0, limit), (200, limit / 2)]), ("doubled", [(0, limit / 2), (200, limit)])):
            for kind in (Window, Bucket):
                run = play(schedule(limit), kind(limits), 10**6, until=400)
                minutes = [
                    f"{run.taken(at, at + 60) / limits[-1][1]:.2f} ({100 * run.refused_share(at, at + 60):.1f} %)"
                    for at in (200, 260, 320)
                ]
                rows.append([f"{kind.__name__.lower()}, {what} after 200 s", f"{limit:g}", *minutes])
    return rows


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """A markdown table."""
    return ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *rows]]


def main() -> None:
    """Print the tables, or write them down."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.refusals", description=__doc__)
    parser.add_argument("--record", action="store_true", help="write REFUSALS.md")
    lines = [
        "# How the pace follows refusals",
        "",
        "Simulated time: the same on every machine. Nothing is sent while the",
    ]
    lines += ["server asks for a wait (Retry-After): where it refuses at random, the bound holds these waits, too.", ""]
    head = ["situation", "requests_per_minute", "answered", "bound s", "took s", "took / bound", "refused"]
    lines += table(head, _rows())
    lines += [
        "",
        "The provider's limit changes, `requests_per_minute` is the higher of the two. Taken, in shares of the",
    ]
    lines += ["provider's new limit (and refused, in percent of those sent), in each minute after the change:", ""]
    lines += table(["provider", "requests_per_minute", "1st minute", "2nd minute", "3rd minute"], _changes())
    print("\n".join(lines))
    if parser.parse_args().record:
        (HERE / "REFUSALS.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
