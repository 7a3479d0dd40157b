"""Journals of llmlab 0.1 are read, and carried over when they are first written to: nothing in them is paid again."""

import hashlib
import inspect
import json
import sqlite3

import pandas as pd
import pytest

import llmlab as ll
from tests.helpers import ask, texts

COLUMNS = (
    "unit", "model", "prompt", "run", "attempt", "status", "error_type", "error", "started_at", "queue_s", "wait_s",
    "latency_s", "retry_in_s", "throttled", "cost_usd", "finish_reason", "model_returned", "request_id", "http_status",
    "content", "prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens", "total_tokens", "notes",
    "value",
)  # fmt: skip
PROMPT = "Classify: {text}"


def fingerprint(*parts):
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]


def old_file(path, units, *, prompt=PROMPT, answers=None, runs=1, answer="text", **description):
    """A journal as llmlab 0.1 wrote it: every unit answered in every run, but for a failed attempt of the last one."""
    described = {"endpoint": "http://x (simulated, no real model)", "categories": None, "fields": [], "prompts": None}
    meta = {
        "format": 1,
        "identity": {"prompt": prompt, "answer": answer, "request": "{}", "model": "a simulated one"},
        "description": described | description, "models": ["m"], "prompts": [None], "runs": runs, "trials": None,
        "columns": {"text": "str"}, "index": "int64",
    }  # fmt: skip
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID")
        connection.execute(
            "CREATE TABLE units (unit INTEGER PRIMARY KEY, id TEXT UNIQUE NOT NULL, digest TEXT NOT NULL, row TEXT NOT NULL)"
        )
        connection.execute(
            f"CREATE TABLE attempts (seq INTEGER PRIMARY KEY, {', '.join(COLUMNS)}, "
            "UNIQUE (unit, model, prompt, run, attempt))"
        )
        connection.executemany("INSERT INTO meta VALUES (?, ?)", [(n, json.dumps(v)) for n, v in meta.items()])
        for at, text in enumerate(units, 1):
            row = (at, json.dumps(at - 1), fingerprint(text), json.dumps({"text": text}))
            connection.execute("INSERT INTO units VALUES (?, ?, ?, ?)", row)
            for run in range(1, runs + 1):
                said = (answers or units)[at - 1]
                ok = at < len(units)
                status = ("ok", None, None) if ok else ("call_error", "OverloadedError", "no capacity")
                cells = (
                    at, "m", "", run, 1, *status, 1e9 + at, 0.0, 0.5, 0.25, None, 1, 0.001 if ok else None, "stop", "m",
                    f"id{at}", 200 if ok else 503, said if ok else None, *((10, 5, None, None, 15) if ok else (None,) * 5),
                    "odd; more" if at == 1 else None, json.dumps(said) if ok else None,
                )  # fmt: skip
                marks = ", ".join("?" * (len(COLUMNS) + 1))
                connection.execute(f"INSERT INTO attempts VALUES ({marks})", (None, *cells))
    connection.close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.sqlite"


def test_it_is_read_and_left_as_it_is(path):
    old_file(path, texts(4), runs=2)
    results = ll.load_results(path)
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT value FROM meta WHERE name = 'format'").fetchone() == ("1",)
    connection.close()
    predictions, attempts = results
    assert predictions[["unit_id", "run"]].to_numpy().tolist() == [[unit, run] for unit in range(4) for run in (1, 2)]
    assert predictions["status"].tolist() == ["ok"] * 6 + ["failed"] * 2
    assert predictions["prediction"].dropna().tolist() == [text for text in texts(3) for _ in range(2)]
    assert predictions["text"].tolist() == [text for text in texts(4) for _ in range(2)]
    assert attempts["session"].tolist() == [1] * 8
    assert attempts["total_tokens"].sum() == 90
    assert attempts["notes"].dropna().tolist() == ["odd; more"] * 2
    assert ll.experiments(path)[["trials", "answered", "attempts", "models"]].iloc[0].tolist() == [8, 6, 8, "m"]


async def test_the_same_cell_goes_on_in_it(provider, path):
    old_file(path, texts(4))
    before = ll.load_results(path)
    simulated = provider()
    results = await ask(simulated, texts(5), PROMPT, model="m", journal=path)
    # The one that had failed, and the new one.
    assert simulated.counts().requests == 2
    assert (results.predictions["status"] == "ok").all()
    assert results.attempts["attempt"].tolist() == [1, 1, 1, 1, 2, 1]
    assert results.attempts["session"].tolist() == [1, 1, 1, 1, 2, 2]
    pd.testing.assert_frame_equal(results.attempts.iloc[:4], before.attempts)
    pd.testing.assert_frame_equal(ll.load_results(path, session=1).predictions, before.predictions)
    pd.testing.assert_frame_equal(ll.load_results(path).predictions, results.predictions)
    assert results.messages(0) == ll.load_results(path).messages(0)
    # From now on its answers are known by what was sent.
    await ask(simulated, texts(5), lambda unit: f"Classify: {unit['text']}", model="m", journal=path)
    assert simulated.counts().requests == 2


@pytest.mark.parametrize(("prompt", "more"), [("Sort: {text}", {}), (PROMPT, {"temperature": 1.0}),
                                              (PROMPT, {"categories": ["a", "b"]})])  # fmt: skip
async def test_another_experiment_asks_anew_and_loses_nothing(provider, path, prompt, more):
    old_file(path, texts(4))
    simulated = provider()
    await ask(simulated, texts(4), prompt, model="m", journal=path, **more)
    assert simulated.counts().requests == 4
    assert ll.load_results(path, session=1).predictions["status"].tolist() == ["ok"] * 3 + ["failed"]
    # The old answers wait for the experiment that they belong to.
    await ask(simulated, texts(4), PROMPT, model="m", journal=path)
    assert simulated.counts().requests == 5


async def test_units_whose_text_has_changed_are_asked(provider, path):
    old_file(path, texts(4))
    simulated = provider()
    await ask(simulated, ["changed", *texts(4)[1:]], PROMPT, model="m", journal=path)
    assert simulated.counts().requests == 2


async def test_functions_are_the_same_by_their_source(provider, path):
    def prompt(unit):
        return f"Which? {unit['text']}"

    words = f"{prompt.__qualname__} {fingerprint(inspect.getsource(prompt))}"
    old_file(path, texts(4), prompt=words, answer="str.upper 0")
    simulated = provider()
    await ask(simulated, texts(4), prompt, model="m", journal=path)
    assert simulated.counts().requests == 1


async def test_labels_come_back_in_their_order(provider, path):
    old_file(path, texts(3), answers=['{"label": "b"}', '{"label": "a"}', "x"], answer="{}", categories=["b", "a"])
    assert ll.load_results(path).categories == ["b", "a"]
    simulated = provider()
    results = await ask(simulated, texts(3), PROMPT, model="m", journal=path, categories=["b", "a"])
    assert simulated.counts().requests == 1
    assert results.predictions["prediction"].tolist()[:2] == ["b", "a"]
