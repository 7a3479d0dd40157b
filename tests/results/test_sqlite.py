"""A file that is no journal is refused and left as it is; what is damaged is named."""

import asyncio
import os
import sqlite3
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

import llmlab as ll
from llmlab.errors import JournalError
from tests.helpers import ask, texts

LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.sqlite"


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
        await ask(simulated, texts(2), journal=path)
    with pytest.raises((JournalError, ll.InputError)):
        ll.load_results(path)
    assert before is None or path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert simulated.counts().requests == 0


async def test_a_newer_format_is_refused_and_left_as_it_is(provider, path):
    await ask(provider(), texts(2), journal=path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE meta SET value = '9' WHERE name = 'format'")
    connection.close()
    before = path.read_bytes()
    for open_it in (lambda: ask(provider(), texts(2), journal=path), lambda: asyncio.to_thread(ll.load_results, path)):
        with pytest.raises(JournalError, match="has format 9, and this version of llmlab reads up to 2: update llmlab"):
            await open_it()
    assert path.read_bytes() == before


async def test_a_missing_folder_and_a_missing_file_are_named(provider, tmp_path):
    with pytest.raises(JournalError, match="The folder of the journal does not exist: .*nowhere"):
        await ask(provider(), texts(2), journal=tmp_path / "nowhere" / "journal.sqlite")
    with pytest.raises(JournalError, match="There is no journal at .*journal.sqlite"):
        ll.load_results(tmp_path / "journal.sqlite")
    assert list(tmp_path.iterdir()) == []


@LINUX
@pytest.mark.parametrize("folder", ["/proc", "/proc/self/fd"])
async def test_a_folder_that_takes_no_file_is_named_before_anything_is_sent(provider, folder):
    simulated = provider()
    with pytest.raises(JournalError, match=rf"The journal {folder}/journal\.sqlite cannot be opened for writing"):
        await ask(simulated, texts(2), journal=f"{folder}/journal.sqlite")
    assert simulated.counts().requests == 0


@LINUX
async def test_a_device_is_no_file(provider):
    with pytest.raises(JournalError, match="needs a file, and /dev/full is none"):
        await ask(provider(), texts(2), journal="/dev/full")


@LINUX
async def test_results_are_read_where_nothing_can_be_written(provider):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "journal.sqlite"
        results = await ask(provider(), texts(3), journal=path)
        path.chmod(0o444)
        Path(folder).chmod(0o555)
        # Root may write anywhere.
        me = os.geteuid()
        os.seteuid(65534 if me == 0 else me)
        try:
            loaded = ll.load_results(path)
            with pytest.raises(JournalError, match="cannot be opened for writing"):
                await ask(provider(), texts(3), journal=path)
        finally:
            os.seteuid(me)
            Path(folder).chmod(0o755)
        assert loaded.predictions.equals(results.predictions)


LONG = [f"{at} " + "x" * 500 for at in range(200)]


@pytest.mark.parametrize("damage", ["cut", "zeros", "noise", "tables", "status", "json"])
async def test_a_damaged_file_is_named_and_not_written_to(provider, path, damage):
    simulated = provider()
    await ask(simulated, LONG, journal=path)
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
            "status": "UPDATE attempts SET status = 'perhaps' WHERE place = 7 * 65536 + 1",
            "json": "UPDATE meta SET value = '{' WHERE name = 'next_trial'",
        }[damage]
        with sqlite3.connect(path) as connection:
            connection.execute(change)
        connection.close()
    before = path.read_bytes()
    for open_it in (
        lambda: ask(simulated, LONG, journal=path),
        lambda: asyncio.to_thread(ll.load_results, path),
    ):
        with pytest.raises(JournalError, match="damaged|cannot be used|no journal of llmlab"):
            await open_it()
    assert simulated.counts().requests == 200
    if damage not in ("status", "json"):
        assert path.read_bytes() == before
