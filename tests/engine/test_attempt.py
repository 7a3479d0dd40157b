"""One attempt: what it keeps, and what it returns for the run to act on."""

import asyncio
import time

import pytest

import llmlab as ll
from llmlab.client import ChatClient
from llmlab.display import Tally
from llmlab.engine.attempt import Attempts
from llmlab.engine.queue import Asked
from llmlab.errors import InputError
from llmlab.results import NoJournal, Store
from tests.helpers import settings


class Desk:
    """Attempts at a simulated provider, one by one."""

    def __init__(self, provider, units=("a text", "another"), prompt="{text}", **more):
        self.setup = ll.run_experiment(list(units), prompt, **settings(provider, **more)).setup
        self.client = ChatClient(self.setup.endpoint, timeout_s=self.setup.timeout_s, connections=10)
        self.store, self.tally = Store(), Tally(len(self.setup.plan))
        self.attempts = Attempts(self.setup, self.client, self.store, NoJournal(), self.tally)
        self.asked = [Asked(trial, 0, time.monotonic()) for trial in self.setup.plan.trials()]

    async def __call__(self, which=0):
        return await self.attempts.carry_out(self.asked[which])

    def record(self, at=-1):
        rows = len(self.store.table)
        return self.store.table.row(range(rows)[at], self.asked[0].trial)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *error):
        await self.client.close()


async def test_an_answer_is_kept_with_its_tokens_and_nothing_follows(provider):
    client = provider(cost=True)
    async with Desk(client, categories=["a", "b"]) as desk:
        follows = await desk()
        assert (follows.retry_in_s, follows.stop, follows.room, follows.widen) == (None, (), None, True)
        attempt = desk.record()
        assert (attempt.status, attempt.attempt, attempt.may_be_billed) == ("ok", 1, True)
        assert attempt.usage.total_tokens == client.counts().total_tokens > 0
        assert attempt.cost_usd > 0
        assert set(desk.store.answered) == {0}
        assert (desk.tally.ok, desk.tally.failed, desk.tally.in_flight, desk.tally.waiting) == (1, 0, 0, 0)


async def test_a_failure_returns_when_to_ask_again_and_the_trial_has_not_ended(provider):
    async with Desk(provider(), model="fault/s500-json", retry=ll.RetryPolicy(2, wait=lambda n: 3.5)) as desk:
        assert (await desk()).retry_in_s == 3.5
        assert desk.record().retry_in_s == 3.5
        assert desk.tally.done == 0
        assert (await desk()).retry_in_s is None
        assert desk.record().attempt == 2
        assert desk.tally.failed == 1
        assert not desk.record().may_be_billed


async def test_a_fatal_error_returns_why_the_run_stops(provider):
    async with Desk(provider(), model="fault/s401-key") as desk:
        follows = await desk()
        assert follows.stop[0].reason.startswith("401")
        assert follows.retry_in_s is None


async def test_a_blank_text_fails_without_a_request(provider):
    client = provider()
    async with Desk(client, units=["", "b"]) as desk:
        follows = await desk()
        assert (follows.retry_in_s, follows.stop) == (None, ())
        assert desk.store.unsent[0][0] == "EmptyInputError"
        assert desk.tally.failed == 1
        assert client.counts().requests == len(desk.store.table) == 0


async def test_a_cap_without_room_stops_before_the_request(provider):
    client = provider()
    async with Desk(client, max_cost_usd=1e-6) as desk:
        follows = await desk()
        assert follows.stop[0].reason.startswith("max_cost_usd=1e-06 allows no further call")
        assert client.counts().requests == desk.tally.done == 0


async def test_a_cancelled_attempt_is_kept_if_it_was_sent_and_is_nothing_if_not(provider):
    client = provider(latency_s=30)
    async with Desk(client, limiter=ll.RateLimiter(1, period_s=1000)) as desk:
        first, second = (asyncio.create_task(desk(at)) for at in (0, 1))
        while not client.counts().requests:
            await asyncio.sleep(0.005)
        assert (desk.asked[0].sent, desk.asked[1].sent) == (True, False)
        for task in (first, second):
            task.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
        assert len(desk.store.table) == 1
        assert (desk.record().error_type, desk.record().may_be_billed) == ("CancelledError", True)
        assert (desk.tally.failed, desk.tally.waiting, desk.tally.in_flight) == (1, 0, 0)
        assert (desk.asked[0].tried, desk.asked[1].tried) == (1, 0)


async def test_a_bug_of_the_users_is_returned_and_the_paid_answer_is_kept(provider):
    client = provider()
    async with Desk(client, parse=lambda text: 1 // 0) as desk:
        follows = await desk()
        assert [type(bug) for bug in follows.bugs] == [ZeroDivisionError]
        assert desk.record().usage.total_tokens == client.counts().total_tokens > 0
        assert desk.record().error == "ZeroDivisionError: integer division or modulo by zero"


async def test_messages_that_are_no_json_are_the_users_error_and_take_no_grant(provider):
    async with Desk(provider(), prompt=lambda unit: [{"role": "user", "content": [{"x": object()}]}]) as desk:
        with pytest.raises(InputError, match="cannot be sent"):
            await desk()
        assert desk.setup.limiters.default.get_metrics()["total_requests"] == 0


async def test_an_unreadable_answer_is_asked_again_with_what_was_wrong_with_it(provider):
    client = provider(malformed_rate=1.0)
    async with Desk(client, categories=["a", "b"], reask_with_error=True) as desk:
        assert (await desk()).retry_in_s == 0.0
        answer, complaint = desk.asked[0].correction
        assert answer == {"role": "assistant", "content": desk.record().content}
        assert complaint["content"].startswith("That answer cannot be used: ")
