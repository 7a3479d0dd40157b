"""One process's part in a shared key: turns while the store answers, its own schedule at 1/n while it does not."""

from __future__ import annotations

import itertools
import logging

import pytest

from llmlab.limits.membership import REJOIN_S
from llmlab.limits.schedule import Schedule
from llmlab.limits.share import PATIENCE_S, RETRY_S, Share
from llmlab.limits.state import step


class Store:
    """The state of one key, and a clock of its own."""

    def __init__(self) -> None:
        self.state, self.ahead_s = b"", 5000.0


class Process:
    """A share that is driven by hand, as the limiter and the worker do."""

    def __init__(self, store: Store, limit: float | None = 60, clock_s: float = 0.0) -> None:
        self.store, self.clock_s = store, clock_s
        self.schedule = Schedule(limit, period_s=60.0, tokens=None, burst=1, margin_s=1.0)
        self.waiting: list[float] = []
        self.woken: list[float] = []
        self.said: list[tuple[int, str]] = []
        self.share = Share(
            "name",
            self.schedule,
            clock_s,
            weights=lambda count: self.waiting[:count],
            wake=self.woken.append,
            log=lambda level, message: self.said.append((level, message)),
        )

    def talk(self, at: float) -> float:
        """A step at this time; returns when the next is due."""
        now = at + self.clock_s
        request = self.share.request(now)
        self.store.state, outcome = step(self.store.state, request, at + self.store.ahead_s)
        return at + self.share.outcome(request, outcome, now)

    def send(self, at: float) -> float:
        """Wait for leave to send from `at` on, looking when told to; returns when it was sent."""
        self.waiting = [0.0]
        for _ in range(200):
            now = at + self.clock_s
            ready = self.share.ready_at(0.0, now)
            if ready <= now:
                self.share.booked(self.schedule.book(0.0, ready, now), now)
                self.waiting = []
                return at
            if self.woken:
                at = max(at, at + min(self.woken))
                self.woken.clear()
                self.talk(at)
            else:
                at = ready - self.clock_s
        raise AssertionError("never ready")


@pytest.fixture
def store():
    return Store()


def test_two_processes_take_turns_although_their_clocks_differ(store):
    one, two = Process(store), Process(store, clock_s=-300.0)
    sent = [(one if n % 2 else two).send(n * 0.001) for n in range(6)]
    for n in range(6, 12):
        sent.append((one if n % 2 else two).send(sent[-1]))
    sent.sort()
    assert all(later - earlier >= 0.999 for earlier, later in itertools.pairwise(sent))
    assert sent[-1] <= 13
    assert one.share.processes == two.share.processes == 2
    assert one.share.in_window(12.0) >= 11


def test_an_unlimited_process_waits_for_nobody_but_is_counted(store):
    one, two = Process(store, limit=None), Process(store)
    assert [one.send(0.0) for _ in range(5)] == [0.0] * 5
    one.talk(0.1)
    two.talk(0.2)
    assert two.share.in_window(0.2) == 5
    assert two.send(0.2) > 0.9


def test_a_pause_holds_for_all_and_returns_leave_that_is_not_used(store):
    one, two = Process(store), Process(store)
    one.send(0.0)
    two.waiting = [0.0]
    two.share.ready_at(0.0, 0.98)
    two.talk(0.98)
    assert two.share.ready_at(0.0, 0.98) == pytest.approx(1.0)
    one.schedule.pause(30.0)
    one.share.paused(29.0, 1.0)
    one.talk(1.0)
    two.talk(1.001)
    assert two.share.ready_at(0.0, 1.001) >= 30.0 or two.schedule.paused_until >= 30.0
    assert two.send(1.01) >= 30.0


def test_a_refusal_of_a_request_from_before_sharing_pauses_the_others_too(store):
    one, two = Process(store), Process(store)
    place = one.schedule.book(0.0, 0.0, 0.0)
    one.schedule.refused(place, 20.0, 1.0)
    one.share.report("refused", place, 1.0, 20.0)
    one.talk(1.0)
    two.talk(1.1)
    assert two.schedule.paused_until == pytest.approx(21.0, abs=0.2)


def test_leave_that_was_not_used_in_time_is_given_back(store):
    one = Process(store)
    one.waiting = [0.0]
    one.share.ready_at(0.0, 0.0)
    one.talk(0.0)
    assert one.share.ready_at(0.0, 0.0) <= 0.0
    assert one.share.ready_at(0.0, 10.0) > 10.0
    one.waiting = []
    one.talk(10.0)
    assert one.share.in_window(10.0) == 0


def test_when_the_store_fails_this_process_goes_on_at_its_part_and_says_so_once(store):
    one, two = Process(store), Process(store)
    one.send(0.0)
    two.talk(0.1)
    one.talk(0.2)
    assert one.share.fail("OSError: gone", 1.0) == RETRY_S
    one.share.fail("OSError: gone", 2.0)
    assert [level for level, _ in one.said] == [logging.WARNING]
    assert "OSError: gone" in one.said[0][1]
    assert "1/2 of its limits" in one.said[0][1]
    sent = [one.send(2.0)]
    for _ in range(2):
        sent.append(one.send(sent[-1]))
    assert sent[2] - sent[1] == pytest.approx(2.0)


def test_it_tells_what_it_sent_meanwhile_and_takes_turns_again_a_little_later(store):
    one = Process(store)
    one.send(0.0)
    one.share.fail("gone", 1.0)
    for at in (1.0, 2.0, 3.0):
        one.send(at)
    one.talk(4.0)
    assert one.said[-1] == (logging.INFO, "Shared limits: the store answers again")
    other = Process(store)
    other.talk(4.1)
    assert other.share.in_window(4.1) == 4
    one.send(5.0)
    one.talk(5.1)
    other.talk(5.2)
    assert other.share.in_window(5.2) == 5
    one.talk(4.0 + REJOIN_S)
    assert one.schedule.share == 1
    assert one.share.in_window(7.0) == 5


def test_after_the_store_lost_its_state_nobody_goes_faster_than_its_part_until_all_have_told(store):
    one, two = Process(store), Process(store)
    for at in (0.0, 1.0, 2.0):
        one.send(at)
        two.send(at)
    one.talk(5.0)
    store.state = b""
    one.talk(6.0)
    assert one.schedule.share == 0.5
    one.talk(6.1)
    two.talk(6.2)
    two.talk(6.3)
    assert two.schedule.share == 0.5
    one.talk(6.0 + REJOIN_S)
    assert (one.schedule.share, one.share.processes, one.share.in_window(8.5)) == (1.0, 2, 6)


def test_a_store_that_does_not_answer_is_not_waited_for(store):
    one = Process(store)
    one.waiting = [0.0]
    request = one.share.request(0.0)
    look = one.share.ready_at(0.0, 0.0)
    assert look == pytest.approx(PATIENCE_S)
    assert one.share.ready_at(0.0, look) <= look
    assert "does not answer" in one.said[0][1]
    # The answer comes after all.
    _, outcome = step(b"", request, 5000.0)
    assert one.share.outcome(request, outcome, look + 1) == RETRY_S


def test_after_a_rest_it_looks_at_once(store):
    one = Process(store)
    one.send(0.0)
    one.share.fail("gone", 1.0)
    one.woken.clear()
    one.share.ready_at(0.0, 500.0)
    assert one.woken == [0.0]
