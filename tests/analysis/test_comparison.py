"""Models and prompts side by side."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import llmlab as ll
from llmlab import analysis
from tests.helpers import attempt, keys_of, results_of, trial_of

LABELS = ["a", "b", "c"]


def made(units=120, runs=3, known=True, accuracy=0.9):
    """Two models, the second at three times the price; every tenth unit of the first is repeated."""
    rng = np.random.default_rng(3)
    keys = keys_of(range(units), runs=runs, models=("cheap", "dear"))
    gold = rng.choice(LABELS, units)
    attempts = []
    for at in range(len(keys)):
        trial = trial_of(keys, at)
        dear = trial.model == "dear"
        said = gold[trial.unit_id] if rng.random() < (accuracy if dear else 0.7) else rng.choice(LABELS)
        cost = (0.03 if dear else 0.01) * rng.uniform(0.5, 1.5)
        if trial.unit_id % 10 == 0 and not dear:
            attempts.append((attempt(trial, 1, status="parse_error", cost_usd=cost if known else None), None))
        attempts.append((attempt(trial, len(attempts) + 1, cost_usd=cost), said))
    frame = pd.DataFrame({"gold": gold}, index=pd.Index(range(units), name="unit_id"))
    return results_of(keys, attempts, units=frame, categories=LABELS)


def by_unit(results):
    """For each unit its gold, and by model the share of right runs, whether the majority is right, the cost of a run."""
    gold = results.units["gold"]
    said = results.predictions
    right = (said["prediction"].astype(object) == said["gold"]).groupby([said["model"], said["unit_id"]]).mean()
    agreed = results.consensus()
    voted = (agreed["prediction"].astype(object) == agreed["gold"]).groupby([agreed["model"], agreed["unit_id"]]).mean()
    runs = said["run"].nunique()
    cost = results.attempts.groupby(["model", "unit_id"])["cost_usd"].sum() / runs
    models = {model: (right[model], voted[model], cost[model].astype(float)) for model in ("cheap", "dear")}
    return [tuple(one.reindex(gold.index).to_numpy(float) for one in models[model]) for model in models]


def of_scipy(statistic, *values):
    found = stats.bootstrap(
        values,
        statistic,
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=2000,
        rng=np.random.default_rng(1),
    )
    return [statistic(*values), *found.confidence_interval]


def named(row, name):
    return row[[name, f"{name}_low", f"{name}_high"]].tolist()


def test_prices_gains_and_their_intervals_are_those_of_scipy():
    results = made()
    table = results.compare("gold").set_index("model")
    (right, voted, cost), (right_2, voted_2, cost_2) = by_unit(results)

    def close(found, wanted, scale):
        assert found[0] == pytest.approx(wanted[0])
        assert found[1:] == pytest.approx(wanted[1:], abs=0.15 * scale)

    cheap, dear = table.loc["cheap"], table.loc["dear"]
    for row, is_right, spent, agreed in ((cheap, right, cost, voted), (dear, right_2, cost_2, voted_2)):
        accuracy = of_scipy(np.mean, is_right)
        close(row[["accuracy", "low", "high"]].tolist(), accuracy, accuracy[2] - accuracy[1])
        price = of_scipy(lambda r, c: c.sum() / r.sum(), is_right, spent)
        close(named(row, "cost_usd_per_correct"), price, price[2] - price[1])
        gain = of_scipy(lambda v, r: (v - r).mean(), agreed, is_right)
        close(named(row, "majority_gain"), gain, gain[2] - gain[1])
        assert row["majority_usd_per_correct"] == pytest.approx(2 * spent.sum() / (agreed - is_right).sum())
    difference = of_scipy(lambda a, b: (b - a).mean(), right, right_2)
    close(named(dear, "difference"), difference, difference[2] - difference[1])
    extra = of_scipy(lambda a, b, c, d: (d - c).sum() / (b - a).sum(), right, right_2, cost, cost_2)
    close(named(dear, "extra_usd_per_correct"), extra, extra[2] - extra[1])
    assert cheap[["difference", "extra_usd_per_correct", "extra_usd_per_correct_low"]].isna().all()


def test_the_majority_is_the_consensus_of_score():
    results = made()
    of_score = results.score("gold").summary.query("of == 'consensus'")[["accuracy", "low", "high"]].to_numpy(float)
    of_compare = results.compare("gold")[["majority", "majority_low", "majority_high"]].to_numpy(float)
    assert of_compare == pytest.approx(of_score)


def test_a_sheet_is_weighted():
    results = made()
    sheet = results.sheet(60, more="disagreement", seed=1)
    sheet["label"] = results.units["gold"].reindex(sheet["unit_id"]).to_numpy()
    table, score = results.compare(sheet), results.score(sheet).summary
    assert table["accuracy"].tolist() == pytest.approx(score.query("of == 'all runs'")["accuracy"].tolist())
    assert table["majority"].tolist() == pytest.approx(score.query("of == 'consensus'")["accuracy"].tolist())


def test_what_is_not_known_or_not_asked_is_na():
    table = made(known=False).compare("gold").set_index("model")
    prices = ["cost_usd_per_correct", "cost_usd_per_correct_low", "majority_usd_per_correct"]
    assert table.loc["cheap", [*prices, "cost_usd"]].isna().all()
    assert table.loc["dear", prices].notna().all()
    assert pd.isna(table.loc["dear", "extra_usd_per_correct"])
    alone = made(runs=1).compare("gold")
    assert alone[["majority", "majority_gain", "majority_usd_per_correct"]].isna().all(axis=None)
    assert "majority" not in made().compare()


def test_what_is_never_right_more_often_has_no_price():
    worse = made(accuracy=0.4).compare("gold").set_index("model").loc["dear"]
    assert worse["difference_high"] < 0
    assert named(worse, "extra_usd_per_correct") == [np.inf, np.inf, np.inf]
    like = made(accuracy=0.65).compare("gold").set_index("model").loc["dear"]
    assert like["difference_low"] < 0 < like["difference_high"]
    assert like["extra_usd_per_correct_low"] < np.inf == like["extra_usd_per_correct_high"]
    results = made()
    turned = results.predictions.sort_values("model", ascending=False, kind="stable")
    cheaper = analysis.compare(turned, results.attempts, "gold").set_index("model").loc["cheap"]
    assert cheaper["difference"] < 0
    assert pd.isna(cheaper["extra_usd_per_correct"])


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
