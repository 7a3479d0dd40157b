"""The lab book knows an answer by what was sent: what is new is asked, what was answered is never paid twice."""

import base64
import datetime
import functools
import uuid
from decimal import Decimal

import numpy as np
import pandas as pd
import pydantic
import pytest

import llmlab as ll
from tests.helpers import ask, texts


@pytest.fixture
def path(tmp_path):
    return tmp_path / "book.sqlite"


@pytest.fixture
def asked(provider, path):
    """Run an experiment in one book; returns its results and how many requests it took."""
    simulated = provider()

    async def run(units, prompt="{text}", **more):
        before = simulated.counts().requests
        results = await ask(simulated, units, prompt, journal=path, **({"model": "m"} | more))
        assert results.stopped is None
        return results, simulated.counts().requests - before

    run.provider = simulated
    return run


async def test_only_what_is_new_is_asked(asked):
    requests = []
    for units, prompt, more in (
        (texts(4), "A {text}", {}),
        (texts(6), "A {text}", {}),
        (texts(6), "A {text}", {"runs": 3}),
        (texts(6), "A {text}", {"runs": 2, "model": ["m", "m2"]}),
        (texts(6), "B {text}", {}),
        (texts(6), {"a": "A {text}", "b": "B {text}", "c": "C {text}"}, {}),
        (texts(2), "A {text}", {}),
        (texts(6)[::-1], "A {text}", {}),
        (texts(2), "A {text}", {"temperature": 0.5}),
        (texts(2), "A {text}", {"categories": ["a", "b"]}),
        (texts(2), "A {text}", {"categories": ["a", "c"]}),
        (texts(2), "A {text}", {"parse": len}),
        (texts(2), [{"role": "system", "content": "s"}, {"role": "user", "content": "A {text}"}], {}),
        (texts(2), lambda unit: f"A {unit['text']}", {}),
        (texts(2), "A {text}", {"extra_headers": {"X-Key": "k"}, "extra_query": {"key": "k"}}),
    ):
        results, count = await asked(units, prompt, **more)
        assert (results.predictions["status"] == "ok").all()
        requests.append(count)
    assert requests == [4, 2, 12, 12, 6, 6, 0, 0, 2, 2, 2, 0, 2, 0, 0]


def styled(style, unit):
    return f"{style}: {unit['text']}"


class Styled:
    def __init__(self, style):
        self.style = style

    def __call__(self, unit):
        return styled(self.style, unit)


@pytest.mark.parametrize("make", [
    lambda style: functools.partial(styled, style), Styled, lambda style: Styled(style).__call__,
    lambda style: f"{style}: {{text}}".format_map,
])  # fmt: skip
async def test_callables_are_known_by_what_they_send(asked, make):
    for style, expected in (("first", 2), ("second", 2), ("first", 0)):
        results, count = await asked(["a", "b"], make(style), parse=lambda text: text)
        assert count == expected
        assert results.messages(0)[0]["content"] == f"{style}: a"


async def test_what_is_not_sent_may_change(asked):
    class Document:
        def __init__(self, text):
            self.text = text

    for more in ({}, {"gold": ["x", "y"]}, {"tags": [{"a"}, set()]}):
        units = pd.DataFrame({"document": [Document("a"), Document("b")], **more})
        results, count = await asked(units, lambda unit: unit["document"].text)
        assert count == (0 if more else 2)
        assert [name for name in more if name not in results.predictions] == []


@pytest.mark.parametrize("ids", [
    [1.0, 2.0], np.array([1, 2], "int8"), pd.array([1, 2], dtype="Int64"), ["1", "2"], ["x", "y"],
    [datetime.date(2024, 1, 1), datetime.date(2024, 1, 2)], [uuid.UUID(int=1), uuid.UUID(int=2)],
    [Decimal("1.5"), Decimal("2")], [(1, "a"), (1, "b")], [b"1", frozenset({1})],
])  # fmt: skip
async def test_ids_of_any_kind_find_the_answers(asked, path, ids):
    units = pd.DataFrame({"text": ["a", "b"]}, index=[1, 2])
    await asked(units)
    other = units.set_axis(pd.Index(ids, tupleize_cols=False))
    results, count = await asked(other)
    assert count == 0
    loaded = ll.load_results(path)
    assert len(loaded.predictions) == 2
    assert (loaded.predictions["status"] == "ok").all()
    if not isinstance(ids[0], bytes):
        assert loaded.predictions["unit_id"].tolist() == results.predictions["unit_id"].tolist()


async def test_units_with_the_same_text_are_trials_of_their_own(asked):
    units = pd.DataFrame({"text": ["same", "same", "other"]}, index=["a", "b", "c"])
    first, count = await asked(units, runs=2)
    assert count == 6
    ids = first.attempts.set_index(["unit_id", "run"])["request_id"]
    assert ids.is_unique
    # One more with that text is asked; each of the others gets its own answers back, in whatever order they stand.
    more = pd.DataFrame({"text": ["same"] * 3}, index=["new", "b", "a"])
    second, count = await asked(more, runs=2)
    assert count == 2
    again = second.attempts.set_index(["unit_id", "run"])["request_id"]
    for unit in ("a", "b"):
        for run in (1, 2):
            assert again[unit, run] == ids[unit, run]


async def test_a_failed_trial_goes_on_where_it_was_and_an_answered_one_serves_first(asked):
    failed, _ = await asked(["x"], model="fault/s500-json", retry=ll.RetryPolicy(2, wait=lambda attempt: 0))
    assert failed.attempts["attempt"].tolist() == [1, 2]
    again, count = await asked(["x"], model="fault/s500-json", retry=ll.RetryPolicy(1))
    assert count == 1
    assert again.attempts["attempt"].tolist() == [1, 2, 3]
    assert again.attempts["session"].tolist() == [1, 1, 2]


async def test_what_comes_from_the_book_keeps_its_session_and_costs_nothing(asked, path):
    first, _ = await asked(texts(3))
    second, _ = await asked(texts(5))
    assert second.attempts["session"].tolist() == [1, 1, 1, 2, 2]
    pd.testing.assert_frame_equal(second.attempts.iloc[:3], first.attempts)
    assert ll.experiments(path)["attempts"].tolist() == [3, 2]


async def test_a_rehearsal_is_no_experiment(asked, path):
    await asked(["a"])
    real = {"client": None, "base_url": asked.provider.base_url, "api_key": "sk-5ecre7-5ecre7"}
    assert (await asked(["a"], **real))[1] == 1
    assert (await asked(["a"], **real))[1] == 0


async def test_rows_of_predictions_are_asked_once_too(asked):
    results, _ = await asked(texts(3), runs=2)
    rows = results.predictions.iloc[[0, 3, 4]]
    again, count = await asked(rows)
    assert count == 0
    assert again.predictions[["unit_id", "run"]].to_numpy().tolist() == [[0, 1], [1, 2], [2, 1]]
    assert again.predictions["prediction"].tolist() == rows["prediction"].tolist()


# read anew


async def test_another_parse_reads_the_kept_texts_anew_for_free(asked, path):
    first, _ = await asked(texts(3), parse=len)
    shout, count = await asked(texts(3), parse=str.upper)
    assert count == 0
    assert shout.predictions["prediction"].tolist() == shout.attempts["content"].str.upper().tolist()
    assert ll.load_results(path, session=1).predictions.equals(first.predictions)
    assert ll.load_results(path).predictions.equals(shout.predictions)


async def test_a_slip_in_parse_costs_no_answer(asked, path):
    def slip(text):
        raise ValueError("wrong key")

    failed, count = await asked(texts(3), parse=slip, max_retries=2)
    assert (failed.predictions["status"] == "failed").all()
    mended, more = await asked(texts(3), parse=str.strip, max_retries=2)
    assert (count, more) == (6, 0)
    assert (mended.predictions["status"] == "ok").all()
    assert mended.attempts["status"].tolist() == ["ok"] * 6
    pd.testing.assert_frame_equal(ll.load_results(path).predictions, mended.predictions)
    pd.testing.assert_frame_equal(ll.load_results(path, session=1).attempts, failed.attempts)
    # Its own failed attempts count more than what was read before them.
    rerun = await mended.rerun(mended.predictions.head(1))
    pd.testing.assert_frame_equal(ll.load_results(path).predictions, rerun.predictions)


class Reading(pydantic.BaseModel):
    label: str


async def test_answers_with_fields_are_instances_again(asked):
    await asked(texts(2), response_model=Reading)
    again, count = await asked(texts(2), response_model=Reading)
    assert count == 0
    assert all(isinstance(value, Reading) for value in again.predictions["prediction"])


async def test_pictures_are_known_by_their_contents(asked, tmp_path):
    def draw(colour):
        (tmp_path / "p.png").write_bytes(base64.b64decode(colour))

    prompt = [
        {"role": "user", "content": [{"type": "text", "text": "What is it?"}, ll.image(str(tmp_path / "{name}.png"))]}
    ]
    units = pd.DataFrame({"name": ["p"]})
    requests = []
    for colour in (RED, RED, BLUE):
        draw(colour)
        requests.append((await asked(units, prompt))[1])
    assert requests == [1, 0, 1]


RED, BLUE = (
    f"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP{middle}AAAAASUVORK5CYII="
    for middle in ("4z8AAAAMBAQDJ/pLv", "gYPgPAAEDAQAIicLs")
)
