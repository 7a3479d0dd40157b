"""A journal keeps every attempt before it counts, asks only what is missing, knows its owner, and gives the frames back."""

import asyncio
import enum
import json
import os
import resource
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pydantic
import pytest

import llmlab as ll
from llmlab.errors import JournalError
from llmlab.results.cells import decode_id, encode_id
from llmlab.results.journal import Journal

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
PROMPT = "Classify: {text}"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.sqlite"


async def ask(provider, units, path, prompt=PROMPT, **settings):
    return await ll.run_experiment(
        units,
        prompt,
        client=provider,
        journal=path,
        progress=False,
        **{
            "model": "m",
            "limiter": ll.RateLimiter(None),
            "retry": ll.RetryPolicy(wait=lambda attempt: 0.01),
            **settings,
        },
    )


def texts(count):
    return [f"text {at}" for at in range(count)]


def rows(path):
    """What is on the disk, read beside a running experiment by nobody's leave but the operating system's."""
    with sqlite3.connect(path) as connection:
        found = connection.execute("SELECT unit, model, run, attempt, status, total_tokens FROM attempts").fetchall()
    connection.close()
    return found


def equal(loaded, live):
    """Whether a journal's frames are the live ones; a pydantic model comes back as a dict."""
    predictions = live.predictions
    if predictions["prediction"].map(lambda value: isinstance(value, pydantic.BaseModel)).any():
        cells = [value.model_dump(mode="json") if value is not None else None for value in predictions["prediction"]]
        predictions["prediction"] = pd.Series(cells, dtype=object, index=predictions.index)
    pd.testing.assert_frame_equal(loaded.predictions, predictions, check_freq=False)
    pd.testing.assert_frame_equal(loaded.attempts, live.attempts)
    pd.testing.assert_frame_equal(loaded.units, live.units, check_freq=False)
    assert loaded.categories == live.categories
    if live.stopped is None:
        # How to go on depends on whether the prompt is at hand.
        assert loaded.summary() | {"go on": ""} == live.summary() | {"go on": ""}


# durable, and asked once


async def test_an_attempt_is_on_the_disk_before_its_trial_counts(provider, path, monkeypatch):
    written, real = [], Journal._write_batches
    experiment = None

    def slow(self):
        time.sleep(0.1)
        written.append(experiment._run.tally.done)
        real(self)

    monkeypatch.setattr("llmlab.results.journal.Journal._write_batches", slow)
    experiment = ll.start_experiment(texts(5), PROMPT, model="m", client=provider(), journal=path, progress=False,
                                     limiter=ll.RateLimiter(None))  # fmt: skip
    results = await experiment
    # All five answers were there for long, and none counted while the disk was busy.
    assert written == [0]
    assert results.predictions["status"].tolist() == ["ok"] * 5


async def test_the_same_cell_again_asks_only_what_is_missing_or_failed(provider, path):
    simulated = provider(error_rate=0.4, malformed_rate=0.3, seed=2)
    first = await ask(simulated, texts(40), path, categories=["a", "b"], retry=ll.RetryPolicy(max_retries=1))
    failed = (first.predictions["status"] != "ok").sum()
    assert 10 < failed < 35
    before = simulated.counts().requests
    second = await ask(simulated, texts(40), path, categories=["a", "b"], retry=ll.RetryPolicy(max_retries=1))
    assert simulated.counts().requests - before == failed
    kept = first.predictions["status"] == "ok"
    pd.testing.assert_frame_equal(second.predictions[kept], first.predictions[kept])
    assert len(second.attempts) == len(first.attempts) + failed
    assert second.attempts["total_tokens"].sum() == simulated.counts().total_tokens
    # Attempts are numbered over all that a trial ever had.
    numbers = second.attempts.groupby(["unit_id"])["attempt"].apply(list)
    assert all(number == list(range(1, len(number) + 1)) for number in numbers)
    equal(ll.load_results(path), second)


async def test_more_units_runs_and_models_are_added_to_it(provider, path):
    simulated = provider()
    requests = []
    for units, settings in (
        (texts(4), {}),
        (texts(6), {}),
        (texts(6), {"runs": 3}),
        (texts(6), {"runs": 2, "model": ["m", "m2"]}),
        (texts(2), {}),
    ):
        before = simulated.counts().requests
        results = await ask(simulated, units, path, **settings)
        assert (results.predictions["status"] == "ok").all()
        requests.append(simulated.counts().requests - before)
    assert requests == [4, 2, 12, 12, 0]
    loaded = ll.load_results(path).predictions
    assert len(loaded) == 6 * 2 * 3
    assert (loaded["status"] == "ok").sum() == 30


async def test_rerun_failed_goes_on_in_the_journal(provider, path):
    simulated = provider(error_rate=0.5, seed=1)
    results = await ask(simulated, texts(30), path, retry=ll.RetryPolicy(max_retries=1))
    assert (results.predictions["status"] == "failed").any()
    while (results.predictions["status"] == "failed").any():
        results = await results.rerun_failed()
    assert simulated.counts().requests == len(results.attempts) == len(rows(path))
    equal(ll.load_results(path), results)
    # Rows that were picked are asked again whatever they hold.
    again = await results.rerun(results.predictions.head(2))
    assert len(again.attempts) == len(results.attempts) + 2
    equal(ll.load_results(path), again)


async def test_a_callable_prompt_is_known_by_its_source(provider, path):
    simulated = provider()

    def prompt(unit):
        return f"Which? {unit['text']}"

    def other(unit):
        return f"What? {unit['text']}"

    await ask(simulated, texts(3), path, prompt)
    await ask(simulated, texts(3), path, prompt)
    assert simulated.counts().requests == 3
    with pytest.raises(JournalError, match="its prompt is .*prompt [0-9a-f]+, here it is .*other [0-9a-f]+"):
        await ask(simulated, texts(3), path, other)


async def test_parse_is_applied_again_to_what_was_answered(provider, path):
    simulated = provider()
    await ask(simulated, texts(3), path, parse=len)
    results = await ask(simulated, texts(3), path, parse=len)
    assert simulated.counts().requests == 3
    assert results.predictions["prediction"].tolist() == results.attempts["content"].str.len().tolist()


# whose it is


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"prompt": "Sort: {text}"}, "its prompt is Classify: {text}, here it is Sort: {text}"),
        ({"prompt": [{"role": "system", "content": "x"}, {"role": "user", "content": "{text}"}]}, "its prompt is"),
        ({"categories": ["a", "c"]}, "its answer is"),
        ({"categories": None}, "its answer is"),
        ({"temperature": 0.5}, 'its request is {}, here it is {"temperature": 0.5}'),
        ({"reasoning_effort": "low"}, "its request is"),
        ({"units": ["text 0", "changed"]}, "unit 1 was asked with other values of text"),
    ],
)
async def test_another_experiment_is_refused_and_what_differs_is_named(provider, path, change, named):
    simulated = provider()
    settings = {"units": texts(2), "prompt": PROMPT, "categories": ["a", "b"]}
    await ask(simulated, path=path, **settings)
    before, requests = path.read_bytes(), simulated.counts().requests
    with pytest.raises(JournalError) as caught:
        await ask(simulated, path=path, **(settings | change))
    assert named in str(caught.value)
    assert str(path) in str(caught.value)
    assert "Choose another file" in str(caught.value)
    assert simulated.counts().requests == requests
    assert path.read_bytes() == before
    # It is released at once, for the right experiment.
    await ask(simulated, path=path, **settings)


async def test_what_the_prompt_does_not_use_may_change(provider, path):
    simulated = provider()
    units = pd.DataFrame({"text": texts(3), "note": ["a", "b", "c"]})
    await ask(simulated, units, path)
    results = await ask(simulated, units.assign(note="z", more=1), path)
    assert simulated.counts().requests == 3
    assert results.predictions["note"].tolist() == ["z"] * 3


async def test_a_rehearsal_is_no_experiment(provider, path):
    simulated = provider()
    await ask(simulated, texts(2), path)
    real = {"client": None, "base_url": simulated.base_url, "api_key": "sk-5ecre7-5ecre7"}
    with pytest.raises(JournalError, match="its model is a simulated one, here it is not set"):
        await ll.run_experiment(texts(2), PROMPT, model="m", journal=path, progress=False, **real)


async def test_keys_in_headers_and_queries_are_not_written_and_may_change(provider, path):
    simulated = provider()
    for secret in ("5ecre7", "an0ther"):
        extra = {"extra_headers": {"X-Key": secret}, "extra_query": {"key": secret}}
        await ask(simulated, texts(2), path, **extra)
    assert simulated.counts().requests == 2
    assert b"5ecre7" not in path.read_bytes()


# one writer


async def test_two_openings_at_once_are_refused_and_the_first_goes_on(provider, path):
    simulated = provider(latency_s=20)
    experiment = ll.start_experiment(texts(4), PROMPT, model="m", client=simulated, journal=path, progress=False,
                                     limiter=ll.RateLimiter(None), grace_s=0)  # fmt: skip
    await asyncio.sleep(0.05)
    for open_it in (lambda: ask(simulated, texts(4), path), lambda: asyncio.to_thread(ll.load_results, path)):
        with pytest.raises(JournalError, match="in use by another kernel or a running experiment: stop that one first"):
            await open_it()
    script = "import sys, llmlab as ll\nll.load_results(sys.argv[1])"
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script, path], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1
    assert "JournalError: The journal" in done.stderr
    assert "in use by another kernel" in done.stderr
    experiment.stop()
    results = await experiment
    assert results.attempts["error_type"].tolist() == ["CancelledError"] * 4
    equal(ll.load_results(path), results)


async def test_it_is_released_however_the_run_ends(provider, path):
    simulated = provider(latency_s=0.1)
    running = asyncio.ensure_future(ask(simulated, texts(3), path))
    await asyncio.sleep(0.05)
    running.cancel()
    # Once more, while it cleans up: what is queued is written all the same.
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    results = await ask(simulated, texts(3), path)
    assert results.predictions["status"].tolist() == ["ok"] * 3
    with pytest.raises(ll.InputError):
        await ask(simulated, texts(3), path, max_concurrent=0)
    with pytest.raises(JournalError):
        await ask(simulated, texts(3), path, "Other: {text}")
    assert (await ask(simulated, texts(3), path)).predictions["status"].tolist() == ["ok"] * 3


# files that are none


def garbage(path):
    path.write_bytes(b"unit_id,text\n1,hello\n" * 50)


def another_database(path):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE meta (id INTEGER)")
        connection.execute("CREATE TABLE units (id INTEGER)")
        connection.execute("CREATE TABLE attempts (id INTEGER)")
    connection.close()


def anybodys_database(path):
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE songs (name)")
        connection.execute("INSERT INTO songs VALUES ('a')")
    connection.close()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (garbage, "is no journal of llmlab, or is damaged; it is left as it is"),
        (another_database, "is an SQLite file, but no journal of llmlab; it is left as it is"),
        (anybodys_database, "is an SQLite file, but no journal of llmlab; it is left as it is"),
        (Path.mkdir, "needs a file, and"),
    ],
)
async def test_a_file_of_anothers_is_refused_and_left_as_it_is(provider, path, make, said):
    make(path)
    before = None if path.is_dir() else path.read_bytes()
    simulated = provider()
    with pytest.raises(JournalError, match=said):
        await ask(simulated, texts(2), path)
    with pytest.raises((JournalError, ll.InputError)):
        ll.load_results(path)
    assert before is None or path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert simulated.counts().requests == 0


async def test_a_newer_format_is_refused_and_left_as_it_is(provider, path):
    await ask(provider(), texts(2), path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = '9' WHERE name = 'format'")
    connection.close()
    before = path.read_bytes()
    for open_it in (lambda: ask(provider(), texts(2), path), lambda: asyncio.to_thread(ll.load_results, path)):
        with pytest.raises(JournalError, match="has format 9; this version reads 1"):
            await open_it()
    assert path.read_bytes() == before


async def test_a_missing_folder_and_a_missing_file_are_named(provider, tmp_path):
    with pytest.raises(JournalError, match="The folder of the journal does not exist: .*nowhere"):
        await ask(provider(), texts(2), tmp_path / "nowhere" / "journal.sqlite")
    with pytest.raises(JournalError, match="There is no journal at .*journal.sqlite"):
        ll.load_results(tmp_path / "journal.sqlite")
    assert list(tmp_path.iterdir()) == []


@LINUX
@pytest.mark.parametrize("folder", ["/proc", "/proc/self/fd"])
async def test_a_folder_that_takes_no_file_is_named_before_anything_is_sent(provider, folder):
    simulated = provider()
    with pytest.raises(JournalError, match=rf"The journal {folder}/journal\.sqlite cannot be opened for writing"):
        await ask(simulated, texts(2), f"{folder}/journal.sqlite")
    assert simulated.counts().requests == 0


@LINUX
async def test_a_device_is_no_file(provider):
    with pytest.raises(JournalError, match="needs a file, and /dev/full is none"):
        await ask(provider(), texts(2), "/dev/full")


async def test_results_are_read_where_nothing_can_be_written(provider, path, monkeypatch):
    results = await ask(provider(), texts(3), path)
    real = sqlite3.connect

    def read_only(database, **settings):
        # What the system says of a file on a disk that is mounted for reading; root may write anywhere else.
        return real(database, **settings) if settings.get("uri") else real("/proc/version/no", **settings)

    monkeypatch.setattr("sqlite3.connect", read_only)
    monkeypatch.setattr("os.access", lambda *_: False)
    equal(ll.load_results(path), results)
    path.with_name("journal.sqlite-wal").write_bytes(b"more")
    with pytest.raises(JournalError, match="cannot be opened for writing"):
        ll.load_results(path)


# disks that fail


@pytest.fixture
def full_disk():
    """No file of this process may grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_full_disk_stops_the_run_with_all_answers_in_memory_and_later_in_the_file(provider, path, full_disk):
    simulated = provider(latency_s=0.005)
    units = texts(300)
    full_disk(150_000)
    results = await ask(simulated, units, path, parse=str.strip, max_concurrent=8)
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
    assert (whole.predictions["status"] == "ok").all()
    assert simulated.counts().requests == len(whole.attempts) == 300
    equal(ll.load_results(path), whole)


@pytest.mark.parametrize("damage", ["cut", "zeros", "noise", "tables", "status", "json"])
async def test_a_damaged_file_is_named_and_not_written_to(provider, path, damage):
    simulated = provider()
    await ask(simulated, [f"{at} " + "x" * 500 for at in range(200)], path)
    raw = bytearray(path.read_bytes())
    if damage == "cut":
        raw = raw[: len(raw) // 3]
    elif damage == "zeros":
        raw[4096 * 3 : 4096 * 20] = bytes(4096 * 17)
    elif damage == "noise":
        raw[4096 : 4096 * 30] = np.random.default_rng(1).bytes(4096 * 29)
    path.write_bytes(raw)
    if damage in ("tables", "status", "json"):
        change = {
            "tables": "DROP TABLE attempts",
            "status": "UPDATE attempts SET status = 'perhaps' WHERE seq = 7",
            "json": "UPDATE units SET id = '{' WHERE unit = 3",
        }[damage]
        with sqlite3.connect(path) as connection:
            connection.execute(change)
        connection.close()
    before = path.read_bytes()
    for open_it in (
        lambda: ask(simulated, [f"{at} " + "x" * 500 for at in range(200)], path),
        lambda: asyncio.to_thread(ll.load_results, path),
    ):
        with pytest.raises(JournalError, match="damaged|cannot be used|no journal of llmlab"):
            await open_it()
    assert simulated.counts().requests == 200
    if damage not in ("status", "json"):
        assert path.read_bytes() == before


async def test_a_killed_kernels_journal_with_a_torn_tail_is_read_up_to_there(provider, path):
    script = """if True:
        import os, sys, llmlab as ll
        from llmlab.results.journal import Journal
        Journal.release = lambda self: os.kill(os.getpid(), 9)
        ll.run_experiment_sync([f"text {at}" for at in range(20)], "Classify: {text}", model="m", progress=False,
            max_concurrent=1, limiter=ll.RateLimiter(None), journal=sys.argv[1], base_url=sys.argv[2], api_key="none")
        """
    simulated = provider()
    killed = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", script, path, simulated.base_url], timeout=30, stdin=subprocess.DEVNULL
    )
    assert killed.returncode == -9
    wal = path.with_name("journal.sqlite-wal")
    raw = wal.read_bytes()
    # The power failed in the middle of a write.
    wal.write_bytes(raw[: len(raw) * 2 // 3] + bytes(100))
    kept = len(ll.load_results(path).attempts)
    assert 0 < kept < 20
    real = {"client": None, "base_url": simulated.base_url, "api_key": "none"}
    results = await ll.run_experiment(texts(20), PROMPT, model="m", progress=False, limiter=ll.RateLimiter(None),
                                      journal=path, **real)  # fmt: skip
    assert (results.predictions["status"] == "ok").all()
    assert simulated.counts().requests == 20 + 20 - kept


# the frames come back


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(enum.Enum):
    SMALL = 1
    LARGE = 2


class Ticket(pydantic.BaseModel):
    label: str
    urgent: bool
    score: int | None


BASE = {"text": ["one", "two", "three"]}
UNITS = {
    "list": texts(3),
    "series": pd.Series(texts(3), index=["x", "y", "z"], name="body"),
    "mappings": [{"text": "a", "more": 1}, {"text": "b"}],
    "odd text": ["half \ud83d pair", "nul \x00 in it", "emoji 😀 \r\n\u2028"],
    "id column": pd.DataFrame({"unit_id": ["b", "a", "c"], **BASE}),
    "str ids": pd.DataFrame(BASE, index=["1", "01", "1.0"]),
    "int ids": pd.DataFrame(BASE, index=[30, -1, 2]),
    "small int ids": pd.DataFrame(BASE, index=pd.Index([1, 2, 3], dtype="uint8")),
    "nullable ids": pd.DataFrame(BASE, index=pd.Index([1, 2, 3], dtype="Int64")),
    "float ids": pd.DataFrame(BASE, index=[1.0, 2.5, float("inf")]),
    "mixed ids": pd.DataFrame(BASE, index=pd.Index([1, "1", 2.5], dtype=object)),
    "tuple ids": pd.DataFrame(BASE, index=pd.MultiIndex.from_tuples([(1, "a"), (1, "b"), (2, "a")])),
    "time ids": pd.DataFrame(BASE, index=pd.date_range("2026-01-01", periods=3)),
    "fine time ids": pd.DataFrame(BASE, index=pd.DatetimeIndex(["2026-01-01T00:00:00.123456789", "2026", "2027"])),
    "zoned ids": pd.DataFrame(BASE, index=pd.date_range("2026-03-28", periods=3, tz="Europe/Berlin")),
    "category ids": pd.DataFrame(BASE, index=pd.CategoricalIndex(["q", "r", "s"], categories=["s", "r", "q", "t"])),
    "nan cells": pd.DataFrame({**BASE, "x": [1.5, None, float("inf")]}),
    "ints with missing": pd.DataFrame({**BASE, "x": [1, None, 3]}),
    "nullable ints": pd.DataFrame({**BASE, "x": pd.array([1, None, 2**60], dtype="Int64")}),
    "small ints": pd.DataFrame({**BASE, "x": np.array([1, 2, 3], "int8")}),
    "bools": pd.DataFrame({**BASE, "x": [True, False, True], "y": pd.array([True, None, False], dtype="boolean")}),
    "times": pd.DataFrame({**BASE, "x": pd.to_datetime(["2026-01-01", None, "2026-02-01"])}),
    "zoned times": pd.DataFrame({**BASE, "x": pd.date_range("2026-10-24 23:30", periods=3, freq="D",
                                                           tz="Europe/Berlin")}),
    "spans": pd.DataFrame({**BASE, "x": pd.to_timedelta(["1 day", None, "2h"]),
                           "y": pd.period_range("2026-01", periods=3, freq="M")}),
    "categories": pd.DataFrame({**BASE, "x": pd.Categorical(["u", None, "v"], ["v", "u", "w"], ordered=True),
                                "y": pd.Categorical([3, None, 1])}),
    "strings with missing": pd.DataFrame({**BASE, "x": ["s", None, "t"]}),
    "objects": pd.DataFrame({**BASE, "x": [[1, 2], {"a": [1]}, None]}),
    "picked runs": pd.DataFrame({"unit_id": ["a", "b", "a"], "run": [2, 1, 1], "prediction": "x", "status": "ok",
                                 "text": ["A", "B", "A"]}),
    "picked models": pd.DataFrame({"unit_id": [1, 2], "run": [1, 4], "prediction": "x", "status": "ok",
                                   "model": ["m", "m"], "text": ["A", "B"]}),
    "nothing": [],
}  # fmt: skip
ANSWERS = {
    "text": {},
    "categories": {"categories": ["a", "b", "c"], "runs": 3},
    "enum": {"categories": Colour},
    "enum of ints": {"categories": Size},
    "model": {"response_model": Ticket, "runs": 3},
    "parse to int": {"parse": len},
    "parse to dict": {"parse": lambda text: {"n": len(text), "words": text.split()}},
    "parse to mixed": {"parse": lambda text: None if "three" in text else [text]},
    "two models": {"model": ["m", "m2"], "runs": 2},
}


@pytest.mark.parametrize("units", UNITS.values(), ids=UNITS.keys())
async def test_load_results_gives_the_frames_back_for_units_of_every_kind(provider, path, units):
    simulated = provider(error_rate=0.2, seed=4)
    results = await ask(simulated, units, path)
    equal(ll.load_results(path), results)
    requests = simulated.counts().requests
    again = await ask(simulated, units, path)
    assert simulated.counts().requests == requests
    equal(ll.load_results(path), again)


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
async def test_load_results_gives_the_frames_back_for_answers_of_every_kind(provider, path, answer):
    simulated = provider(malformed_rate=0.3, error_rate=0.2, missing_usage_rate=0.2, cost=True, seed=5)
    results = await ask(simulated, BASE["text"], path, **answer)
    equal(ll.load_results(path), results)
    again = await results.rerun_failed()
    equal(ll.load_results(path), again)


async def test_what_providers_send_comes_back_as_it_was(provider, path):
    some = ["b-surrogate", "b-control", "c-finish-odd", "u-mismatch", "u-null", "u-cost-byok", "j-think", "c-refusal",
            "s502-html", "w-reset", "j-zero-width", "c-model-null", "b-big"]  # fmt: skip
    results = await ask(
        provider(), ["text"], path, model=[f"fault/{fault}" for fault in some], categories=["yes", "no"]
    )
    loaded = ll.load_results(path)
    equal(loaded, results)
    # In the file it is whole, where the frame has to replace half a surrogate pair.
    contents = [a.content for o in loaded.outcomes() for a in o.attempts if o.trial.model == "fault/b-surrogate"]
    assert contents == ['{"label": "yes \ud83d"}']


async def test_what_json_does_not_know_comes_back_as_text(provider, path):
    results = await ask(provider(), texts(1), path, parse=lambda text: {"at": pd.Timestamp("2026-01-01"), "s": {1}})
    assert results.predictions["status"].tolist() == ["ok"]
    assert ll.load_results(path).predictions["prediction"].tolist() == [{"at": "2026-01-01 00:00:00", "s": "{1}"}]


async def test_a_value_that_cannot_be_dumped_costs_nothing(provider, path):
    class Odd:
        def model_dump(self, **_):
            raise AttributeError("not today")

    results = await ask(provider(), texts(3), path, parse=lambda text: Odd())
    assert results.predictions["status"].tolist() == ["ok"] * 3
    assert ll.load_results(path).predictions["prediction"].equals(results.attempts["content"])


@pytest.mark.parametrize("unit_id", ["a", "1", 1, 1.0, -0.5, "é\n", (1, "a"), ("1", (2, 3)), pd.Timestamp("2026-01-01"),
                                     pd.Timestamp("2026-01-01", tz="UTC"), np.int64(7), np.float32(0.5), True])  # fmt: skip
def test_ids_are_told_apart(unit_id):
    assert decode_id(encode_id(unit_id)) == unit_id
    assert encode_id(unit_id) == encode_id(decode_id(encode_id(unit_id)))


def test_ids_of_other_kinds_are_refused_by_name():
    assert len({encode_id(one) for one in (1, "1", 1.0, ("1",), (1,))}) == 5
    with pytest.raises(JournalError, match="ids that are text, numbers or dates, not bytes: b'x'"):
        encode_id(b"x")


# it keeps out of the way


async def test_no_key_and_no_header_is_in_it(provider, path):
    key = "sk-5ecre7-5ecre7-5ecre7"
    given = {"base_url": provider().base_url, "api_key": key, "limiter": ll.RateLimiter(None)}
    await ll.run_experiment(["text"], PROMPT, model="fault/s401-echo", journal=path, progress=False, **given)
    await ll.run_experiment(["text"], PROMPT, model="m", journal=path, progress=False, **given)
    assert key.encode() not in path.read_bytes()
    with sqlite3.connect(path) as connection:
        dump = "\n".join(connection.iterdump())
    connection.close()
    assert "5ecre7" not in dump
    assert "authorization" not in dump.lower()
    assert json.loads(dict(sqlite3.connect(path).execute("SELECT name, value FROM meta"))["format"]) == 1
    assert os.path.exists(path)
