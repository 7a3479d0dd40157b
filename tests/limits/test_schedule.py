"""The schedule is plain numbers: every test here gives it the time."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.errors import InputError
from llmlab.limits.schedule import LATE_S, Place, Schedule, positive

PERIOD_S = 60.0


def schedule(limit=60, *, tokens=None, burst=1, margin_s=1.0, period_s=PERIOD_S):
    return Schedule(limit, period_s=period_s, tokens=tokens, burst=burst, margin_s=margin_s)


def wait(plan: Schedule, now: float, tokens: float = 0) -> float:
    """Look again until one may leave, as the limiter's timer does; returns when that is."""
    for _ in range(1000):
        ready = plan.ready_at(tokens, now)
        if ready <= now:
            return now
        now = ready
    raise AssertionError("never ready")


def take(plan: Schedule, now: float, tokens: float = 0) -> Place:
    """Wait and book."""
    due = max(plan.ready_at(tokens, now), now)
    then = wait(plan, now, tokens)
    return plan.book(tokens, due, then)


def times(plan: Schedule, count: int, now: float = 0.0, latency_s: float = 0.3, tokens: float = 0) -> list[float]:
    """When `count` requests leave that all ask at `now` and are each answered after `latency_s`."""
    left: list[float] = []
    places: list[Place] = []
    for _ in range(count):
        place = take(plan, now, tokens)
        now = place.sent_at
        places.append(place)
        left.append(now)
        while places and places[0].sent_at + latency_s <= now:
            first = places.pop(0)
            plan.answered(first, None, first.sent_at + latency_s)
        # The answers that come before the next may leave shorten its wait.
        for place in places:
            if place.sent_at + latency_s <= plan.ready_at(tokens, now):
                plan.answered(place, None, place.sent_at + latency_s)
    return left


def most_in_window(stamps: list[float], period_s: float = PERIOD_S) -> int:
    stamps = sorted(stamps)
    start, most = 0, 0
    for end, stamp in enumerate(stamps):
        while stamps[start] <= stamp - period_s + 1e-6:
            start += 1
        most = max(most, end - start + 1)
    return most


# Limits


@pytest.mark.parametrize("value", [0, -1, -0.5, math.nan, -math.inf, True, False, "60", "auto", [1], 1j])
def test_a_limit_that_is_no_positive_number_is_refused_with_its_value(value):
    with pytest.raises(InputError, match="limit must be a positive number") as caught:
        positive("limit", value)
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize("value", [0.5, 60, 1e9, np.int64(60), np.float64(0.5), Fraction(1, 2)])
def test_any_kind_of_positive_number_is_a_limit(value):
    assert positive("limit", value) == value
    assert f"{positive('limit', value):g}"


def test_none_and_infinity_mean_unlimited():
    assert positive("limit", None) is None
    assert positive("limit", math.inf) is None
    plan = schedule(None)
    assert {take(plan, 0.0).sent_at for _ in range(1000)} == {0.0}
    assert plan.in_window(0.0) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"period_s": 0}, {"period_s": -1}, {"period_s": math.nan}, {"period_s": math.inf}, {"period_s": None},
        {"burst": 0}, {"burst": math.nan}, {"margin_s": -0.1}, {"margin_s": math.nan}, {"tokens": 0}, {"tokens": True},
    ],
)  # fmt: skip
def test_a_nonsensical_setting_is_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        schedule(60, **wrong)


# Window


def test_a_place_leaves_the_window_one_period_after_its_answer():
    plan = schedule(1, burst=1)
    place = take(plan, 0.0)
    plan.answered(place, None, 0.4)
    assert wait(plan, 0.4) == pytest.approx(60.4)


def test_without_an_answer_a_place_leaves_after_the_margin():
    plan = schedule(1, margin_s=1.0)
    place = take(plan, 0.0)
    plan.answered(place, None, 30.0)
    assert wait(plan, 30.0) == pytest.approx(61.0)


def test_an_entry_exactly_one_window_old_has_left():
    plan = schedule(1, margin_s=0.0)
    take(plan, 0.0)
    assert plan.ready_at(0, math.nextafter(60.0, 0)) > math.nextafter(60.0, 0)
    assert plan.ready_at(0, 60.0) <= 60.0
    assert plan.in_window(60.0) == 0


def test_equal_timestamps_are_counted_apart():
    plan = schedule(3, burst=3)
    assert [take(plan, 5.0).sent_at for _ in range(3)] == [5.0] * 3
    assert plan.in_window(5.0) == 3
    assert plan.ready_at(0, 5.0) > 5.0


def test_one_then_59_then_240_around_the_windows_edge():
    """The naive fixed window lets 119 through here."""
    plan = schedule(60, burst=60, margin_s=0.0)
    stamps = [take(plan, 0.0).sent_at]
    stamps += [take(plan, 59.9).sent_at for _ in range(59)]
    now = 59.9
    for _ in range(240):
        place = take(plan, now)
        now = place.sent_at
        stamps.append(now)
    assert most_in_window(stamps) == 60
    assert stamps[60] == pytest.approx(60.0)
    assert stamps[61] == pytest.approx(119.9)


@pytest.mark.parametrize("limit", [0.1, 0.5])
def test_less_than_one_per_period_means_one_in_several_periods(limit):
    plan = schedule(limit)
    assert times(plan, 4) == pytest.approx([n * PERIOD_S / limit for n in range(4)])


@pytest.mark.parametrize("limit", [0.5, 1.5, 2.5])
def test_a_fractional_limit_is_never_exceeded_even_with_burst(limit):
    stamps = times(schedule(limit, burst=10), 12)
    assert most_in_window(stamps) <= max(1, math.floor(limit))


@given(
    limit=st.floats(0.3, 50),
    burst=st.floats(0.5, 60),
    gaps=st.lists(st.floats(0, 30), min_size=1, max_size=60),
    late=st.lists(st.floats(0, 0.3), min_size=1, max_size=10),
)
@settings(max_examples=60, deadline=None, database=None)
def test_no_window_ever_holds_more_than_the_limit(limit, burst, gaps, late):
    plan = schedule(limit, burst=burst)
    now, arrivals = 0.0, []
    for turn, gap in enumerate(gaps):
        ready = wait(plan, now)
        now = ready + late[turn % len(late)] * (ready > now)
        place = plan.book(0, ready, now)
        arrivals.append(now + min(1.0, gap))
        if turn % 3:
            plan.answered(place, None, arrivals[-1])
        now += gap * (turn % 2)
    assert most_in_window(arrivals) <= max(1, math.floor(limit))


# Pace


def test_a_burst_of_one_paces_evenly():
    stamps = times(schedule(60), 60)
    assert stamps == pytest.approx([float(n) for n in range(60)])


def test_a_burst_of_the_whole_limit_is_the_plain_sliding_window():
    stamps = times(schedule(60, burst=60), 180, latency_s=0.0)
    assert stamps[:60] == [0.0] * 60
    assert most_in_window(stamps) == 60
    assert stamps[-1] <= 2 * 61 + 1e-6


def test_a_late_timer_does_not_slow_the_pace():
    """Each wake-up 0.2 s late, as on a busy machine: the grants keep to the grid."""
    plan, now = schedule(60), 0.0
    plan.book(0, 0.0, 0.0)
    for _ in range(40):
        due = wait(plan, now)
        now = due + 0.2
        plan.book(0, due, now)
    assert now == pytest.approx(40.2)


def test_the_credit_for_a_late_timer_is_bounded():
    """An hour's sleep is no reason to send an hour's requests."""
    plan = schedule(60)
    plan.book(0, 0.0, 0.0)
    plan.book(0, 1.0, 3600.0)
    assert plan.ready_at(0, 3600.0) == pytest.approx(3601.0 - LATE_S)


def test_raising_the_limit_shortens_the_wait_for_what_was_booked_before():
    plan = schedule(1)
    take(plan, 0.0)
    plan.change(plan.requests, 60, 1.0)
    assert wait(plan, 1.0) == pytest.approx(1.0 + 59.0 / 60)


def test_lowering_the_limit_holds_until_the_window_has_room_for_it():
    plan = schedule(60, burst=60)
    for _ in range(30):
        take(plan, 0.0)
    plan.change(plan.requests, 10, 1.0)
    assert wait(plan, 1.0) == pytest.approx(61.0)


@pytest.mark.parametrize("burst", [1, math.inf])
@pytest.mark.parametrize("limit", [2, 10, 60, 1000])
@pytest.mark.parametrize("detour", [[], [None], [5, 600]])
def test_changing_the_limit_during_a_pause_neither_moves_its_end_nor_allows_a_burst(burst, limit, detour):
    plan = schedule(60, burst=burst)
    plan.pause(10.0)
    for value in [*detour, limit]:
        plan.change(plan.requests, value, 5.0)
    assert times(plan, 3, now=5.0)[:2] == pytest.approx([10.0, 10.0 + PERIOD_S / limit])


def test_switching_to_unlimited_ends_the_pace_but_not_the_pause():
    plan = schedule(1)
    take(plan, 0.0)
    plan.change(plan.requests, None, 1.0)
    assert plan.ready_at(0, 1.0) <= 1.0
    plan.pause(10.0)
    plan.change(plan.requests, None, 2.0)
    assert wait(plan, 2.0) == 10.0


# Tokens


def test_requests_and_tokens_are_booked_together_or_not_at_all():
    plan = schedule(60, tokens=100)
    take(plan, 0.0, 100)
    before = (plan.window.requests, plan.requests.tat, plan.window.tokens, plan.tokens.tat)
    assert plan.ready_at(50, 1.0) > 1.0
    assert (plan.window.requests, plan.requests.tat, plan.window.tokens, plan.tokens.tat) == before


def test_tokens_are_paced_by_their_weight():
    stamps = times(schedule(None, tokens=600), 10, tokens=100)
    assert stamps[:6] == pytest.approx([0, 10, 20, 30, 40, 50])
    assert stamps[6] == pytest.approx(60.3)


def test_a_smaller_real_usage_lets_the_next_go_earlier():
    plan = schedule(None, tokens=600)
    place = take(plan, 0.0, 600)
    assert plan.ready_at(540, 1.0) == pytest.approx(61.0)
    assert plan.answered(place, 60, 1.0)
    assert wait(plan, 1.0, 540) == pytest.approx(6.0)


def test_a_larger_real_usage_makes_the_next_go_later():
    plan = schedule(None, tokens=600)
    place = take(plan, 0.0, 100)
    plan.answered(place, 400, 1.0)
    assert plan.window.tokens == 400
    assert wait(plan, 1.0, 100) == pytest.approx(40.0)


def test_settling_twice_counts_the_last():
    plan = schedule(None, tokens=600)
    place = take(plan, 0.0, 100)
    for used in (50, 300, 80):
        plan.answered(place, used, 1.0)
    assert plan.window.tokens == 80
    assert wait(plan, 1.0, 100) == pytest.approx(8.0)
    plan.ready_at(0, 100.0)
    assert plan.window.tokens == 0


def test_settling_after_the_place_has_left_makes_the_surplus_a_debt():
    plan = schedule(None, tokens=600)
    place = take(plan, 0.0, 100)
    assert plan.in_window(100.0) == 0
    plan.answered(place, 600, 100.0)
    assert plan.window.tokens == 500
    assert wait(plan, 100.0, 200) == pytest.approx(160.0)
    assert plan.window.tokens == 0


def test_settling_less_after_the_place_has_left_gives_no_credit():
    plan = schedule(None, tokens=600)
    place = take(plan, 0.0, 600)
    plan.in_window(100.0)
    plan.answered(place, 10, 100.0)
    assert plan.window.tokens == 0
    take(plan, 100.0, 300)
    assert wait(plan, 100.0, 300) == pytest.approx(130.0)


def test_a_reservation_that_is_never_settled_leaves_with_its_place():
    plan = schedule(None, tokens=600)
    take(plan, 0.0, 600)
    assert wait(plan, 0.0, 600) == pytest.approx(61.0)


@pytest.mark.parametrize("nonsense", [math.nan, math.inf, -5])
def test_nonsensical_usage_leaves_the_reservation(nonsense):
    plan = schedule(None, tokens=600)
    place = take(plan, 0.0, 600)
    plan.answered(place, nonsense, 1.0)
    assert plan.window.tokens == 600
    assert wait(plan, 1.0, 600) == pytest.approx(61.0)


def test_a_weight_of_the_whole_limit_goes_through_once_the_window_is_empty():
    plan = schedule(None, tokens=600)
    for now in (0.0, 10.0, 20.0):
        take(plan, now, 0.1)
    assert wait(plan, 20.0, 600) == pytest.approx(81.0)


def test_a_weight_above_a_limit_lowered_meanwhile_still_gets_through():
    plan = schedule(None, tokens=600)
    take(plan, 0.0, 500)
    plan.change(plan.tokens, 100, 1.0)
    assert wait(plan, 1.0, 500) == pytest.approx(61.0)


# Giving back


def test_giving_back_the_newest_restores_window_and_pace():
    plan = schedule(60, tokens=600)
    take(plan, 0.0, 10)
    before = (plan.window.requests, plan.requests.tat, plan.window.tokens, plan.tokens.tat)
    place = take(plan, 1.0, 100)
    assert plan.give_back(place)
    assert (plan.window.requests, plan.requests.tat, plan.window.tokens, plan.tokens.tat) == pytest.approx(before)
    assert wait(plan, 1.0, 10) == pytest.approx(1.0)


@pytest.mark.parametrize("first", ["give_back", "answered", "refused"])
def test_only_what_was_not_sent_can_be_given_back_and_only_once(first):
    plan = schedule(60)
    take(plan, 0.0)
    place = take(plan, 1.0)
    if first == "give_back":
        plan.give_back(place)
    elif first == "answered":
        plan.answered(place, None, 1.5)
    else:
        plan.refused(place, None, 1.5)
    before = (plan.window.requests, plan.requests.tat)
    assert not plan.give_back(place)
    assert (plan.window.requests, plan.requests.tat) == before


def test_giving_back_an_older_one_opens_the_window_but_not_the_pace():
    plan = schedule(60)
    old, _new = take(plan, 0.0), take(plan, 1.0)
    plan.give_back(old)
    assert plan.in_window(1.0) == 1
    assert plan.ready_at(0, 1.0) == pytest.approx(2.0)


def test_what_is_given_back_after_it_left_changes_nothing():
    plan = schedule(60)
    place = take(plan, 0.0)
    assert plan.in_window(70.0) == 0
    plan.give_back(place)
    assert plan.window.requests == 0


# Pauses


@pytest.mark.parametrize("burst", [1, 30, 60, math.inf])
def test_after_a_pause_the_first_goes_at_once_and_the_others_paced(burst):
    plan = schedule(60, burst=burst)
    plan.pause(30.0)
    assert times(plan, 5, now=3.0) == pytest.approx([30, 31, 32, 33, 34])


def test_giving_back_what_was_booked_before_a_pause_allows_no_burst_after_it():
    plan = schedule(60, burst=60)
    place = take(plan, 0.0)
    plan.pause(5.0)
    plan.give_back(place)
    assert times(plan, 3, now=1.0) == pytest.approx([5, 6, 7])


def test_a_shorter_pause_never_ends_a_longer_one():
    plan = schedule(60)
    plan.pause(30.0)
    plan.pause(10.0)
    assert wait(plan, 0.0) == 30.0


@pytest.mark.parametrize("nonsense", [None, 0, -3, math.nan, math.inf, -math.inf])
def test_a_nonsensical_hint_is_ignored(nonsense):
    plan = schedule(60)
    plan.refused(take(plan, 0.0), nonsense, 0.3)
    assert plan.paused_until == pytest.approx(1.3)


def test_a_refusal_pauses_and_the_others_of_the_same_time_do_not_prolong_it():
    plan = schedule(60, burst=60)
    places = [take(plan, 0.0) for _ in range(5)]
    assert [plan.refused(place, 2.0 - 0.1 * n, 0.3 + 0.1 * n) for n, place in enumerate(places)] == [True] + [False] * 4
    assert plan.paused_until == pytest.approx(2.3)


def test_a_longer_hint_on_an_older_request_prolongs_the_pause():
    plan = schedule(60, burst=60)
    first, second = take(plan, 0.0), take(plan, 0.0)
    plan.refused(first, 2.0, 0.3)
    assert plan.refused(second, 30.0, 0.4)
    assert plan.paused_until == pytest.approx(30.4)


def test_a_refused_request_that_is_settled_afterwards_is_no_success():
    plan = schedule(60)
    for _ in range(3):
        place = take(plan, max(0.0, plan.paused_until))
        plan.refused(place, None, place.sent_at)
        plan.answered(place, 0, place.sent_at)
    assert plan.refusals.in_a_row == 3
    assert plan.refusals.accepted == 0


def test_after_two_refusals_in_a_row_one_request_goes_first_and_the_others_a_round_trip_later():
    plan, now = schedule(6000), 0.0
    for _ in range(2):
        place = take(plan, now)
        now = place.sent_at + 0.5
        plan.refused(place, None, now)
    probe = take(plan, now)
    assert take(plan, now).sent_at == pytest.approx(probe.sent_at + 0.5)


def test_where_no_limit_is_set_no_rate_is_cut_and_a_limit_starts_anew():
    plan, now = schedule(None), 0.0
    for _ in range(50):
        place = take(plan, now)
        now = place.sent_at + 0.1
        plan.refused(place, 0.25, now)
    assert plan.factor(now) == 1
    plan.change(plan.requests, 600, now)
    for _ in range(50):
        place = take(plan, now)
        now = place.sent_at + 0.1
        plan.refused(place, 0.25, now)
    assert plan.factor(now) < 1
    plan.change(plan.requests, 600, now)
    assert plan.factor(now) < 1
    plan.change(plan.requests, 60, now)
    assert plan.factor(now) == 1


def test_the_pace_after_a_cut_is_slower():
    plan = schedule(60)
    plan.refusals.level, plan.refusals.grows_at = 0.5, 1000.0
    first, second = take(plan, 0.0), take(plan, 0.0)
    assert second.sent_at - first.sent_at == pytest.approx(2)


def test_a_pause_for_want_of_capacity_is_no_refusal():
    plan = schedule(60)
    for _ in range(20):
        place = take(plan, max(0.0, plan.paused_until))
        plan.answered(place, None, place.sent_at)
        plan.pause(place.sent_at + 2)
    assert plan.factor(plan.paused_until) == 1


# Anything, in any order


@given(
    limit=st.one_of(st.none(), st.floats(0.4, 30)),
    tokens=st.one_of(st.none(), st.floats(50, 500)),
    burst=st.floats(1, 30),
    steps=st.lists(
        st.tuples(
            st.sampled_from(["take", "answered", "refused", "give_back", "change", "change_tokens", "pause", "rest"]),
            st.floats(0, 1),
        ),
        max_size=60,
    ),
)
@settings(max_examples=80, deadline=None, database=None)
def test_whatever_happens_the_sums_stay_true_and_nothing_waits_for_ever(limit, tokens, burst, steps):
    plan = schedule(limit, tokens=tokens, burst=burst)
    now, places = 0.0, []
    for step, share in steps:
        place = places[int(share * (len(places) - 1))] if places else None
        if step == "take":
            places.append(take(plan, now, 50 * share))
            now = places[-1].sent_at
        elif step == "answered" and place:
            plan.answered(place, 100 * share, now)
        elif step == "refused" and place:
            plan.refused(place, 10 * share or None, now)
        elif step == "give_back" and place:
            plan.give_back(place)
        elif step == "change":
            plan.change(plan.requests, None if share == 0 else 30 * share + 0.1, now)
        elif step == "change_tokens":
            plan.change(plan.tokens, None if share == 0 else 500 * share + 1, now)
        elif step == "pause":
            plan.pause(now + 30 * share)
        elif step == "rest":
            now += 100 * share
        leaves_at, requests, weights = plan.window.entries()
        assert list(leaves_at) == sorted(set(leaves_at))
        assert plan.window.requests == sum(requests)
        assert plan.window.tokens == pytest.approx(sum(weights), abs=1e-6)
        assert 0 < plan.factor(now) <= 1
    assert wait(plan, now, 50) < math.inf
