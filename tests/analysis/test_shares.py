"""Corrected shares by hand, against ppi-python and statsmodels, and how often their intervals are right."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy import stats
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

import llmlab as ll
from llmlab import analysis
from tests.analysis.tables import frame
from tests.benchmarks import coverage

ESTIMATES = ["naive", "by hand", "corrected"]


def experiment(said, truth, coded, probability=0.4, **columns):
    """Predictions of one run, and a sheet of the coded units, whose labels are the true ones."""
    predictions = frame([[label] for label in said]).drop(columns="finished_at").assign(finished_at=pd.NaT, **columns)
    probability = np.broadcast_to(probability, len(said))
    sheet = pd.DataFrame(
        {
            "unit_id": [f"u{at + 1}" for at in coded],
            "label": [truth[at] for at in coded],
            "probability": probability[coded],
        }
    )
    return predictions, sheet


# 20 units; the model says bug of 8. Hand-coded are 4 of these, of which 3 are bugs, and 4 of the others, of which 1 is.
SAID = ["bug"] * 8 + ["other"] * 12
TRUTH = ["bug"] * 6 + ["other"] * 2 + ["bug"] * 2 + ["other"] * 10
CODED = [0, 1, 2, 7, 8, 12, 13, 14]


def test_three_estimates_by_hand():
    found = analysis.shares(*experiment(SAID, TRUTH, CODED))
    assert found["label"].drop_duplicates().tolist() == ["bug", "billing", "other"]
    bug = found[found["label"] == "bug"].set_index("estimate")
    assert bug.index.tolist() == ESTIMATES
    assert bug.loc["naive", "share"] == pytest.approx(8 / 20)
    assert bug.loc["by hand", "share"] == pytest.approx(4 / 8)
    assert bug.loc["corrected", "share"] == pytest.approx(8 / 20 * 3 / 4 + 12 / 20 * 1 / 4)
    assert bug.loc["naive", ["low", "high"]].tolist() == pytest.approx(proportion_confint(8, 20, method="wilson"))


def middle(chances):
    """The middle 95 % of a whole number out of 20 units, with half of the chance of its ends, as shares."""
    until = np.concatenate([[0], np.cumsum(chances)])
    return (np.interp([0.025, 0.975], until, np.arange(len(until))) - 0.5) / 20


def test_intervals_are_those_of_scipy_and_statsmodels():
    found = analysis.shares(*experiment(SAID, TRUTH, CODED))
    bug = found[found["label"] == "bug"].set_index("estimate")[["low", "high"]]
    # By hand 4 of 8 are bugs, and 12 units are left, with half a case added to either side.
    hand = np.concatenate([np.zeros(4), stats.betabinom.pmf(range(13), 12, 4.5, 4.5)])
    assert bug.loc["by hand"].tolist() == pytest.approx(middle(hand), abs=0.015)
    # The sheet has 2 errors; (2 + 1/2) × 40 % is one about bugs, and the harmonic sum of 1/2 and 1 is 1/3.
    of_bugs = stats.betabinom.pmf(range(5), 4, 1 + 1 / 3, 3 + 1 / 3)[::-1]
    of_others = stats.betabinom.pmf(range(9), 8, 1 + 1 / 3, 3 + 1 / 3)
    both = np.concatenate([np.zeros(4), np.convolve(of_bugs, of_others)])
    assert bug.loc["corrected"].tolist() == pytest.approx(middle(both), abs=0.015)


def test_about_the_population_intervals_are_wider():
    found = analysis.shares(*experiment(SAID, TRUTH, CODED))
    beyond = analysis.shares(*experiment(SAID, TRUTH, CODED), beyond=True)
    hand = beyond[beyond["label"] == "bug"].set_index("estimate").loc["by hand"]
    assert hand[["low", "high"]].tolist() == pytest.approx(proportion_confint(4, 8, method="jeffreys"), abs=0.01)
    wider = beyond["high"] - beyond["low"] - (found["high"] - found["low"])
    assert (wider[beyond["estimate"] != "naive"] > 0).all()
    assert (wider[beyond["estimate"] == "naive"] == 0).all()


def drawn(seed, more):
    """A model that is right in 80 %, and a sheet."""
    predictions = coverage.predictions(coverage.SAME, 0.8, np.random.default_rng([seed, 1]))
    sheet = analysis.draw_sheet(predictions, pd.DataFrame(index=range(coverage.UNITS)), 80, more=more, seed=seed)
    return predictions, sheet.assign(label=[coverage.LABELS[coverage.SAME[unit]] for unit in sheet["unit_id"]])


@pytest.mark.parametrize("more", [None, "disagreement"])
def test_the_corrected_share_is_that_of_ppi_and_of_a_weighted_regression(more):
    ppi_py = pytest.importorskip("ppi_py")
    predictions, sheet = drawn(1, more)
    found = analysis.shares(predictions, sheet).set_index(["label", "estimate"])["share"]
    agreed = analysis.consensus(predictions).set_index("unit_id")["prediction"].astype(str)
    weights = (1 / sheet["probability"]).to_numpy()
    for label in ("often", "c", "rare"):
        f_all, y = (agreed == label).to_numpy(float), (sheet["label"] == label).to_numpy(float)
        f = f_all[sheet["unit_id"]]
        fitted = sm.WLS(y, sm.add_constant(f), weights=weights).fit()
        assert found[label, "corrected"] == pytest.approx(fitted.predict(sm.add_constant(f_all)).mean())
        w = weights / weights.mean()
        ppi = ppi_py.ppi_mean_pointestimate(y, f, f_all, lam=fitted.params[1], w=w)
        assert found[label, "corrected"] == pytest.approx(float(np.squeeze(ppi)))
        assert found[label, "by hand"] == pytest.approx(np.average(y, weights=weights))


@pytest.mark.parametrize("more", [None, "disagreement"])
def test_the_mean_of_the_corrected_outcome_is_the_corrected_share(more):
    predictions, sheet = drawn(2, more)
    found = analysis.shares(predictions, sheet).query("estimate == 'corrected'").set_index("label")["share"]
    units = analysis.corrected(predictions, sheet)
    assert units.groupby("label", sort=False)["outcome"].mean().to_dict() == pytest.approx(found.to_dict())
    one = units[units["label"] == "often"]
    assert one["coded"].notna().sum() == len(sheet)
    untouched = one[one["coded"].isna()]
    assert untouched.groupby("predicted")["outcome"].nunique().tolist() == [1, 1]


@pytest.mark.parametrize(("accuracy", "more"), [(0.97, None), (0.6, "disagreement")])
def test_the_intervals_hold_the_true_share_and_are_narrower_than_by_hand(accuracy, more):
    table = coverage.cell(accuracy, more, True, 60)
    corrected = table.xs("corrected", level="estimate")
    # Three standard errors around 95 %; tests/benchmarks/coverage.py draws 1,000.
    assert (corrected["holds"] > 0.95 - 3 * np.sqrt(0.95 * 0.05 / 60)).all()
    assert (corrected["width"] < table.xs("by hand", level="estimate")["width"]).all()


def test_groups_and_the_differences_between_them():
    party = ["a", "b"] * 10
    predictions, sheet = experiment(SAID, TRUTH, CODED, party=party)
    found = analysis.shares(predictions, sheet, by="party")
    assert found["party"].drop_duplicates().tolist() == ["a", "b", "b − a"]
    bug = found[found["label"] == "bug"].set_index(["estimate", "party"])
    for group in ("a", "b"):
        mine = [at for at in range(20) if party[at] == group]
        assert bug.loc[("naive", group), "share"] == pytest.approx(np.mean([SAID[at] == "bug" for at in mine]))
        hand = [TRUTH[at] == "bug" for at in CODED if party[at] == group]
        assert bug.loc[("by hand", group), "share"] == pytest.approx(np.mean(hand))
        assert bug.loc[("by hand", group), "coded"] == len(hand)
        assert bug.loc[("by hand", group), "units"] == 10
    for estimate in ESTIMATES:
        apart = bug.loc[(estimate, "b"), "share"] - bug.loc[(estimate, "a"), "share"]
        assert bug.loc[(estimate, "b − a"), "share"] == pytest.approx(apart)
    hits = {group: sum(SAID[at] == "bug" for at in range(20) if party[at] == group) for group in "ab"}
    wanted = confint_proportions_2indep(hits["b"], 10, hits["a"], 10, method="newcomb", compare="diff")
    assert bug.loc[("naive", "b − a"), ["low", "high"]].tolist() == pytest.approx(wanted)
    with pytest.raises(ll.InputError, match="by='age' is no column of your units"):
        analysis.shares(predictions, sheet, by="age")


def test_with_all_units_coded_nothing_is_uncertain_about_them():
    found = analysis.shares(*experiment(SAID, TRUTH, list(range(20)), probability=1.0)).set_index(["label", "estimate"])
    for estimate in ("by hand", "corrected"):
        row = found.loc[("bug", estimate)]
        assert row[["share", "low", "high"]].tolist() == pytest.approx([0.4, 0.4, 0.4])
        assert row["more_to_halve"] == 0


def test_it_is_said_how_many_more_labels_would_halve_the_interval():
    predictions, sheet = drawn(3, None)
    row = analysis.shares(predictions, sheet).set_index(["label", "estimate"]).loc[("often", "by hand")]
    more = analysis.draw_sheet(predictions, pd.DataFrame(index=range(250)), 80 + int(row["more_to_halve"]), seed=4)
    more = more.assign(label=[coverage.LABELS[coverage.SAME[unit]] for unit in more["unit_id"]])
    after = analysis.shares(predictions, more).set_index(["label", "estimate"]).loc[("often", "by hand")]
    assert (after["high"] - after["low"]) / (row["high"] - row["low"]) == pytest.approx(0.5, abs=0.08)
    assert pd.isna(analysis.shares(predictions, sheet).set_index("estimate").loc["naive", "more_to_halve"]).all()


def test_where_nobody_coded_what_the_model_says_the_hand_labels_alone_count():
    found = analysis.shares(*experiment(SAID, TRUTH, [9, 12, 13, 14])).set_index(["label", "estimate"])
    assert found.loc[("bug", "corrected"), "share"] == found.loc[("bug", "by hand"), "share"]


def test_gold_that_is_no_sheet_is_refused():
    with pytest.raises(ll.InputError, match=r"a sheet: what results.sheet\(\) gave"):
        analysis.shares(frame([["bug"]]), {"u1": "bug"})
