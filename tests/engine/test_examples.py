"""Few-shot examples stand before each question, in the form that is asked, and are left out where they are told."""

import json
from typing import Literal

import pandas as pd
import pydantic
import pytest

import llmlab as ll
from tests.helpers import ask

UNITS = pd.DataFrame({"text": ["refund my invoice", "it crashed", "hello", "an error again"]}, index=list("abcd"))
GOLD = {"a": "billing", "b": "bug", "c": "other", "d": "bug"}
LABELS = ["billing", "bug", "other"]


class Code(pydantic.BaseModel):
    topic: Literal["billing", "bug"]


async def sent(provider, units=UNITS, prompt="{text}", **settings):
    """What goes over the wire for the first unit."""
    client = provider()
    estimate = await ll.estimate(
        units, prompt, model="m", client=client, requests_per_minute=None, progress=False, **settings
    )
    return estimate.messages(1).iloc[0]["messages"]


def examples(rows=2, **columns):
    return UNITS.head(rows).assign(prediction=[GOLD[unit] for unit in UNITS.index[:rows]], **columns)


async def test_examples_are_asked_by_the_same_prompt_and_answered_in_the_same_form(provider):
    prompt = [{"role": "system", "content": "You code."}, {"role": "user", "content": "Text: {text}"}]
    messages = await sent(provider, prompt=prompt, categories=LABELS, examples=examples())
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert messages[0]["content"] == "You code."
    assert messages[1]["content"].startswith("Text: refund my invoice\n\nAnswer with JSON only")
    assert [json.loads(messages[at]["content"]) for at in (2, 4)] == [{"label": "billing"}, {"label": "bug"}]


@pytest.mark.parametrize(
    ("settings", "prediction", "answer"),
    [
        ({"categories": [1, 2, 3]}, 2, '{"label": 2}'),
        ({"response_model": Code}, {"topic": "bug"}, '{"topic":"bug"}'),
        ({"response_model": Code}, Code(topic="bug"), '{"topic":"bug"}'),
        ({}, "bug", "bug"),
    ],
)
async def test_every_kind_of_answer_can_be_an_example(provider, settings, prediction, answer):
    given = UNITS.head(1).assign(prediction=pd.Series([prediction], index=["a"], dtype=object))
    messages = await sent(provider, examples=given, **settings)
    assert messages[1] == {"role": "assistant", "content": answer}


async def test_a_unit_that_is_an_example_is_asked_and_left_out_where_it_would_count(provider, tmp_path):
    units = UNITS.assign(gold=list(GOLD.values()))
    book = tmp_path / "book.sqlite"
    live = await ask(provider(), units, categories=LABELS, examples=examples(), runs=2, journal=book)
    for results in (live, ll.load_results(book)):
        assert (results.predictions["status"] == "ok").all()
        assert len(results.consensus()) == 4
        score = results.score("gold")
        assert score.summary.query("of == 'consensus'")["n"].tolist() == [2]
        assert "2 units left out, as examples" in repr(score)
        compared = results.compare("gold")
        assert compared["units"].tolist() == [2]
        assert "examples in the prompt" in compared.attrs["notes"][0]
        cost = results.attempts.query("unit_id in ['c', 'd']")["cost_usd"].sum()
        assert compared["cost_usd"].item() == pytest.approx(cost)
        # Two units with two answers each, of which the charts count none of the examples'.
        right = results.predictions.query("unit_id in ['c', 'd'] and prediction == gold")
        assert f"{len(right) / 4:.0%}".replace("%", " %") in ll.charts.accuracy(results, "gold").finding
        assert sum(int(one.get_text()) for one in ll.charts.confusion(results, "gold").axes.texts) == 4
        sheet = results.sheet(2)
        assert set(sheet["unit_id"]) == {"c", "d"}
        shares = results.shares(sheet.assign(label="bug"))
        assert shares["units"].unique().tolist() == [2]
        assert "examples in the prompt" in shares.attrs["notes"][0]


async def test_rows_of_predictions_are_examples_too(provider):
    first = await ask(provider(), UNITS, categories=LABELS)
    messages = await sent(provider, categories=LABELS, examples=first.predictions.head(2))
    assert len(messages) == 5


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ([("refund", "billing")], "must be a DataFrame"),
        (UNITS, "right answers in `prediction`: it has text"),
        (examples().assign(prediction=["billing", None]), "example 'b' has no prediction"),
        (examples().assign(prediction="nonsense"), "examples: 'nonsense' is not one of the categories"),
        (examples()[["prediction"]].assign(other="x"), "examples: .*text"),
    ],
)
async def test_examples_that_cannot_work_are_refused(provider, given, says):
    with pytest.raises(ll.InputError, match=says):
        await sent(provider, categories=LABELS, examples=given)
