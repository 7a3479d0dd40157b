"""Votes, majorities and the consensus, by hand."""

import numpy as np
import pytest

import llmlab as ll
from llmlab import analysis
from tests.analysis.tables import LABELS, SMALL, as_rows, frame, random_table


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


def test_as_many_labels_as_answers_and_lists_among_the_units_columns_are_no_trouble():
    predictions = frame([["bug", "bug"]] * 400).assign(prediction=lambda p: [f"text {n}" for n in range(len(p))])
    found = analysis.agreement(predictions).iloc[0]
    assert found["krippendorff_alpha"] == pytest.approx(0, abs=0.01)
    predictions["tags"] = [["x", "y"]] * len(predictions)
    assert analysis.consensus(predictions)["tags"].tolist() == [["x", "y"]] * 400


def test_wide_has_a_column_per_run():
    found = analysis.wide(frame(SMALL, gold=list("abcd")))
    assert list(found.columns) == ["unit_id", "model", "run_1", "run_2", "run_3", "gold"]
    assert found["run_2"].astype(object).where(found["run_2"].notna(), None).tolist() == ["bug", "billing", None, None]
    assert found["run_1"].cat.categories.tolist() == LABELS


async def test_empty_results_have_findings_of_no_rows():
    with ll.simulate.client() as client:
        results = await ll.run_experiment([], "{text}", model="m", categories=LABELS, client=client, progress=False)
    for found in (results.consensus(), results.agreement(), results.wide()):
        assert len(found) == 0
    assert {"share", "tied", "flip_rate"} <= set(results.consensus())


def test_majorities_by_hand():
    found = analysis.majorities(frame(SMALL))
    assert found["unit_id"].tolist() == ["u1", "u2", "u3", "u4"]
    assert found["answered"].tolist() == [3, 3, 2, 0]
    assert found["most"].tolist() == [3, 2, 1, 0]
    assert found["agree"].astype(object).where(found["agree"].notna(), None).tolist() == [True, False, False, None]


@pytest.mark.parametrize("same", [["x"], {"x": 1}, 1.5, True, "x"])
def test_answers_of_any_kind_can_agree(same):
    predictions = frame([["bug", "bug"], ["bug", "bug"]])
    cells = np.empty(4, object)
    cells[:] = [same, same, same, type(same)()]
    found = analysis.majorities(predictions.assign(prediction=cells))
    assert found["agree"].tolist() == [True, False]
    assert analysis.agreement(predictions.assign(prediction=cells))["unanimous"].tolist() == [0.5]


def test_consensus_agreement_and_majorities_count_the_same_units():
    predictions = frame(as_rows(random_table(missing=0.3, seed=6)))
    found, agreed = analysis.majorities(predictions), analysis.consensus(predictions)
    several = agreed["answered"] >= 2
    assert found["agree"].dropna().tolist() == (agreed.loc[several, "share"] == 1).tolist()
    assert analysis.agreement(predictions)["unanimous"].item() == pytest.approx(found["agree"].dropna().mean())
