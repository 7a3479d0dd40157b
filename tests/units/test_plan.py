"""Trials stand in the order of the units and are made only when their turn comes."""

from llmlab.records import Trial
from llmlab.units import read_units


def plan(units, *, runs=1, models=("m",)):
    return read_units(units, runs=runs, models=models)


def test_trials_come_unit_by_unit_model_by_model_run_by_run():
    laid_out = plan(["a", "b"], runs=2, models=("m", "n"))
    trials = [Trial(at, unit, model, run) for at, (unit, model, run) in enumerate(
        (unit, model, run) for unit in (0, 1) for model in ("m", "n") for run in (1, 2)
    )]  # fmt: skip
    assert list(laid_out.trials()) == trials
    assert list(laid_out.trials([6, 1])) == [trials[6], trials[1]]
    keys = laid_out.keys()
    assert [tuple(row) for row in keys[["unit_id", "model", "run"]].itertuples(index=False)] == [
        (trial.unit_id, trial.model, trial.run) for trial in trials
    ]
    assert [laid_out.unit_of(at) for at in range(8)] == keys["unit"].tolist() == [0] * 4 + [1] * 4
    assert len(laid_out) == 8


def test_a_million_trials_are_made_when_needed():
    laid_out = plan([str(number) for number in range(1000)], runs=1000)
    assert len(laid_out) == 1_000_000
    assert next(laid_out.trials([999_999])) == Trial(999_999, 999, "m", 1000)
