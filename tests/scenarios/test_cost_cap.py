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
    again = await results.rerun_failed()
    assert spent < again.attempts["cost_usd"].sum() <= spent + cap


async def test_max_cost_is_kept_where_usage_is_missing(provider):
    client = provider(cost=True, missing_usage_rate=1.0)
    results = await ask(client, texts(100), max_tokens=20, max_cost_usd=0.0002)
    assert results.stopped
    billed = client.counts().unsent_tokens * 0.6e-6
    assert 0 < billed <= 0.0002
    assert results.attempts["cost_usd"].isna().all()


async def test_max_cost_large_enough_stops_nothing(provider):
    results = await ask(provider(cost=True), texts(30), max_cost_usd=0.02, max_concurrent=10)
    assert results.stopped is None
    assert results.predictions["status"].eq("ok").all()


async def test_max_cost_needs_a_price(provider):
    client = provider()
    with pytest.raises(InputError, match="the price of nobody/knows is unknown"):
        await ask(client, texts(3), model=[MODEL, "nobody/knows"], max_cost_usd=1.0)
    assert client.counts().requests == 0
