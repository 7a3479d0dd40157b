"""Scores by hand, and against scikit-learn and statsmodels."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn import metrics
from statsmodels.stats.proportion import proportion_confint

import llmlab as ll
from llmlab.analysis import scoring
from tests.analysis.tables import LABELS, SMALL, as_rows, frame, random_table


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


def test_labels_in_order_have_an_error_and_a_rank_correlation():
    codes, gold = random_table(runs=1, seed=8), random_table(runs=1, seed=9)[:, 0]
    predictions = frame(as_rows(codes), gold=[LABELS[code] for code in gold])
    found = scoring.score(predictions, "gold", measure="ordinal").summary.query("of == 'run 1'").iloc[0]
    assert found["mean_absolute_error"] == pytest.approx(metrics.mean_absolute_error(gold, codes[:, 0]))
    assert found["rank_correlation"] == pytest.approx(spearmanr(gold, codes[:, 0]).statistic)
    numbers = predictions.assign(
        prediction=pd.Categorical([1 + 2 * code for code in codes[:, 0]], categories=[1, 3, 5], ordered=True),
        gold=[1 + 2 * code for code in gold],
    )
    twice = scoring.score(numbers, "gold", measure="ordinal").summary.query("of == 'run 1'").iloc[0]
    assert twice["mean_absolute_error"] == pytest.approx(2 * found["mean_absolute_error"])
    assert twice["rank_correlation"] == pytest.approx(found["rank_correlation"])


def test_a_sheet_is_weighed_by_one_over_its_probability():
    codes = random_table(runs=1, seed=10)
    gold = [LABELS[code] for code in random_table(runs=1, seed=11)[:, 0]]
    predictions = frame(as_rows(codes))
    rows = np.arange(0, 120, 2)
    probability = np.where(rows % 3 == 0, 0.8, 0.25)
    sheet = pd.DataFrame(
        {"unit_id": [f"u{at + 1}" for at in rows], "label": [gold[at] for at in rows], "probability": probability}
    )
    found = scoring.score(predictions, sheet)
    truth, said = [gold[at] for at in rows], [LABELS[codes[at, 0]] for at in rows]
    weighed = {"sample_weight": 1 / probability}
    one = found.summary.query("of == 'run 1'").iloc[0]
    assert one["n"] == 60
    assert one["accuracy"] == pytest.approx(metrics.accuracy_score(truth, said, **weighed))
    assert one["macro_f1"] == pytest.approx(metrics.f1_score(truth, said, average="macro", **weighed))
    assert found.confusion.loc["m"][LABELS].to_numpy() == pytest.approx(
        metrics.confusion_matrix(truth, said, labels=LABELS, **weighed)
    )
    equal = scoring.score(predictions, sheet.assign(probability=0.5)).summary
    plain = scoring.score(predictions, dict(zip(sheet["unit_id"], sheet["label"], strict=True))).summary
    pd.testing.assert_frame_equal(equal.drop(columns=["low", "high"]), plain.drop(columns=["low", "high"]))
    # Unequal weights tell less than as many equal ones.
    assert one["high"] - one["low"] > equal["high"].iloc[0] - equal["low"].iloc[0]


def test_a_column_of_llmlabs_is_no_gold():
    predictions = frame(SMALL)
    with pytest.raises(ll.InputError, match="a column of llmlab's"):
        scoring.score(predictions, "prediction")
    with pytest.raises(ll.InputError, match="called prediction_ here"):
        scoring.score(predictions.assign(prediction_="bug"), "prediction")


def test_models_whose_rows_stand_unit_by_unit_are_scored_as_alone():
    gold = ["bug", "billing", "other", "bug"]
    models = {"m": frame([[one] for one in gold], gold, "m"), "n": frame([[one] for one in gold[::-1]], gold, "n")}
    mixed = pd.concat(models.values()).sort_values(["unit_id", "model"], kind="stable", ignore_index=True)
    found = scoring.score(mixed, "gold").summary.query("of == 'consensus'").set_index("model")["accuracy"]
    assert found.to_dict() == {"m": 1.0, "n": 0.5}
    for name, alone in models.items():
        assert scoring.score(alone, "gold").summary.query("of == 'consensus'")["accuracy"].item() == found[name]
