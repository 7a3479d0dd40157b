"""A journal keeps every attempt before it counts, for one writer at a time, whatever happens to the disk or the process."""

import asyncio
import contextlib
import resource
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace

import pandas as pd
import pytest

import llmlab as ll
from llmlab.engine import Run, begin
from llmlab.errors import JournalError
from llmlab.results import Journal
from llmlab.results.rows import ORDER
from llmlab.results.writer import Writer
from tests.helpers import ask, settings, texts, until

PROMPT = "Classify: {text}"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.sqlite"


class SlowWriter(Writer):
    """Writes only when it may."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.may_write = threading.Event()

    def _write_group(self, group):
        self.may_write.wait(10)
        super()._write_group(group)


class SlowDisk(Journal):
    """A journal that writes only when its writer may."""

    def __init__(self, path, connection, *more):
        super().__init__(path, connection, *more)
        self._writer = SlowWriter(path, connection, ORDER)

    def may_write(self):
        self._writer.may_write.set()


@contextlib.asynccontextmanager
async def on_a_slow_disk(client, path, count):
    """A run whose answers are all there while none of them is on the disk."""
    setup = ll.run_experiment(texts(count), PROMPT, **settings(client, journal=path)).setup
    start = begin(setup)
    start.journal.release()
    journal = SlowDisk.open(path, setup.asks)
    run = Run(setup, replace(start, journal=journal))
    going = asyncio.ensure_future(run.go())
    try:
        await until(lambda: client.counts().ok == count)
        await asyncio.sleep(0.05)
        yield run, going
    finally:
        journal.may_write()


async def test_an_attempt_is_on_the_disk_before_its_trial_counts(provider, path):
    async with on_a_slow_disk(provider(), path, 5) as (run, going):
        assert (run.tally.done, len(run.store.answered)) == (0, 0)
    await going
    assert (run.tally.done, len(run.store.answered)) == (5, 5)


async def test_cancelled_while_the_disk_is_slow_what_is_answered_counts(provider, path):
    async with on_a_slow_disk(provider(), path, 2) as (run, going):
        going.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going
    assert set(run.store.answered) == {0, 1}
    assert ll.load_results(path).predictions["status"].tolist() == ["ok"] * 2


async def test_the_same_cell_again_asks_only_what_is_missing_or_failed(provider, path):
    simulated = provider(error_rate=0.4, malformed_rate=0.3, seed=2)
    more = {"journal": path, "categories": ["a", "b"], "retry": ll.RetryPolicy(max_retries=1)}
    first = await ask(simulated, texts(40), **more)
    failed = (first.predictions["status"] != "ok").sum()
    assert 10 < failed < 35
    before = simulated.counts().requests
    second = await ask(simulated, texts(40), **more)
    assert simulated.counts().requests - before == failed
    kept = first.predictions["status"] == "ok"
    pd.testing.assert_frame_equal(second.predictions[kept], first.predictions[kept])
    assert len(second.attempts) == len(first.attempts) + failed
    assert second.attempts["total_tokens"].sum() == simulated.counts().total_tokens
    assert second.attempts["session"].value_counts().to_dict() == {1: 40, 2: failed}
    # Attempts are numbered over all that a trial ever had.
    numbers = second.attempts.groupby(["unit_id"])["attempt"].apply(list)
    assert all(number == list(range(1, len(number) + 1)) for number in numbers)


async def test_rerun_goes_on_in_the_journal(provider, path):
    simulated = provider(error_rate=0.5, seed=1)
    results = await ask(simulated, [*texts(30), ""], journal=path, retry=ll.RetryPolicy(max_retries=1))
    assert (results.predictions["status"] == "failed").sum() > 5
    while (results.predictions["status"] == "failed").sum() > 1:
        results = await results.rerun_failed()
    assert simulated.counts().requests == len(results.attempts) == len(ll.load_results(path).attempts)
    # Rows that were picked are asked again whatever they hold; a blank text failed, and still has.
    again = await results.rerun(results.predictions.head(2))
    assert len(again.attempts) == len(results.attempts) + 2
    loaded = ll.load_results(path)
    pd.testing.assert_frame_equal(loaded.predictions, again.predictions)
    assert loaded.predictions["status"].tolist()[2:] == ["ok"] * 28 + ["failed"]
    # A file that was put in its place knows nothing of them; what is in memory is written to it.
    path.unlink()
    third = await again.rerun(again.predictions.head(1))
    assert len(third.attempts) == len(again.attempts) + 1
    pd.testing.assert_frame_equal(ll.load_results(path).attempts, third.attempts)


async def test_two_openings_at_once_are_refused_and_the_first_goes_on(provider, path):
    simulated = provider(latency_s=20)
    experiment = ll.start_experiment(texts(4), PROMPT, **settings(simulated, journal=path, grace_s=0))
    await until(lambda: simulated.counts().requests == 4)
    for open_it in (lambda: ask(simulated, texts(4), journal=path), lambda: asyncio.to_thread(ll.load_results, path)):
        with pytest.raises(JournalError, match="in use by another kernel or a running experiment: stop that one first"):
            await open_it()
    script = "import sys, llmlab as ll\nll.load_results(sys.argv[1])"
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script, path], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "JournalError: The journal" in done.stderr
    assert "in use by another kernel" in done.stderr
    experiment.stop()
    results = await experiment
    assert results.attempts["error_type"].tolist() == ["CancelledError"] * 4
    pd.testing.assert_frame_equal(ll.load_results(path).predictions, results.predictions)


async def test_it_is_released_however_the_run_ends(provider, path):
    simulated = provider(latency_s=0.1)
    running = asyncio.ensure_future(ask(simulated, texts(3), journal=path))
    await asyncio.sleep(0.05)
    running.cancel()
    # Once more, while it cleans up: what is queued is written all the same.
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (await ask(simulated, texts(3), journal=path)).predictions["status"].tolist() == ["ok"] * 3
    with pytest.raises(ll.InputError):
        await ask(simulated, texts(3), journal=path, max_concurrent=0)

    def broken(text):
        raise AttributeError("a bug of the user's")

    with pytest.raises(AttributeError):
        await ask(simulated, texts(3), journal=path, parse=broken)
    assert (await ask(simulated, texts(3), journal=path)).predictions["status"].tolist() == ["ok"] * 3


@pytest.fixture
def full_disk():
    """No file of this process may grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_stops_the_run_with_all_answers_in_memory_and_later_in_the_file(provider, path, full_disk):
    simulated = provider(latency_s=0.005)
    full_disk(200_000)
    results = await ask(simulated, [*texts(300), " "], journal=path, parse=str.strip, max_concurrent=8)
    full_disk(resource.RLIM_INFINITY)
    ok = (results.predictions["status"] == "ok").sum()
    assert 0 < ok < 300
    assert "cannot be written any more: " in results.stopped
    assert "what was answered is here in memory" in results.stopped
    assert simulated.counts().requests == len(results.attempts)
    assert results.attempts["total_tokens"].sum() == simulated.counts().total_tokens
    stored = ll.load_results(path)
    assert len(stored.attempts) < len(results.attempts)
    # With room again nothing is asked twice, and the file gets what it missed.
    whole = await results.rerun_failed()
    assert (whole.predictions["status"] == "ok").sum() == 300
    assert simulated.counts().requests == len(whole.attempts) == 300
    pd.testing.assert_frame_equal(ll.load_results(path).predictions, whole.predictions)
    pd.testing.assert_frame_equal(ll.load_results(path).attempts, whole.attempts)


async def test_a_killed_kernels_journal_with_a_torn_tail_is_read_up_to_there(provider, path):
    script = """if True:
        import os, sys, llmlab as ll
        def parse(text):
            # Twenty answers are on the disk; the one in hand is not.
            answers.append(text)
            if len(answers) > 20:
                os.kill(os.getpid(), 9)
            return text
        answers = []
        ll.run_experiment_sync([f"text {at}" for at in range(30)], "Classify: {text}", model="m", progress=False,
            max_concurrent=1, limiter=ll.RateLimiter(None), journal=sys.argv[1], base_url=sys.argv[2], api_key="none",
            parse=parse)
        """
    simulated = provider()
    killed = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script, path, simulated.base_url], timeout=60, stdin=subprocess.DEVNULL
    )
    assert killed.returncode == -9
    wal = path.with_name("journal.sqlite-wal")
    raw = wal.read_bytes()
    # The power failed in the middle of a write.
    wal.write_bytes(raw[: len(raw) * 2 // 3] + bytes(100))
    kept = len(ll.load_results(path).attempts)
    assert 0 < kept < 20
    units = [f"text {at}" for at in range(30)]
    again = {"client": None, "base_url": simulated.base_url, "api_key": "none", "model": "m", "parse": str.strip}
    results = await ask(None, units, PROMPT, journal=path, **again)
    assert (results.predictions["status"] == "ok").all()
    assert simulated.counts().requests == 21 + 30 - kept


async def test_no_key_and_no_header_is_in_it(provider, path):
    key = "sk-5ecre7-5ecre7-5ecre7"
    given = {"base_url": provider().base_url, "api_key": key, "limiter": ll.RateLimiter(None), "progress": False}
    for model in ("fault/s401-echo", "m"):
        await ll.run_experiment(["text"], PROMPT, model=model, journal=path, extra_headers={"X-Key": "5ecre7"}, **given)
    assert key.encode() not in path.read_bytes()
    with sqlite3.connect(path) as connection:
        dump = "\n".join(connection.iterdump())
    connection.close()
    assert "5ecre7" not in dump
    assert "authorization" not in dump.lower()
