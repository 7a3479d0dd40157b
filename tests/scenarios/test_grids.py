"""Several prompts: units × models × prompts × runs, told apart in frames, journal, reruns and charts."""

import matplotlib as mpl
import pandas as pd
import pytest

import llmlab as ll

UNITS = pd.DataFrame({"unit_id": ["a", "b"], "text": ["the parcel is late", "the app crashes"]})
PROMPTS = {
    "short": "Label: {text}",
    "long": [{"role": "user", "content": "Which category fits this message?\n\n{text}"}],
}
SETTINGS = {"categories": ["delivery", "bug"], "requests_per_minute": None, "progress": False}
KEY = ["unit_id", "model", "prompt", "run"]


async def ask(provider, units=UNITS, **settings):
    return await ll.run_experiment(
        units, PROMPTS, **({"model": ["m", "n"], "runs": 3, "client": provider} | SETTINGS | settings)
    )


@pytest.fixture
def provider():
    with ll.simulate.client(latency_s=0.0) as one:
        yield one


async def test_every_unit_is_asked_with_every_prompt(provider):
    predictions, attempts = await ask(provider)
    assert list(predictions.columns[:5]) == [*KEY, "prediction"]
    assert list(attempts.columns[:5]) == [*KEY, "attempt"]
    wanted = pd.MultiIndex.from_product([["a", "b"], ["m", "n"], ["short", "long"], [1, 2, 3]])
    assert list(predictions[KEY].itertuples(index=False, name=None)) == list(wanted)
    assert provider.counts().requests == len(attempts) == 24
    assert predictions["status"].eq("ok").all()


async def test_a_single_prompt_has_no_name_and_no_column(provider):
    results = await ll.run_experiment(UNITS, "{text}", model="m", client=provider, **SETTINGS)
    assert "prompt" not in results.predictions
    assert "prompt" not in results.attempts


async def test_rows_and_reruns_mean_exactly_those_prompts(provider):
    results = await ask(provider)
    rows = results.predictions.query("prompt == 'long' and run == 2")
    again = await results.rerun(rows)
    assert provider.counts().requests == 24 + 4
    assert again.predictions.groupby("prompt", sort=False)["attempts"].sum().to_dict() == {"short": 12, "long": 16}
    picked = await ask(provider, rows.sample(frac=1, random_state=0))
    assert sorted(picked.predictions[KEY].itertuples(index=False, name=None)) == sorted(
        rows[KEY].itertuples(index=False, name=None)
    )
    without = await ask(provider, rows.drop(columns=["prompt", "model"]).drop_duplicates(["unit_id", "run"]))
    assert len(without.predictions) == 2 * 2 * 2


async def test_the_journal_knows_prompts(provider, tmp_path):
    path = tmp_path / "grid.sqlite"
    live = await ask(provider, journal=path)
    loaded = ll.load_results(path)
    pd.testing.assert_frame_equal(loaded.predictions, live.predictions)
    pd.testing.assert_frame_equal(loaded.attempts, live.attempts)
    again = await ask(provider, journal=path, runs=4)
    assert provider.counts().requests == 24 + 8
    assert again.predictions["status"].eq("ok").all()


async def test_the_summary_compares_runs_of_one_prompt_with_each_other(provider):
    prompts = {"one": "First. {text}", "other": "Second. {text}"}
    results = await ll.run_experiment(
        UNITS,
        prompts,
        model="m",
        runs=2,
        client=provider,
        parse=lambda text: "same",
        requests_per_minute=None,
        progress=False,
    )
    assert "4 of 4 units" in " ".join(results._repr_html_().split())
    assert "2 units × 2 runs × 1 model × 2 prompts" in results._repr_html_()


async def test_outcomes_name_the_prompt(provider):
    results = await ask(provider, runs=1)
    assert [outcome.trial.prompt for outcome in results.outcomes()] == ["short", "long"] * 4


async def test_charts_tell_prompts_apart(provider):
    mpl.use("Agg")
    ax = ll.charts.agreement(await ask(provider)).axes
    names = [label.get_text().strip() for label in ax.get_yticklabels()]
    assert {*names} == {*"mn", *PROMPTS}
    assert all(names.count(prompt) == 2 for prompt in PROMPTS)


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ({}, "names"),
        ({1: "a"}, "names"),
        ({"role": "user", "content": "x"}, "list"),
        ({"a": "{txt}"}, "asks for {txt}"),
    ],
)
async def test_what_cannot_be_asked_is_said(provider, prompt, says):
    with pytest.raises(ll.InputError, match=says):
        await ll.run_experiment(UNITS, prompt, model="m", client=provider, **SETTINGS)
