"""Costs: the provider's own, else the list price, else unknown."""

import pytest

from llmlab.engine.pricing import PriceList
from llmlab.records import UNKNOWN_USAGE, Usage

OPENAI, OPENROUTER, LOCAL = "https://api.openai.com/v1", "https://openrouter.ai/api/v1", "http://127.0.0.1:1/v1"
MINI = "openai/gpt-4o-mini"
IN, OUT, CACHED = 0.15e-6, 0.60e-6, 0.075e-6
"""US dollars per token of gpt-4o-mini."""


@pytest.mark.parametrize("base_url", [OPENAI, OPENROUTER, LOCAL])
@pytest.mark.parametrize("model", [MINI, "gpt-4o-mini", "gpt-4o-mini-2024-07-18"])
def test_list_prices_are_found_by_any_of_a_models_names(base_url, model):
    assert PriceList(base_url).cost_usd(model, Usage(1000, 100)) == pytest.approx(1000 * IN + 100 * OUT)


@pytest.mark.parametrize("base_url", [OPENROUTER, LOCAL])
@pytest.mark.parametrize(
    "model", ["anthropic/claude-3.5-haiku", "anthropic/claude-sonnet-4", "google/gemini-2.5-flash"]
)
def test_routed_models_have_prices(base_url, model):
    prices = PriceList(base_url)
    one, two = prices.cost_usd(model, Usage(1000, 100)), prices.cost_usd(model, Usage(1000, 200))
    assert one is not None
    assert 0 < one < two


def test_the_providers_own_cost_comes_first():
    assert PriceList(OPENROUTER).cost_usd(MINI, Usage(1000, 100, cost_usd=0.25)) == 0.25
    assert PriceList(OPENROUTER).cost_usd(MINI, Usage(1000, 100, cost_usd=0.0)) == 0.0
    assert PriceList(OPENROUTER).cost_usd("nobody/knows", Usage(cost_usd=0.5)) == 0.5


@pytest.mark.parametrize("usage", [UNKNOWN_USAGE, Usage(1000), Usage(None, 100), Usage(total_tokens=1100)])
def test_unknown_tokens_have_an_unknown_cost(usage):
    assert PriceList(OPENAI).cost_usd(MINI, usage) is None


@pytest.mark.parametrize("model", ["nobody/knows", "nobody-knows", "", "openrouter/auto", "fault/s500-json"])
def test_an_unknown_model_has_an_unknown_cost(model):
    assert PriceList(OPENROUTER).cost_usd(model, Usage(1000, 100)) is None
    assert PriceList(OPENROUTER).estimate_usd(model, 1, 1) is None


def test_cached_tokens_are_cheaper_and_part_of_the_prompt():
    prices = PriceList(OPENAI)
    assert prices.cost_usd(MINI, Usage(1000, 100, cached_tokens=600)) == pytest.approx(
        400 * IN + 600 * CACHED + 100 * OUT
    )
    assert prices.cost_usd(MINI, Usage(1000, 100, cached_tokens=5000)) == pytest.approx(1000 * CACHED + 100 * OUT)


def test_reasoning_that_is_not_in_completion_tokens_is_billed_too():
    prices = PriceList(OPENAI)
    outside = Usage(1000, 100, reasoning_tokens=400, total_tokens=1500)
    inside = Usage(1000, 500, reasoning_tokens=400, total_tokens=1500)
    assert prices.cost_usd(MINI, outside) == prices.cost_usd(MINI, inside) == pytest.approx(1000 * IN + 500 * OUT)


def test_nothing_used_costs_nothing():
    assert PriceList(OPENAI).cost_usd(MINI, Usage(0, 0, total_tokens=0)) == 0.0
