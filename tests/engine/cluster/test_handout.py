"""Trials are given out in order, a unit's together, and those that come back go first."""

from llmlab.engine.cluster.handout import LEAST_AHEAD, MOST_AHEAD, Handout, ahead


def never(position):
    return False


def test_the_trials_of_a_unit_stay_together():
    handout = Handout(range(9), lambda position: position // 3)
    assert handout.take(2, never) == [0, 1, 2]
    assert handout.take(4, never) == [3, 4, 5, 6, 7, 8]
    assert handout.take(1, never) == []
    assert handout.empty


def test_what_comes_back_goes_first_and_in_order():
    handout = Handout(range(6), lambda position: position)
    assert handout.take(4, never) == [0, 1, 2, 3]
    handout.give_back([3, 1])
    assert handout.take(3, never) == [1, 3, 4]
    assert not handout.empty


def test_trials_of_which_nothing_has_to_be_asked_are_passed_over():
    handout = Handout(range(10), lambda position: position)
    assert handout.take(3, lambda position: position % 2 == 0) == [1, 3, 5]


def test_positions_are_drawn_when_they_are_needed():
    handout = Handout(iter(range(10**12)), lambda position: position)
    assert handout.take(2, never) == [0, 1]
    handout.clear()
    assert handout.empty


def test_a_worker_has_more_before_it_the_faster_it_sends():
    assert ahead(0, 0.0) == LEAST_AHEAD
    assert ahead(200, 0.25) == 600
    assert ahead(10**6, 0.1) == MOST_AHEAD
