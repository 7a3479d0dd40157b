"""What a worker has to tell waits until it is fetched, and is told once."""

import asyncio

import pytest

from llmlab.engine.cluster.outbox import MOST_UNTOLD, Outbox, RemoteBudget
from llmlab.engine.cluster.travel import Settled, sealed
from llmlab.records import Trial
from tests.helpers import attempt, failing

SENT = [{"role": "user", "content": "hi"}]


@pytest.fixture
async def outbox():
    return Outbox(3, keeps_messages=True)


def trial(position=0):
    return Trial(position, "u", "m", 1)


async def test_an_attempt_is_told_once(outbox):
    await outbox.put(attempt(trial(), session=outbox.session), "bug", SENT)
    (made,) = outbox.take().made
    assert (made.position, made.is_last, made.value, made.messages) == (0, True, "bug", SENT)
    assert outbox.take().made == []


async def test_what_was_sent_travels_with_the_first_attempt_of_a_trial_alone(outbox):
    for number in (1, 2):
        await outbox.put(attempt(trial(), number, **failing(retry_in_s=1.0)), None, SENT)
    await outbox.put(attempt(trial(), 3), "bug", SENT)
    assert [one.messages for one in outbox.take().made] == [SENT, [], []]


async def test_a_worker_to_which_nobody_listens_comes_to_rest(outbox):
    puts = [asyncio.ensure_future(outbox.put(attempt(trial(n)), "bug", [])) for n in range(MOST_UNTOLD + 1)]
    await asyncio.sleep(0.01)
    assert [one.done() for one in puts[-3:]] == [True, False, False]
    outbox.take()
    await asyncio.gather(*puts)


async def test_money_is_wished_for_and_given_back_by_who_was_taken_back(outbox):
    budget = RemoteBudget(1.0, outbox)
    first, second = (asyncio.ensure_future(budget.reserve(0.25)) for _ in range(2))
    await asyncio.sleep(0)
    assert outbox.take().wishes == {1: 0.25, 2: 0.25}
    second.cancel()
    await asyncio.sleep(0)
    budget.hear({1: False, 2: True}, 0.9)
    assert not await first
    assert outbox.take().settled == [Settled(0.25, None, False)]
    assert budget.refusal(0.25, is_limited=True).startswith("max_cost_usd=1 allows no further call: $0.90 spent")


def test_what_is_sealed_is_not_shown():
    packed = sealed({"api_key": "sk-1"})
    assert repr(packed) == "<sealed>"
    assert sealed(packed).opened().opened() == {"api_key": "sk-1"}
