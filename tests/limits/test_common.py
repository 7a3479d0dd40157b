"""What processes that share a key decide together, as bytes; every test here gives it the time."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.limits.common import GRACE_S, MEMBER_S, Limits, Report, Request
from llmlab.limits.schedule import Place
from llmlab.limits.state import step
from tests.helpers import most_in_window

A, B = b"a" * 8, b"b" * 8


def limits(requests=60, *, tokens=None, period_s=60.0, burst=1, margin_s=1.0):
    return Limits(requests, tokens, period_s, burst, margin_s)


class Store:
    """The bytes, and a clock that is set by hand."""

    def __init__(self) -> None:
        self.state, self.now = b"", 100.0

    def step(self, member, weights=(), reports=(), asks=True, **changed):
        self.state, outcome = step(self.state, Request(member, limits(**changed), reports, weights, asks), self.now)
        return outcome


def test_two_processes_are_granted_one_request_per_interval():
    store = Store()
    granted = []
    for _ in range(100):
        for member in (A, B):
            granted += [place.sent_at for place in store.step(member, [0.0]).granted]
        store.now += 0.1
    assert [after - before for before, after in itertools.pairwise(granted)] == pytest.approx(
        [1.0] * (len(granted) - 1)
    )
    assert len(granted) == 10


def test_a_place_is_granted_a_moment_ahead_so_that_nobody_is_late():
    store = Store()
    store.step(A, [0.0])
    store.now += 0.98
    [place] = store.step(A, [0.0]).granted
    assert place.sent_at == pytest.approx(101.0)


def test_also_a_place_that_is_not_free_yet_but_will_be():
    store = Store()
    for _ in range(2):
        store.step(A, [0.0], requests=2, burst=2)
    store.now += 60.9
    refused = store.step(A, [0.0], requests=2, burst=2)
    assert refused.granted == []
    store.now = refused.look_again_at
    [place] = store.step(A, [0.0], requests=2, burst=2).granted
    assert place.sent_at == pytest.approx(161.0, abs=0.16)
    assert place.sent_at >= 161.0


def test_who_was_served_last_leaves_the_turn_to_the_other_who_waits():
    store = Store()
    store.step(A, [0.0])
    assert not store.step(A, [0.0]).granted
    assert not store.step(B, [0.0]).granted
    store.now += 1.0
    assert not store.step(A, [0.0]).granted
    assert store.step(B, [0.0]).granted


def test_but_not_for_long_if_the_other_has_gone():
    store = Store()
    store.step(A, [0.0])
    assert not store.step(B, [0.0]).granted
    store.now += 1.0
    again = store.step(A, [0.0])
    assert not again.granted
    assert again.look_again_at <= store.now + 2 * GRACE_S
    store.now += 0.2
    assert store.step(A, [0.0]).granted
    store.now += MEMBER_S + 1
    assert store.step(A).processes == 1


def test_who_only_reports_keeps_the_turn_for_which_it_waits():
    store = Store()
    store.step(A, [0.0])
    assert not store.step(B, [0.0]).granted
    store.now += 1.0
    store.step(B, asks=False)
    assert not store.step(A, [0.0]).granted
    assert store.step(B, [0.0]).granted


def test_each_obeys_its_own_limit_on_the_common_count():
    store = Store()
    sent = {A: [], B: []}
    for _ in range(2000):
        for member, requests in ((A, 60), (B, 20)):
            outcome = store.step(member, [0.0], requests=requests)
            sent[member] += [place.sent_at for place in outcome.granted]
        store.now += 0.1
    assert most_in_window(sorted(sent[A] + sent[B])) <= 60
    for at in sent[B]:
        assert sum(at - 60 < other <= at for other in sent[A] + sent[B]) <= 20
    assert len(sent[A]) > len(sent[B]) > 0


def test_what_one_settles_and_returns_counts_for_the_other():
    store = Store()
    [place] = store.step(A, [500.0], tokens=600).granted
    assert store.step(B, [500.0], tokens=600).granted == []
    store.now += 1.0
    store.step(A, reports=[Report("answered", 0.5, place, 50.0)], tokens=600)
    store.now += 4.5
    [other] = store.step(B, [500.0], tokens=600).granted
    assert store.step(A, tokens=600).in_window == 2
    store.step(B, reports=[Report("given back", 0.0, other)], tokens=600)
    assert store.step(A, tokens=600).in_window == 1
    store.now = 161.0
    assert store.step(A, tokens=600).in_window == 0


def test_a_refusal_pauses_all_and_many_slow_all_down():
    store = Store()
    [place] = store.step(A, [0.0]).granted
    paused = store.step(A, reports=[Report("refused", 0.0, place, 20.0)])
    assert paused.paused_until == pytest.approx(120.0)
    assert store.step(B, [0.0]).look_again_at == pytest.approx(120.0)
    for turn in range(20):
        store.now = max(store.now + 9.0, store.step(B).paused_until)
        [place] = store.step(A, [0.0]).granted
        store.step(A, reports=[Report("answered" if turn % 2 else "refused", 0.0, place)])
    assert store.step(B).factor < 0.8
    assert store.step(B, reports=[Report("anew", 0.0, place)]).factor == 1


def test_a_later_departure_leaves_the_window_later():
    store = Store()
    [place] = store.step(A, [0.0], requests=1).granted
    store.now += 10.0
    store.step(A, reports=[Report("sent", 0.0, place)], requests=1)
    store.now = 161.5
    assert store.step(B, [0.0], requests=1).granted == []
    store.now = 171.5
    assert store.step(B, [0.0], requests=1).granted


def test_what_was_sent_while_the_store_was_away_is_counted():
    store = Store()
    own = Place(0.0, 0.0, 30.0, 1)
    outcome = store.step(A, reports=[Report("adopted", 2.0, own, 59.0)] * 3, tokens=600)
    assert outcome.in_window == 3
    assert [place.sent_at for place in outcome.reported] == [98.0] * 3
    store.now += 59.5
    assert store.step(B).in_window == 0


@given(
    seed=st.integers(0, 10**6),
    requests=st.sampled_from([5, 60, 300]),
    members=st.integers(2, 4),
    lag_s=st.sampled_from([0.002, 0.02, 0.2]),
)
@settings(max_examples=15, deadline=None, database=None)
def test_a_strict_server_never_sees_too_much_and_none_gets_less_than_half_its_share(seed, requests, members, lag_s):
    """Members look when they are told to, a little late; requests arrive up to a second after they were sent."""
    luck, store, turn = random.Random(seed), Store(), itertools.count()
    events = [(100.0 + luck.random(), next(turn), n) for n in range(members)]
    arrivals, sent, answered, look_at = [], Counter(), [], Counter()
    heapq.heapify(events)
    while True:
        store.now, _, n = heapq.heappop(events)
        if store.now > 100.0 + 5 * 60:
            break
        due = [one for one in answered if one[0] <= store.now]
        answered = [one for one in answered if one[0] > store.now]
        reports = [Report("answered", store.now - at, place, None) for at, place in due]
        asks = store.now >= look_at[n]
        outcome = store.step(bytes([n]) * 8, [0.0] * 3 * asks, reports, asks, requests=requests)
        for place in outcome.granted:
            arrival = place.sent_at + luck.random()
            arrivals.append(arrival)
            sent[n] += 1
            answered.append((arrival + luck.random(), place))
        if asks:
            look_at[n] = max(outcome.look_again_at, store.now) if outcome.look_again_at < math.inf else store.now
        heapq.heappush(events, (min(look_at[n] + luck.random() * lag_s, store.now + 3.0), next(turn), n))
    assert most_in_window(sorted(arrivals)) <= requests
    assert len(arrivals) >= 0.9 * 5 * requests / (1 + 1.0 / 60)
    assert min(sent[n] for n in range(members)) >= 0.5 * len(arrivals) / members
