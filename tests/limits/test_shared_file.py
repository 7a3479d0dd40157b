"""Shared limits in a SQLite file, as several processes of a machine use it."""

from __future__ import annotations

import sqlite3
import threading

import pytest

from llmlab.limits.common import Limits, Request
from llmlab.limits.shared_file import FileStore, boot_time
from tests.helpers import Clock

LIMITS = Limits(1e6, None, 60.0, 1, 1.0)


def ask(store, member=b"a" * 8, count=1, name="key"):
    return store.step(name, Request(member, LIMITS, weights=[0.0] * count))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "limits.sqlite"


def test_two_stores_on_one_file_count_together_and_keys_apart(path):
    one, two = FileStore(path), FileStore(path)
    ask(one, b"a" * 8, 3)
    assert ask(two, b"b" * 8, 2).in_window == 5
    assert ask(two, b"b" * 8, 0).processes == 2
    assert ask(two, name="other").in_window == 1
    one.close()
    assert ask(one, count=0).in_window == 5
    one.close()
    two.close()


def test_threads_that_step_at_the_same_time_lose_nothing(path):
    def work(member):
        store = FileStore(path)
        for _ in range(100):
            ask(store, member)
        store.close()

    threads = [threading.Thread(target=work, args=(bytes([n]) * 8,)) for n in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(30)
    store = FileStore(path)
    outcome = ask(store, count=0)
    # Those who wait for each other's turn come back empty-handed, but none is granted what another has.
    assert 4 <= outcome.in_window <= 400
    assert outcome.processes == 5
    store.close()


def test_the_clock_is_that_of_the_machine_and_a_step_takes_its_time_from_it(path):
    assert boot_time() <= boot_time()
    clock = Clock()
    store = FileStore(path, clock=clock)
    ask(store)
    clock.now = 61.5
    assert ask(store, count=0).in_window == 0
    store.close()


def test_a_file_that_is_deleted_is_made_anew(path):
    one, two = FileStore(path), FileStore(path)
    generation = ask(one).generation
    ask(two)
    path.unlink()
    assert ask(one).generation != generation
    assert ask(two, count=0).in_window == 1
    one.close()
    two.close()


def test_a_damaged_file_fails_once_and_is_then_made_anew(path):
    path.parent.mkdir()
    path.write_bytes(b"this is no database " * 500)
    store = FileStore(path)
    with pytest.raises(sqlite3.DatabaseError):
        ask(store)
    assert ask(store).in_window == 1
    store.close()


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        ask(FileStore(tmp_path / "file" / "limits.sqlite"))


def test_after_another_start_of_the_machine_its_old_clock_counts_for_nothing(path):
    store = FileStore(path, clock=lambda: 1e6)
    ask(store, count=5)
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE machine SET boot = 'an earlier one'")
    connection.close()
    store = FileStore(path, clock=lambda: 10.0)
    assert ask(store).in_window == 1
    store.close()


def test_a_file_in_use_on_another_machine_is_refused_with_the_way_out(path):
    store = FileStore(path)
    ask(store)
    store.close()
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE machine SET host = 'elsewhere', boot = 'another'")
    connection.close()
    with pytest.raises(OSError, match=r"in use on another machine, elsewhere.*redis://"):
        ask(store)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE machine SET at = at - 1000")
    connection.close()
    assert ask(store).in_window == 1
    store.close()


def test_another_machine_that_takes_over_a_file_in_use_is_noticed(path):
    clock = Clock()
    store = FileStore(path, clock=clock)
    ask(store)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE machine SET host = 'elsewhere', boot = 'another'")
    connection.close()
    assert ask(store).in_window == 2
    clock.now = 31.0
    with pytest.raises(OSError, match="in use on another machine"):
        ask(store)
    store.close()


def test_a_container_of_the_same_machine_may_have_another_name(path):
    store = FileStore(path)
    ask(store)
    store.close()
    with sqlite3.connect(path) as connection:
        [(boot,)] = connection.execute("SELECT boot FROM machine")
        connection.execute("UPDATE machine SET host = 'container'")
    connection.close()
    if boot:
        assert ask(store).in_window == 2
    store.close()


def test_the_file_is_for_this_user_alone(path):
    store = FileStore(path)
    ask(store)
    assert path.stat().st_mode & 0o077 == 0
    assert repr(store) == f"file {path}"
    store.close()
