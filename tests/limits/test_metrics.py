"""Totals, history and the summary line count grants and nothing else."""

from __future__ import annotations

import asyncio
import logging
import re
import time

import pytest

from llmlab.limits import RateLimiter
from llmlab.limits.metrics import HISTORY_SECONDS, combined
from tests.helpers import Clock, cancelled, limited, queue, stamp, virtual

SUMMARY = re.compile(
    r"Rate limiter summary \(last \d+\.\ds\): \d+ requests, \d+ throttled \(\d+\.\d%\), queue: \d+/(\d+|unlimited)"
)


@virtual
async def test_metrics_count_grants_and_average_over_all_of_them():
    limiter = limited(60)
    await stamp(limiter, 4)
    grants = [await limiter.acquire() for _ in range(2)]
    metrics = limiter.get_metrics()
    assert metrics == {
        "total_requests": 6,
        "throttled_requests": 5,
        "throttle_rate": pytest.approx(5 / 6),
        "avg_wait_time": pytest.approx(5 / 6),
        "queue_size": 6,
        "limit": 60,
        "waiting": 0,
        "refused_requests": 0,
        "paused_s": 0.0,
        "rate_factor": 1.0,
        "processes": 1,
    }
    assert [grant.throttled for grant in grants] == [True, True]
    assert grants[0].waited_s == pytest.approx(1)


def test_metrics_before_the_first_request_are_zero():
    metrics = RateLimiter(60).get_metrics()
    assert metrics["total_requests"] == metrics["throttle_rate"] == metrics["avg_wait_time"] == 0


@virtual
async def test_metrics_and_history_count_neither_cancelled_waiters_nor_returned_grants():
    limiter = limited(60)
    await stamp(limiter, 3)
    before = limiter.get_metrics()
    tasks = await queue(limiter, 0, 0, 0, 0, 0)
    await asyncio.sleep(0.5)
    await cancelled(*tasks)
    assert {**limiter.get_metrics(), "paused_s": 0} == before
    grant = await limiter.acquire()
    await asyncio.sleep(5)
    grant.cancel()
    after = limiter.get_metrics()
    assert after["total_requests"] == after["queue_size"] == 3
    assert after["throttled_requests"] == 2
    assert after["avg_wait_time"] == pytest.approx(before["avg_wait_time"])
    assert sum(granted for _, granted, _, _ in limiter.history()) == 3
    assert all(granted >= 0 and throttled >= 0 for _, granted, throttled, _ in limiter.history())


@virtual
async def test_history_has_one_row_per_second_with_traffic_in_epoch_time():
    limiter = limited(120)
    await stamp(limiter, 4)
    await asyncio.sleep(10)
    await stamp(limiter, 1)
    rows = limiter.history()
    assert [granted for _, granted, _, _ in rows] == [2, 2, 1]
    assert [throttled for _, _, throttled, _ in rows] == [1, 2, 0]
    assert [row[0] - rows[0][0] for row in rows] == pytest.approx([0, 1, 11])
    assert rows[-1][0] == pytest.approx(time.time(), abs=60)


@virtual
async def test_history_is_bounded():
    clock = Clock()
    limiter = RateLimiter(None, clock=clock)
    for second in range(HISTORY_SECONDS + 500):
        clock.now = float(second)
        await limiter.acquire()
    assert len(limiter.history()) == HISTORY_SECONDS
    assert limiter.get_metrics()["total_requests"] == HISTORY_SECONDS + 500


@virtual
async def test_one_summary_line_per_ten_seconds_with_traffic_and_none_while_idle(limit_lines, caplog):
    limiter = limited(60)
    await stamp(limiter, 36)
    assert limit_lines() == [
        "Rate limiter summary (last 10.0s): 10 requests, 9 throttled (90.0%), queue: 11/60",
        "Rate limiter summary (last 10.0s): 10 requests, 10 throttled (100.0%), queue: 21/60",
        "Rate limiter summary (last 10.0s): 10 requests, 10 throttled (100.0%), queue: 31/60",
    ]
    assert {(record.name, record.levelname) for record in caplog.records if "summary" in record.message} == {
        ("llmlab.limits", "INFO")
    }
    await asyncio.sleep(1000)
    limiter.get_metrics()
    assert len(limit_lines()) == 3


@pytest.mark.parametrize(
    ("limit", "end"), [(60, "60/60"), (None, "0/unlimited"), (2_000_000, "/2000000"), (0.5, "1/0.5")]
)
@virtual
async def test_the_summary_says_how_full_the_window_is(limit, end, limit_lines):
    limiter = limited(limit)
    for _ in range(100):
        await stamp(limiter, 1)
        await asyncio.sleep(1 if limit != 60 else 0)
    assert all(SUMMARY.fullmatch(line) or limit == 0.5 for line in limit_lines())
    assert limit_lines()[-1].endswith(end)


@virtual
async def test_the_summary_of_much_traffic_is_one_line(limit_lines):
    limiter = limited(6000, burst=100)
    await stamp(limiter, 1100)
    assert len(limit_lines()) == 1
    assert SUMMARY.fullmatch(limit_lines()[0])
    assert limit_lines()[0].startswith("Rate limiter summary (last 10.0s): 1")


@virtual
async def test_the_summary_never_shows_a_negative_number(limit_lines):
    limiter = limited(60)
    grants = [await limiter.acquire() for _ in range(11)]
    assert len(limit_lines()) == 1
    for grant in grants[1:]:
        grant.cancel()
    limiter.limit = None
    await stamp(limiter, 15)
    await asyncio.sleep(12)
    await stamp(limiter, 1)
    assert len(limit_lines()) == 2
    assert SUMMARY.fullmatch(limit_lines()[1])


@virtual
async def test_a_log_handler_that_raises_or_asks_back_stops_nothing():
    limiter = limited(60)
    seen = []

    class Handler(logging.Handler):
        def emit(self, record):
            seen.append((record.getMessage(), limiter.get_metrics()["total_requests"]))
            raise RuntimeError("disk full")

    logger = logging.getLogger("llmlab.limits")
    handler, level = Handler(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        assert len(await stamp(limiter, 25)) == 25
        assert (await limiter.acquire()).refused(5) == pytest.approx(5)
        tasks = await queue(limiter, 0, 0, 0)
        await asyncio.gather(*tasks)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert len(seen) >= 3


def test_of_several_limiters_counts_add_up_and_averages_are_over_all_grants():
    one = {**RateLimiter(100).get_metrics(), "total_requests": 3, "throttled_requests": 1, "avg_wait_time": 0.5}
    two = {**RateLimiter(200).get_metrics(), "total_requests": 1, "waiting": 7, "paused_s": 3.0, "rate_factor": 0.5}
    both = combined([one, two])
    assert both == {
        "total_requests": 4,
        "throttled_requests": 1,
        "throttle_rate": 0.25,
        "avg_wait_time": 0.375,
        "queue_size": 0,
        "limit": 300,
        "waiting": 7,
        "refused_requests": 0,
        "paused_s": 3.0,
        "rate_factor": 0.5,
        "processes": 1,
    }
    assert set(both) == set(one)
    assert combined([one, RateLimiter(None).get_metrics()])["limit"] is None
