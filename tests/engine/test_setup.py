"""A setup checks itself: what cannot work is said before anything is sent, and no key is shown."""

import dataclasses

import pytest

import llmlab as ll
from llmlab.errors import InputError

KEY = "sk-secret-0123456789abcdef"


def setup(units=("a", "b"), prompt="{text}", **more):
    usual = {"model": "m", "base_url": "http://127.0.0.1:9/v1", "api_key": KEY}
    return ll.run_experiment(list(units), prompt, **(usual | more)).setup


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"max_concurrent": 0}, "max_concurrent must be a whole number of at least 1, not 0"),
        ({"max_concurrent": 1.5}, "max_concurrent"),
        ({"max_concurrent": True}, "max_concurrent"),
        ({"timeout": 0}, "timeout must be a positive number, not 0"),
        ({"max_cost_usd": -1}, "max_cost_usd"),
        ({"grace_s": -1}, "grace_s"),
        ({"progress": "bar"}, "progress"),
        ({"on_stop": "panic"}, "on_stop"),
        ({"runs": 0}, "runs must be a whole number of at least 1, not 0"),
        ({"model": []}, "model"),
        ({"max_retries": 0}, "max_retries"),
        ({"requests_per_minute": 0}, "limit must be"),
        ({"requests_per_minute": -60}, "limit must be"),
        ({"requests_per_minute": "fast"}, "auto"),
        ({"tokens_per_minute": 0}, "tokens must be"),
        ({"categories": [], "parse": None}, "categories is empty"),
        ({"categories": 5}, "categories is 5"),
        ({"categories": ["a"], "parse": len}, "categories and parse are given"),
        ({"response_model": dict}, "response_model"),
        ({"client": object(), "base_url": None, "api_key": None}, "client= takes"),
        ({"stream": True}, "stream"),
        ({"temperature": object()}, "cannot be sent as JSON"),
    ],
)
def test_what_cannot_work_is_refused(wrong, said):
    with pytest.raises(InputError, match=said):
        setup(**wrong)


def test_a_prompt_that_asks_for_an_unknown_column_is_refused():
    with pytest.raises(InputError, match=r"asks for {txt}, but units have: unit_id, text"):
        setup(prompt="{txt}")


def test_without_a_key_there_is_no_setup():
    with pytest.raises(InputError, match="OPENROUTER_API_KEY and OPENAI_API_KEY are not set"):
        setup(base_url=None, api_key=None)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("categorys", "categories"),
        ("run", "runs"),
        ("max_token", "max_tokens"),
        ("temprature", "temperature"),
        ("max_retry", "max_retries"),
        ("models_", "model"),
        ("request_per_minute", "requests_per_minute"),
        ("tempature", "temperature"),
        ("time_out", "timeout"),
    ],
)
def test_a_misspelt_parameter_is_refused_with_the_one_that_was_meant(name, meant):
    with pytest.raises(InputError, match=f"{name}: did you mean {meant}"):
        setup(**{name: 3})
    assert setup(extra_body={name: 3}).body[name] == 3


@pytest.mark.parametrize(
    "name", ["temperature", "models", "n", "top_p", "user", "max_tokens", "guided_choice", "think"]
)
def test_parameters_of_the_api_and_unknown_ones_pass(name):
    assert setup(**{name: 1}).body == {name: 1}


def test_it_is_frozen_and_its_parts_are_made_once():
    one = setup(reasoning_effort="low", runs=3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        one.runs = 4
    assert one.plan is one.plan
    assert (len(one.plan), one.models, one.body) == (6, ("m",), {"reasoning_effort": "low"})
    assert one.policy.max_retries == 3
    assert setup(retry=ll.RetryPolicy(max_retries=7), max_retries=2).policy.max_retries == 7


def test_no_key_is_in_its_repr_or_its_description():
    one = setup(extra_headers={"X-Key": KEY}, extra_body={"token": KEY})
    assert KEY not in repr(one) + repr(one.description) + repr(one.endpoint) + repr(one.limiters.default)


def test_limits_that_are_left_out_stay_what_they_are():
    assert setup().limiters.default.limit == 60
    first = setup(requests_per_minute=300, tokens_per_minute=1000).limiters.default
    assert setup().limiters.default is first
    assert (first.limit, first.tokens) == (300, 1000)
    setup(requests_per_minute=None)
    assert (first.limit, first.tokens) == (None, 1000)


def test_a_limiter_of_the_users_own_is_used_as_it_is():
    mine = ll.RateLimiter(7)
    assert setup(limiter=mine, requests_per_minute=60).limiters.default is mine
    assert mine.limit == 7


def test_each_run_has_a_seed_of_its_own():
    one = setup(seed=7, runs=3, temperature=1.0)
    assert [one.body_of(trial)["seed"] for trial in one.plan.trials(range(3))] == [7, 8, 9]
    assert one.body_of(next(one.plan.trials())) == {"model": "m", "seed": 7, "temperature": 1.0}
    assert "seed" not in setup(runs=2).body_of(next(setup(runs=2).plan.trials()))


@pytest.mark.parametrize(("more", "timeout_s"), [
    ({}, 120.0), ({"service_tier": "flex"}, 900.0), ({"service_tier": "flex", "timeout": 30}, 30), ({"timeout": 5}, 5),
])  # fmt: skip
def test_the_flex_tier_has_a_longer_deadline(more, timeout_s):
    assert setup(**more).timeout_s == timeout_s
