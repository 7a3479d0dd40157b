"""Repeats and scores against hand-computed tables and against scikit-learn, statsmodels and krippendorff."""

import importlib
import time

import krippendorff
import numpy as np
import pandas as pd
import pytest
from sklearn import metrics
from statsmodels.stats.inter_rater import fleiss_kappa
from statsmodels.stats.proportion import proportion_confint

import llmlab as ll
from llmlab.analysis import scoring

analysis = importlib.import_module("llmlab.analysis.agreement")

LABELS = ["bug", "billing", "other"]


def frame(rows, gold=None, model="m", prompt=None):
    """Predictions with labels (None: failed) by unit (rows) and run (columns)."""
    cells = [
        {
            "unit_id": f"u{unit}",
            "model": model,
            **({"prompt": prompt} if prompt else {}),
            "run": run,
            "prediction": label,
            "status": "ok" if label else "failed",
            "finished_at": pd.NaT,
            **({"gold": gold[unit - 1]} if gold else {}),
        }
        for unit, runs in enumerate(rows, 1)
        for run, label in enumerate(runs, 1)
    ]
    made = pd.DataFrame(cells)
    return made.assign(prediction=pd.Categorical(made["prediction"], categories=LABELS))


SMALL = [["bug", "bug", "bug"], ["bug", "billing", "bug"], ["other", None, "billing"], [None, None, None]]


def test_consensus_by_hand():
    found = analysis.consensus(frame(SMALL, gold=["bug", "bug", "other", "bug"]))
    assert found["prediction"].astype(object).where(found["prediction"].notna(), None).tolist() == [
        "bug",
        "bug",
        "billing",
        None,
    ]
    assert found["share"].tolist()[:3] == pytest.approx([1.0, 2 / 3, 0.5])
    assert found["answered"].tolist() == [3, 3, 2, 0]
    assert found["runs"].tolist() == [3, 3, 3, 3]
    assert found["tied"].tolist() == [False, False, True, False]
    assert found["entropy"].tolist()[:3] == pytest.approx([0.0, 0.9182958, 1.0])
    assert found["flip_rate"].tolist()[:3] == pytest.approx([0.0, 2 / 3, 1.0])
    assert found.loc[3, ["share", "entropy", "flip_rate"]].isna().all()
    assert found["gold"].tolist() == ["bug", "bug", "other", "bug"]
    assert found["prediction"].cat.categories.tolist() == LABELS


def test_ties_go_as_asked():
    predictions = frame([["other", "billing"]] * 50)
    assert analysis.consensus(predictions)["prediction"].eq("billing").all()
    assert analysis.consensus(predictions, ties="NA")["prediction"].isna().all()
    drawn = analysis.consensus(predictions, ties="random", seed=1)["prediction"]
    assert set(drawn) == {"billing", "other"}
    assert drawn.tolist() == analysis.consensus(predictions, ties="random", seed=1)["prediction"].tolist()
    with pytest.raises(ll.InputError, match="ties"):
        analysis.consensus(predictions, ties="last")


def random_table(units=120, runs=4, missing=0.0, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, units)
    noise = rng.integers(0, 3, (units, runs))
    codes = np.where(rng.random((units, runs)) < 0.7, truth[:, None], noise)
    return np.where(rng.random((units, runs)) < missing, -1, codes)


def as_rows(codes):
    return [[LABELS[code] if code >= 0 else None for code in row] for row in codes]


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_alpha_is_krippendorffs_and_kappa_is_fleiss(missing):
    codes = random_table(missing=missing)
    found = analysis.agreement(frame(as_rows(codes))).iloc[0]
    wanted = krippendorff.alpha(np.where(codes < 0, np.nan, codes).T, level_of_measurement="nominal")
    assert found["krippendorff_alpha"] == pytest.approx(wanted)
    assert found["alpha_low"] < found["krippendorff_alpha"] < found["alpha_high"]
    complete = codes[(codes >= 0).all(axis=1)]
    counts = np.stack([(complete == label).sum(axis=1) for label in range(3)], axis=1)
    assert found["fleiss_kappa"] == pytest.approx(fleiss_kappa(counts))
    assert found["kappa_low"] < found["fleiss_kappa"] < found["kappa_high"]
    assert ("kappa over" in found["notes"]) == (missing > 0)


def test_the_bulk_alpha_of_the_bootstrap_is_the_same_number():
    codes = random_table(missing=0.2, seed=3)
    counts = np.stack([(codes == label).sum(axis=1) for label in range(3)], axis=1)
    usable = counts.sum(axis=1) >= 2
    wanted = krippendorff.alpha(np.where(codes[usable] < 0, np.nan, codes[usable]).T, level_of_measurement="nominal")
    assert analysis._alpha_of_sums(analysis._sums(counts[usable]).sum(axis=0)) == pytest.approx(wanted)


def test_drawing_equal_units_together_gives_the_interval_of_drawing_units():
    codes = random_table(units=60, missing=0.2, seed=4)
    counts = np.stack([(codes == label).sum(axis=1) for label in range(3)], axis=1)
    sums = analysis._sums(counts[counts.sum(axis=1) >= 2])
    found = analysis._interval_of_sums(sums, analysis._alpha_of_sums, 0.9, seed=0)
    plain = analysis.bootstrap(
        sums, lambda draws: analysis._alpha_of_sums(draws.sum(axis=1)), 0.9, np.random.default_rng(1)
    )
    assert found == pytest.approx(plain, abs=0.03)


def test_as_many_labels_as_answers_and_lists_among_the_units_columns_are_no_trouble():
    predictions = frame([["bug", "bug"]] * 1500).assign(prediction=lambda p: [f"text {n}" for n in range(len(p))])
    found = analysis.agreement(predictions).iloc[0]
    assert found["krippendorff_alpha"] == pytest.approx(0, abs=0.01)
    predictions["tags"] = [["x", "y"]] * len(predictions)
    assert analysis.consensus(predictions)["tags"].tolist() == [["x", "y"]] * 1500


def test_one_label_only_is_complete_agreement_and_one_run_is_unknown():
    only = analysis.agreement(frame([["bug", "bug"]] * 5)).iloc[0]
    assert only["krippendorff_alpha"] == only["fleiss_kappa"] == only["unanimous"] == 1.0
    assert "one label" in only["notes"]
    single = analysis.agreement(frame([["bug"], ["other"]])).iloc[0]
    assert np.isnan(single["krippendorff_alpha"])
    assert np.isnan(single["fleiss_kappa"])


def test_agreement_is_quick():
    began = time.process_time()
    analysis.agreement(frame(as_rows(random_table(units=250, runs=3))))
    assert time.process_time() - began < 1


def test_score_is_scikit_learns():
    codes = random_table(runs=1, seed=5)
    gold = [LABELS[code] for code in random_table(runs=1, seed=5, units=120)[:, 0]]
    gold[:30] = ["other"] * 30
    predictions = frame(as_rows(codes), gold=gold)
    found = scoring.score(predictions, "gold")
    said = predictions["prediction"].astype(object)
    one = found.summary.query("of == 'run 1'").iloc[0]
    assert one["accuracy"] == pytest.approx(metrics.accuracy_score(gold, said))
    assert one["macro_f1"] == pytest.approx(metrics.f1_score(gold, said, average="macro"))
    assert (one["low"], one["high"]) == pytest.approx(
        proportion_confint((said == gold).sum(), len(said), method="wilson")
    )
    precision, recall, f1, support = metrics.precision_recall_fscore_support(gold, said, labels=LABELS)
    for name, values in {"precision": precision, "recall": recall, "f1": f1, "support": support}.items():
        assert found.per_category[name].tolist() == pytest.approx(values.tolist())
    assert (
        found.confusion.loc["m"][LABELS].to_numpy().tolist()
        == metrics.confusion_matrix(gold, said, labels=LABELS).tolist()
    )


def test_score_by_hand_counts_the_unanswered_as_wrong():
    found = scoring.score(frame(SMALL), {"u1": "bug", "u2": "bug", "u3": "other"})
    assert found.without_gold == 1
    table = found.summary.set_index("of")
    assert table.loc["all runs", "n"] == 9
    assert table.loc["all runs", "answered"] == 8
    assert table.loc["all runs", "accuracy"] == pytest.approx(6 / 9)
    assert table.loc["all runs", "accuracy_answered"] == pytest.approx(6 / 8)
    assert table.loc["consensus", "accuracy"] == pytest.approx(2 / 3)
    assert found.confusion.loc[("m", "other"), scoring.NONE] == 1
    assert "left out" in repr(found)
    assert "<table" in found._repr_html_()


def test_gold_is_aligned_by_id_and_wrong_gold_is_refused():
    predictions = frame(SMALL[:3])
    gold = pd.Series({"u3": "other", "u1": "bug", "u2": "bug"})
    assert scoring.score(predictions, gold).summary["accuracy"].tolist() == pytest.approx(
        scoring.score(predictions, gold[::-1].to_dict()).summary["accuracy"].tolist()
    )
    for wrong, says in (
        ("truth", "no column"),
        (pd.Series(["bug"] * 3), "unit ids"),
        ({"u1": "nonsense"}, "no category"),
        (5, "mapping"),
        (pd.Series(["bug", "bug"], index=["u1", "u1"]), "unique"),
    ):
        with pytest.raises(ll.InputError, match=says):
            scoring.score(predictions, wrong)


def test_wide_has_a_column_per_run():
    found = analysis.wide(frame(SMALL, gold=list("abcd")))
    assert list(found.columns) == ["unit_id", "model", "run_1", "run_2", "run_3", "gold"]
    assert found["run_2"].astype(object).where(found["run_2"].notna(), None).tolist() == ["bug", "billing", None, None]
    assert found["run_1"].cat.categories.tolist() == LABELS


async def test_a_real_experiment_is_compared():
    units = pd.read_csv("data/tickets.csv").head(60)
    with ll.simulate.client(
        latency_s=0.0, malformed_rate=0.05, models={"good": 0.95, "openai/gpt-4o-mini": 0.6}
    ) as client:
        results = await ll.run_experiment(
            units, "{text}", model=["openai/gpt-4o-mini", "good"], categories=sorted(units["gold"].unique()), runs=3,
            client=client, requests_per_minute=None, progress=False,
        )  # fmt: skip
    table = results.compare("gold").set_index("model")
    right = results.predictions.assign(right=lambda p: p["prediction"].astype(object) == p["gold"])
    assert table["accuracy"].to_dict() == pytest.approx(right.groupby("model")["right"].mean().to_dict())
    assert table.loc["good", "difference"] == pytest.approx(table.loc["good", "accuracy"] - table["accuracy"].iloc[0])
    assert table.loc["good", "difference_low"] > 0
    assert table.loc["good", ["cost_usd", "cost_usd_per_correct"]].isna().all()
    spent = results.attempts.groupby("model")["cost_usd"].sum()["openai/gpt-4o-mini"]
    assert table["cost_usd_per_1000_units"].iloc[0] == pytest.approx(1000 * spent / 60)
    assert len(results.consensus()) == 120
    assert len(results.agreement()) == 2
    assert len(results.wide()) == 120
    assert results.score("gold").summary["of"].tolist() == ["run 1", "run 2", "run 3", "all runs", "consensus"] * 2


async def test_prompts_are_arms_of_their_own():
    units = pd.read_csv("data/tickets.csv").head(10)
    with ll.simulate.client(latency_s=0.0) as client:
        results = await ll.run_experiment(
            units, {"a": "{text}", "b": "Label this. {text}"}, model="m", categories=sorted(units["gold"].unique()), runs=2,
            client=client, requests_per_minute=None, progress=False,
        )  # fmt: skip
    assert results.consensus().groupby("prompt").size().to_dict() == {"a": 10, "b": 10}
    assert results.compare("gold")["prompt"].tolist() == ["a", "b"]


async def test_empty_results_have_findings_of_no_rows():
    with ll.simulate.client() as client:
        results = await ll.run_experiment([], "{text}", model="m", categories=LABELS, client=client, progress=False)
    for found in (results.consensus(), results.agreement(), results.wide()):
        assert len(found) == 0
    assert {"share", "tied", "flip_rate"} <= set(results.consensus())


def test_a_category_that_is_never_gold_counts_in_macro_f1_as_in_scikit_learn():
    gold = ["bug", "bug", "billing", "billing"]
    said = ["bug", "other", "billing", "other"]
    found = scoring.score(frame([[label] for label in said], gold=gold), "gold")
    wanted = metrics.f1_score(gold, said, average="macro", zero_division=0)
    assert found.summary["macro_f1"].tolist() == pytest.approx([wanted] * 3)


def test_ids_of_mixed_types_are_scored():
    predictions = frame([["bug"], ["billing"], ["bug"]], gold=["bug", "bug", "bug"])
    predictions["unit_id"] = pd.Series([1, "b", (1, 2)], dtype=object)
    assert scoring.score(predictions, "gold").summary["accuracy"].tolist() == pytest.approx([2 / 3] * 3)
