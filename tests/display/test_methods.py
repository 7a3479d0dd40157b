"""The paragraph on methods: every number in it is computed here once more from the frames, by other libraries."""

import asyncio
import re
from typing import Literal

import krippendorff
import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel
from sklearn import metrics
from statsmodels.stats.proportion import proportion_confint

import llmlab as ll
from tests.helpers import CATEGORIES, ask, attempt, failing, keys_of, results_of, trial_of

TICKETS = pd.read_csv("data/tickets.csv").head(60)
MODELS = ["openai/gpt-4o-mini", "other/model"]
MEANT = {"billing": "Invoices and refunds.", "bug": "Something is broken."}


@pytest.fixture
def asked(provider, tmp_path):
    """Two models with unusable answers, one of no known price, in two sessions of a book, the second with more runs."""

    async def both(**more):
        units = TICKETS.assign(text=TICKETS["text"].where(TICKETS["unit_id"] != "T005", " "))
        settings = {
            "categories": {name: MEANT.get(name, f"About {name}.") for name in CATEGORIES}, "model": MODELS,
            "journal": tmp_path / "book.sqlite", "temperature": 0, "max_tokens": 20,
            "retry": ll.RetryPolicy(wait=lambda attempt: 0),
        } | more  # fmt: skip
        client = provider(malformed_rate=0.25, seed=3, accuracy=0.8)
        await ask(client, units, "Which?\n{text}", **settings, runs=1)
        return await ask(client, units, "Which?\n{text}", **settings, runs=3)

    return lambda **more: asyncio.run(both(**more))


def filled(results, count=40, **more):
    """A sheet with the tickets' own labels by one person, and those of another who differs in every seventh."""
    sheet = results.sheet(count, seed=2, **more)
    gold = TICKETS.set_index("unit_id")["gold"].reindex(sheet["unit_id"]).to_numpy()
    other = np.where(np.arange(count) % 7 == 0, "other", gold)
    return sheet.assign(label=gold, ben=other)


def alpha(codes):
    return krippendorff.alpha(np.where(codes < 0, np.nan, codes.astype(float)).T, level_of_measurement="nominal")


def counted(number, word):
    return f"{number} {word}" + ("" if number == 1 else "s")


def intervals(text):
    """The text, its intervals by drawing replaced by a dash: they have a test of their own."""
    return re.sub(r"(alpha \d\.\d\d) \(95 % interval \d\.\d\d to \d\.\d\d", r"\1 (95 % interval –", text)


def expected(results, sheet):
    """The paragraph, with numbers from the frames alone."""
    predictions, attempts = results
    codes = {
        model: rows.assign(code=rows["prediction"].cat.codes).pivot(index="unit_id", columns="run", values="code")
        for model, rows in predictions.groupby("model", sort=False)
    }
    votes = {
        model: pd.DataFrame({code: (table == code).sum(axis=1) for code in range(len(CATEGORIES))})
        for model, table in codes.items()
    }
    ties = sum((one.eq(one.max(axis=1), axis=0).sum(axis=1) > 1)[one.max(axis=1) > 0].sum() for one in votes.values())
    unusable = attempts[attempts["status"] != "ok"]["error_type"].value_counts()
    failed = predictions[predictions["status"] == "failed"]["error_type"].value_counts()
    sent = attempts.drop_duplicates(["unit_id", "model", "run"])
    first, last = attempts["started_at"].min(), attempts["started_at"].max()
    days = f"on {first:%Y-%m-%d}" if first.date() == last.date() else f"from {first:%Y-%m-%d} to {last:%Y-%m-%d}"
    billed = attempts[attempts["may_be_billed"]]
    yield f"Each of {predictions['unit_id'].nunique()} units was labelled 3 times by {' and '.join(MODELS)} "
    yield f"({len(predictions)} trials) through {results.description['endpoint']} "
    yield f"{days} (UTC) in {attempts['session'].nunique()} sessions. "
    for model in MODELS:
        name = attempts.loc[attempts["model"] == model, "model_returned"].dropna().unique().item()
        yield f"{model} answered as {name}, served by llmlab simulate in 1 configuration (simulated). "
    yield "Parameters were temperature = 0 and max_tokens = 20, all others the provider's defaults. "
    yield "The prompt was “Which?\n{text}”. The 6 categories were account, billing, bug, delivery, feature and other, "
    yield "6 of them defined in the prompt. "
    yield f"{len(attempts)} requests were sent, of which {unusable.sum()} gave no usable answer ("
    yield ", ".join(f"{times} {kind}" for kind, times in unusable.items())
    yield f"); {len(attempts) - len(sent)} were repeats of a trial. "
    yield f"{predictions['status'].eq('ok').sum()} trials were answered, {failed.sum()} failed ("
    yield ", ".join(f"{times} {kind}" for kind, times in failed.items()) + ") and 0 were not asked. "
    for model in MODELS:
        nothing = (votes[model].sum(axis=1) == 0).sum()
        yield f"{counted(nothing, 'unit')} had no answer of {model}. "
    yield f"A unit's label is the majority of its runs; {counted(ties, 'tie')} went to the first of the categories. "
    for model in MODELS:
        table = codes[model].to_numpy()
        units = ((table >= 0).sum(axis=1) > 1).sum()
        yield f"The runs of {model} agree with Krippendorff's alpha {alpha(table):.2f} (95 % interval –, {units} units). "
    people = np.stack([pd.Categorical(sheet[name], CATEGORIES).codes for name in ("label", "ben")], axis=1)
    yield f"The 2 people agree with Krippendorff's alpha {alpha(people):.2f} (95 % interval –, {len(sheet)} units). "
    yield f"People labelled {len(sheet)} units, drawn at random with probability {len(sheet) / 60:.3f}, without the "
    yield "models' labels. "
    for model in MODELS:
        said = votes[model].loc[sheet["unit_id"]]
        label = np.where(said.max(axis=1) > 0, np.array(CATEGORIES)[said.to_numpy().argmax(axis=1)], "(none)")
        right = int((label == sheet["label"]).sum())
        low, high = proportion_confint(right, len(sheet), method="wilson")
        kinds = sorted(set(sheet["label"]) | (set(label) - {"(none)"}))
        f1 = metrics.f1_score(sheet["label"], label, labels=kinds, average="macro", zero_division=0)
        yield f"Against {len(sheet)} units labelled by people the majority of {model} is right in "
        yield f"{100 * right / len(sheet):.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f} %), "
        yield f"with a macro F1 of {f1:.2f}. "
    tokens, price, lacking = billed["total_tokens"].sum(), billed["cost_usd"].sum(), billed["cost_usd"].isna().sum()
    yield f"All requests together used {tokens:,} tokens; their cost: ≥ ${price:.4f} ({lacking} unknown). Software: "
    yield ", ".join(f"{name} {one}" for name, one in results.description["versions"].items()) + "."


def test_every_number_is_that_of_the_frames(asked):
    results = asked()
    sheet = filled(results)
    assert results.attempts["session"].nunique() == 2
    assert intervals(results.methods(sheet).paragraph) == "".join(expected(results, sheet))
    agreed = results.agreement(humans=sheet)
    for row in agreed[agreed["raters"].isin(["runs", "label, ben"])].itertuples():
        interval = f"{row.krippendorff_alpha:.2f} (95 % interval {row.alpha_low:.2f} to {row.alpha_high:.2f}"
        assert interval in results.methods(sheet).paragraph


def test_loaded_from_a_folder_or_a_book_it_is_the_same(asked, tmp_path):
    results = asked()
    sheet = filled(results, more="disagreement")
    found = results.methods(sheet)
    assert re.search(r"with probabilities of 0\.\d{3} to [01]\.\d{3}, by which they are weighted", found.paragraph)
    for loaded in (ll.load_results(results.save(tmp_path / "folder")), ll.load_results(tmp_path / "book.sqlite")):
        again = loaded.methods(sheet)
        assert again.paragraph == found.paragraph
        pd.testing.assert_frame_equal(again.checklist, found.checklist)


def test_the_checklist_names_what_is_missing_and_what_mends_it(asked):
    results = asked(categories=CATEGORIES)
    found = results.methods()
    missing = found.missing.set_index("item")
    left = int((results.predictions["status"] != "ok").sum())
    assert missing.loc["codebook", "says"] == "0 of 6 categories defined"
    assert missing.loc["codebook", "mend"] == "categories={'account': 'what belongs to it', …}"
    assert missing.loc["answers"].tolist() == [f"{left} trials without one", "results = await results.rerun_failed()"]
    assert missing.loc["cost", "mend"].startswith("prices={'other/model': (0.15, 0.60)}")
    assert missing.loc["validation", "mend"].startswith("sheet = results.sheet(120, seed=1)")
    assert f"snapshot of {MODELS[0]}" in missing.index
    assert "The labels were not compared with labels by people." in found.paragraph
    assert all(text in repr(found) for text in missing["mend"])
    half = filled(results).assign(label=lambda sheet: sheet["label"].where(sheet.index < 30))
    rest = results.methods(half).missing.set_index("item")
    assert rest.loc["sheet", "says"] == "10 units without a label"
    assert not {"validation", "people"} & set(rest.index)


def test_what_is_there_needs_no_mending():
    keys = keys_of("ab", runs=2, models=("m-2024-07-18",))
    attempts = [(attempt(trial_of(keys, at), provider="p"), "x") for at in range(4)]
    told = {"prompt": "Which? {text}", "categories": ["x"], "definitions": {"x": "all"}, "parameters": {"seed": 1}}
    results = results_of(keys, attempts, **told)
    sheet = results.sheet(2).assign(label="x", ben="x")
    found = results.methods(sheet)
    assert found.missing.empty
    assert "Nothing is missing." in repr(found)
    assert "Nothing is missing." in found._repr_html_()


def test_unknown_costs_prompts_that_are_functions_and_several_providers_are_said():
    keys = keys_of("ab", models=("m",))
    attempts = [
        (attempt(trial_of(keys, 0), provider="p", cost_usd=None), "x"),
        (attempt(trial_of(keys, 1), provider="q", cost_usd=None, session=4), "x"),
        (attempt(trial_of(keys, 1), 2, **failing()), None),
    ]
    found = results_of(keys, attempts, prompt="a function: ask", categories=["x"]).methods()
    assert "their cost: unknown." in found.paragraph
    assert "m answered as m, served by p and q." in found.paragraph
    assert "in 2 sessions" in found.paragraph
    assert "The prompt was a function: ask." in found.paragraph
    missing = found.missing.set_index("item")
    assert missing.loc["prompt", "mend"] == "publish what was sent: results.messages(unit_id)"
    assert missing.loc["provider of m", "mend"] == "extra_body={'provider': {'only': ['p']}}"
    assert missing.loc["repeats", "mend"] == "runs=3"


class Answer(BaseModel):
    topic: Literal["billing", "bug"]
    tags: list[Literal["a", "b"]]


def test_one_field_of_the_answers_counts_trials_and_not_labels(provider):
    results = asyncio.run(ask(provider(), TICKETS.head(4), response_model=Answer, runs=2))
    tags, topic = (results.of(name).methods().paragraph for name in ("tags", "topic"))
    assert "(8 trials)" in tags
    assert "8 trials were answered" in tags
    assert "This is about the field tags of the answers" in tags
    assert "This is about the field topic of the answers, with the labels billing and bug." in topic
    with pytest.raises(ll.InputError, match=r"results.of\('topic'\)"):
        results.methods()


def test_combined_experiments_say_whom_to_ask(provider):
    results = asyncio.run(ask(provider(), TICKETS.head(3), categories=CATEGORIES))
    with pytest.raises(ll.InputError, match="ask each for methods"):
        ll.combine(a=results, b=results).methods()
