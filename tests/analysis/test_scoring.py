"""Scores by hand, and against scikit-learn and statsmodels."""

import pandas as pd
import pytest
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
