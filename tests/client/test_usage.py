"""Tokens and cost as the provider reported them: odd ones are unknown and noted, and nothing raises."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.client.usage import prompt_tokens, read_usage
from llmlab.records import UNKNOWN_USAGE, Usage
from tests.servers import USAGE


@pytest.mark.parametrize(
    ("raw", "expected", "notes"),
    [
        (USAGE, Usage(11, 4, None, None, 15), []),
        ({"prompt_tokens": 11, "completion_tokens": 4}, Usage(11, 4, None, None, 15), []),
        (USAGE | {"prompt_tokens_details": {"cached_tokens": 8}, "completion_tokens_details": {"reasoning_tokens": 2}},
         Usage(11, 4, 2, 8, 15), []),
        (USAGE | {"prompt_tokens_details": None, "completion_tokens_details": "odd"}, Usage(11, 4, None, None, 15), []),
        (USAGE | {"prompt_tokens_details": {"cached_tokens": 99}}, Usage(11, 4, None, 99, 15), ["odd token details"]),
        ({"prompt_tokens": "11", "completion_tokens": 4.0, "total_tokens": "15"}, Usage(11, 4, None, None, 15),
         ["odd prompt_tokens", "odd completion_tokens", "odd total_tokens"]),
        ({"prompt_tokens": True, "completion_tokens": -4, "total_tokens": 1.5}, UNKNOWN_USAGE,
         ["odd prompt_tokens", "odd completion_tokens", "odd total_tokens", "no usage"]),
        ({"prompt_tokens": 10**40, "completion_tokens": float("inf"), "total_tokens": float("nan")}, UNKNOWN_USAGE,
         ["odd prompt_tokens", "odd completion_tokens", "odd total_tokens", "no usage"]),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, UNKNOWN_USAGE, ["zero usage", "no usage"]),
        ({"total_tokens": 15}, Usage(total_tokens=15), ["partial usage"]),
        (USAGE | {"total_tokens": 915}, Usage(11, 4, None, None, 915), ["total_tokens is not the sum"]),
        (None, UNKNOWN_USAGE, ["no usage"]),
        ([1], UNKNOWN_USAGE, ["no usage"]),
        ({}, UNKNOWN_USAGE, ["no usage"]),
    ],
)  # fmt: skip
def test_usage_of_any_shape_is_read_as_far_as_it_can_be_known(raw, expected, notes):
    assert read_usage(raw) == (expected, tuple(notes))


@pytest.mark.parametrize(
    ("raw", "cost", "notes"),
    [
        ({"cost": 0.5}, 0.5, []),
        ({"cost": "0.5"}, 0.5, ["odd cost"]),
        ({"cost": -0.5}, None, ["odd cost"]),
        ({"cost": True}, None, ["odd cost"]),
        ({"cost": "free"}, None, ["odd cost"]),
        ({"cost": 10**400}, None, ["odd cost"]),
        ({"cost": 0, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.25}}, 0.25,
         ["own key: upstream cost added"]),
        ({"cost": 0.5, "is_byok": False, "cost_details": {"upstream_inference_cost": None}}, 0.5, []),
        ({}, None, []),
    ],
)  # fmt: skip
def test_the_providers_own_price_is_a_number_of_dollars_or_unknown(raw, cost, notes):
    usage, said = read_usage(USAGE | raw)
    assert (usage.cost_usd, said) == (cost, tuple(notes))


@settings(deadline=None)
@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.dictionaries(st.sampled_from([*USAGE, "cost", "is_byok", "cost_details", "prompt_tokens_details",
                                                   "cached_tokens", "upstream_inference_cost"]), inner, max_size=6),
))  # fmt: skip
def test_no_usage_raises_or_counts_less_than_nothing(raw):
    usage, _ = read_usage(raw)
    for value in (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens, usage.cached_tokens):
        assert value is None or (type(value) is int and 0 <= value < 2**62)
    assert usage.cost_usd is None or usage.cost_usd >= 0


def test_the_estimate_of_a_prompt_is_its_characters():
    messages = [{"content": "x" * 40}, {"content": [{"type": "text", "text": "y"}]}]
    assert 10 < prompt_tokens({"messages": messages}) < 30


@pytest.mark.parametrize("more", [
    {"prompt_tokens_details": {"cache_write_tokens": 7}}, {"cache_creation_input_tokens": 7},
    {"prompt_tokens_details": {"cached_tokens": 1, "cache_creation_tokens": 7}},
])  # fmt: skip
def test_cache_writes_are_read_under_their_names(more):
    usage, _ = read_usage({"prompt_tokens": 10, "completion_tokens": 2} | more)
    assert usage.cache_write_tokens == 7
