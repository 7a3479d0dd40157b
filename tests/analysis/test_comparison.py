"""Models and prompts side by side."""

import pandas as pd
import pytest

import llmlab as ll


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
