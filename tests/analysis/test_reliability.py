"""Alpha and kappas on every scale against krippendorff, statsmodels and scikit-learn."""

import krippendorff
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import fleiss_kappa

import llmlab as ll
from llmlab.analysis.intervals import bootstrap, bootstrap_of_sums
from llmlab.analysis.reliability import Scale, _alpha_of, _alpha_sums, measured


def ratings(units=80, raters=3, labels=5, missing=0.0, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, labels, units)
    near = np.clip(truth[:, None] + rng.integers(-1, 2, (units, raters)), 0, labels - 1)
    return np.where(rng.random((units, raters)) < missing, -1, near)


def scale(measure, labels=(1, 2, 4, 8, 9)):
    return Scale.of(pd.Index(labels, dtype=object), measure, ordered=True)


@pytest.mark.parametrize("measure", ["nominal", "ordinal", "interval"])
@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_alpha_is_krippendorffs(measure, missing):
    codes, on = ratings(missing=missing, seed=2), scale(measure)
    found = measured(codes, on, 0.95, 0)
    data = np.where(codes < 0, np.nan, on.values[codes]).T
    assert found["krippendorff_alpha"] == pytest.approx(krippendorff.alpha(data, level_of_measurement=measure))
    assert found["alpha_low"] < found["krippendorff_alpha"] < found["alpha_high"]
    assert found["units"] == ((codes >= 0).sum(axis=1) >= 2).sum()


@pytest.mark.parametrize("measure", ["nominal", "ordinal", "interval"])
def test_the_alpha_of_the_bootstrap_is_the_same_number(measure):
    codes, on = ratings(missing=0.2, seed=3), scale(measure)
    counts = (codes[:, :, None] == np.arange(5)).sum(axis=1)
    counts = counts[counts.sum(axis=1) >= 2]
    found = _alpha_of(on)(_alpha_sums(counts, on).sum(axis=0))
    assert found == pytest.approx(measured(codes, on, 0.95, 0)["krippendorff_alpha"])


def test_drawing_equal_units_together_gives_the_interval_of_drawing_units():
    codes, on = ratings(missing=0.2, labels=3, seed=4), scale("nominal", (1, 2, 3))
    counts = (codes[:, :, None] == np.arange(3)).sum(axis=1)
    sums = _alpha_sums(counts[counts.sum(axis=1) >= 2], on)
    found = bootstrap_of_sums(sums, _alpha_of(on), 0.9, seed=0)
    plain = bootstrap(sums, lambda draws: _alpha_of(on)(draws.sum(axis=1)), 0.9, np.random.default_rng(1))
    assert found == pytest.approx(plain, abs=0.03)


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_kappa_is_fleiss(missing):
    codes = ratings(missing=missing, seed=5)
    found = measured(codes, scale("nominal"), 0.95, 0)
    complete = codes[(codes >= 0).all(axis=1)]
    assert found["fleiss_kappa"] == pytest.approx(fleiss_kappa((complete[:, :, None] == np.arange(5)).sum(axis=1)))
    assert found["kappa_low"] < found["fleiss_kappa"] < found["kappa_high"]
    assert found["complete_units"] == len(complete)
    assert np.isnan(found["cohen_kappa"])


@pytest.mark.parametrize(("measure", "weights"), [("nominal", None), ("ordinal", "quadratic")])
def test_kappa_of_two_is_cohens(measure, weights):
    codes = ratings(raters=2, missing=0.1, seed=6)
    found = measured(codes, scale(measure), 0.95, 0)
    both = codes[(codes >= 0).all(axis=1)]
    assert found["cohen_kappa"] == pytest.approx(cohen_kappa_score(*both.T, labels=range(5), weights=weights))
    assert found["cohen_low"] < found["cohen_kappa"] < found["cohen_high"]


def test_what_cannot_be_measured_is_refused():
    for labels, measure, says in (
        (["a", "b"], "interval", "needs numbers"),
        (["a", "b"], "ordinal", "in order"),
        (["a", "b"], "ratio", "must be one of"),
    ):
        with pytest.raises(ll.InputError, match=says):
            Scale.of(pd.Index(labels, dtype=object), measure, ordered=False)
