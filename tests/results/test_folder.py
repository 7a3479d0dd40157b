"""A saved folder gives the same results back, whatever stands in them, and never costs a file of somebody else's."""

import datetime
import enum
import json
import resource
import sqlite3

import numpy as np
import pandas as pd
import pydantic
import pytest
from pandas.testing import assert_frame_equal

import llmlab as ll

MODEL = "openai/gpt-4o-mini"
CATEGORIES = ["bug", "billing", "other"]
FORMATS = ["parquet", "csv"]
ODD = [
    "NA",
    "",
    "001",
    "a\rb",
    "a\r\nb",
    "nan\0null",
    "😀\u2028",
    '"quoted", and, \\n',
    "\\back",
    " space ",
    "None",
    "'=1+1",
]

pytestmark = pytest.mark.filterwarnings("error")


async def run(client, units, prompt="{text}", **settings):
    settings = {"model": MODEL, "requests_per_minute": None, "progress": False, "client": client} | settings
    return await ll.run_experiment(units, prompt, **settings)


def equal(one, other):
    assert_frame_equal(one.predictions, other.predictions, check_exact=True)
    assert_frame_equal(one.attempts, other.attempts, check_exact=True)
    assert_frame_equal(one.units, other.units, check_exact=True)
    assert one.stopped == other.stopped
    assert one.description == other.description
    assert {**one.summary(), "go on": ""} == {**other.summary(), "go on": ""}
    assert one.categories == other.categories


def round_trip(results, folder, kind):
    results.save(folder, format=kind)
    loaded = ll.load_results(folder)
    equal(loaded, results)
    return loaded


@pytest.mark.parametrize("kind", FORMATS)
async def test_a_run_with_failures_comes_back_as_it_was(provider, tmp_path, kind):
    units = pd.DataFrame({"text": [f"text {n}" for n in range(40)], "gold": CATEGORIES * 13 + ["bug"]})
    results = await run(
        provider(malformed_rate=0.3, error_rate=0.2, missing_usage_rate=0.1, seed=3), units, runs=2,
        categories=CATEGORIES, model=[MODEL, "who/knows"], max_retries=2, retry=ll.RetryPolicy(2, wait=lambda n: 0),
    )  # fmt: skip
    assert len(results.failed)
    loaded = round_trip(results, tmp_path / "deep" / "folder", kind)
    assert loaded.predictions["prediction"].cat.categories.tolist() == CATEGORIES
    for one, other in zip(loaded.outcomes(), results.outcomes(), strict=True):
        assert (one.trial, one.prediction, one.status) == (other.trial, other.prediction, other.status)
        assert [a.content for a in one.attempts] == [a.content for a in other.attempts]
        assert [a.started_at for a in one.attempts] == [a.started_at for a in other.attempts]
        assert [a.usage for a in one.attempts] == [a.usage for a in other.attempts]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    "ids",
    [
        list("abc"),
        ["001", "NA", "a\r\0😀"],
        [3, 1, 2],
        pd.to_datetime(["2024-01-01", "2024-01-02 03:04:05.123456789", "1999-01-01"], format="ISO8601"),
        pd.to_datetime(["2024-01-01", "2024-07-02", "1999-01-01"]).tz_localize("Europe/Berlin"),
        [("a", 1), ("a", 2), ("b", 1)],
        [1, "1", datetime.date(2024, 1, 1)],
        [0.1, 0.2, 1e300],
        pd.Categorical(["c", "a", "b"], categories=["c", "b", "a", "d"]),
        pd.array([5, 6, 2**62], dtype="Int64"),
    ],
    ids=lambda ids: str(getattr(ids, "dtype", ids[0])),
)
async def test_ids_keep_their_type(provider, tmp_path, kind, ids):
    units = pd.DataFrame({"text": list("xyz")}, index=pd.Index(ids, tupleize_cols=False))
    loaded = round_trip(await run(provider(), units), tmp_path / "here", kind)
    # What is loaded can be given to another experiment, and to the first one's rerun.
    again = await run(provider(), loaded.predictions.iloc[1:], model=MODEL)
    assert again.predictions["unit_id"].tolist() == loaded.predictions["unit_id"].tolist()[1:]


@pytest.mark.parametrize("kind", FORMATS)
async def test_texts_and_columns_of_every_kind_survive(provider, tmp_path, kind):
    n = len(ODD)
    moment = pd.Timestamp("2024-02-29 12:34:56.123456")
    units = pd.DataFrame(
        {
            "text": ODD,
            "maybe": [None, *ODD[1:]],
            "status": "mine",
            "odd\rname,\0": 1.5,
            "": True,
            "float": [np.nan, 0.1 + 0.2, -np.inf, 5e-324] + [1.0] * (n - 4),
            "float32": np.full(n, 0.1, "float32"),
            "half": np.full(n, 0.1, "float16"),
            "big": np.full(n, 2**64 - 1, "uint64"),
            "Int": pd.array([None] + [2**53 + 1] * (n - 1), dtype="Int64"),
            "boolean": pd.array([None, True] + [False] * (n - 2), dtype="boolean"),
            "naive": pd.Series([pd.NaT] + [moment] * (n - 1)),
            "ns": pd.Series([moment + pd.Timedelta(1, "ns")] * n).astype("datetime64[ns]"),
            "s": pd.Series([moment.floor("s")] * n).astype("datetime64[s]"),
            "berlin": pd.Series([moment.tz_localize("Europe/Berlin")] * n),
            "delta": pd.to_timedelta([1.5] * n, unit="s"),
            "month": pd.period_range("2024-01", periods=n, freq="M"),
            "string": pd.array([None, *ODD[1:]], dtype="string"),
            "label": pd.Categorical([*ODD[:-1], None], categories=[*ODD[::-1], "unused"], ordered=True),
            "grade": pd.Categorical([1, 2] * (n // 2), categories=[3, 2, 1]),
            "day": [datetime.date(2024, 1, 1)] * n,
            "list": [["a", {"b": None}]] * n,
            "mixed": [1, "1", None, 2.5, ("t", 1), {"$x": 1}, {1: 2}, moment, True, pd.NA, pd.NaT, float("inf")],
            "arrow": pd.array([None] + [1] * (n - 1), dtype="int64[pyarrow]"),
        }
    )
    results = await run(
        provider(), units, prompt=lambda unit: unit["text"] or "empty", parse=lambda text: ODD[sum(map(ord, text)) % n]
    )
    loaded = round_trip(results, tmp_path / "here", kind)
    assert loaded.units["mixed"].map(type).tolist() == units["mixed"].map(type).tolist()


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Answer(pydantic.BaseModel):
    label: str
    mood: Mood | None = None
    tags: list[str] = []
    score: int | None = None


@pytest.mark.parametrize("kind", FORMATS)
async def test_a_response_model_comes_back_as_a_mapping_and_its_fields(provider, tmp_path, kind):
    results = await run(provider(), ["a", "b"], response_model=Answer)
    results.save(tmp_path / "here", format=kind)
    loaded = ll.load_results(tmp_path / "here")
    assert loaded.predictions["prediction"].tolist() == [
        one.model_dump(mode="json") for one in results.predictions["prediction"]
    ]
    fields = ["label", "tags", "score"]
    assert_frame_equal(loaded.predictions[fields], results.predictions[fields])


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("answer", [float, lambda text: {"a": [1, ("b",)]}, lambda text: len(text), lambda text: None])
async def test_predictions_of_every_kind(provider, tmp_path, kind, answer):
    parse = (lambda text: len(text) / 3) if answer is float else answer
    round_trip(await run(provider(error_rate=0.3), list("abcdef"), parse=parse, max_retries=1), tmp_path / "here", kind)


@pytest.mark.parametrize("kind", FORMATS)
async def test_prompts_stops_and_empty_results(provider, tmp_path, kind):
    several = await run(
        provider(), list("abc"), {"short": "{text}", "long": "Well: {text}"}, runs=2, categories=["a", "b"]
    )
    assert "prompt" in round_trip(several, tmp_path / "prompts", kind).predictions
    stopped = await run(provider(), list("abc"))
    stopped.stopped = "stopped by hand"
    round_trip(stopped, tmp_path / "stopped", kind)
    empty = await run(provider(), pd.DataFrame({"text": pd.Series([], dtype="str"), "n": pd.Series([], dtype="Int8")}))
    round_trip(empty, tmp_path / "empty", kind)


@pytest.mark.parametrize("kind", FORMATS)
async def test_half_a_surrogate_pair_in_the_units_survives(provider, tmp_path, kind):
    units = [{"unit_id": "a\ud83d", "text": "x\ud83d"}, {"unit_id": "b", "text": "y"}]
    round_trip(await run(provider(), units), tmp_path / kind, kind)
    read = {"parquet": pd.read_parquet, "csv": pd.read_csv}[kind]
    assert read(tmp_path / kind / f"predictions.{kind}")["text"].tolist() == ["x?", "y"]


@pytest.mark.parametrize("kind", FORMATS)
async def test_other_programs_read_the_frames(provider, tmp_path, kind):
    units = pd.DataFrame({"text": ["a", "b"], "tags": [["x", 1], None], "kind": pd.Categorical(["k", None])})
    results = await run(provider(), units, response_model=Answer, runs=2)
    folder = results.save(tmp_path / "here", format=kind)
    read = {"parquet": pd.read_parquet, "csv": pd.read_csv}[kind]
    predictions, attempts = (read(folder / f"{name}.{kind}") for name in ("predictions", "attempts"))
    assert predictions.columns.tolist() == results.predictions.columns.tolist()
    assert attempts["total_tokens"].tolist() == results.attempts["total_tokens"].tolist()
    assert predictions["tags_"].dropna().tolist() == ['["x", 1]'] * 2
    assert predictions["kind"].dropna().tolist() == ["k", "k"]
    assert json.loads(predictions["prediction"][0])["label"] == results.predictions["label"][0]


async def test_a_saved_folder_is_a_journal_too(provider, tmp_path):
    client = provider()
    results = await run(client, ["a", "b"])
    folder = results.save(tmp_path / "here")
    more = await run(client, ["a", "b", "c"], journal=folder / "results.sqlite")
    assert client.counts().requests == len(more.attempts) == 3
    assert_frame_equal(more.attempts.iloc[:2], results.attempts)


async def test_what_is_loaded_can_be_saved(provider, tmp_path):
    results = await run(provider(), ["a", ""], journal=tmp_path / "journal.sqlite")
    loaded = ll.load_results(tmp_path / "journal.sqlite")
    loaded.save(tmp_path / "here")
    equal(ll.load_results(tmp_path / "here"), results)
    assert ll.load_results(tmp_path / "here").messages(0) == results.messages(0)


async def test_saving_again_replaces_results_and_keeps_other_files(provider, tmp_path):
    first, second = await run(provider(), ["a"]), await run(provider(), ["b", "c"])
    folder = first.save(tmp_path / "here", format="csv")
    (folder / "chart.png").write_text("mine")
    second.save(folder, format="parquet")
    equal(ll.load_results(folder), second)
    assert sorted(one.name for one in folder.iterdir()) == [
        "attempts.parquet", "chart.png", "predictions.parquet", "results.sqlite",
    ]  # fmt: skip
    assert [one.name for one in tmp_path.iterdir()] == ["here"]


async def test_a_folder_of_something_else_is_left_alone(provider, tmp_path):
    results = await run(provider(), ["a"])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    (tmp_path / "mine" / "meta.json").write_text('{"title": "thesis"}')
    with pytest.raises(ll.InputError, match="something else"):
        results.save(tmp_path / "mine")
    with pytest.raises(ll.InputError, match="holds no results"):
        ll.load_results(tmp_path / "mine")
    with pytest.raises(ll.InputError, match="is a file"):
        results.save(tmp_path / "mine" / "thesis.txt")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    (tmp_path / "empty").mkdir()
    results.save(tmp_path / "empty")
    with pytest.raises(ll.InputError, match="format must be"):
        results.save(tmp_path / "empty", format="xlsx")


async def test_a_folder_of_the_first_version_says_what_to_do(provider, tmp_path):
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "meta.json").write_text('{"llmlab_results": 1}')
    with pytest.raises(ll.InputError, match="saved by llmlab 0.1: load them with it, or read predictions and attempts"):
        ll.load_results(folder)
    (await run(provider(), ["a"])).save(folder)
    assert len(ll.load_results(folder)) == 1


async def test_a_save_that_fails_changes_nothing(provider, tmp_path):
    first = await run(provider(), ["a"])
    folder = first.save(tmp_path / "here", format="csv")
    (folder / "chart.png").write_text("mine")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    second = await run(provider(), ["b" * 100_000])
    # No file may grow beyond so many bytes, as if the disk was full.
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limit[1]))
    try:
        with pytest.raises((OSError, sqlite3.Error)):
            second.save(folder, format="csv")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    equal(ll.load_results(folder), first)
    assert (folder / "chart.png").read_text() == "mine"
    assert [one.name for one in tmp_path.iterdir()] == ["here"]


async def test_loaded_rows_go_to_rerun(provider, tmp_path):
    results = await run(provider(), list("abc"), runs=2, categories=CATEGORIES)
    results.save(tmp_path / "here")
    loaded = ll.load_results(tmp_path / "here")
    for rows in (loaded.predictions.iloc[:3], loaded.attempts.iloc[:3]):
        again = await results.rerun(rows)
        assert len(again.attempts) == 9
    with pytest.raises(ll.InputError, match="know no prompt"):
        await loaded.rerun_failed()


@pytest.mark.parametrize("way", ["csv", "parquet"])
@pytest.mark.parametrize("ids", [list("abc"), [7, 8, 9]])
async def test_the_users_own_files_of_both_frames_are_rows_too(provider, tmp_path, way, ids):
    units = pd.DataFrame({"unit_id": ids, "text": list("xyz"), "status": "mine"})
    results = await run(provider(), units, runs=2, categories=CATEGORIES)
    for name, prompt in (("predictions", "{text} {status}"), ("attempts", "")):
        frame = getattr(results, name)
        if name == "attempts":
            frame = frame.fillna({"notes": ""}).assign(notes=frame["notes"].fillna("-"))
        if way == "csv":
            frame.to_csv(tmp_path / "own.csv", index=False)
            read = pd.read_csv(tmp_path / "own.csv")
        else:
            frame.to_parquet(tmp_path / "own.parquet")
            read = pd.read_parquet(tmp_path / "own.parquet")
        assert len((await results.rerun(read)).attempts) == 12
        if name == "attempts":
            continue
        again = await run(provider(), read.iloc[2:], prompt, categories=CATEGORIES)
        assert again.predictions[["unit_id", "run"]].to_dict("list") == {
            "unit_id": [ids[1], ids[1], ids[2], ids[2]],
            "run": [1, 2, 1, 2],
        }
