"""Experiments about the same units are put together, and told apart by the column `experiment`."""

import asyncio
import pickle

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel

import llmlab as ll
from llmlab.errors import EmptyInputError
from tests.helpers import CATEGORIES, ask, attempt, failing, keys_of, results_of, trial_of

UNITS = pd.read_csv("data/tickets.csv").head(40)
PRICES = {"m": (1.0, 2.0)}


@pytest.fixture
def two(provider):
    """The same tickets, asked twice, of a poor model and of a good one."""

    async def both(**settings):
        poor, good = provider(accuracy=0.5, seed=1), provider(accuracy=0.95, seed=2)
        settings = {"categories": CATEGORIES, "model": "m", "prices": PRICES} | settings
        return [await ask(client, UNITS, **settings) for client in (poor, good)]

    return lambda **settings: asyncio.run(both(**settings))


def test_all_trials_and_attempts_are_there_and_experiments_are_arms(two):
    march, now = two(runs=2)
    found = ll.combine(march=march, now=now)
    assert list(found.predictions.columns[:5]) == ["unit_id", "model", "experiment", "run", "prediction"]
    assert len(found) == len(march) + len(now)
    assert len(found.attempts) == len(march.attempts) + len(now.attempts)
    for name, one in (("march", march), ("now", now)):
        for mine, alone in zip(found, one, strict=True):
            mine = mine[mine["experiment"] == name].drop(columns="experiment").reset_index(drop=True)
            pd.testing.assert_frame_equal(mine, alone)
        row = found.compare("gold").set_index("experiment").loc[name]
        alone = one.compare("gold").iloc[0]
        assert row["accuracy"] == alone["accuracy"]
        assert row["cost_usd"] == pytest.approx(alone["cost_usd"])
        alpha = found.agreement().set_index("experiment")["krippendorff_alpha"][name]
        assert alpha == pytest.approx(one.agreement()["krippendorff_alpha"].item())
    assert found.costs("experiment")["experiment"].tolist() == ["march", "now"]
    assert found.consensus().groupby("experiment").size().tolist() == [40, 40]
    assert found.score("gold").summary["experiment"].unique().tolist() == ["march", "now"]
    assert "40 units" in found._repr_html_()
    for chart in (ll.charts.agreement, ll.charts.token_costs, ll.charts.labels, ll.charts.overview):
        assert chart(found)._repr_mimebundle_()


def test_what_was_sent_is_known_and_nothing_is_asked_or_saved(two, tmp_path):
    march, now = two()
    march = pickle.loads(pickle.dumps(ll.load_results(march.save(tmp_path / "march"))))
    found = ll.combine(march=march, now=now)
    assert found.messages("T003", experiment="march") == march.messages("T003")
    assert found.messages("T003", experiment="now") == now.messages("T003")
    with pytest.raises(ll.InputError, match="2 trials of unit 'T003' in run 1: say model=, experiment="):
        found.messages("T003")
    with pytest.raises(ll.InputError, match="save each of them, and combine what is loaded"):
        found.save(tmp_path / "both")
    with pytest.raises(ll.InputError, match="combined, and know no prompt"):
        asyncio.run(found.rerun_failed())


def test_failures_skipped_and_unsent_trials_stay_what_they_are():
    keys = keys_of("abc")

    def one(more):
        made = [(attempt(trial_of(keys, 0)), "x"), (attempt(trial_of(keys, 1), **failing()), None)]
        return results_of(keys, [*made, *more], unsent={2: EmptyInputError("blank")}, stopped="no credit")

    plain = one([])
    revived = one([(attempt(trial_of(keys, 1), number=2), "y")])
    found = ll.combine(a=plain, b=revived)
    assert found.predictions["status"].tolist() == ["ok", "failed", "failed", "ok", "ok", "failed"]
    assert found.predictions["error"].tolist() == [*plain.predictions["error"], *revived.predictions["error"]]
    assert found.stopped == "a: no credit; b: no credit"
    assert [outcome.prediction for outcome in found.outcomes()] == ["x", None, None, "x", "y", None]


def test_units_of_only_one_experiment_are_kept_and_prompts_stay_apart(provider):
    async def both():
        one = await ask(provider(), UNITS.head(3), {"a": "{text}", "b": "Again: {text}"}, categories=CATEGORIES)
        other = await ask(provider(), UNITS.tail(2).assign(words=[7, 8]), categories=CATEGORIES[:5])
        return one, other

    one, other = asyncio.run(both())
    found = ll.combine(first=one, second=other)
    assert len(found.units) == 5
    assert found.predictions["prompt"].unique().tolist() == ["a", "b", "(the only prompt)"]
    assert found.categories == CATEGORIES
    pd.testing.assert_series_equal(found.units["text"], pd.concat([one.units["text"], other.units["text"]]))
    assert found.units["words"].dropna().tolist() == [7, 8]
    assert found.messages(other.units.index[0], experiment="second") == other.messages(other.units.index[0])


def test_examples_of_one_are_judged_in_none(provider):
    examples = UNITS.iloc[1:3].rename(columns={"gold": "prediction"})

    async def both():
        settings = {"categories": CATEGORIES, "model": "m"}
        one = await ask(provider(), UNITS, **settings)
        other = await ask(provider(), UNITS.tail(39), examples=examples[["text", "prediction"]], **settings)
        return ll.combine(zero=one, few=other)

    found = asyncio.run(both())
    assert found.score("gold").summary["n"].unique().tolist() == [38, 37]
    assert found.score("gold").notes == ("2 units left out, as examples in the prompt",)


def test_ids_that_mean_different_texts_are_refused(provider):
    async def both():
        march = await ask(provider(), UNITS, categories=CATEGORIES)
        moved = UNITS.assign(text=UNITS["text"].shift(-1, fill_value="x"))
        return march, await ask(provider(), moved, categories=CATEGORIES)

    march, now = asyncio.run(both())
    with pytest.raises(ll.InputError, match=r"'T001' is not the same in march and now: its text is '"):
        ll.combine(march=march, now=now)


def test_a_column_is_the_same_whatever_type_its_numbers_have(provider):
    async def both():
        numbered = UNITS.head(3).assign(words=[1, 2, 3], seen=[None, 5, None])
        other = UNITS.head(3).assign(words=np.array([1.0, 2.0, 3.0]), seen=[4, None, None])
        return [await ask(provider(), one, categories=CATEGORIES) for one in (numbered, other)]

    one, other = asyncio.run(both())
    assert ll.combine(a=one, b=other).units["seen"].tolist()[:2] == [4, 5]


class Answer(BaseModel):
    topic: str


def test_what_cannot_be_combined_is_refused(two, provider):
    march, now = two()
    combined = ll.combine(march=march, now=now)
    structured = asyncio.run(ask(provider(), UNITS, response_model=Answer))
    for arguments, says in (
        ({"march": march}, "two results or more"),
        ({"march": march, "now": now.predictions}, "now is DataFrame"),
        ({"march": march, "now": combined}, "combined already"),
        ({"march": march, "now": structured.of("topic")}, "one field of other results"),
        ({"march": march, "now": structured}, "march has none and now has topic.* now.reparse"),
    ):
        with pytest.raises(ll.InputError, match=says):
            ll.combine(**arguments)
