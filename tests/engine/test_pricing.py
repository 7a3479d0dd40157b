"""Costs: the provider's own, else the list price, else unknown; and a cap that nothing in flight can break."""

import asyncio

import pytest

from llmlab.engine.pricing import HEADROOM, UNKNOWN_COMPLETION, Budget, PriceList, TokenEstimate
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


BODY = {"messages": [{"role": "user", "content": "word " * 400}]}


def test_the_worst_case_is_the_requests_own_limit_for_each_answer():
    estimate = TokenEstimate()
    assert estimate.worst(MINI, BODY | {"max_tokens": 50})[1] == 50
    assert estimate.worst(MINI, BODY | {"max_completion_tokens": 60, "max_tokens": 50})[1] == 60
    assert estimate.worst(MINI, BODY | {"max_tokens": 50, "n": 3})[1] == 150
    assert estimate.worst(MINI, BODY)[1] == UNKNOWN_COMPLETION
    assert estimate.worst(MINI, BODY)[0] >= 400


def test_without_a_limit_the_worst_case_is_twice_the_most_seen():
    estimate = TokenEstimate()
    estimate.learn(MINI, Usage(100, 10, total_tokens=110))
    assert estimate.worst(MINI, BODY)[1] == UNKNOWN_COMPLETION
    estimate.learn(MINI, Usage(100, 9000, total_tokens=9100))
    estimate.learn("other", Usage(100, 90_000, total_tokens=90_100))
    assert estimate.worst(MINI, BODY)[1] == 18_000


def test_what_is_reserved_is_what_calls_to_the_same_model_used():
    estimate = TokenEstimate()
    first = estimate.reserve(MINI, BODY, 1e6)
    assert 400 <= first <= 1000
    assert estimate.reserve(MINI, BODY | {"max_tokens": 500}, 1e6) == first + 500
    for total in (200, 400):
        estimate.learn(MINI, Usage(100, 10, total_tokens=total))
    estimate.learn(MINI, UNKNOWN_USAGE)
    assert estimate.reserve(MINI, BODY, 1e6) == pytest.approx(300 * HEADROOM)
    assert estimate.reserve("other", BODY, 1e6) == first


def test_a_reservation_is_at_most_the_whole_limit_unless_the_prompt_alone_is_longer():
    estimate = TokenEstimate()
    assert estimate.reserve(MINI, BODY | {"max_tokens": 10_000}, 2000) == 2000
    assert estimate.reserve(MINI, BODY, 100) > 100


async def test_a_budget_waits_for_calls_in_flight_and_refuses_what_cannot_fit():
    budget = Budget(1.0)
    assert await budget.reserve(0.6)
    second = asyncio.create_task(budget.reserve(0.6))
    await asyncio.sleep(0)
    assert not second.done()
    budget.settle(0.6, 0.1)
    assert await second
    assert budget.spent_usd == 0.1
    third = asyncio.create_task(budget.reserve(0.6))
    await asyncio.sleep(0)
    budget.settle(0.6, 0.5)
    assert not await third
    assert await budget.reserve(0.4)


async def test_a_budget_without_a_cap_always_has_room():
    budget = Budget(None)
    for _ in range(100):
        assert await budget.reserve(1e9)


async def test_spent_and_aside_never_exceed_the_cap():
    budget, in_flight, most = Budget(1.0), 0.0, 0.0

    async def call(number):
        nonlocal in_flight, most
        worst, cost = 0.05 + number % 7 / 50, 0.01 + number % 3 / 100
        if await budget.reserve(worst):
            in_flight += worst
            most = max(most, budget.spent_usd + in_flight)
            await asyncio.sleep(0)
            in_flight -= worst
            budget.settle(worst, cost)

    await asyncio.gather(*(call(number) for number in range(200)))
    assert 0.8 < budget.spent_usd <= most <= 1.0 + 1e-9
