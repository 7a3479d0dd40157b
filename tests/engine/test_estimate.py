"""Estimates: the tokens of a call, and what an experiment takes, from characters or from a pilot whose answers count."""

import pandas as pd
import pytest

import llmlab as ll
from llmlab.engine.estimate import HEADROOM, UNKNOWN_COMPLETION, TokenEstimate
from llmlab.records import UNKNOWN_USAGE, Usage

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


async def test_with_batch_it_tells_dollars_both_ways_and_the_pilot_is_live(provider, tmp_path):
    settings = SETTINGS | {"model": "openai/gpt-4o-mini", "client": provider, "requests_per_minute": None}
    settings |= {"batch": True, "journal": tmp_path / "j.sqlite"}
    found = await ll.estimate(TICKETS, PROMPT, pilot=10, **settings)
    counts = provider.counts()
    assert (counts.requests, counts.batch_lines) == (10, 0)
    trials = len(found.setup.plan)
    # One trial is asked live, the rest at half the price.
    assert found.batch_usd == pytest.approx([(1 + 1 / trials) / 2 * usd for usd in found.usd])
    assert found.by_model[["batch_usd_low", "batch_usd_high"]].sum().tolist() == pytest.approx(found.batch_usd)
    assert "\nlive         $" in repr(found)
    assert "\nbatch        $" in repr(found)
    assert "within 24 h" in repr(found)
    plain = await ll.estimate(TICKETS, PROMPT, **settings | {"batch": False})
    assert plain.batch_usd[1] < plain.usd[1]
    assert "batch" not in repr(plain)


async def test_unknown_prices_are_named_and_never_0(provider):
    found = await ll.estimate(TICKETS, PROMPT, model="nobody/knows", client=provider, **SETTINGS)
    assert found.usd is found.batch_usd is None
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


# one call

MINI = "openai/gpt-4o-mini"
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
