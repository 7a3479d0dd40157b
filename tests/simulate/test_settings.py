"""Every setting has a range, a meaning and a name, and all that is said of it follows from its declaration."""

import inspect
from dataclasses import fields

import pytest

from llmlab import simulate
from llmlab.errors import InputError
from llmlab.simulate.__main__ import parser
from llmlab.simulate.settings import meaning_of


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"latency_s": -1}, "seconds, 0 or more"),
        ({"jitter_s": float("nan")}, "seconds, 0 or more"),
        ({"period_s": 0}, "more than 0"),
        ({"malformed_rate": 1.5}, "a share from 0 to 1"),
        ({"models": {"m": 2}}, "an accuracy from 0 to 1"),
        ({"requests_per_minute": 0}, "1 or more, or None"),
        ({"limit": True}, "1 or more, or None"),
        ({"limit": 3, "requests_per_minute": 3}, "give one of them"),
        ({"requests_per_minute": 3, "period_s": 1}, "give one of them"),
        ({"fault": "nonsense"}, "one of outage, overloaded"),
        ({"latency": 1}, "did you mean latency_s"),
    ],
)
def test_settings_out_of_range_say_the_range(settings, words):
    with pytest.raises(InputError, match=words):
        simulate.client(**settings)


def test_client_takes_every_setting_by_name_with_its_default():
    given = inspect.signature(simulate.client).parameters
    declared = {one.name: one.default for one in fields(simulate.Settings)}
    assert {name: one.default for name, one in given.items() if one.kind is one.KEYWORD_ONLY} == declared


def test_what_is_given_is_what_is_set(simulated):
    other = {
        float: 0.5, int: 7, bool: True, "limit": 9, "tokens": 900, "models": {"m": 0.5}, "fault": "outage", "fault_s": 3.0,
        "max_in_flight": 2, "requests_per_minute": None, "tokens_per_minute": None,
        "enqueued_tokens": 500, "batch_faults": ("gone", "none"),
    }  # fmt: skip
    given = {one.name: other.get(one.name, other.get(type(one.default))) for one in fields(simulate.Settings)}
    assert vars(simulated(**given).settings) == given


@pytest.mark.parametrize("one", fields(simulate.Settings), ids=lambda one: one.name)
def test_the_documentation_and_the_command_line_say_what_was_declared(one):
    meaning = meaning_of(one)
    for text in (simulate.client.__doc__, simulate.Settings.__doc__, parser().format_help()):
        words = " ".join(text.split())
        assert meaning in words
    assert one.name.replace("_", "-") in words


def test_the_command_line_reads_what_it_prints():
    given = parser().parse_args(["--latency-s", "0.5", "--models", "a=0.9,b=0.5", "--cost", "--fault", "outage"])
    assert given.latency_s == 0.5
    assert given.models == {"a": 0.9, "b": 0.5}
    assert given.cost
    assert given.fault == "outage"
