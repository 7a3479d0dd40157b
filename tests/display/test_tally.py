"""The tally adds up, and its ETA knows the limit, repeats and pauses."""

import math

import pytest

from llmlab.analysis import Total
from llmlab.display.tally import Outlook, Tally
from llmlab.records import Usage
from tests.helpers import Clock, attempt, failing


def answered(tally: Tally, count: int, **changes) -> Tally:
    for _ in range(count):
        tally.record(attempt(**changes))
        tally.finish(ok=True)
    return tally


class TestCounts:
    def test_tokens_costs_and_failures_of_every_attempt(self):
        tally = Tally(2)
        tally.record(attempt(**failing(retry_in_s=20.0, usage=Usage(10, None, None, None, 10), cost_usd=0.25)))
        tally.record(attempt(number=2))
        tally.finish(ok=True)
        assert (tally.attempts, tally.unusable, tally.done) == (2, 1, 1)
        assert (tally.prompt_tokens, tally.completion_tokens) == (Total(20, reported=2), Total(5, reported=1))
        assert tally.cost_usd == Total(0.75, reported=2)
        assert tally.last_error == "OverloadedError: no capacity"
        assert tally.errors == {"OverloadedError": 1}

    def test_throttle_rate_and_wait_are_of_the_last_ten_seconds(self):
        clock = Clock()
        tally = Tally(10, clock)
        tally.record(attempt(throttled=True, wait_s=9.0))
        clock.now += 6
        tally.record(attempt(throttled=False, wait_s=1.0))
        assert (tally.throttle_rate, tally.recent_wait_s) == (0.5, 5.0)
        clock.now += 6
        assert (tally.throttle_rate, tally.recent_wait_s) == (0.0, 1.0)
        clock.now += 6
        assert (tally.throttle_rate, tally.recent_wait_s, tally.avg_wait_s) == (0.0, 0.0, 5.0)

    def test_a_cost_is_unknown_only_if_something_may_have_been_charged(self):
        tally = answered(Tally(10), 2, cost_usd=None)
        tally.record(attempt(**failing()))
        tally.record(attempt(**failing(error_type="TimeoutError", may_be_billed=True)))
        assert tally.cost_usd == Total(0, unknown=3)

    def test_projects_the_cost_once_a_few_trials_ended(self):
        assert answered(Tally(100), 4).projected_usd is None
        assert answered(Tally(100), 10).projected_usd == pytest.approx(50.0)
        assert answered(Tally(100), 10, cost_usd=None).projected_usd is None


class TestEta:
    def test_nothing_is_left(self):
        assert answered(Tally(3), 3).eta_s == 0.0
        assert Tally(0).eta_s == 0.0

    def test_no_telling_before_a_few_answers_without_a_limit(self):
        assert answered(Tally(100), 2).eta_s is None

    def test_follows_the_limit_from_the_start(self):
        tally = Tally(120)
        tally.look(Outlook(rate=1.0))
        assert tally.eta_s == pytest.approx(120.0)

    @pytest.mark.parametrize("rate", [math.inf, 10.0])
    def test_follows_the_pace_where_it_is_slower_than_the_limit(self, rate):
        clock = Clock()
        tally = Tally(110, clock)
        clock.now += 20
        tally.look(Outlook(rate=rate))
        assert answered(tally, 10).eta_s == pytest.approx(200.0)

    def test_repeated_attempts_take_grants_too(self):
        clock = Clock()
        tally = Tally(110, clock)
        clock.now += 20
        for _ in range(10):
            tally.record(attempt(**failing()))
        answered(tally, 10)
        tally.look(Outlook(rate=1.0))
        assert tally.eta_s == pytest.approx(200.0)

    def test_slow_answers_behind_a_limit_do_not_stretch_it(self):
        # One request a second, answers after 15 s: 25 are sent, 10 are back.
        clock = Clock()
        tally = Tally(110, clock)
        clock.now += 25
        tally.in_flight, tally.waiting = 15, 85
        tally.look(Outlook(rate=1.0))
        assert answered(tally, 10).eta_s == pytest.approx(100.0, rel=0.01)

    def test_a_pause_is_added_and_does_not_count_as_pace(self):
        clock = Clock()
        tally = Tally(110, clock)
        clock.now += 10
        answered(tally, 10)
        tally.look(Outlook(paused_s=42.0))
        assert tally.eta_s == pytest.approx(142.0)
        for _ in range(4):
            clock.now += 10.5
            tally.look(Outlook(paused_s=max(0.0, tally.outlook.paused_s - 10.5)))
        assert tally.paused_before_s == pytest.approx(42.0)
        assert tally.eta_s == pytest.approx(100.0)

    def test_an_outage_has_no_eta_and_does_not_count_as_pace(self):
        clock = Clock()
        tally = Tally(110, clock)
        clock.now += 10
        answered(tally, 10)
        tally.look(Outlook(next_probe_s=2.0))
        assert tally.eta_s is None
        clock.now += 300
        tally.look(Outlook())
        assert tally.eta_s == pytest.approx(100.0)

    def test_the_last_retries_are_waited_for(self):
        tally = answered(Tally(100), 95, latency_s=2.0)
        tally.retrying = 5
        tally.look(Outlook(next_retry_s=14.0, last_retry_s=20.0))
        assert tally.eta_s == pytest.approx(22.0)

    def test_a_window_that_is_full_is_waited_for(self):
        tally = Tally(60)
        tally.look(Outlook(rate=1.0, next_grant_s=31.0))
        assert tally.eta_s == pytest.approx(91.0)

    def test_no_telling_while_the_provider_does_not_answer(self):
        tally = answered(Tally(100), 50)
        tally.look(Outlook(rate=1.0, next_probe_s=8.0))
        assert tally.eta_s is None


def test_what_was_answered_before_counts_as_answered():
    tally = answered(Tally(265, before=89), 18)
    assert (tally.answered, tally.total) == (107, 354)


def test_a_server_is_reached_once_it_answered_anything():
    tally = Tally(10)
    tally.record(attempt(**failing(error_type="ConnectionError", http_status=None)))
    assert not tally.reached
    tally.record(attempt(**failing()))
    assert tally.reached
