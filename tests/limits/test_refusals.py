"""Weather is no limit: the pace follows the share of refused requests, not single refusals (all in simulated time)."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.limits.refusals import FLOOR, Refusals
from tests.benchmarks.refusals import AtRandom, Bucket, Outage, Window, play, schedule

PERIOD_S = 60.0


def alone_s(limit, units=750):
    return (units - 1) * 60 / limit


# Weather


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("limit", [60, 300, 1200])
def test_two_percent_refused_at_random_do_not_slow_a_run(limit, seed):
    run = play(schedule(limit), AtRandom(0.02, random.Random(seed)), 750)
    assert run.took_s <= 1.3 * alone_s(limit)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("limit", [60, 300, 1200])
def test_where_each_asks_for_a_wait_they_cost_these_waits_and_little_more(limit, seed):
    run = play(schedule(limit), AtRandom(0.02, random.Random(seed), 1.0), 750)
    assert run.took_s <= 1.15 * (alone_s(limit) + run.asked_s)


@pytest.mark.parametrize("since", [0.0, 2.0, 20.0, 70.0])
@pytest.mark.parametrize("limit", [60, 300])
@pytest.mark.parametrize("hint_s", [None, 1.0])
def test_five_seconds_of_refusals_cost_little_more_than_five_seconds(limit, since, hint_s):
    run = play(schedule(limit), Outage(since, since + 5, hint_s), 750)
    assert run.took_s <= 1.2 * (alone_s(limit) + 5)


def test_a_long_outage_is_knocked_at_rarely_and_then_over():
    run = play(schedule(300), Outage(30.0, 630.0), 750)
    assert run.refused <= 80
    assert run.took_s <= 600 + alone_s(300) + 60


# A limit that is too high


@pytest.mark.parametrize("hint", ["", "exact", "one"], ids=["no hint", "exact", "always 1 s"])
@pytest.mark.parametrize("kind", [Window, Bucket])
@pytest.mark.parametrize("limit", [120, 600])
def test_at_twice_the_providers_limit_few_are_refused_and_little_time_is_lost(kind, limit, hint):
    units = max(750, 3 * limit)
    run = play(schedule(limit), kind([(0, limit / 2)], hint), units)
    assert run.refused <= 0.05 * units
    assert run.took_s <= 1.15 * units * 60 / (limit / 2)


def test_a_server_that_counts_the_refused_as_well():
    run = play(schedule(120), Window([(0, 60)], counts_refused=True), 750)
    assert run.refused <= 0.05 * 750
    assert run.took_s <= 1.2 * 750


@pytest.mark.parametrize("kind", [Window, Bucket])
@pytest.mark.parametrize("limit", [120, 600, 2400])
def test_a_limit_that_is_halved_is_followed_within_two_periods(kind, limit):
    run = play(schedule(limit), kind([(0, limit), (200, limit / 2)]), 10**6, until=400)
    assert run.taken(320, 380) >= 0.9 * limit / 2
    assert run.refused_share(320, 380) <= 0.05


@pytest.mark.parametrize("kind", [Window, Bucket])
@pytest.mark.parametrize("limit", [120, 600, 2400])
@pytest.mark.parametrize("after", [200, 230, 260])
def test_a_limit_that_is_doubled_is_found_within_two_periods(kind, limit, after):
    run = play(schedule(limit), kind([(0, limit / 2), (after, limit)]), 10**6, until=after + 200)
    assert run.taken(after + 120, after + 180) >= 0.95 * limit
    assert run.refused_share(after, after + 180) <= 0.02


# The numbers


def lose(refusals, now, count=10, apart_s=0.5):
    """Refusals with successes between them."""
    for _ in range(count):
        refusals.answered(now, PERIOD_S, 60)
        refusals.refused(now, 0.1, now, PERIOD_S, 60)
        now += apart_s
    return now


def test_the_factor_is_held_for_a_period_and_doubles_in_less_than_half_of_one():
    refusals = Refusals()
    lose(refusals, 0.0)
    level, cut_at = refusals.level, refusals.grows_at - PERIOD_S
    assert level < 0.6
    assert refusals.factor(cut_at + PERIOD_S, PERIOD_S) == pytest.approx(level)
    assert refusals.factor(cut_at + 1.4 * PERIOD_S, PERIOD_S) >= 2 * level
    assert refusals.factor(cut_at + 2 * PERIOD_S, PERIOD_S) == 1


def test_the_factor_has_a_floor():
    refusals, now = Refusals(), 0.0
    for _ in range(50):
        now = lose(refusals, now)
    assert refusals.factor(now, PERIOD_S) >= FLOOR
    assert refusals.factor(refusals.grows_at + 2 * PERIOD_S, PERIOD_S) == 1


def test_without_a_limit_there_is_no_rate_to_cut():
    refusals, now = Refusals(), 0.0
    for _ in range(50):
        assert refusals.refused(now, None, now + 0.1, PERIOD_S, math.inf) > 0
        now = refusals.resumes_at
    assert refusals.factor(now, PERIOD_S) == 1


def test_pauses_without_a_hint_grow_up_to_a_sixth_of_the_period_until_one_gets_through():
    refusals, now, pauses = Refusals(), 0.0, []
    for _ in range(9):
        pauses.append(refusals.refused(now, None, now, PERIOD_S, 60))
        now += pauses[-1]
    assert pauses == pytest.approx([min(10.0, 1.5**n) for n in range(9)])
    refusals.answered(now, PERIOD_S, 60)
    assert refusals.refused(now, None, now, PERIOD_S, 60) == pytest.approx(1.0)


def test_the_providers_hint_wins_until_it_has_not_helped_twice():
    refusals, now, pauses = Refusals(), 0.0, []
    for _ in range(5):
        pauses.append(refusals.refused(now, 0.2, now, PERIOD_S, 60))
        now += pauses[-1]
    assert pauses == pytest.approx([0.2, 0.2, 2.25, 3.375, 5.0625])


def test_the_refusals_of_one_moment_count_as_one_pause():
    refusals = Refusals()
    assert [refusals.refused(0.0, None, 0.3, PERIOD_S, 60) for _ in range(5)] == [1.0, 0, 0, 0, 0]
    assert refusals.in_a_row == 1


@given(
    steps=st.lists(st.tuples(st.booleans(), st.floats(0, 30), st.floats(0, 20), st.sampled_from([None, 0.5, 40.0]))),
    per_period=st.sampled_from([0.5, 1, 60, 6000, math.inf]),
)
@settings(max_examples=80, deadline=None, database=None)
def test_whatever_happens_the_factor_is_a_share_and_comes_back_to_one(steps, per_period):
    refusals, now = Refusals(), 0.0
    for taken, rest_s, ago_s, hint_s in steps:
        now += rest_s
        if taken:
            refusals.answered(now - ago_s, PERIOD_S, per_period)
        else:
            assert 0 <= refusals.refused(now - ago_s, hint_s, now, PERIOD_S, per_period) <= 40
        assert FLOOR <= refusals.factor(now, PERIOD_S) <= 1
    assert refusals.factor(now + 3 * PERIOD_S, PERIOD_S) == 1
