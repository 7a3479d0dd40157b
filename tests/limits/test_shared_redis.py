"""Shared limits in a real Redis, which the tests start on a free port."""

from __future__ import annotations

import shutil
import threading

import pytest

from llmlab.errors import InputError
from llmlab.limits.common import Limits, Request
from llmlab.limits.shared_redis import PREFIX, RedisStore
from tests.benchmarks.shared import redis

pytestmark = pytest.mark.skipif(
    shutil.which("redis-server") is None and shutil.which("valkey-server") is None, reason="no redis-server"
)
LIMITS = Limits(1e6, None, 60.0, 1, 1.0)


@pytest.fixture(scope="module")
def server():
    with redis() as server:
        yield server


@pytest.fixture
def store(server):
    store = RedisStore(server.where)
    store._redis.flushall()
    yield store
    store.close()


def ask(store, member=b"a" * 8, count=1, name="key"):
    return store.step(name, Request(member, LIMITS, weights=[0.0] * count))


def test_two_stores_count_together_and_keys_apart(server, store):
    other = RedisStore(server.where)
    ask(store, b"a" * 8, 3)
    assert ask(other, b"b" * 8, 2).in_window == 5
    assert ask(other, name="other").in_window == 1
    other.close()


def test_steps_at_the_same_time_are_done_again_and_lose_nothing(server, store):
    def work(member):
        mine = RedisStore(server.where)
        granted = sum(len(ask(mine, member).granted) for _ in range(50))
        mine.close()
        counts.append(granted)

    counts = []
    threads = [threading.Thread(target=work, args=(bytes([n]) * 8,)) for n in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(30)
    assert len(counts) == 4
    assert ask(store, count=0).in_window == sum(counts)


def test_the_state_is_forgotten_some_periods_later_and_holds_no_key(store):
    ask(store)
    left_ms = store._redis.pttl(PREFIX + "key")
    assert 0 < left_ms <= 600_000
    assert store._redis.keys() == [b"llmlab:limits:key"]


def test_the_clock_is_the_servers(store):
    seconds, _ = store._redis.time()
    assert ask(store).now == pytest.approx(seconds, abs=2)


def test_a_server_that_has_forgotten_the_script_is_told_it_again(store):
    ask(store)
    store._redis.script_flush()
    assert ask(store).in_window == 2


def test_a_server_that_is_gone_is_an_error_and_one_that_is_back_starts_anew():
    with redis() as server:
        store = RedisStore(server.where)
        generation = ask(store).generation
        server.stop()
        with pytest.raises(Exception, match=str(server.port)):
            ask(store)
        server.start()
        assert ask(store).generation != generation
        store.close()


def test_a_password_is_shown_nowhere():
    store = RedisStore("redis://:pa55word@127.0.0.1:1/0")
    with pytest.raises(Exception, match="127.0.0.1") as caught:
        ask(store)
    assert "pa55word" not in repr(store) + str(caught.value)
    assert repr(store) == "Redis at 127.0.0.1"


def test_an_address_that_cannot_be_read_is_refused():
    with pytest.raises(InputError, match="not the address of a Redis"):
        RedisStore("redis://host:port/0")
