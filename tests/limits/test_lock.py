"""The limiter's lock gives the time, which never goes back, and logs only after it is free."""

from __future__ import annotations

import logging

import pytest

from llmlab.limits.lock import Lock
from tests.helpers import Clock


def test_the_time_follows_the_clock_but_never_goes_back():
    clock = Clock()
    lock = Lock(clock)
    seen = []
    for at in (5.0, 7.0, 3.0, 4.0):
        clock.now = at
        with lock.timed() as now:
            seen.append(now)
    assert seen == [5.0, 7.0, 7.0, 8.0]


@pytest.mark.parametrize("reading", [OSError("no clock"), "noon"])
def test_a_clock_that_fails_takes_no_lock_and_changes_nothing(reading):
    def clock():
        if isinstance(reading, Exception):
            raise reading
        return reading

    lock = Lock(clock)
    with pytest.raises((OSError, ValueError)), lock.timed():
        pass
    with lock:
        assert not lock.nested


def test_it_can_be_taken_again_by_its_holder_and_says_so():
    lock = Lock(Clock())
    with lock:
        assert not lock.nested
        with lock.timed():
            assert lock.nested


def test_what_is_logged_inside_comes_out_once_the_lock_is_free(caplog):
    caplog.set_level(logging.INFO, "llmlab.limits")
    lock = Lock(Clock())
    with lock:
        with lock:
            lock.log(logging.INFO, "inside")
        assert not caplog.records
    assert [record.getMessage() for record in caplog.records] == ["inside"]
