"""A store keeps every attempt as it was, and one rule says what became of a trial."""

import dataclasses
import itertools
import pickle

import numpy as np
import pytest

from llmlab.errors import EmptyInputError
from llmlab.records import ATTEMPT, STATUSES, TokenUsageAttempt, Trial, Usage, trial_status
from llmlab.results.store import Store
from llmlab.results.table import AttemptTable

TRIAL = Trial(0, "u", "m", 1)


def made(trial=TRIAL, number=1, **changes):
    fields = {
        "status": "ok", "error_type": None, "error": None, "started_at": 12.5, "queue_s": 0.0, "wait_s": 0.0,
        "latency_s": 0.0, "retry_in_s": None, "throttled": False, "usage": Usage(), "cost_usd": None,
        "finish_reason": None, "model_returned": None, "request_id": None, "http_status": None, "content": None,
    }  # fmt: skip
    return TokenUsageAttempt(trial=trial, attempt=number, **fields | changes)


WHOLE = made(
    status="parse_error", error_type="ParseError", error="odd", queue_s=1.0, wait_s=2.0, latency_s=3.0,
    retry_in_s=4.0, throttled=True, usage=Usage(1, 2, 3, 4, 5), cost_usd=0.5, may_be_billed=True, finish_reason="stop",
    model_returned="m", request_id="r", http_status=200, content="x", notes=("a", "b"),
)  # fmt: skip


def test_an_attempt_survives_the_table_unchanged():
    table, bare = AttemptTable(), made(number=2)
    for attempt in (WHOLE, bare):
        table.append(attempt)
    copied = table.copy()
    table.append(bare)
    assert [copied.row(at, TRIAL) for at in range(len(copied))] == [WHOLE, bare]
    again = pickle.loads(pickle.dumps(copied))
    again.append(WHOLE)
    assert [again.row(at, TRIAL) for at in range(len(again))] == [WHOLE, bare, WHOLE]
    assert len(copied) == 2


def test_every_field_of_an_attempt_has_a_column():
    plain = {one.name for one in dataclasses.fields(TokenUsageAttempt)} - {"trial", "usage"}
    assert set(ATTEMPT.columns) == plain | {one.name for one in dataclasses.fields(Usage)}
    assert ATTEMPT.build(ATTEMPT.cells(WHOLE), trial=TRIAL) == WHOLE


def test_a_store_knows_the_last_word():
    store = Store()
    store.fail(TRIAL, EmptyInputError("blank"))
    assert store.unsent == {0: ("EmptyInputError", "blank")}
    store.record(made(), "y")
    assert (store.value(0), set(store.answered), store.unsent) == ("y", {0}, {})
    copied = store.copy()
    store.record(made(number=2, status="call_error", error_type="TimeoutError", error="late"))
    assert (store.value(0), set(store.answered)) == (None, set())
    assert store.errors(1) == {"error_type": ["TimeoutError"], "error": ["late"]}
    assert copied.value(0) == "y"
    assert (store.attempts_before(0), copied.attempts_before(0), store.attempts_before(99)) == (2, 1, 0)


def test_a_prediction_may_be_none():
    store = Store()
    store.record(made(), None)
    assert set(store.answered) == {0}
    assert STATUSES[store.statuses(1)[0]] == "ok"


@pytest.mark.parametrize(
    ("attempts", "unsent", "status"),
    [
        ([], False, "not_run"),
        ([], True, "failed"),
        ([{}], False, "ok"),
        ([{"status": "call_error"}], False, "failed"),
        ([{"status": "call_error", "retry_in_s": 20.0}], False, "not_run"),
        ([{"status": "call_error", "retry_in_s": 0.0}, {"status": "parse_error"}], False, "failed"),
        ([{"status": "call_error", "retry_in_s": 0.0}, {}], False, "ok"),
        ([{}, {"status": "call_error", "retry_in_s": 0.0}], False, "not_run"),
        ([{"status": "call_error", "retry_in_s": 0.0}], True, "failed"),
    ],
)
def test_the_status_of_a_trial(attempts, unsent, status):
    store, trial = Store(), Trial(2, "u", "m", 1)
    for number, changes in enumerate(attempts, 1):
        store.record(made(trial, number, **changes), "x")
    if unsent:
        store.fail(trial, EmptyInputError("blank"))
    assert [STATUSES[code] for code in store.statuses(4)] == ["not_run", "not_run", status, "not_run"]


def test_the_rule_is_applied_to_every_case():
    told = {trial_status(*case) for case in itertools.product([True, False], [True, False], [0, 3], [True, False])}
    assert told == set(STATUSES)


def test_sums_are_exact_and_unknown_where_nothing_is_known():
    store = Store()
    for number, tokens in enumerate([2**53, 1, None], 1):
        store.record(made(number=number, usage=Usage(total_tokens=tokens), wait_s=0.25))
    store.record(made(Trial(1, "v", "m", 1)))
    sums = store.table.sums(3)
    assert sums["total_tokens"].tolist() == [2**53 + 1, None, None] or sums["total_tokens"].isna().tolist() == [0, 1, 1]
    assert int(sums["total_tokens"][0]) == 2**53 + 1
    assert np.array(sums["wait_s"][:2], float).tolist() == [0.75, 0.0]
    assert sums["wait_s"].isna().tolist() == [False, False, True]
