"""The frames: declared columns and types whatever happened, one row per trial, sums over attempts, unknown is NA."""

import enum
import math
from typing import Literal

import numpy as np
import pandas as pd
import pydantic
import pytest
from pandas.testing import assert_frame_equal, assert_series_equal

import llmlab as ll
from llmlab.engine.retry import RetryPolicy
from llmlab.errors import InputError
from llmlab.pandas_versions import TEXT
from llmlab.records import TOKENS, TokenUsageAttempt, Trial, Usage, own_columns
from llmlab.results import ATTEMPT_COLUMNS, PREDICTION_COLUMNS, Results, Store
from llmlab.units import read_units

CATEGORIES = ["bug", "billing", "other"]
MODEL = "openai/gpt-4o-mini"
SUMMED = [*TOKENS, "cost_usd", "latency_s", "wait_s"]
NOTHING = {"queue_s": 0.0, "wait_s": 0.0, "latency_s": 0.0, "retry_in_s": None, "throttled": False, "usage": Usage(),
           "cost_usd": None, "finish_reason": None, "model_returned": None, "request_id": None, "http_status": None,
           "content": None}  # fmt: skip


async def run(client, units, prompt="{text}", **settings):
    settings = {"model": MODEL, "requests_per_minute": None, "progress": False, "client": client} | settings
    return await ll.run_experiment(units, prompt, **settings)


def made(*attempts, units=("a", "b", "c"), values=None, errors=None, stopped=None, **description):
    """Results of three units with these attempts: (position, attempt, what differs from an unanswered call)."""
    plan = read_units(list(units), runs=1, models=(MODEL,))
    store, trials = Store(), list(plan.trials())
    for position, number, more in attempts:
        fields = NOTHING | {"started_at": 100.0 + number, "status": "ok", "error_type": None, "error": None} | more
        store.record(TokenUsageAttempt(trial=trials[position], attempt=number, **fields), (values or {}).get(position))
    for position, error in (errors or {}).items():
        store.fail_as(position, *error)
    return Results(keys=plan.keys(), units=plan.units.frame, store=store, stopped=stopped, description=description)


def declared(columns, frame):
    types = {name: TEXT if one.dtype == "str" else one.dtype for name, one in columns.items()}
    return {name: kind for name, kind in types.items() if name not in ("unit_id", "prediction")}, {
        name: str(frame[name].dtype) for name in columns if name not in ("unit_id", "prediction")
    }


def check(results):
    """What always holds."""
    predictions, attempts = results
    expected, actual = declared(PREDICTION_COLUMNS, predictions)
    assert actual == expected
    assert [name for name in predictions.columns if name in PREDICTION_COLUMNS] == list(PREDICTION_COLUMNS)
    assert predictions.columns.tolist()[:4] == ["unit_id", "model", "run", "prediction"]
    expected, actual = declared(ATTEMPT_COLUMNS, attempts)
    assert actual == expected
    assert attempts.columns.tolist() == list(ATTEMPT_COLUMNS)
    assert predictions["unit_id"].dtype == attempts["unit_id"].dtype
    trial = ["unit_id", "model", "run"]
    assert not predictions.duplicated(trial).any()
    assert not attempts.duplicated([*trial, "attempt"]).any()
    by_trial = attempts.groupby(trial, sort=False, observed=True)
    joined = predictions.set_index(trial)
    sums = by_trial[SUMMED].sum(min_count=1).astype(joined[SUMMED].dtypes).reindex(joined.index)
    assert_frame_equal(joined[SUMMED], sums, check_exact=False)
    sizes = by_trial.size().reindex(joined.index, fill_value=0)
    assert_series_equal(joined["attempts"], sizes, check_names=False)
    assert predictions.loc[predictions["status"] == "ok", ["error_type", "error"]].isna().all(axis=None)
    assert predictions.loc[predictions["status"] == "failed", ["error_type", "error"]].notna().all(axis=None)
    assert predictions.loc[predictions["status"] != "ok", "prediction"].isna().all()
    return predictions, attempts


# types


class Reading(pydantic.BaseModel):
    category: Literal["billing", "bug"]
    score: int
    certain: bool
    tags: list[str]


@pytest.mark.parametrize(
    ("answer", "columns", "kind"),
    [
        ({"categories": CATEGORIES}, [], "category"),
        ({"response_model": Reading}, ["category", "score", "certain", "tags"], "object"),
        ({"parse": str.upper}, [], TEXT),
        ({}, [], TEXT),
    ],
)
@pytest.mark.parametrize("units", [[], pd.DataFrame({"text": []}), pd.DataFrame()])
async def test_no_units_give_empty_frames_with_the_same_columns_and_types(provider, answer, columns, kind, units):
    client = provider()
    results = await run(client, units, **answer)
    predictions, attempts = check(results)
    assert len(predictions) == len(attempts) == len(results) == len(results.failed) == 0
    assert predictions["prediction"].dtype == kind
    own = [] if isinstance(units, pd.DataFrame) and not len(units.columns) else ["text"]
    assert own_columns(predictions.columns) == columns + own
    assert "answered     0 of 0" in repr(results)
    assert "llmlab-results" in results._repr_html_()
    assert len(await results.rerun_failed()) == 0
    assert list(results.outcomes()) == []
    assert client.counts().requests == 0


async def test_types_are_the_same_whatever_happened(provider):
    client = provider(malformed_rate=0.4, error_rate=0.3, missing_usage_rate=0.3, seed=1)
    results = await run(
        client, [f"text {n}" for n in range(60)] + ["", " "], categories=CATEGORIES, runs=2,
        retry=RetryPolicy(max_retries=3, wait=lambda attempt: 0),
    )  # fmt: skip
    predictions, attempts = check(results)
    assert set(predictions["status"]) == {"ok", "failed"}
    assert set(attempts["status"]) == {"ok", "parse_error", "call_error"}
    assert predictions["attempts"].max() == 3
    assert attempts["total_tokens"].isna().any()
    blank = predictions[predictions["unit_id"] >= 60]
    assert blank[["status", "error_type", "attempts"]].values.tolist() == [["failed", "EmptyInputError", 0]] * 4
    assert blank[[*SUMMED, "finished_at"]].isna().all(axis=None)
    assert results.failed["status"].eq("failed").all()
    assert len(results.failed) == (predictions["status"] == "failed").sum()
    counts = client.counts()
    assert len(attempts) == counts.requests
    counted = [name for name in TOKENS if hasattr(counts, name)]
    assert {name: int(attempts[name].sum()) for name in counted} == {name: getattr(counts, name) for name in counted}


def test_without_any_attempt_everything_is_not_run():
    predictions, attempts = check(made())
    assert predictions["status"].tolist() == ["not_run"] * 3
    assert predictions["prediction"].isna().all()
    assert len(attempts) == 0
    assert "not run      3" in repr(made())


def test_unknown_is_na_and_a_known_zero_is_zero():
    results = made(
        (0, 1, {"usage": Usage(0, 0, 0, 0, 0, 0.0, 0), "cost_usd": 0.0}),
        (1, 1, {"status": "call_error", "error_type": "OverloadedError", "error": "no"}),
        (1, 2, {"usage": Usage(10, None, None, None, 12), "cost_usd": None}),
        (2, 1, {"usage": Usage(10, 2, 1, 5, 12), "cost_usd": 0.5}),
        (2, 2, {"usage": Usage(10, 2, None, None, 12), "cost_usd": None}),
        values={0: "x", 1: "y", 2: "z"},
    )
    predictions, attempts = check(results)
    expected = [[0, 0, 0, 0, 0, 0, 0.0], [10, *[pd.NA] * 3, 12, pd.NA, pd.NA], [20, 4, 1, 5, 24, pd.NA, 0.5]]
    assert predictions[[*TOKENS, "cost_usd"]].values.tolist() == expected
    assert attempts.loc[1, [*TOKENS, "cost_usd", "retry_in_s", "http_status"]].isna().all()


def test_the_last_attempt_tells_how_a_failed_trial_ended_and_when():
    results = made(
        (0, 1, {"status": "call_error", "error_type": "OverloadedError", "error": "first", "retry_in_s": 0.5}),
        (
            0,
            2,
            {"status": "parse_error", "error_type": "ParseError", "error": "last", "latency_s": 2.5, "content": "?"},
        ),
    )
    predictions, attempts = check(results)
    assert predictions.loc[0, ["status", "error_type", "error", "attempts"]].tolist() == [
        "failed", "ParseError", "last", 2,
    ]  # fmt: skip
    assert predictions.loc[0, "finished_at"] == pd.Timestamp(104.5, unit="s", tz="UTC")
    assert attempts["retry_in_s"].tolist() == [0.5, pd.NA]
    assert attempts.loc[1, "content"] == "?"
    assert_frame_equal(results.failed, predictions.iloc[:1])


def test_attempts_recorded_in_any_order_are_shown_by_trial_and_number():
    order = [(2, 1), (0, 2), (1, 1), (0, 1), (2, 2)]
    results = made(*((position, number, {}) for position, number in order), values={0: "a", 1: "b", 2: "c"})
    attempts = results.attempts
    assert attempts[["unit_id", "attempt"]].values.tolist() == [[0, 1], [0, 2], [1, 1], [2, 1], [2, 2]]
    assert results.predictions["finished_at"].tolist() == [
        pd.Timestamp(100.0 + number, unit="s", tz="UTC") for number in (2, 1, 2)
    ]


async def test_rows_stand_in_input_order_however_answers_come(provider):
    client = provider(jitter_s=0.1)
    units = pd.DataFrame({"text": [f"text {n}" for n in range(30)]}, index=np.random.default_rng(1).permutation(30))
    results = await run(client, units, model=["m", "n"], runs=2)
    predictions, attempts = check(results)
    expected = [(unit, model, run) for unit in units.index for model in ("m", "n") for run in (1, 2)]
    assert [tuple(row) for row in predictions[["unit_id", "model", "run"]].itertuples(index=False)] == expected
    assert [tuple(row) for row in attempts[["unit_id", "model", "run"]].itertuples(index=False)] == expected
    assert not attempts["started_at"].add(pd.to_timedelta(attempts["latency_s"], unit="s")).is_monotonic_increasing
    assert predictions["text"].tolist() == [units["text"][unit] for unit, _, _ in expected]


async def test_the_units_own_columns_follow_the_prediction_and_give_way_to_declared_ones(provider):
    units = pd.DataFrame({
        "status": ["x", "y"], "text": ["a", "b"], "score": [1.5, 2.5], "when": pd.to_datetime(["2026-01-01", None]),
        "object": pd.array(["a", None], dtype=object), "kind": pd.Categorical(["k", "l"]), "status_": [True, False],
    }, index=["u", "v"])  # fmt: skip
    results = await run(provider(), units, "{status}: {text}", response_model=Reading, runs=2)
    predictions, _ = check(results)
    assert own_columns(predictions.columns) == [
        "category", "score", "certain", "tags", "status_", "text", "score_", "when", "object", "kind", "status__",
    ]  # fmt: skip
    own = predictions[predictions["run"] == 2].set_index("unit_id")[own_columns(predictions.columns)[-7:]]
    own.columns = units.columns
    assert_frame_equal(own, units, check_names=False)
    assert_frame_equal(results.units, units, check_names=False)
    assert "status is status_, score is score_, status_ is status__ in predictions" in repr(results)


# predictions


async def test_predictions_are_a_categorical_in_the_given_order(provider):
    results = await run(
        provider(accuracy=1.0), ["refund my invoice", "it crashed with an error", "hello"], categories=CATEGORIES
    )
    predictions = results.predictions["prediction"]
    assert predictions.cat.categories.tolist() == results.categories == CATEGORIES
    assert predictions.tolist() == ["billing", "bug", "other"]
    assert predictions.value_counts(sort=False).index.tolist() == CATEGORIES


class Label(enum.Enum):
    BILLING = "billing"
    BUG = "bug"


class Number(enum.Enum):
    billing = 1
    bug = 2


@pytest.mark.parametrize(("categories", "expected"), [(Label, ["billing", "bug"]), (Number, [1, 2])])
async def test_an_enum_gives_its_values(provider, categories, expected):
    results = await run(
        provider(accuracy=1.0), ["refund my invoice", "it crashed with an error"], categories=categories
    )
    predictions, _ = check(results)
    assert predictions["prediction"].tolist() == predictions["prediction"].cat.categories.tolist() == expected


async def test_a_response_model_adds_a_column_per_field_of_one_type_also_beside_failures(provider):
    client = provider(malformed_rate=0.4, seed=3)
    results = await run(client, [f"refund {n}" for n in range(20)], response_model=Reading, max_retries=1)
    predictions, _ = check(results)
    assert set(predictions["status"]) == {"ok", "failed"}
    assert all(isinstance(value, Reading) for value in predictions["prediction"].dropna())
    kinds = predictions[["category", "score", "certain", "tags"]].dtypes.astype(str).tolist()
    assert kinds == [TEXT, "Int64", "boolean", "object"]
    ok = predictions[predictions["status"] == "ok"]
    assert ok["score"].tolist() == [value.score for value in ok["prediction"]]
    assert (
        predictions.loc[predictions["status"] != "ok", ["category", "score", "certain", "tags"]].isna().all(axis=None)
    )


@pytest.mark.parametrize(
    ("parse", "expected"),
    [
        (len, [48, 48]),
        (lambda text: [1, 2], [[1, 2], [1, 2]]),
        (lambda text: {"words": 1}, [{"words": 1}] * 2),
        (lambda text: np.ones(3), None),
        (lambda text: math.nan, None),
        (lambda text: text[:4], ["This", "This"]),
        (lambda text: None, [None, None]),
    ],
)
async def test_what_parse_makes_is_the_prediction(provider, parse, expected):
    results = await run(provider(), ["two words", "more words"], parse=parse)
    predictions = results.predictions
    assert predictions["status"].tolist() == ["ok", "ok"]
    if expected is not None:
        values = predictions["prediction"].tolist()
        assert values == expected or (expected == [None, None] and predictions["prediction"].isna().all())
    repr(results), results._repr_html_()


async def test_without_a_form_the_prediction_is_the_text(provider):
    results = await run(provider(), ["two words"])
    assert results.predictions["prediction"].tolist() == ["This is a simulated answer to a text of 2 words."]
    assert results.attempts["content"].tolist() == results.predictions["prediction"].tolist()


async def test_outcomes_are_records_of_all_that_happened(provider):
    client = provider(malformed_rate=0.4, error_rate=0.2, seed=5)
    results = await run(client, ["refund", "crash", "hello", ""], categories=CATEGORIES, runs=3,
                        retry=RetryPolicy(wait=lambda attempt: 0))  # fmt: skip
    predictions, attempts = check(results)
    outcomes = list(results.outcomes())
    assert [one.trial for one in outcomes] == [
        Trial(at, row.unit_id, row.model, row.run) for at, row in enumerate(predictions.itertuples())
    ]
    answered = predictions["prediction"].astype(object)
    assert [one.prediction for one in outcomes] == answered.where(answered.notna(), None).tolist()
    asked = predictions["attempts"] > 0
    assert [one.status for one in outcomes if one.attempts] == predictions.loc[asked, "status"].tolist()
    assert [len(one.attempts) for one in outcomes] == predictions["attempts"].tolist()
    flat = [attempt for one in outcomes for attempt in one.attempts]
    assert [attempt.attempt for attempt in flat] == attempts["attempt"].tolist()
    for name in ("status", "error_type", "content", "finish_reason", "http_status", "cost_usd"):
        column = attempts[name].astype(object)
        assert [getattr(attempt, name) for attempt in flat] == column.where(column.notna(), None).tolist()
    tokens = attempts["total_tokens"].astype(object)
    assert [attempt.usage.total_tokens for attempt in flat] == tokens.where(tokens.notna(), None).tolist()
    assert all(isinstance(one, ll.PredictionCategoryTokens) for one in outcomes)


# what it shows


def test_results_unpack_and_count_their_trials():
    results = made((0, 1, {}), values={0: "x"})
    predictions, attempts = results
    assert_frame_equal(predictions, results.predictions)
    assert_frame_equal(attempts, results.attempts)
    assert len(results) == 3


def test_what_a_user_does_to_a_frame_changes_no_results():
    results = made((0, 1, {}), values={0: "x"})
    before = [frame.copy() for frame in (*results, results.units)]
    for frame in (*results, results.units):
        frame["new"] = 1
        frame.iloc[0, 0] = frame.iloc[1, 0] if len(frame) > 1 else 9
        del frame[frame.columns[1]]
    for frame, old in zip((*results, results.units), before, strict=True):
        assert_frame_equal(frame, old)


EVIL = "<script>alert(1)</script> & <img src=x onerror=y>"


def test_html_escapes_everything_that_came_from_outside():
    results = made(
        (0, 1, {"status": "call_error", "error_type": EVIL, "error": EVIL, "content": EVIL}),
        (1, 1, {"content": EVIL, "model_returned": EVIL}),
        values={1: EVIL},
        units=(EVIL, EVIL, EVIL),
        stopped=EVIL,
        categories=[EVIL, "x"],
        endpoint=EVIL,
    )
    html = results._repr_html_()
    assert "<script" not in html
    assert "<img" not in html
    assert "&lt;script&gt;" in html


def test_nothing_giant_is_shown():
    giant = "giant " * 200_000
    results = made(
        (0, 1, {"status": "parse_error", "error_type": "ParseError", "error": giant[:500], "content": giant}),
        (1, 1, {"content": giant}),
        values={1: giant},
        units=(giant, giant, giant),
        stopped="stopped",
    )
    assert len(repr(results)) < 1500
    assert len(results._repr_html_()) < 30_000
    assert "giant" not in repr(results)


def test_half_a_surrogate_pair_spoils_no_frame():
    half = "half \ud83d"
    results = made(
        (0, 1, {"content": half, "model_returned": half}),
        (1, 1, {"status": "parse_error", "error_type": "ParseError", "error": half}),
        values={0: half}, units=(half, "b", "c"),
    )  # fmt: skip
    predictions, attempts = check(results)
    assert predictions["text"].tolist() == [half, "b", "c"]
    assert predictions.loc[0, "prediction"] == attempts.loc[0, "content"] == "half ?"
    assert next(results.outcomes()).attempts[0].content == half
    repr(results), results._repr_html_()


# again


async def test_picked_rows_ask_exactly_those_runs(provider, tmp_path):
    client = provider()
    units = pd.DataFrame({"text": [f"text {n}" for n in range(6)], "status": range(6)}, index=list("abcdef"))
    first = await run(client, units, "{text} {status}", runs=3, model=["m", "n"])
    rows = first.predictions.sample(8, random_state=1)
    expected = [tuple(row) for row in rows[["unit_id", "model", "run"]].itertuples(index=False)]
    rows.to_csv(tmp_path / "rows.csv", index=False)
    for picked in (rows, pd.read_csv(tmp_path / "rows.csv"), rows.reset_index(drop=True)):
        before = client.counts().requests
        again = await run(client, picked, "{text} {status}", runs=9, model=["m", "n"])
        predictions, _ = check(again)
        assert [tuple(row) for row in predictions[["unit_id", "model", "run"]].itertuples(index=False)] == expected
        assert predictions["status_"].tolist() == rows["status_"].tolist()
        assert predictions.columns.tolist() == first.predictions.columns.tolist()
        assert client.counts().requests == before + 8
    other = await run(client, rows.drop(columns="model").drop_duplicates(["unit_id", "run"]), "{text}", model="z")
    assert set(other.predictions["model"]) == {"z"}
    assert len(other.attempts) == len(rows.drop_duplicates(["unit_id", "run"]))


class Moody:
    """Makes a `parse` that fails for these numbers of words, for a while."""

    def __init__(self, *words):
        self.words = words

    def __call__(self, text):
        count = int(text.split()[-2])
        if count in self.words:
            raise ValueError(f"not {count}")
        return count


async def test_rerun_failed_asks_what_failed_and_merges(provider):
    client, parse = provider(), Moody(2, 4)
    first = await run(client, ["w " * n for n in (1, 2, 3, 4)], parse=parse, runs=2, max_retries=2)
    assert first.predictions["status"].tolist() == ["ok"] * 2 + ["failed"] * 2 + ["ok"] * 2 + ["failed"] * 2
    assert first.predictions["attempts"].tolist() == [1, 1, 2, 2, 1, 1, 2, 2]
    parse.words = (4,)
    second = await first.rerun_failed()
    predictions, attempts = check(second)
    assert predictions["status"].tolist() == ["ok"] * 6 + ["failed"] * 2
    assert predictions["attempts"].tolist() == [1, 1, 3, 3, 1, 1, 4, 4]
    assert attempts.loc[attempts["unit_id"] == 3, "attempt"].tolist() == [1, 2, 3, 4] * 2
    assert len(attempts) == client.counts().requests == 18
    assert attempts["total_tokens"].sum() == client.counts().total_tokens
    old = first.attempts.set_index(["unit_id", "run", "attempt"])
    assert_frame_equal(attempts.set_index(["unit_id", "run", "attempt"]).loc[old.index], old)
    parse.words = ()
    third = await second.rerun_failed()
    assert third.predictions["status"].eq("ok").all()
    assert third.predictions["prediction"].tolist() == [1, 1, 2, 2, 3, 3, 4, 4]
    assert len(third.attempts) == client.counts().requests == 20
    fourth = await third.rerun_failed()
    assert_frame_equal(fourth.predictions, third.predictions)
    assert client.counts().requests == 20
    check(first)
    assert first.predictions["attempts"].sum() == 12


async def test_rerun_asks_the_rows_given_whatever_became_of_them(provider):
    client = provider()
    first = await run(client, ["a", "b", "c"], runs=2)
    rows = first.predictions.iloc[[5, 0, 0]]
    for picked in (rows, rows[["unit_id", "model", "run"]], rows.assign(run=rows["run"].astype(float))):
        second = await first.rerun(picked)
        assert second.predictions["attempts"].tolist() == [2, 1, 1, 1, 1, 2]
        assert second.predictions["status"].eq("ok").all()
        check(second)
    assert client.counts().requests == 6 + 3 * 2


@pytest.mark.parametrize(
    "ids",
    [
        ["a", "b"],
        [(1, "x"), (2, "y")],
        list(pd.date_range("2026-01-01", periods=2)),
        [1.5, 2.5],
        [1, "z"],
        pd.Categorical(["q", "r"]),
        pd.array([1, 2], dtype="Int64"),
    ],
)
async def test_rows_are_found_again_by_ids_of_any_type(provider, ids):
    client = provider()
    first = await run(client, pd.DataFrame({"text": ["a", "b"]}).assign(unit_id=ids), runs=2)
    check(first)
    again = await first.rerun(first.predictions.iloc[[2]])
    check(again)
    assert again.predictions["attempts"].tolist() == [1, 1, 2, 1]
    picked = await run(client, first.predictions.iloc[[2]])
    assert picked.predictions["unit_id"].tolist() == [list(ids)[1]]


async def test_rows_of_another_experiment_are_refused(provider):
    client = provider()
    results = await run(client, ["a"])
    for rows, said in [
        (results.predictions.assign(run=7), "has no trial"),
        (results.predictions.assign(unit_id="z"), "has no trial"),
        (results.predictions.drop(columns="run"), "with the columns unit_id, model and run"),
        (results.predictions.iloc[0], "rerun takes rows of predictions"),
        ([0], "rerun takes rows of predictions"),
    ]:
        with pytest.raises(InputError, match=said):
            await results.rerun(rows)
    assert client.counts().requests == 1


async def test_a_failed_rerun_replaces_the_outcome_and_keeps_every_token(provider):
    client, parse = provider(), Moody()
    first = await run(client, ["w", "w w"], parse=parse, max_retries=1)
    parse.words = (1, 2)
    second = await first.rerun(first.predictions.iloc[:1])
    predictions, attempts = check(second)
    assert predictions["status"].tolist() == ["failed", "ok"]
    assert predictions.loc[0, ["error_type", "attempts"]].tolist() == ["ParseError", 2]
    assert attempts["status"].tolist() == ["ok", "parse_error", "ok"]
    assert attempts["total_tokens"].sum() == client.counts().total_tokens


async def test_a_table_shows_the_columns_that_the_prompt_names(provider):
    units = pd.DataFrame({"text": ["refund please", "it crashed"], "title": ["A", "B"], "n": [1, 2], "gold": "bug"})
    client = provider(accuracy=1.0)
    named = await run(client, units, "{title}: {text}", categories=CATEGORIES, runs=2)
    table = named.table("gold")
    assert list(table) == ["unit_id", "text", "title", "run_1", "run_2", "consensus", "confidence", "gold"]
    assert table["run_1"].tolist() == table["consensus"].tolist() == ["billing", "bug"]
    by_function = await run(client, units, lambda unit: unit["text"], categories=CATEGORIES)
    assert list(by_function.table()) == ["unit_id", "text", "title", "gold", "run_1"]
    assert list(by_function.table(columns=["n"])) == ["unit_id", "n", "run_1"]
    free = await run(client, units[["text"]], "Say it in ten words: {text}", runs=2)
    assert free.table(length=10)["run_1"].str.len().max() <= 10
