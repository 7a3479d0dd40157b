"""max_cost_usd: never exceeded, whatever is in flight or unknown."""

import pytest

from llmlab.errors import InputError
from tests.helpers import MODEL, ask, texts


async def test_max_cost_is_never_exceeded(provider):
    client = provider(cost=True, latency_s=0.005)
    cap = 0.0008
    results = await ask(client, texts(300), max_tokens=20, max_cost_usd=cap, max_concurrent=20)
    predictions, attempts = results
    spent = attempts["cost_usd"].sum()
    assert cap / 2 < spent <= cap
    assert results.stopped.startswith(f"max_cost_usd={cap:g} allows no further call")
    assert set(predictions["status"]) == {"ok", "not_run"}
    assert len(attempts) == client.counts().requests
    assert results.stopped.partition("; ")[0].endswith(": raise max_cost_usd")
    # The cap is on the experiment: neither a rerun nor another kernel with the same journal may go past it.
    again = await results.rerun_failed()
    assert spent <= again.attempts["cost_usd"].sum() <= cap
    assert "allows no further call" in again.stopped


async def test_max_cost_counts_what_the_journal_has(provider, tmp_path):
    client, cap = provider(cost=True), 0.0008
    for _ in range(3):
        results = await ask(
            client, texts(300), max_tokens=20, max_cost_usd=cap, max_concurrent=20, journal=tmp_path / "j.sqlite"
        )
        assert cap / 2 < results.attempts["cost_usd"].sum() <= cap
    assert client.counts().requests == len(results.attempts)


async def test_without_a_limit_on_the_answer_the_message_says_so(provider):
    results = await ask(provider(cost=True), texts(3), max_cost_usd=0.001)
    assert "$0 spent, and one more may cost $0.0025, because its answer has no limit: set max_tokens" in results.stopped


async def test_max_cost_is_kept_where_usage_is_missing(provider):
    client = provider(cost=True, missing_usage_rate=1.0)
    results = await ask(client, texts(100), max_tokens=20, max_cost_usd=0.0002)
    assert results.stopped
    billed = client.counts().unsent_tokens * 0.6e-6
    assert 0 < billed <= 0.0002
    assert results.attempts["cost_usd"].isna().all()
    # What may have been billed counts at its worst case in the next run, too.
    again = await results.rerun_failed()
    assert len(again.attempts) == len(results.attempts)


async def test_max_cost_large_enough_stops_nothing(provider):
    results = await ask(provider(cost=True), texts(30), max_cost_usd=0.02, max_concurrent=10)
    assert results.stopped is None
    assert results.predictions["status"].eq("ok").all()


async def test_max_cost_needs_a_price(provider):
    client = provider()
    with pytest.raises(InputError, match="the price of nobody/knows is unknown"):
        await ask(client, texts(3), model=[MODEL, "nobody/knows"], max_cost_usd=1.0)
    assert client.counts().requests == 0
