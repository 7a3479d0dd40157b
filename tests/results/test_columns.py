"""Every column is declared once: a field added to a copy of the declaration is seen wherever attempts are kept or shown."""

import dataclasses
import inspect

import numpy as np
import pandas as pd
import pytest

import llmlab as ll
from llmlab.declaration import Declaration, column
from llmlab.records import TokenUsageAttempt, Trial, Usage, arm_columns, own_columns, trial_key
from llmlab.results import columns, frames
from llmlab.results.store import Store


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Wider(TokenUsageAttempt):
    served_by: str | None = column("str", "who served it", default=None, repeated=True)
    cache_hits: int | None = column("Int64", "hits", default=None, summed="hits in all attempts")


WIDER = Declaration(Wider)
KEYS = pd.DataFrame({"unit": [0, 1], "unit_id": ["u", "v"], "model": "m", "run": 1})
UNITS = pd.DataFrame({"text": ["t", "s"]}, index=pd.Index(["u", "v"], name="unit_id"))


def wider(number, **changes):
    fields = {
        "status": "ok", "error_type": None, "error": None, "started_at": 1.0, "queue_s": 0.0, "wait_s": 0.0,
        "latency_s": 0.5, "retry_in_s": None, "throttled": False, "usage": Usage(1, 2), "cost_usd": None,
        "finish_reason": None, "model_returned": None, "request_id": None, "http_status": 200, "content": "x",
    }  # fmt: skip
    return Wider(trial=Trial(0, "u", "m", 1), attempt=number, **fields | changes)


def predictions(store):
    names = frames.own_names(store, KEYS, UNITS, ())
    return frames.predictions_frame(store, KEYS, UNITS, categories=None, fields=(), names=names)


def test_a_new_field_is_seen_in_every_place():
    store = Store(WIDER)
    for attempt in (wider(1, served_by="Here", cache_hits=2), wider(2, served_by="There", cache_hits=3), wider(3)):
        store.record(attempt, "x")
    assert store.table.row(1, Trial(0, "u", "m", 1)) == wider(2, served_by="There", cache_hits=3)
    attempts = frames.attempts_frame(store, KEYS)
    assert list(attempts.columns) == list(columns.attempt_columns(WIDER))
    assert attempts["served_by"].dropna().tolist() == ["Here", "There"]
    assert attempts["cache_hits"].dtype == "Int64"
    assert predictions(store)["cache_hits"].tolist() == [5, pd.NA]
    empty = Store(WIDER)
    assert frames.attempts_frame(empty, KEYS).dtypes.equals(attempts.dtypes)
    assert predictions(empty)["cache_hits"].isna().all()
    described = columns.describe(columns.attempt_columns(WIDER))
    assert "served_by : str\n    Who served it." in described
    assert "cache_hits : Int64\n    Hits in all attempts." in columns.describe(columns.prediction_columns(WIDER))


@pytest.mark.parametrize(("name", "declared"), [
    ("attempts", columns.ATTEMPT_COLUMNS), ("predictions", columns.PREDICTION_COLUMNS),
])  # fmt: skip
def test_the_docstrings_of_the_frames_tell_every_column(name, declared):
    doc = inspect.getdoc(getattr(ll.Results, name))
    for column_name, one in declared.items():
        assert f"\n{column_name} : {one.dtype}\n" in doc
    assert "Returns\n-------\n" in doc


def test_what_tells_trials_apart():
    own = ["prompt", "model_", "text"]
    assert trial_key(["unit_id", "model", "prompt", "run", "prediction", *own]) == ["unit_id", "model", "prompt", "run"]
    assert trial_key(["unit_id", "model", "run", "prediction", *own]) == ["unit_id", "model", "run"]
    assert trial_key(["unit_id", "model", "prompt", "prediction"]) == ["unit_id", "model", "prompt"]
    assert arm_columns(["unit_id", "model", "prompt", "run", "attempt"]) == ["model", "prompt"]
    assert arm_columns(["unit_id", "model", "run", "prediction", *own]) == ["model"]


def test_the_own_columns_of_a_frame():
    declared = list(columns.PREDICTION_COLUMNS)
    at = declared.index("status")
    assert own_columns([*declared[:at], "a", "b", *declared[at:], "gold"]) == ["a", "b", "gold"]


def test_texts_hold_missing_values():
    texts = pd.Series(columns.strings(["a", None, "None"]))
    assert texts.isna().tolist() == [False, True, False]
    assert texts.dropna().tolist() == ["a", "None"]
    assert pd.Series(columns.strings([None, None])).isna().all()
    assert len(columns.strings([])) == 0
    repeated = pd.Series(columns.named(np.array([1, -1, 0]), ["x", "y"]))
    assert repeated.isna().tolist() == [False, True, False]
    assert repeated.dropna().tolist() == ["y", "x"]
    assert pd.Series(columns.named(np.array([-1]), [])).isna().all()


def test_half_a_surrogate_pair_becomes_a_question_mark():
    assert list(columns.strings(["half \ud83d", "b"])) == ["half ?", "b"]


def test_times_are_whole_microseconds_in_utc():
    when = pd.Series(columns.times(np.array([0.000001, np.nan])))
    assert when.dtype == "datetime64[us, UTC]"
    assert when[0] == pd.Timestamp("1970-01-01T00:00:00.000001Z")
    assert when.isna().tolist() == [False, True]


def test_values_of_one_kind_get_a_nullable_type():
    assert str(columns.inferred([1, None]).dtype) == "Int64"
    assert str(columns.inferred([True, None]).dtype) == "boolean"
    assert str(columns.inferred([[1], None]).dtype) == "object"


def test_a_taken_name_gets_underscores():
    assert columns.free("run", {"run", "run_"}) == "run__"
