"""A cap on costs: the worst case of what is in flight counts, and so does a cost that nobody knows."""

import asyncio

import pytest

from llmlab.analysis import Total
from llmlab.engine.budget import Budget, dollars


async def test_a_budget_waits_for_calls_in_flight_and_refuses_what_cannot_fit():
    budget = Budget(1.0)
    assert await budget.reserve(0.6)
    second = asyncio.create_task(budget.reserve(0.6))
    await asyncio.sleep(0)
    assert not second.done()
    budget.settle(0.6, 0.1, may_be_billed=True)
    assert await second
    assert budget.spent_usd == 0.1
    third = asyncio.create_task(budget.reserve(0.6))
    await asyncio.sleep(0)
    budget.settle(0.6, 0.5, may_be_billed=True)
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
            budget.settle(worst, cost, may_be_billed=True)

    await asyncio.gather(*(call(number) for number in range(200)))
    assert 0.8 < budget.spent_usd <= most <= 1.0 + 1e-9


@pytest.mark.parametrize(
    ("cost", "may_be_billed", "spent"), [(0.1, True, 0.1), (None, True, 0.6), (None, False, 0.0), (0.0, True, 0.0)]
)
async def test_an_unknown_cost_counts_at_its_worst_case_if_it_may_have_been_billed(cost, may_be_billed, spent):
    budget = Budget(1.0)
    assert await budget.reserve(0.6)
    budget.settle(0.6, cost, may_be_billed=may_be_billed)
    assert budget.spent_usd == pytest.approx(spent)
    assert await budget.reserve(0.5) is (spent <= 0.5)


async def test_what_was_not_sent_costs_nothing():
    budget = Budget(1.0)
    assert await budget.reserve(1.0)
    waiting = asyncio.create_task(budget.reserve(1.0))
    await asyncio.sleep(0)
    budget.release(1.0)
    assert await waiting
    assert budget.spent_usd == 0.0


@pytest.mark.parametrize(("amount", "said"), [(0, "0"), (0.00012345, "0.00012"), (0.0025, "0.0025"), (0.2, "0.20"),
                                              (12.0, "12.00"), (1234.5, "1234.50")])  # fmt: skip
def test_amounts_have_two_significant_digits(amount, said):
    assert dollars(amount) == said


async def test_what_was_spent_before_counts():
    budget = Budget(1.0, Total(0.5, 1, 3), assumed_usd=0.3)
    assert budget.spent_usd == 0.8
    assert not await budget.reserve(0.3)
    assert await budget.reserve(0.2)
    assert budget.refusal(0.3, is_limited=True).endswith(
        "max_cost_usd=1 allows no further call: $0.80 spent, and one more may cost $0.30: raise max_cost_usd"
    )


async def test_many_calls_are_put_aside_together_and_settled_one_by_one():
    budget = Budget(1.0)
    budget.put_aside(0.9, 3)
    assert not budget.has_room(0.2)
    assert budget.has_room(0.1)
    for _ in range(3):
        budget.settle(0.3, 0.1, may_be_billed=True)
    assert budget.spent_usd == pytest.approx(0.3)
    assert budget.has_room(0.7)
