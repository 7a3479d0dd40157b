"""Several real processes on one key against a strict provider: nothing is refused and nothing lost, whatever happens.

All are played at the same time in one test, each against a provider of its own. How fast they are is recorded in
`tests/benchmarks/SHARED.md`, and asserted nowhere.
"""

from __future__ import annotations

import contextlib
import shutil
from concurrent.futures import ThreadPoolExecutor

from tests.benchmarks.shared import kill_one, play, redis, stop_one, without_redis

NO_REDIS = shutil.which("redis-server") is None and shutil.which("valkey-server") is None


def played(folder):
    """What came of each situation, by its name."""
    with ThreadPoolExecutor(4) as pool, contextlib.ExitStack() as servers:

        def begin(where, processes, units, **options):
            return pool.submit(play, str(where), processes, units, light=True, **options)

        begun = {
            "four on a file": begin(folder / "four.sqlite", 4, 100, clocks_off_s=(0.0, 5.0, -5.0, 0.0)),
            "one killed": begin(folder / "kill.sqlite", 2, 200, meanwhile=kill_one(100)),
            "one stopped": begin(folder / "stop.sqlite", 2, 200, meanwhile=stop_one(100, 2)),
        }
        if not NO_REDIS:
            server = servers.enter_context(redis())
            begun["Redis gone"] = begin(server.where, 2, 220, meanwhile=without_redis(server, 100, 3))
        return {name: one.result() for name, one in begun.items()}


def test_nothing_is_refused_and_nothing_lost(tmp_path):
    came = played(tmp_path)
    four_processes_share_one_limit_although_their_clocks_differ(came)
    the_others_go_on_when_one_is_killed(came)
    one_that_stood_still_sends_no_burst_when_it_goes_on(came)
    if not NO_REDIS:
        without_the_store_each_keeps_to_its_part_says_so_and_comes_back(came)


def four_processes_share_one_limit_although_their_clocks_differ(played):
    four = played["four on a file"]
    assert (four.answered, four.refused) == (400, 0)
    assert four.most_in_window <= 250
    assert {one["metrics"]["processes"] for one in four.processes} <= {2, 3, 4}
    assert four.least_share >= 0.5


def the_others_go_on_when_one_is_killed(played):
    left = played["one killed"]
    assert left.refused == 0
    assert [one["answered"] for one in left.processes] == [200]
    assert left.messages == []


def one_that_stood_still_sends_no_burst_when_it_goes_on(played):
    both = played["one stopped"]
    assert (both.answered, both.refused) == (400, 0)
    assert both.most_in_window <= 250


def without_the_store_each_keeps_to_its_part_says_so_and_comes_back(played):
    both = played["Redis gone"]
    assert (both.answered, both.refused) == (440, 0)
    assert both.most_in_window <= 250
    assert all(not one["errors"] for one in both.processes)
    assert len(both.messages) == 4
    for one in both.processes:
        warned, back = (message for message in one["messages"] if "the store" in message)
        assert "goes on alone at 1/2 of its limits" in warned
        assert "answers again" in back
