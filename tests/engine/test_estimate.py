"""Estimates before a run: from characters, and from a pilot whose answers count."""

import pandas as pd
import pytest

import llmlab as ll

TICKETS = pd.read_csv("data/tickets.csv").head(100)
SETTINGS = {"categories": sorted(TICKETS["gold"].unique()), "progress": False, "runs": 3}
PROMPT = "Which category fits?\n\n{text}"


@pytest.fixture
def provider():
    with ll.simulate.client(latency_s=0.01) as one:
        yield one


async def test_nothing_is_sent_and_the_truth_lies_between_low_and_high(provider):
    settings = SETTINGS | {"model": "openai/gpt-4o-mini", "client": provider}
    found = await ll.estimate(TICKETS, PROMPT, requests_per_minute=300, **settings)
    assert provider.counts().requests == 0
    assert found.calls == 300
    assert found.minutes == pytest.approx(299 / 300)
    results = await ll.run_experiment(TICKETS, PROMPT, requests_per_minute=None, **settings)
    for name in ("prompt_tokens", "completion_tokens"):
        low, high = getattr(found, name)
        assert low <= results.attempts[name].sum() <= high
    assert found.usd[0] <= results.attempts["cost_usd"].sum() <= found.usd[1]


async def test_the_answers_of_a_pilot_count(provider):
    settings = SETTINGS | {"model": ["openai/gpt-4o-mini", "anthropic/claude-3.5-haiku"], "client": provider}
    found = await ll.estimate(TICKETS, PROMPT, pilot=10, requests_per_minute=None, **settings)
    assert provider.counts().requests == 20
    assert found.calls >= 600
    results = await found.pilot.rerun_failed()
    assert results.predictions["status"].eq("ok").all()
    assert provider.counts().requests == len(results.attempts) == 600
    assert found.usd[0] < results.attempts["cost_usd"].sum() < found.usd[1]
    assert found.by_model["model"].tolist() == settings["model"]
    assert "pilot of 20 trials" in repr(found)
    assert "<table" in found._repr_html_()


async def test_unknown_prices_are_named_and_never_0(provider):
    found = await ll.estimate(TICKETS, PROMPT, model="nobody/knows", client=provider, **SETTINGS)
    assert found.usd is None
    assert found.unpriced == ("nobody/knows",)
    assert "nobody/knows" in repr(found)
    assert found.by_model["usd_low"].isna().all()


async def test_limits_on_tokens_and_answers_count(provider):
    settings = SETTINGS | {"model": "openai/gpt-4o-mini", "client": provider, "requests_per_minute": None}
    slow = await ll.estimate(TICKETS, PROMPT, tokens_per_minute=1000, **settings)
    assert slow.minutes == pytest.approx(sum((*slow.prompt_tokens, *slow.completion_tokens)) / 2 / 1000, rel=0.01)
    text = settings | {"categories": None, "max_tokens": 50}
    assert (await ll.estimate(TICKETS, PROMPT, **text)).completion_tokens[1] == 300 * 50


async def test_no_units_take_nothing_and_a_wrong_pilot_is_refused(provider):
    settings = SETTINGS | {"model": "openai/gpt-4o-mini", "client": provider}
    found = await ll.estimate([], "{text}", pilot=5, **settings)
    assert (found.calls, found.prompt_tokens, found.usd) == (0, (0, 0), (0.0, 0.0))
    with pytest.raises(ll.InputError, match="pilot"):
        await ll.estimate(TICKETS, PROMPT, pilot=-1, **settings)
