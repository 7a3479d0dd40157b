"""Before anything is paid: what is sent, and what looks wrong."""

import pandas as pd
import pytest

import llmlab as ll

LABELS = ["a", "b"]
UNITS = pd.DataFrame({"text": ["short", "x" * 400, "middle text", "short", " "]}, index=list("abcde"))


async def plan(provider, units=UNITS, prompt="Label: {text}", model="openai/gpt-4o-mini", **settings):
    client = provider()
    made = await ll.estimate(
        units, prompt, model=model, client=client, requests_per_minute=None, progress=False, **settings
    )
    assert client.counts().requests == 0
    return made


async def test_the_first_the_longest_and_a_random_unit_are_shown_exactly_as_sent(provider):
    made = await plan(provider, UNITS.drop("e"), categories=LABELS)
    shown = made.messages(3)
    assert shown["chosen"].tolist() == ["first", "longest", "random"]
    assert shown["unit_id"].tolist()[:2] == ["a", "b"]
    results = await ll.run_experiment(
        UNITS.drop("e"), "Label: {text}", model="openai/gpt-4o-mini", categories=LABELS, client=provider(),
        requests_per_minute=None, progress=False,
    )  # fmt: skip
    assert len(results) == 4
    assert shown["messages"][0][0]["content"].startswith("Label: short\n\nAnswer with JSON only:")
    assert "x" * 400 in made._repr_html_()
    assert len(made.messages(9)) == 4


async def test_each_prompt_is_shown(provider):
    made = await plan(provider, prompt={"one": "{text}", "two": "Again: {text}"})
    assert made.messages(2)["prompt"].tolist() == ["one", "two"] * 2


async def test_empty_and_equal_texts_and_texts_beyond_the_context_are_warned_of(provider):
    units = pd.concat([UNITS, pd.DataFrame({"text": ["word " * 200_000]}, index=["f"])])
    made = await plan(provider, units)
    text = "\n".join(made.warnings)
    assert "text is empty in 1 unit: 'e'" in text
    assert "1 unit asked the same as an earlier one: 'd'" in text
    assert "1 text longer than the 128,000 tokens that openai/gpt-4o-mini reads: 'f'" in text
    assert "warning" in repr(made)
    fine = await plan(provider, UNITS.head(3))
    assert fine.warnings == ()
    assert "warning" not in repr(fine)


@pytest.mark.parametrize("units", [[], ["one"]])
async def test_few_units_are_no_trouble(provider, units):
    made = await plan(provider, units)
    assert len(made.messages(3)) == len(units)
    assert made.warnings == ()
