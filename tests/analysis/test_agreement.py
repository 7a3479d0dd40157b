"""Agreement of runs, of models and of people: who is compared with whom, and in which order."""

import krippendorff
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

import llmlab as ll
from llmlab import analysis
from tests.analysis.tables import LABELS, frame


def test_one_label_only_is_complete_agreement_and_one_run_is_unknown():
    only = analysis.agreement(frame([["bug", "bug"]] * 5)).iloc[0]
    assert only["krippendorff_alpha"] == only["fleiss_kappa"] == only["unanimous"] == 1.0
    assert "one label" in only["notes"]
    single = analysis.agreement(frame([["bug"], ["other"]])).iloc[0]
    assert np.isnan(single["krippendorff_alpha"])
    assert np.isnan(single["fleiss_kappa"])


def coded_by(people, models=("m", "n"), units=60, seed=1):
    """Predictions of three runs and columns of people, who err at random."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, units)
    noisy = lambda: np.where(rng.random(units) < 0.3, rng.integers(0, 3, units), truth)  # noqa: E731
    made = pd.concat(
        [frame([[LABELS[c] for c in row] for row in np.stack([noisy() for _ in range(3)], 1)], model=m) for m in models]
    )
    for name in people:
        labels = dict(zip([f"u{at}" for at in range(1, units + 1)], [LABELS[c] for c in noisy()], strict=True))
        made[name] = made["unit_id"].map(labels)
    return made.reset_index(drop=True)


def test_groups_of_raters_stand_in_order_and_are_compared_as_said():
    predictions = coded_by(["anna", "ben"])
    found = analysis.agreement(predictions, humans=["anna", "ben"])
    assert found[["model", "raters"]].fillna("").values.tolist() == [
        ["", "anna, ben"],
        ["m", "runs"],
        ["n", "runs"],
        ["m", "consensus, anna"],
        ["m", "consensus, ben"],
        ["n", "consensus, anna"],
        ["n", "consensus, ben"],
        ["m", "consensus, majority of the humans"],
        ["n", "consensus, majority of the humans"],
        ["", "all runs and humans"],
    ]
    assert found["runs"].tolist() == [2, 3, 3, 2, 2, 2, 2, 2, 2, 8]
    units = predictions.drop_duplicates("unit_id")
    assert found["cohen_kappa"].iloc[0] == pytest.approx(cohen_kappa_score(units["anna"], units["ben"]))
    agreed = analysis.consensus(predictions).query("model == 'n'")["prediction"].astype(str)
    assert found["cohen_kappa"].iloc[5] == pytest.approx(cohen_kappa_score(agreed, units["anna"]))
    runs = analysis.wide(predictions)[["model", "run_1", "run_2", "run_3"]]
    every = pd.concat(
        [runs[runs["model"] == m].drop(columns="model").reset_index(drop=True) for m in ("m", "n")], axis=1
    )
    every = pd.concat([every, units[["anna", "ben"]].reset_index(drop=True)], axis=1).astype(str)
    data = np.array([[LABELS.index(cell) for cell in row] for row in every.to_numpy()]).T
    wanted = krippendorff.alpha(data, level_of_measurement="nominal")
    assert found["krippendorff_alpha"].iloc[-1] == pytest.approx(wanted)
    assert (found["cohen_low"].dropna() < found["cohen_kappa"].dropna()).all()


def test_people_may_come_from_a_sheet_and_leave_units_out():
    predictions = coded_by(["anna"], models=("m",))
    units = predictions.drop_duplicates("unit_id")
    sheet = units[["unit_id", "anna"]].rename(columns={"anna": "label"}).assign(probability=0.5).head(20)
    found = analysis.agreement(predictions, humans=sheet)
    assert found["raters"].tolist() == ["runs", "consensus, label", "all runs and humans"]
    assert found["complete_units"].tolist() == [60, 20, 20]
    whole = analysis.agreement(
        predictions.assign(anna=predictions["anna"].where(predictions["unit_id"].isin(sheet["unit_id"]))), humans="anna"
    )
    assert whole["cohen_kappa"].iloc[1] == pytest.approx(found["cohen_kappa"].iloc[1])


def test_labels_in_order_are_compared_in_order():
    predictions = coded_by(["anna", "ben"], models=("m",))
    found = analysis.agreement(predictions, humans=["anna", "ben"], measure="ordinal").iloc[0]
    units = predictions.drop_duplicates("unit_id")
    codes = [[LABELS.index(one) for one in units[name]] for name in ("anna", "ben")]
    assert found["cohen_kappa"] == pytest.approx(cohen_kappa_score(*codes, weights="quadratic"))
    assert found["krippendorff_alpha"] == pytest.approx(krippendorff.alpha(codes, level_of_measurement="ordinal"))
    assert np.isnan(found["fleiss_kappa"])


def test_each_label_on_its_own():
    predictions = coded_by(["anna", "ben"], models=("m",))
    found = analysis.agreement(predictions, humans=["anna", "ben"], by="label")
    assert found["label"].drop_duplicates().tolist() == LABELS
    units = predictions.drop_duplicates("unit_id")
    for label in LABELS:
        mine = found[found["label"] == label].iloc[0]
        wanted = cohen_kappa_score(units["anna"] == label, units["ben"] == label)
        assert mine["cohen_kappa"] == pytest.approx(wanted)


def test_a_human_who_is_not_there_or_knows_other_labels_is_refused():
    predictions = coded_by(["anna"], models=("m",))
    for humans, says in (("ben", "no column of your units: they have anna"), ("status", "a column of llmlab")):
        with pytest.raises(ll.InputError, match=says):
            analysis.agreement(predictions, humans=humans)
    with pytest.raises(ll.InputError, match="no category: nonsense"):
        analysis.agreement(predictions.assign(anna="nonsense"), humans="anna")
