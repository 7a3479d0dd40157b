"""What a process tells of its requests: each once, also after the store lost everything."""

from __future__ import annotations

import pytest

from llmlab.limits.reports import Reports
from llmlab.limits.schedule import Place, Schedule


@pytest.fixture
def schedule():
    return Schedule(60, period_s=60.0, tokens=None, burst=60, margin_s=1.0)


@pytest.fixture
def woken():
    return []


def reports_of(schedule, woken, now=0.0):
    return Reports(schedule, now, woken.append)


def common(place):
    return Place(place.sent_at + 1000, place.leaves_at + 1000, place.tokens, place.number)


def names(taken):
    return [report.what for report in taken]


def test_what_was_sent_before_sharing_began_is_told_after_the_first_step(schedule, woken):
    for _ in range(3):
        schedule.book(10.0, 0.0, 0.0)
    reports = reports_of(schedule, woken, now=5.0)
    assert reports.take(5.0) == []
    reports.taken([])
    reports.forgotten(5.0)
    taken = reports.take(5.0)
    assert names(taken) == ["adopted"] * 3
    assert [(report.value, report.place.tokens) for report in taken] == [(56.0, 10.0)] * 3


def test_a_granted_request_is_reported_with_its_place_in_the_common_window(schedule, woken):
    reports = reports_of(schedule, woken)
    own = schedule.book(0, 0.0, 0.0)
    reports.granted(own, common(own))
    assert reports.add("answered", own, 0.4, 30.0)
    [report] = reports.take(0.5)
    assert (report.what, report.value, report.place.sent_at) == ("answered", 30.0, 1000.0)
    assert report.ago_s == pytest.approx(0.1)


def test_refusals_and_pauses_are_told_at_once_the_rest_a_little_later(schedule, woken):
    reports = reports_of(schedule, woken)
    own = schedule.book(0, 0.0, 0.0)
    reports.granted(own, common(own))
    reports.add("answered", own, 0.4)
    reports.add("answered", own, 0.5)
    assert woken == [0.1]
    reports.add("refused", own, 0.6)
    reports.key("paused", 0.6, 5.0)
    assert woken == [0.1, 0.0, 0.0]


def test_while_muted_nothing_piles_up_and_afterwards_all_that_still_counts_is_told(schedule, woken):
    reports = reports_of(schedule, woken)
    reports.muted = True
    for second in range(100):
        own = schedule.book(0, float(second), float(second))
        reports.adopt(own, float(second))
        reports.add("answered", own, second + 0.5)
        schedule.answered(own, None, second + 0.5)
    assert not reports
    taken = reports.take(100.0)
    assert set(names(taken)) == {"adopted"}
    assert 59 <= len(taken) <= 61


def test_what_stood_in_a_store_that_lost_it_is_told_again_but_what_was_just_told_is_not(schedule, woken):
    reports = reports_of(schedule, woken)
    old, new = schedule.book(0, 0.0, 0.0), schedule.book(0, 1.0, 1.0)
    reports.granted(old, common(old))
    reports.adopt(new, 1.0)
    assert names(reports.take(1.0)) == ["adopted"]
    reports.taken([common(new)])
    reports.forgotten(1.0)
    assert [report.place.number for report in reports.take(1.0)] == [old.number]


def test_an_unlimited_limiter_tells_and_forgets(woken):
    schedule = Schedule(None, period_s=60.0, tokens=None, burst=1, margin_s=1.0)
    reports = reports_of(schedule, woken)
    own = schedule.book(0, 0.0, 0.0)
    reports.adopt(own, 0.0)
    assert reports.add("answered", own, 0.4)
    assert not reports.add("answered", own, 0.5)
    taken = reports.take(0.5)
    assert names(taken) == ["adopted", "answered"]
    assert taken[0].value == pytest.approx(60.5)


def test_a_request_given_back_is_told_once_and_forgotten(schedule, woken):
    reports = reports_of(schedule, woken)
    own = schedule.book(0, 0.0, 0.0)
    reports.granted(own, common(own))
    reports.add("given back", own, 0.1)
    assert not reports.add("answered", own, 0.2)
    assert names(reports.take(0.2)) == ["given back"]
    reports.unused(common(own), 0.3)
    assert names(reports.take(0.3)) == ["given back"]
