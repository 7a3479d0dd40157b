"""A killed process, an interrupt, a cancelled call: what was answered is kept, nothing of it is asked twice."""

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pandas as pd
import pytest

import llmlab as ll

ROOT = Path(__file__).parents[2]
CRASHES = int(os.environ.get("LLMLAB_CRASHES", "3"))
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
pytestmark = POSIX

UNITS, RUNS, SLOTS = 60, 3, 12

EXPERIMENT = f"""
import sys
import llmlab as ll
ll.run_experiment_sync(
    [f"ticket {{at}}" for at in range({UNITS})], "Which category fits?\\n\\n{{text}}",
    model="m", categories=["bug", "billing", "other"], runs={RUNS}, base_url=sys.argv[1], api_key="none",
    journal=sys.argv[2], max_concurrent={SLOTS}, progress=False, limiter=ll.RateLimiter(None),
    retry=ll.RetryPolicy(wait=lambda attempt: 0.02, max_retries=5),
)
print("done", flush=True)
"""


def start(script, *arguments, **settings):
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=ROOT, **settings,
    )  # fmt: skip


def attempts_in(path):
    """The attempts on the disk, by trial, as (number, status, tokens)."""
    with sqlite3.connect(path) as connection:
        rows = connection.execute(
            "SELECT place / 65536, attempt, status, total_tokens FROM attempts ORDER BY place"
        ).fetchall()
    connection.close()
    found = {}
    for trial, *attempt in rows:
        found.setdefault(trial, []).append(tuple(attempt))
    return found


def copy_of(path, to):
    """What a killed process left, while nobody has opened it."""
    to.mkdir()
    for file in path.parent.glob(f"{path.name}*"):
        (to / file.name).write_bytes(file.read_bytes())
    return to / path.name


def test_killed_at_any_moment_it_goes_on_where_it_was(provider, tmp_path):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    luck = random.Random(seed)
    path, killed, in_flight, kept = tmp_path / "journal.sqlite", 0, 0, {}
    simulated = provider(latency_s=0.03, jitter_s=0.05, malformed_rate=0.15, error_rate=0.15, seed=seed)
    while True:
        before = simulated.counts().requests
        child = start(EXPERIMENT, simulated.base_url, path)
        # Killed anywhere, from the first requests on; the time to start is of no interest.
        deadline = time.monotonic() + 20
        while simulated.counts().requests == before and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.002)
        if killed < CRASHES:
            time.sleep(luck.uniform(0, 2.0 / max(CRASHES, 3)))
            child.send_signal(signal.SIGKILL)
        out, err = child.communicate(timeout=30)
        if killed < CRASHES and child.returncode == -signal.SIGKILL:
            killed += 1
            in_flight += SLOTS
            found = attempts_in(copy_of(path, tmp_path / f"crash{killed}"))
        else:
            assert (child.returncode, out, err) == (0, "done\n", "")
            found = attempts_in(path)
        for trial, before in kept.items():
            # What was on the disk stays there, and whoever was answered is not asked again.
            assert found[trial][: len(before)] == before
            if before[-1][1] == "ok":
                assert len(found[trial]) == len(before)
        kept = found
        if child.returncode == 0:
            break
    assert killed == CRASHES or child.returncode == 0
    assert len(kept) == UNITS * RUNS
    for attempts in kept.values():
        assert [number for number, _, _ in attempts] == list(range(1, len(attempts) + 1))
        assert [status for _, status, _ in attempts].count("ok") <= 1
    results = ll.load_results(path)
    done = results.predictions["status"].value_counts()
    assert done["ok"] >= 0.97 * UNITS * RUNS
    # The provider counted what is in the journal, and what was in flight at a kill.
    counts, ours = simulated.counts(), results.attempts
    lost = counts.requests - len(ours)
    assert 0 <= lost <= in_flight
    most = ours["total_tokens"].max()
    assert 0 <= counts.total_tokens - ours["total_tokens"].sum() <= lost * most
    assert not ours.duplicated(["unit_id", "model", "run", "attempt"]).any()


# interrupts

INTERRUPTED = """
import asyncio, signal, sys
import llmlab as ll
settings = dict(model="m", base_url=sys.argv[1], api_key="none", progress=False, limiter=ll.RateLimiter(None),
    max_concurrent=4, grace_s=float(sys.argv[3]), journal=sys.argv[4] if len(sys.argv) > 4 else None)
units = [str(at) for at in range(200)]
def show(results):
    counts = results.predictions["status"].value_counts().to_dict()
    print(counts, len(results.attempts), results.stopped, sep="|", flush=True)
async def main():
    show(await ll.run_experiment(units, "{text}", **settings))
    await asyncio.sleep(0.01)
if sys.argv[2] == "sync":
    show(ll.run_experiment_sync(units, "{text}", **settings))
elif sys.argv[2] == "two":
    async def both():
        done = await asyncio.gather(*(ll.run_experiment(units, "{text}", **settings) for _ in range(2)))
        show(done[0])
    asyncio.run(both())
else:
    asyncio.run(main())
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, flush=True)
"""


def interrupted(simulated, *arguments, after=12, signals=1, between_s=0.2):
    """Interrupt the script once so many requests have come; (return code, output, error) within 30 s."""
    child = start(INTERRUPTED, simulated.base_url, *arguments)
    deadline = time.monotonic() + 20
    while simulated.counts().requests < after and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.002)
    for _ in range(signals):
        child.send_signal(signal.SIGINT)
        time.sleep(between_s if signals > 1 else 0)
    out, err = child.communicate(timeout=30)
    return child.returncode, out, err


@pytest.mark.parametrize("how", ["run", "sync", "two"])
def test_an_interrupt_returns_what_is_answered_and_ends_well(provider, tmp_path, how):
    simulated = provider(latency_s=0.2)
    journal = () if how == "two" else (tmp_path / "journal.sqlite",)
    code, out, err = interrupted(simulated, how, 5, *journal)
    assert (code, err) == (0, "")
    (counts, attempts, stopped), (usual,) = (line.split("|") for line in out.splitlines())
    assert stopped.startswith("interrupted; ")
    assert stopped.endswith("are not answered")
    # What was in flight came back within its grace: no attempt is lost, none was sent after.
    assert "'ok': " in counts
    assert "failed" not in counts
    assert simulated.counts().dropped == 0
    if how != "two":
        assert simulated.counts().requests == int(attempts) == len(ll.load_results(journal[0]).attempts)
    # Afterwards Ctrl-C is what it was.
    assert usual == "True"


def test_what_does_not_come_back_in_the_grace_is_a_row_of_unknown_cost(provider, tmp_path):
    simulated, path = provider(latency_s=300), tmp_path / "journal.sqlite"
    code, _, err = interrupted(simulated, "run", 0.3, path, after=4)
    assert (code, err) == (0, "")
    results = ll.load_results(path)
    assert results.attempts["error_type"].tolist() == ["CancelledError"] * 4
    assert results.attempts["total_tokens"].isna().all()
    assert simulated.counts().requests == 4


@pytest.mark.parametrize("how", ["run", "sync"])
def test_a_second_interrupt_ends_it_at_once_and_the_journal_is_safe(provider, tmp_path, how):
    simulated, path = provider(latency_s=300), tmp_path / "journal.sqlite"
    code, _, err = interrupted(simulated, how, 200, path, after=4, signals=2)
    assert code in (1, 130, -signal.SIGINT)
    assert "KeyboardInterrupt" in err
    assert ll.load_results(path).attempts["error_type"].tolist() == ["CancelledError"] * 4


async def test_runs_side_by_side_leave_the_interrupt_as_it_was(provider):
    before = signal.getsignal(signal.SIGINT)
    settings = {"model": "m", "client": provider(latency_s=0.02), "progress": False}
    runs = (ll.run_experiment([str(at) for at in range(count)], "{text}", limiter=ll.RateLimiter(None), **settings)
            for count in (1, 40, 5))  # fmt: skip
    await asyncio.gather(*runs)
    assert signal.getsignal(signal.SIGINT) is before


# cancelling


@pytest.mark.parametrize("how", ["wait_for", "cancel"])
async def test_a_cancelled_call_ends_promptly_and_loses_nothing(provider, tmp_path, how):
    simulated, path = provider(latency_s=0.1), tmp_path / "journal.sqlite"
    running = asyncio.ensure_future(
        ll.run_experiment(
            [str(at) for at in range(50)],
            "{text}",
            model="m",
            client=simulated,
            journal=path,
            progress=False,
            limiter=ll.RateLimiter(None),
            max_concurrent=8,
        )
    )
    while simulated.counts().ok < 16:
        await asyncio.sleep(0.01)
    if how == "wait_for":
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(running, 0.05)
    else:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    results = ll.last_results()
    assert results.stopped.startswith("cancelled; ")
    status = results.attempts["status"].value_counts()
    assert status["ok"] >= 8
    assert (results.attempts["error_type"] == "CancelledError").sum() <= 8
    # What is an answer in the attempts is one in the predictions, and both are in the file.
    assert (results.predictions["status"] == "ok").sum() == status["ok"]
    pd.testing.assert_frame_equal(ll.load_results(path).attempts, results.attempts)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert not [thread for thread in threading.enumerate() if thread.name == "llmlab-journal"]
    whole = await results.rerun_failed()
    assert (whole.predictions["status"] == "ok").all()
    # A call may be cancelled before its request has left.
    assert 0 <= len(whole.attempts) - simulated.counts().requests <= 8
