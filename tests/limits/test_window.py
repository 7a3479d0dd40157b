"""What the window holds, and when it leaves."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.limits.window import COMPACT_AT, Window


def test_what_leaves_at_the_same_time_is_one_entry():
    window = Window()
    for _ in range(3):
        window.add(5.0, 1, 10.0)
    assert (len(window), window.requests, window.tokens) == (1, 3, 30)
    window.expire(math.nextafter(5.0, 0))
    assert window.requests == 3
    window.expire(5.0)
    assert (len(window), window.requests, window.tokens) == (0, 0, 0)


def test_times_are_rounded_up_to_the_grain():
    window = Window(grain_s=0.5)
    assert [window.add(at, 1, 0) for at in (1.0, 1.01, 1.5, 1.51)] == [1.0, 1.5, 1.5, 2.0]
    assert len(window) == 3


def test_what_has_left_cannot_be_taken_out():
    window = Window()
    at = window.add(5.0, 1, 10.0)
    window.expire(6.0)
    assert not window.take_out(at, 1, 10.0)
    assert (window.requests, window.tokens) == (0, 0)


def test_an_entry_that_is_taken_out_whole_is_gone():
    window = Window()
    window.add(5.0, 1, 10.0)
    window.add(7.0, 1, 0.0)
    assert window.take_out(5.0, 1, 10.0)
    assert window.first_leaves_at == 7.0


@pytest.mark.parametrize(
    ("requests", "tokens", "at"), [(1, 0, 1.0), (2, 0, 2.0), (0, 11, 2.0), (1, 31, 3.0), (9, 0, 3.0), (0.5, -5, 1.0)]
)
def test_when_enough_will_have_left(requests, tokens, at):
    window = Window()
    for leaves_at, weight in ((1.0, 10), (2.0, 20), (3.0, 30)):
        window.add(leaves_at, 1, weight)
    assert window.left_by(requests, tokens) == at


def test_an_empty_window_makes_nobody_wait():
    assert Window().left_by(1, 0) == -math.inf
    assert Window().first_leaves_at == math.inf


def test_a_window_that_slides_for_long_stays_small():
    window = Window()
    for second in range(10 * COMPACT_AT):
        window.add(second + 60.0, 1, 1.0)
        window.expire(float(second))
    assert window.requests == len(window) == 60
    assert len(window._leaves_at) <= 60 + COMPACT_AT + 1


@given(
    grain=st.sampled_from([0.0, 0.1]),
    steps=st.lists(st.tuples(st.sampled_from(["add", "take", "rest"]), st.floats(0, 60), st.integers(0, 50))),
)
@settings(max_examples=60, deadline=None, database=None)
def test_whatever_happens_the_sums_are_those_of_the_entries(grain, steps):
    window, now, inside = Window(grain), 0.0, []
    for step, seconds, tokens in steps:
        if step == "add":
            inside.append((window.add(now + seconds + 0.2, 1, tokens), tokens))
        elif step == "take" and inside:
            at, weight = inside.pop(tokens % len(inside))
            assert window.take_out(at, 1, weight)
        elif step == "rest":
            now += seconds
            window.expire(now)
            inside = [one for one in inside if one[0] > now]
        leaves_at, requests, weights = window.entries()
        assert list(leaves_at) == sorted(set(leaves_at))
        assert window.requests == sum(requests) == len(inside)
        assert window.tokens == pytest.approx(sum(weight for _, weight in inside))
        again = Window(grain)
        again.restore(leaves_at, requests, weights, window.requests, window.tokens)
        assert (again.first_leaves_at, again.left_by(2, 0)) == (window.first_leaves_at, window.left_by(2, 0))
