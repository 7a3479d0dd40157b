"""A number that is shown in several places is the same in all of them."""

from typing import Literal

import pytest
from pydantic import BaseModel

import llmlab as ll
from llmlab import charts
from tests.helpers import MODEL, ask, settings, texts, until


def words_of(picture):
    return [text.get_text() for text in picture.figure.findobj(match=lambda artist: hasattr(artist, "get_text"))]


async def test_a_cost_that_is_partly_unknown_is_said_to_be_so_everywhere(provider):
    simulated = provider(missing_usage_rate=0.4, seed=3)
    results = await ask(simulated, texts(36), model="gpt-4o-mini", prices={"gpt-4o-mini": (1.0, 2.0)})
    unknown = int(results.attempts["cost_usd"].isna().sum())
    known = results.attempts["cost_usd"].sum()
    assert 5 < unknown < 30
    assert results.summary()["unknown_cost"] == unknown
    assert results.summary()["cost_usd"] == pytest.approx(known)
    assert results.costs()["unknown_cost"].tolist() == [unknown]
    assert results.costs()["cost_usd"].tolist() == pytest.approx([known])
    compared = results.compare()
    assert compared["cost_usd"].isna().all()
    assert compared["unknown_cost"].tolist() == [unknown]
    said = next(line.split(maxsplit=1)[1] for line in repr(results).splitlines() if line.startswith("cost"))
    assert said.startswith("≥ $")
    assert said.endswith(f"({unknown} unknown)")
    assert said in results._repr_html_()
    drawn = words_of(charts.token_costs(results))
    assert any(text.startswith("≥ \\$") for text in drawn)
    assert any(f"not included: {unknown} answers" in text for text in drawn)


async def test_what_a_free_model_reports_is_known_to_cost_nothing(provider):
    results = await ask(provider(missing_usage_rate=0.4, seed=3), texts(36), prices={MODEL: (0.0, 0.0)})
    unknown = results.attempts["cost_usd"].isna().sum()
    assert results.summary()["cost_usd"] == 0.0
    assert results.costs()["cost_usd"].tolist() == [0.0]
    assert f"≥ $0 ({unknown} unknown)" in repr(results)


class Opinion(BaseModel):
    tone: Literal["glad", "sad", "calm"]


async def test_runs_that_agree_are_counted_by_one_rule(provider):
    results = await ask(provider(seed=5), texts(12), runs=3, response_model=Opinion)
    of_a_field = results.of("tone")
    unanimous = round(float(of_a_field.compare()["unanimous"].iloc[0]) * 12)
    assert results.summary()["units_agreeing"] == of_a_field.summary()["units_agreeing"] == unanimous
    assert results.summary()["units_compared"] == 12
    assert 0 < unanimous < 12
    assert any(f"{100 * unanimous / 12:.0f} %" in text for text in words_of(charts.agreement(of_a_field)))


async def test_trials_of_two_prompts_are_as_many_for_attempts_as_for_results(provider):
    results = await ask(provider(), texts(10), {"short": "{text}", "long": "Please: {text}"}, runs=2)
    for what in (results, results.attempts):
        assert "40 of 40 trials" in repr(charts.progress_over_time(what))


@pytest.mark.parametrize("units", [["a", " ", "b"]])
async def test_a_blank_unit_failed_live_from_a_folder_and_from_a_journal(provider, tmp_path, units):
    results = await ask(provider(), units, journal=tmp_path / "book.sqlite")
    expected = ["ok", "failed", "ok"]
    assert results.predictions["status"].tolist() == expected
    assert ll.load_results(tmp_path / "book.sqlite").predictions["status"].tolist() == expected
    assert ll.load_results(results.save(tmp_path / "saved")).predictions["status"].tolist() == expected


async def test_after_a_stop_the_last_line_and_the_frame_count_alike(provider, capsys):
    simulated = provider(error_rate=0.6, latency_s=0.02, seed=1)
    experiment = ll.start_experiment(texts(200), "{text}", **settings(simulated, max_retries=2) | {"progress": "text"})
    await until(lambda: simulated.counts().requests > 60)
    experiment.stop()
    status = (await experiment).predictions["status"].value_counts()
    assert min(status["ok"], status["failed"], status["not_run"]) > 0
    said = f"stopped · {status['ok']} of 200 answered · {status['failed']} failed · {status['not_run']} not run"
    assert said in capsys.readouterr().err
