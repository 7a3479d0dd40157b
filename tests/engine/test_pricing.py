"""Costs: the provider's own, else the list price, else unknown."""

import pytest

from llmlab.engine.pricing import PriceList, tier_asked
from llmlab.errors import InputError
from llmlab.records import UNKNOWN_USAGE, Usage

OPENAI, OPENROUTER, LOCAL = "https://api.openai.com/v1", "https://openrouter.ai/api/v1", "http://127.0.0.1:1/v1"
MINI = "openai/gpt-4o-mini"
IN, OUT, CACHED = 0.15e-6, 0.60e-6, 0.075e-6
"""US dollars per token of gpt-4o-mini."""


@pytest.mark.parametrize("base_url", [OPENAI, OPENROUTER])
@pytest.mark.parametrize("model", [MINI, "gpt-4o-mini", "gpt-4o-mini-2024-07-18"])
def test_list_prices_are_found_by_any_of_a_models_names(base_url, model):
    assert PriceList(base_url).cost_usd(model, Usage(1000, 100)) == pytest.approx(1000 * IN + 100 * OUT)


@pytest.mark.parametrize("base_url", [OPENROUTER])
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


@pytest.mark.parametrize("host", [
    "127.0.0.1:8000", "localhost:11434", "[::1]:8000", "192.168.1.20", "10.0.0.7:1", "172.16.3.4", "gpu-box:8000",
    "ollama.local", "169.254.1.1",
])  # fmt: skip
def test_a_server_of_ones_own_has_no_list_price(host):
    prices = PriceList(f"http://{host}/v1")
    assert prices.cost_usd("deepseek-r1:7b", Usage(1000, 100)) is None
    assert prices.estimate_usd("gpt-4o-mini", 1, 1) is None
    assert prices.cost_usd("m", Usage(1000, 100, cost_usd=0.5)) == 0.5
    assert PriceList(f"http://{host}/v1", {"m": (1, 2)}).estimate_usd("m", 10**6, 10**6) == 3.0


def test_a_simulated_provider_has_the_prices_of_the_models_it_plays():
    assert PriceList(LOCAL, simulated=True).estimate_usd(MINI, 10**6, 0) == pytest.approx(0.15)


def test_own_prices_come_first_and_may_have_one_for_cached_tokens():
    prices = PriceList(OPENAI, {MINI: (0.2, 0.8), "mine": (1.0, 2.0, 0.1)})
    assert prices.cost_usd(MINI, Usage(1000, 100, cost_usd=9.0)) == pytest.approx((200 + 80) / 1e6)
    assert prices.cost_usd("mine", Usage(1000, 0, cached_tokens=900)) == pytest.approx((100 + 90) / 1e6)
    assert prices.estimate_usd("gpt-4o-mini", 10**6, 0) == pytest.approx(0.15)


def test_own_prices_hold_at_every_tier_and_at_half_in_the_batch_queue():
    prices = PriceList(OPENAI, {"mine": (1.0, 2.0, 0.1)})
    at = {tier: prices.cost_usd("mine", Usage(1000, 100, cached_tokens=900), tier) for tier in (None, "flex", "batch")}
    assert at[None] == at["flex"] == 2 * at["batch"] == pytest.approx((100 + 90 + 200) / 1e6)


@pytest.mark.parametrize("prices", [3, {"m": 1}, {"m": (1,)}, {"m": (1, 2, 3, 4)}, {"m": (1, -2)}, {"m": "12"},
                                    {"m": (1, "2")}])  # fmt: skip
def test_wrong_prices_are_named(prices):
    with pytest.raises(InputError, match=r"prices.*US dollars per million tokens in and out"):
        PriceList(OPENAI, prices)


def test_cache_writes_cost_more():
    prices, model = PriceList(OPENROUTER), "anthropic/claude-sonnet-4"
    plain = prices.cost_usd(model, Usage(1000, 100))
    written = prices.cost_usd(model, Usage(1000, 100, cache_write_tokens=800))
    assert plain == pytest.approx(1000 * 3e-6 + 100 * 15e-6)
    assert written == pytest.approx(200 * 3e-6 + 800 * 3.75e-6 + 100 * 15e-6)


@pytest.mark.parametrize(("tier", "share"), [
    (None, 1), ("default", 1), ("auto", 1), ("flex", 0.5), ("batch", 0.5), ("priority", None), ("??", None),
])  # fmt: skip
def test_the_price_is_that_of_the_tier(tier, share):
    cost = PriceList(OPENAI).cost_usd(MINI, Usage(1000, 100), tier)
    assert cost == (share and pytest.approx(share * (1000 * IN + 100 * OUT)))


def test_groqs_flex_tier_is_no_cheaper():
    prices, model = PriceList("https://api.groq.com/openai/v1"), "llama-3.3-70b-versatile"
    assert prices.cost_usd(model, Usage(1000, 100), "flex") == prices.cost_usd(model, Usage(1000, 100)) is not None


@pytest.mark.parametrize(("body", "tier"), [
    ({}, None), ({"service_tier": "flex"}, "flex"), ({"extra_body": {"service_tier": "flex"}}, "flex"),
    ({"service_tier": None, "extra_body": None}, None),
])  # fmt: skip
def test_the_tier_that_is_asked_for(body, tier):
    assert tier_asked(body) == tier
