"""`share_limits`: from the call on, limiters of one key count together. Here several of one name play the processes."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import llmlab as ll
from llmlab.errors import InputError
from tests.helpers import eventually, most_in_window, thread

KEY = "sk-or-v1-5ecre7"


@pytest.fixture
def path(tmp_path):
    yield tmp_path / "limits.sqlite"
    ll.share_limits(False)


async def arrivals_of(limiter, count, times):
    """Ask `count` times in a row, answered at once; note when."""

    async def ask():
        grant = await limiter.acquire()
        times.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0.01)
        grant.answered()

    await asyncio.gather(*(ask() for _ in range(count)))


def test_limiters_of_one_name_take_turns_and_the_window_holds_for_all(path):
    ll.share_limits(path)
    limiters = [ll.RateLimiter(20, period_s=0.4, name="together") for _ in range(2)]
    times = []

    async def main():
        await asyncio.gather(*(arrivals_of(limiter, 30, times) for limiter in limiters))

    asyncio.run(asyncio.wait_for(main(), 30))
    assert most_in_window(times, 0.4) <= 20
    assert [limiter.get_metrics()["total_requests"] for limiter in limiters] == [30, 30]
    assert {limiter.get_metrics()["processes"] for limiter in limiters} == {2}


def test_limiters_of_other_names_keys_or_endpoints_do_not_count_together(path):
    ll.share_limits(path)
    get = ll.RateLimiterRegistry.get_limiter
    limiters = [
        get(KEY, 600),
        get("other", 600, base_url="https://two.example/v1"),
        get("other", 600, base_url="https://one.example/v1"),
        ll.RateLimiter(600),
    ]

    async def main():
        for limiter in limiters:
            (await limiter.acquire()).answered()

    asyncio.run(asyncio.wait_for(main(), 20))
    for limiter in limiters:
        assert limiter.get_metrics()["queue_size"] == 1


def test_sharing_may_begin_while_requests_wait_and_what_was_sent_before_counts(path):
    one = ll.RateLimiter(50, period_s=1.0, burst=50, name="late")
    sent = []

    async def first():
        for _ in range(10):
            (await one.acquire()).answered()
        waiting = [asyncio.ensure_future(one.acquire()) for _ in range(50)]
        await asyncio.sleep(0.01)
        ll.share_limits(path)
        sent.extend(await asyncio.wait_for(asyncio.gather(*waiting), 20))

    asyncio.run(first())
    assert len(sent) == 50
    two = ll.RateLimiter(50, period_s=1.0, name="late")

    async def second():
        await two.acquire()
        assert two.get_metrics()["queue_size"] > 1

    asyncio.run(asyncio.wait_for(second(), 20))


def test_the_registrys_limiters_share_by_fingerprint_and_no_key_is_in_the_file(path):
    ll.share_limits(str(path))
    limiter = ll.RateLimiterRegistry.get_limiter(KEY, 6000, base_url="https://one.example/v1/")

    async def main():
        for _ in range(5):
            (await limiter.acquire()).answered(100)

    asyncio.run(asyncio.wait_for(main(), 20))
    ll.share_limits(False)
    assert limiter.get_metrics()["processes"] == 1
    eventually(lambda: not [one for one in threading.enumerate() if one.name == "llmlab shared limits"])
    with sqlite3.connect(path) as connection:
        names = [name for (name,) in connection.execute("SELECT name FROM keys")]
    connection.close()
    assert len(names) == 1
    assert KEY[3:] not in str(names)
    assert KEY.encode()[3:] not in path.read_bytes()
    assert b"one.example" not in path.read_bytes()


def test_a_pause_of_one_holds_for_the_other(path):
    ll.share_limits(path)
    one, two = (ll.RateLimiter(6000, name="paused") for _ in range(2))

    async def main():
        (await two.acquire()).answered()
        assert (await one.acquire()).refused(0.4) == pytest.approx(0.4, abs=0.1)
        await asyncio.sleep(0.1)
        grant = await two.acquire()
        assert grant.waited_s > 0.1

    asyncio.run(asyncio.wait_for(main(), 20))


def test_cancelled_waiters_and_returned_grants_leave_the_common_window(path):
    ll.share_limits(path)
    one, two = (ll.RateLimiter(10, period_s=1.0, burst=10, name="returned") for _ in range(2))

    async def main():
        for _ in range(4):
            (await one.acquire()).cancel()
        waiting = [asyncio.ensure_future(one.acquire()) for _ in range(20)]
        await asyncio.sleep(0.02)
        for task in waiting:
            task.cancel()
        for grant in await asyncio.gather(*waiting, return_exceptions=True):
            if isinstance(grant, ll.Grant):
                grant.cancel()
        await asyncio.sleep(0.1)
        await two.acquire()

    asyncio.run(asyncio.wait_for(main(), 20))
    assert one.get_metrics()["total_requests"] == 0
    eventually(lambda: one.get_metrics()["queue_size"] <= 2)


def test_two_threads_with_a_loop_each_share_with_other_limiters(path):
    ll.share_limits(path)
    mine, other = (ll.RateLimiter(40, period_s=0.4, name="threads") for _ in range(2))
    times = []

    async def main():
        await arrivals_of(mine, 15, times)

    async def alone():
        await arrivals_of(other, 15, times)

    with thread(main), thread(main), thread(alone):
        pass
    assert len(times) == 45


def test_a_place_that_cannot_be_used_is_a_warning_and_sending_goes_on(tmp_path, caplog):
    caplog.set_level(logging.INFO, "llmlab.limits")
    (tmp_path / "file").write_text("no folder")
    ll.share_limits(tmp_path / "file" / "limits.sqlite")
    limiter = ll.RateLimiter(6000, name="alone")

    async def main():
        for _ in range(3):
            (await limiter.acquire()).answered()

    try:
        asyncio.run(asyncio.wait_for(main(), 20))
    finally:
        ll.share_limits(False)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "Shared limits: the store failed" in warnings[0]


def test_a_file_that_somebody_locks_holds_nobody_up_and_is_used_again_afterwards(path, caplog):
    caplog.set_level(logging.INFO, "llmlab.limits")
    ll.share_limits(path)
    limiter = ll.RateLimiter(6000, name="locked")
    lock = sqlite3.connect(path, isolation_level=None)

    async def main():
        (await limiter.acquire()).answered()
        lock.execute("BEGIN EXCLUSIVE")
        for _ in range(3):
            (await limiter.acquire()).answered()
        lock.execute("ROLLBACK")
        while not any("answers again" in record.getMessage() for record in caplog.records):
            (await limiter.acquire()).answered()
            await asyncio.sleep(0.05)

    asyncio.run(asyncio.wait_for(main(), 30))
    lock.close()
    assert any("database is locked" in record.getMessage() for record in caplog.records)


def test_the_same_place_again_changes_nothing_and_another_one_moves(path, tmp_path):
    ll.share_limits(path)
    workers = [one for one in threading.enumerate() if one.name == "llmlab shared limits"]
    ll.share_limits(path)
    assert [one for one in threading.enumerate() if one.name == "llmlab shared limits"] == workers
    ll.share_limits(tmp_path / "other.sqlite")
    limiter = ll.RateLimiter(6000, name="moved")
    asyncio.run(asyncio.wait_for(limiter.acquire(), 20))
    assert (tmp_path / "other.sqlite").exists()
    eventually(lambda: not any(one.is_alive() for one in workers))


@pytest.mark.parametrize("where", ["postgres://host/db", "http://host", "", 5, b""])
def test_another_kind_of_place_is_refused(where):
    with pytest.raises(InputError, match="share_limits"):
        ll.share_limits(where)


SCRIPT = """
import asyncio, os, sys
import llmlab as ll
limiter = ll.RateLimiter(6000, name="script")

async def main():
    (await limiter.acquire()).answered()

asyncio.run(asyncio.wait_for(main(), 20))
if sys.argv[1:] == ["fork"]:
    child = os.fork()
    if not child:
        asyncio.run(asyncio.wait_for(main(), 20))
        print(limiter.get_metrics()["processes"], flush=True)
        os._exit(0)
    os.waitpid(child, 0)
print(limiter.get_metrics()["processes"], limiter.get_metrics()["queue_size"])
"""


def run(*arguments, **environment):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT, *arguments],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert not done.returncode, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize("words", ["", "1"])
def test_the_variable_shares_without_a_line_of_code(tmp_path, words):
    where = words or str(tmp_path / "given.sqlite")
    run(LLMLAB_SHARED_LIMITS=where, XDG_CACHE_HOME=str(tmp_path))
    _, together = run(LLMLAB_SHARED_LIMITS=where, XDG_CACHE_HOME=str(tmp_path))
    assert int(together) == 2
    assert [path.suffix for path in tmp_path.rglob("*.sqlite")] == [".sqlite"]


@pytest.mark.parametrize("words", ["0", "off", ""])
def test_the_variable_may_say_no(tmp_path, words):
    assert run(LLMLAB_SHARED_LIMITS=words, XDG_CACHE_HOME=str(tmp_path)) == ["1", "1"]
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_shares_as_a_process_of_its_own(tmp_path):
    assert run("fork", LLMLAB_SHARED_LIMITS=str(tmp_path / "fork.sqlite"))[0] == "2"
