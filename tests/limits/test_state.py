"""A shared key as bytes: small, the same after a round trip, and nothing if its clock was another one."""

from __future__ import annotations

import pytest

from llmlab.limits.common import Limits, Report, Request
from llmlab.limits.state import dumps, load, step

A, B = b"a" * 8, b"b" * 8


def limits(requests=60, tokens=None, burst=1):
    return Limits(requests, tokens, 60.0, burst, 1.0)


class Store:
    """The bytes, and a clock that is set by hand."""

    def __init__(self) -> None:
        self.state, self.now = b"", 100.0

    def step(self, member, weights=(), reports=(), **changed):
        self.state, outcome = step(self.state, Request(member, limits(**changed), reports, weights), self.now)
        return outcome


def test_a_store_that_lost_its_state_is_another_generation():
    store = Store()
    generation = store.step(A).generation
    assert store.step(B).generation == generation
    store.state = b""
    assert store.step(B).generation != generation


@pytest.mark.parametrize(("back_s", "same"), [(1.0, True), (3600.0, False)])
def test_a_clock_that_goes_back_a_little_stands_and_one_that_goes_back_far_starts_anew(back_s, same):
    store = Store()
    before = store.step(A)
    store.now -= back_s
    after = store.step(B)
    assert (after.generation == before.generation) is same
    assert after.now == (before.now if same else store.now)


def test_bytes_of_another_version_are_no_state():
    assert load(b"\xff" + b"x" * 100, limits(), 0.0).turns == 0


def test_the_state_is_small_and_the_same_after_a_round_trip():
    store = Store()
    places = []
    for n in range(3000):
        outcome = store.step(A if n % 2 else B, [7.0], requests=600, tokens=1e6, burst=600)
        places += outcome.granted
        store.now += 0.05
        if n % 3 == 0 and places:
            store.step(A, reports=[Report("answered", 0.01, places.pop(0), 5.0)], requests=600, tokens=1e6)
    common = load(store.state, limits(600, tokens=1e6), store.now)
    assert common.schedule.window.requests > 400
    assert len(store.state) < 500 + 20 * common.schedule.window.requests
    again = load(dumps(common), limits(600, tokens=1e6), store.now)
    assert dumps(again) == dumps(common)
    assert again.schedule.refusals == common.schedule.refusals
