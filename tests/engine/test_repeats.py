"""A completion that is given out for two runs of a unit is told apart from a server that numbers none of them."""

from llmlab.engine.repeats import Completions
from llmlab.records import Trial


def trial(unit, run=1, model="m"):
    return Trial(0, unit, model, run)


def test_the_same_completion_in_two_runs_of_a_unit_is_repeated():
    seen = Completions()
    assert not seen.is_repeated(trial("a", 1), "x")
    assert seen.is_repeated(trial("a", 2), "x")
    assert not seen.is_repeated(trial("a", 3), "y")


def test_a_retry_of_the_same_run_is_none():
    seen = Completions()
    assert not seen.is_repeated(trial("a", 1), "x")
    assert not seen.is_repeated(trial("a", 1), "x")


def test_a_server_without_ids_of_its_own_is_not_accused():
    seen = Completions()
    assert not seen.is_repeated(trial("a", 1), "c")
    assert not seen.is_repeated(trial("b", 1), "c")
    assert not seen.is_repeated(trial("b", 2), "c")
    assert not seen.is_repeated(trial("b", 2), None)
