"""How sure a label is, and whether what is sure is right: by hand, and against scikit-learn."""

import math

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import calibration_curve

import llmlab as ll
from llmlab import analysis
from tests.analysis.tables import LABELS, as_rows, frame, random_table
from tests.helpers import attempt, keys_of, results_of, trial_of


def told(answers, probabilities, gold=None, runs=1):
    """Results whose answers have a probability; `None` was not told."""
    keys = keys_of([f"u{at}" for at in range(len(answers) // runs)], runs=runs)
    made = [
        (attempt(trial_of(keys, at), label_logprob=p if p is None else math.log(p)), label)
        for at, (label, p) in enumerate(zip(answers, probabilities, strict=True))
    ]
    units = pd.DataFrame({"gold": gold or ["a"] * (len(answers) // runs)}, index=keys["unit_id"].unique())
    return results_of(keys, made, units=units.rename_axis("unit_id"), categories=["a", "b"])


def test_logprobs_tell_how_sure_an_answer_is_and_else_the_runs():
    results = told(["a", "b", "a", "a", "b", "b"], [0.9, 0.6, 0.8, None, None, None], runs=2)
    predictions = results.predictions
    assert predictions["confidence"].tolist() == pytest.approx([0.9, 0.6, 0.8, 1.0, 1.0, 1.0])
    assert predictions["confidence_from"].tolist() == ["logprobs", "logprobs", "logprobs", "runs", "runs", "runs"]
    agreed = results.consensus()
    # Of a run with the other label nothing is known about this one: 0.
    assert agreed["confidence"].tolist() == pytest.approx([0.9 / 2, 1.0, 1.0])
    assert agreed["confidence_from"].tolist() == ["logprobs", "runs", "runs"]


def test_the_share_of_the_runs_tells_and_a_single_run_nothing():
    results = told(["a", "a", "b"], [None] * 3, runs=3)
    assert results.predictions["confidence"].tolist() == pytest.approx([2 / 3, 2 / 3, 1 / 3])
    assert results.consensus()["confidence"].tolist() == pytest.approx([2 / 3])
    single = told(["a", "b"], [None] * 2)
    for table in (single.predictions, single.consensus()):
        assert table["confidence"].isna().all()
        assert table["confidence_from"].isna().all()
    with pytest.raises(ll.InputError, match="logprobs=True, or several runs"):
        single.calibration("gold")
    with pytest.raises(ll.InputError, match="logprobs=True, or runs=3"):
        single.sheet(1, more="low confidence")


def sure(units=400, seed=1):
    """Confidences that are too high: an answer of confidence p is right with probability p²."""
    rng = np.random.default_rng(seed)
    p = rng.uniform(0.3, 1.0, units)
    right = rng.random(units) < p**2
    return p, right, told(["a"] * units, p, gold=["a" if one else "b" for one in right])


def test_bins_and_the_error_are_scikit_learns():
    p, right, results = sure()
    found = results.calibration("gold")
    accuracy, confidence = calibration_curve(right, p, n_bins=10)
    assert found.bins["accuracy"].tolist() == pytest.approx(accuracy.tolist())
    assert found.bins["confidence"].tolist() == pytest.approx(confidence.tolist())
    error = np.average(np.abs(accuracy - confidence), weights=found.bins["units"])
    row = found.summary.iloc[0]
    assert row["error"] == pytest.approx(error)
    assert row["low"] < row["error"] < row["high"]
    assert row["accuracy"] == pytest.approx(right.mean())
    assert row["confidence"] == pytest.approx(p.mean())


def test_a_threshold_keeps_what_is_surer():
    p, right, results = sure()
    table = results.calibration("gold").thresholds
    for row in table.itertuples():
        kept = p >= row.threshold - 1e-9
        assert row.kept == pytest.approx(kept.mean())
        assert row.accuracy == pytest.approx(right[kept].mean())
        assert row.units == kept.sum()
    assert table["kept"].iloc[0] == 1
    assert table["threshold"].is_monotonic_increasing


def test_by_hand_with_runs_and_weighed_by_a_sheet():
    codes = random_table(units=60, runs=3, seed=12)
    predictions = frame(as_rows(codes))
    agreed = analysis.consensus(predictions)
    share = agreed["share"].to_numpy(float)
    rows = np.arange(30)
    gold = [LABELS[code] for code in random_table(units=60, runs=1, seed=12)[:, 0]]
    probability = np.where(rows % 2, 0.9, 0.3)
    sheet = pd.DataFrame({"unit_id": [f"u{at + 1}" for at in rows], "label": gold[:30], "probability": probability})
    found = analysis.calibration(predictions, sheet)
    right = agreed["prediction"].astype(str).to_numpy()[:30] == np.array(gold[:30])
    kept = share[:30] >= 1
    row = found.thresholds.iloc[-1]
    assert row["threshold"] == 1
    assert row["accuracy"] == pytest.approx(np.average(right[kept], weights=1 / probability[kept]))
    assert row["kept"] == pytest.approx((1 / probability[kept]).sum() / (1 / probability).sum())
    assert "threshold" in repr(found)
    assert found._repr_html_().count("<table") == 2


def test_the_chart_says_how_far_confidence_is_from_accuracy():
    _, _, results = sure()
    chart = ll.charts.calibration(results, "gold")
    assert "surer than right" in chart.finding
    assert chart.axes.get_xlabel().startswith("confidence")
