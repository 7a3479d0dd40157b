"""Limits per model: each model's requests pass a limiter of their own."""

from __future__ import annotations

import math

import pytest

from llmlab.errors import InputError
from llmlab.limits import RateLimiter, RateLimiterRegistry
from llmlab.limits.by_model import Limiters

MODELS = ("small", "large", "other")


def test_a_single_limit_is_the_keys_for_all_models():
    limiters = Limiters.of_key("k", MODELS, 300, tokens_per_minute=9000)
    assert {limiters.of(model) for model in MODELS} == {RateLimiterRegistry.get_limiter("k")}
    assert (limiters.default.limit, limiters.default.tokens) == (300, 9000)


def test_a_limit_of_a_model_is_its_own_and_the_others_keep_the_keys():
    RateLimiterRegistry.get_limiter("k", 120)
    limiters = Limiters.of_key(
        "k", MODELS, {"small": 5000, "large": "auto"}, tokens_per_minute={"small": 10_000, "other": None}
    )
    assert [limiters.of(model).limit for model in MODELS] == [5000, 60, 120]
    assert limiters.of("small").tokens == 10_000
    assert limiters.of("large").auto
    assert limiters.default.limit == 120
    assert len(limiters.distinct(MODELS)) == 3
    assert Limiters.of_key("k", MODELS).of("small") is limiters.default
    assert limiters.groups(MODELS) == [{"small"}, {"large"}, {"other"}]
    assert limiters.per_minute(MODELS) == {"small": 5000, "large": 60, "other": 120}
    assert limiters.per_minute(["small"]) == 5000


def test_left_out_limits_of_a_model_stay_what_they_are():
    Limiters.of_key("k", MODELS, {"small": 5000}, tokens_per_minute={"small": 100})
    again = Limiters.of_key("k", MODELS, {"small": 400})
    assert (again.of("small").limit, again.of("small").tokens) == (400, 100)


@pytest.mark.parametrize("limits", [{"smal": 5}, {"small": 5, "x": 1}, {}])
@pytest.mark.parametrize("name", ["requests_per_minute", "tokens_per_minute"])
def test_a_limit_for_a_model_that_is_not_asked_is_refused_and_says_which_there_are(name, limits):
    with pytest.raises(InputError, match=rf"{name} names .*, but the models are small, large, other"):
        Limiters.of_key("k", MODELS, **{name: limits})


@pytest.mark.parametrize("limit", [0, -1, math.nan, "fast", True])
def test_a_limit_that_is_none_is_refused(limit):
    with pytest.raises(InputError, match="must be a positive number"):
        Limiters.of_key("k", MODELS, {"small": limit})


def test_a_limiter_of_ones_own_holds_for_all_models():
    mine = RateLimiter(7)
    limiters = Limiters(mine)
    assert limiters.distinct(MODELS) == [mine]
