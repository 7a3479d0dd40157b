"""What a journal or a folder holds comes back as it was, whatever stands in it; every session can be had."""

import enum
import pickle
import sqlite3

import numpy as np
import pandas as pd
import pydantic
import pytest

import llmlab as ll
from tests.helpers import ask, texts

PROMPT = "Classify: {text}"
NO_WAIT = ll.RetryPolicy(wait=lambda attempt: 0.0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.sqlite"


def equal(loaded, live):
    """Whether loaded frames are the live ones; a pydantic model comes back as a dict."""
    predictions = live.predictions
    if predictions["prediction"].map(lambda value: isinstance(value, pydantic.BaseModel)).any():
        cells = [value.model_dump(mode="json") if value is not None else None for value in predictions["prediction"]]
        predictions["prediction"] = pd.Series(cells, dtype=object, index=predictions.index)
    pd.testing.assert_frame_equal(loaded.predictions, predictions, check_freq=False)
    pd.testing.assert_frame_equal(loaded.attempts, live.attempts)
    pd.testing.assert_frame_equal(loaded.units, live.units, check_freq=False)
    assert loaded.categories == live.categories
    assert loaded.description == live.description
    assert loaded.stopped == live.stopped
    assert {**loaded.summary(), "go on": ""} == {**live.summary(), "go on": ""}


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(enum.Enum):
    SMALL = 1
    LARGE = 2


class Ticket(pydantic.BaseModel):
    label: str
    urgent: bool
    score: int | None


BASE = {"text": ["one", "two", "three"]}
UNITS = {
    "list": texts(3),
    "series": pd.Series(texts(3), index=["x", "y", "z"], name="body"),
    "mappings": [{"text": "a", "more": 1}, {"text": "b"}],
    "odd text": ["half \ud83d pair", "nul \x00 in it", "emoji 😀 \r\n\u2028"],
    "id column": pd.DataFrame({"unit_id": ["b", "a", "c"], **BASE}),
    "str ids": pd.DataFrame(BASE, index=["1", "01", "1.0"]),
    "int ids": pd.DataFrame(BASE, index=[30, -1, 2]),
    "small int ids": pd.DataFrame(BASE, index=pd.Index([1, 2, 3], dtype="uint8")),
    "nullable ids": pd.DataFrame(BASE, index=pd.Index([1, 2, 3], dtype="Int64")),
    "float ids": pd.DataFrame(BASE, index=[1.0, 2.5, float("inf")]),
    "mixed ids": pd.DataFrame(BASE, index=pd.Index([1, "1", 2.5], dtype=object)),
    "tuple ids": pd.DataFrame(BASE, index=pd.MultiIndex.from_tuples([(1, "a"), (1, "b"), (2, "a")])),
    "time ids": pd.DataFrame(BASE, index=pd.date_range("2026-01-01", periods=3)),
    "fine time ids": pd.DataFrame(BASE, index=pd.DatetimeIndex(["2026-01-01T00:00:00.123456789", "2026", "2027"])),
    "zoned ids": pd.DataFrame(BASE, index=pd.date_range("2026-03-28", periods=3, tz="Europe/Berlin")),
    "category ids": pd.DataFrame(BASE, index=pd.CategoricalIndex(["q", "r", "s"], categories=["s", "r", "q", "t"])),
    "nan cells": pd.DataFrame({**BASE, "x": [1.5, None, float("inf")]}),
    "ints with missing": pd.DataFrame({**BASE, "x": [1, None, 3]}),
    "nullable ints": pd.DataFrame({**BASE, "x": pd.array([1, None, 2**60], dtype="Int64")}),
    "small ints": pd.DataFrame({**BASE, "x": np.array([1, 2, 3], "int8")}),
    "bools": pd.DataFrame({**BASE, "x": [True, False, True], "y": pd.array([True, None, False], dtype="boolean")}),
    "times": pd.DataFrame({**BASE, "x": pd.to_datetime(["2026-01-01", None, "2026-02-01"])}),
    "zoned times": pd.DataFrame({**BASE, "x": pd.date_range("2026-10-24 23:30", periods=3, freq="D",
                                                           tz="Europe/Berlin")}),
    "spans": pd.DataFrame({**BASE, "x": pd.to_timedelta(["1 day", None, "2h"]),
                           "y": pd.period_range("2026-01", periods=3, freq="M")}),
    "categories": pd.DataFrame({**BASE, "x": pd.Categorical(["u", None, "v"], ["v", "u", "w"], ordered=True),
                                "y": pd.Categorical([3, None, 1])}),
    "strings with missing": pd.DataFrame({**BASE, "x": ["s", None, "t"]}),
    "objects": pd.DataFrame({**BASE, "x": [[1, 2], {"a": [1]}, None]}),
    "picked runs": pd.DataFrame({"unit_id": ["a", "b", "a"], "run": [2, 1, 1], "prediction": "x", "status": "ok",
                                 "text": ["A", "B", "A"]}),
    "picked models": pd.DataFrame({"unit_id": [1, 2], "run": [1, 4], "prediction": "x", "status": "ok",
                                   "model": ["m", "m"], "text": ["A", "B"]}),
    "nothing": [],
}  # fmt: skip
ANSWERS = {
    "text": {},
    "categories": {"categories": ["a", "b", "c"], "runs": 3},
    "enum": {"categories": Colour},
    "enum of ints": {"categories": Size},
    "model": {"response_model": Ticket, "runs": 3},
    "parse to int": {"parse": len},
    "parse to dict": {"parse": lambda text: {"n": len(text), "words": text.split()}},
    "parse to mixed": {"parse": lambda text: None if "three" in text else [text]},
    "two models": {"model": ["m", "m2"], "runs": 2},
}


@pytest.mark.parametrize("units", UNITS.values(), ids=UNITS.keys())
async def test_load_results_gives_the_frames_back_for_units_of_every_kind(provider, path, units):
    simulated = provider(error_rate=0.2, seed=4)
    results = await ask(simulated, units, prompt=PROMPT, journal=path, retry=NO_WAIT)
    equal(ll.load_results(path), results)
    requests = simulated.counts().requests
    again = await ask(simulated, units, prompt=PROMPT, journal=path, retry=NO_WAIT)
    assert simulated.counts().requests == requests
    equal(ll.load_results(path), again)


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
async def test_load_results_gives_the_frames_back_for_answers_of_every_kind(provider, path, answer):
    simulated = provider(malformed_rate=0.3, error_rate=0.2, missing_usage_rate=0.2, cost=True, seed=5)
    results = await ask(simulated, BASE["text"], journal=path, **({"retry": NO_WAIT, "model": "m"} | answer))
    equal(ll.load_results(path), results)
    again = await results.rerun_failed()
    equal(ll.load_results(path), again)


async def test_what_providers_send_comes_back_as_it_was(provider, path):
    some = ["b-surrogate", "b-control", "c-finish-odd", "u-mismatch", "u-null", "u-cost-byok", "j-think", "c-refusal",
            "s500-json", "w-reset", "j-zero-width", "c-model-null", "b-big"]  # fmt: skip
    results = await ask(
        provider(),
        ["text"],
        journal=path,
        retry=NO_WAIT,
        model=[f"fault/{fault}" for fault in some],
        categories=["yes", "no"],
    )
    loaded = ll.load_results(path)
    equal(loaded, results)
    # In the file it is whole, where the frame has to replace half a surrogate pair.
    contents = [a.content for o in loaded.outcomes() for a in o.attempts if o.trial.model == "fault/b-surrogate"]
    assert contents == ['{"label": "yes \ud83d"}']


async def test_what_json_does_not_know_keeps_its_kind_or_becomes_text(provider, path):
    value = {"at": pd.Timestamp("2026-01-01"), "pair": (1, None), "s": {1}}
    await ask(provider(), texts(1), journal=path, parse=lambda text: value)
    assert ll.load_results(path).predictions["prediction"].tolist() == [value | {"s": "{1}"}]


async def test_a_value_that_cannot_be_dumped_costs_nothing(provider, path):
    class Odd:
        def model_dump(self, **_):
            raise AttributeError("not today")

    results = await ask(provider(), texts(3), journal=path, parse=lambda text: Odd())
    assert results.predictions["status"].tolist() == ["ok"] * 3
    assert ll.load_results(path).predictions["prediction"].equals(results.attempts["content"])


# sessions


async def test_every_session_is_what_its_results_were(provider, path):
    simulated = provider(malformed_rate=0.3, error_rate=0.2, seed=2)
    policy = ll.RetryPolicy(max_retries=1)
    lives = []
    for units, prompt, more in [
        (texts(8), "A {text}", {"categories": ["a", "b"]}),
        ([*texts(8), " "], "A {text}", {"categories": ["a", "b"], "runs": 2}),
        (texts(3), {"x": "X {text}", "y": "Y {text}"}, {"model": ["m", "n"]}),
        (texts(8), "A {text}", {"categories": ["a", "b"], "runs": 3}),
    ]:
        lives.append(await ask(simulated, units, prompt, journal=path, retry=policy, **more))
    lives.append(await lives[-1].rerun_failed())
    for number, live in enumerate(lives, 1):
        equal(ll.load_results(path, session=number), live)
    equal(ll.load_results(path), lives[-1])
    with pytest.raises(ll.InputError, match="has no session 9; it has 1 to 5"):
        ll.load_results(path, session=9)


async def test_experiments_lists_the_calls(provider, path):
    simulated = provider(cost=True)
    await ask(simulated, texts(4), "A {text}", model="m", journal=path)
    await ask(simulated, [*texts(5), ""], {"short": "A {text}", "long": "B {text}"}, model=["m", "n"], journal=path)
    table = ll.experiments(path)
    assert table.index.tolist() == [1, 2]
    assert table["models"].tolist() == ["m", "m, n"]
    assert table["prompts"].tolist() == ["A {text}", "short: A {text}, long: B {text}"]
    assert table[["units", "trials", "answered", "attempts"]].to_numpy().tolist() == [[4, 4, 4, 4], [6, 24, 20, 16]]
    assert table["total_tokens"].sum() == simulated.counts().total_tokens
    assert table["cost_usd"].gt(0).all()
    assert table["stopped"].isna().all()
    assert table["started_at"].is_monotonic_increasing


async def test_a_session_that_was_not_ended_says_so(provider, path):
    await ask(provider(), texts(2), journal=path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE sessions SET ended_at = NULL, answered = NULL")
    connection.close()
    assert "the kernel or the machine stopped" in ll.load_results(path).stopped
    assert ll.experiments(path)["answered"].tolist() == [2]


# what was sent


async def test_messages_are_exactly_what_was_sent(provider, path, tmp_path):
    settings = {"categories": ["a", "b"], "runs": 2, "model": ["m", "n"]}
    live = await ask(provider(), [*texts(2), ""], {"x": "X {text}", "y": "Y {text}"}, journal=path, **settings)
    live.save(tmp_path / "folder")
    again = pickle.loads(pickle.dumps(ll.load_results(path)))
    for results in (live, ll.load_results(path), ll.load_results(tmp_path / "folder"), again):
        messages = results.messages(1, model="n", prompt="y", run=2)
        assert [message["role"] for message in messages] == ["user"]
        assert messages[0]["content"].startswith("Y text number 1\n\nAnswer with JSON only")
        with pytest.raises(ll.InputError, match="4 trials of unit 1 in run 1: say model=, prompt="):
            results.messages(1)
        with pytest.raises(ll.InputError, match="No trial of unit 7 in run 1"):
            results.messages(7)
        with pytest.raises(ll.InputError, match="Nothing was sent about unit 2"):
            results.messages(2, model="m", prompt="x")


async def test_the_description_tells_what_a_methods_section_needs(provider, path):
    live = await ask(provider(), texts(2), "Say {text}", model="m", journal=path, temperature=0.5, seed=3,
                     categories=["a", "b"], extra_headers={"X": "5ecre7"})  # fmt: skip
    described = ll.load_results(path).description
    assert described == live.description
    assert described["prompt"] == "Say {text}"
    assert described["models"] == ["m"]
    assert described["categories"] == ["a", "b"]
    assert described["parameters"] == {"temperature": 0.5, "seed": 3}
    assert set(described["versions"]) == {"python", "llmlab", "openai", "pandas"}
    assert described["first"] <= described["last"]
    assert "simulated" in described["endpoint"]
    assert "5ecre7" not in str(described)
    named = await ask(provider(), texts(1), {"f": lambda unit: "x", "t": "{text}"})
    assert named.description["prompts"] == {
        "f": "a function: test_the_description_tells_what_a_methods_section_needs.<locals>.<lambda>", "t": "{text}",
    }  # fmt: skip


async def test_results_are_no_experiment_of_their_own(provider, path):
    results = await ask(provider(), texts(2), journal=path)
    with pytest.raises(ll.InputError, match="know no prompt"):
        await ll.load_results(path).rerun_failed()
    copied = pickle.loads(pickle.dumps(results))
    equal(copied, results)
    with pytest.raises(ll.InputError, match="do not know what was sent"):
        copied.messages(0)
