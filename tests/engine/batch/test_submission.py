"""Batches are no larger than a provider takes, one model each, and no larger than the budget."""

import contextlib

import pytest

import llmlab as ll
from llmlab.client import BatchClient, ChatClient
from llmlab.display import Tally
from llmlab.engine.attempt import Attempts
from llmlab.engine.batch.patience import Patience
from llmlab.engine.batch.submission import Submissions
from llmlab.engine.resume import begin
from llmlab.engine.stages import carry_over
from llmlab.engine.verdict import Stop

UNITS = [f"text {at:02}" for at in range(10)] + [" "]


@pytest.fixture
async def submissions(simulated, tmp_path):
    """Makes the submissions of an experiment about eleven units, one of them blank."""
    async with contextlib.AsyncExitStack() as stack:

        def make(models=("m",), limits=(50_000, 10**6), **settings):
            provider = simulated(batch_s=60.0)
            setup = ll.run_experiment(
                UNITS,
                "{text}",
                model=list(models),
                client=provider,
                batch=True,
                journal=tmp_path / "j.sqlite",
                **settings,
            ).setup
            start = begin(setup)
            stack.callback(start.journal.release)
            chat = ChatClient(setup.endpoint, timeout_s=5.0, connections=5)
            stack.push_async_callback(chat.close)
            client = BatchClient(setup.endpoint)
            stack.push_async_callback(client.close)
            attempts = Attempts(setup, chat, start.store, start.journal, Tally(len(start.positions)))
            made = Submissions(
                attempts.writer, attempts.intake, start.journal, client, Patience(5.0, 0.0), "account", *limits
            )
            made.add(carry_over(setup, start.positions, start.store))
            return made

        yield make


async def submitted(submissions, open_batches=None):
    batches = {} if open_batches is None else open_batches
    while True:
        batch = await submissions.next(batches)
        if batch is None or isinstance(batch, Stop):
            return list(batches.values()), batch
        batches[batch.nonce] = batch


@pytest.mark.parametrize(
    ("limits", "sizes"), [((50_000, 10**6), [10]), ((4, 10**6), [4, 4, 2]), ((50_000, 500), [3, 3, 3, 1])]
)
async def test_a_batch_is_no_larger_than_a_provider_takes(submissions, limits, sizes):
    some = submissions(limits=limits)
    batches, end = await submitted(some)
    assert ([len(batch.asked) for batch in batches], end, some.is_empty) == (sizes, None, True)
    texts = [asked.trial.unit_id for batch in batches for asked in batch.asked.values()]
    assert texts == list(range(10))


async def test_a_batch_has_one_model_and_every_name_once(submissions):
    batches, _ = await submitted(submissions(models=("m", "n")))
    assert [(batch.model, len(batch.asked)) for batch in batches] == [("m", 10), ("n", 10)]
    assert len({name for batch in batches for name in batch.asked}) == 20
    assert len({batch.nonce for batch in batches}) == 2


async def test_a_full_queue_gets_one_smaller_batch_at_a_time(submissions):
    some = submissions(models=("m", "n"))
    (first, other), _ = await submitted(some)
    assert some.make_room("m", 10, {first.nonce: first}, "full") is None
    assert some.make_room("m", 10, {other.nonce: other}, "full") is None
    some.add(first.asked.values())
    batches = {other.nonce: other}
    _, end = await submitted(some, batches)
    assert ([len(batch.asked) for batch in batches.values()], end) == ([10, 5], None)
    stop = some.make_room("m", 1, {other.nonce: other}, "full of others")
    assert (stop.models, stop.reason) == (frozenset({"m"}), "batch: full of others")


async def test_a_batch_is_no_larger_than_the_budget(submissions):
    some = submissions(models=("gpt-4o-mini",), max_tokens=100, max_cost_usd=0.0002)
    (batch,), end = await submitted(some)
    assert 0 < len(batch.asked) < 10
    assert end is None
    # Nothing is at work that could make room: what is left has none.
    assert "max_cost_usd=0.0002" in (await some.next({})).reason
