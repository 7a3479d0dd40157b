"""A week with one lab book: whatever is changed, exactly what is new is asked, and nothing of it is lost or paid twice."""

import pandas as pd

import llmlab as ll
from tests.helpers import ask, texts
from tests.scenarios.test_smallest_stop import OF_THE_MODEL, said, serving


async def test_one_file_and_exactly_the_new_requests(provider, tmp_path):
    simulated, path = provider(), tmp_path / "week.sqlite"
    labels = ["bug", "billing", "delivery"]
    sent: list[int] = []

    async def cell(units=20, prompt="Which one? {text}", **more):
        before = simulated.counts().requests
        settings = {"model": "a", "categories": labels, "runs": 2, "prices": {"a": (1, 4), "b": (1, 4)}} | more
        results = await ask(simulated, texts(units), prompt, journal=path, **settings)
        assert results.stopped is None
        assert results.predictions["status"].eq("ok").all()
        sent.append(simulated.counts().requests - before)
        return results

    first = await cell()
    again = await cell()
    for edit in range(1, 6):
        await cell(prompt=f"Which one? Version {edit}. {{text}}")
    await cell(prompt="Which one? Version 3. {text}")
    await cell(units=30)
    await cell(units=30, model=["a", "b"])
    last = await cell(units=30, model=["a", "b"], runs=3)
    assert sent == [40, 0, *[40] * 5, 0, 20, 60, 60]
    assert last.summary()["asked"] == 60
    assert last.summary()["answered_before"] == 120
    assert "answered     180 of 180: 120 from the book, 60 asked for $" in repr(last)
    assert "120 from the book, 60 asked for $" in last._repr_html_()
    assert again.summary()["asked"] == 0
    assert repr(again).startswith("answered     40 of 40: 40 from the book, 0 asked\n")
    # The same texts by another reader: nothing is sent.
    upper = await cell(units=30, model=["a", "b"], runs=3, categories=None, parse=lambda text: text.strip().upper(),
                       prompt=lambda unit: last.messages(unit["unit_id"], model="a"))  # fmt: skip
    assert sent[-1] == 180  # without categories no schema is sent: that is another request
    read = upper.reparse(parse=str.lower)
    assert read.predictions["prediction"].tolist() == upper.predictions["prediction"].str.lower().tolist()
    assert sum(sent) == simulated.counts().requests
    # All of it is in the file: what each call sent, asked and paid.
    calls = ll.experiments(path)
    assert calls["attempts"].tolist() == sent
    assert int(calls["total_tokens"].sum()) == simulated.counts().total_tokens
    for session, live in ((1, first), (2, again), (len(sent) - 1, last)):
        loaded = ll.load_results(path, session=session)
        pd.testing.assert_frame_equal(loaded.predictions, live.predictions)
        pd.testing.assert_frame_equal(loaded.attempts, live.attempts)
        assert loaded.summary() == live.summary()
        assert loaded.messages(3, model="a", run=2) == live.messages(3, model="a", run=2)


async def test_another_parse_of_the_same_request_is_free(provider, tmp_path):
    simulated, path = provider(), tmp_path / "week.sqlite"
    first = await ask(simulated, texts(10), parse=str.strip, journal=path)
    other = await ask(simulated, texts(10), parse=len, journal=path)
    assert simulated.counts().requests == 10
    assert other.predictions["prediction"].tolist() == first.predictions["prediction"].str.len().tolist()


async def test_a_rerun_asks_anew_and_the_rest_is_from_the_book(provider, tmp_path):
    simulated, path = provider(), tmp_path / "week.sqlite"
    results = await ask(simulated, texts(5), journal=path)
    again = await results.rerun(results.predictions.head(2))
    assert simulated.counts().requests == 7
    assert repr(again).startswith("answered     5 of 5: 3 from the book, 2 asked")
    in_memory = await ask(simulated, texts(5))
    assert repr(await in_memory.rerun(in_memory.predictions.head(2))).startswith(
        "answered     5 of 5: 3 from before, 2"
    )


async def test_why_a_model_ended_is_kept(tmp_path):
    def reply(body):
        return OF_THE_MODEL["OpenAI"] if body["model"] == "gone" else said()

    path = tmp_path / "week.sqlite"
    async with serving(reply) as server:
        settings = server | {"model": ["good", "gone"]}
        live = await ll.run_experiment(texts(9), "{text}", max_concurrent=1, journal=path, **settings)
    assert live.predictions["status"].eq("not_run").sum() == 8
    assert live.predictions.loc[live.predictions["model"] == "gone", "error"].notna().all()
    loaded = [ll.load_results(path), ll.load_results(live.save(tmp_path / "saved")), live.reparse(parse=str)]
    for one in loaded:
        pd.testing.assert_frame_equal(one.predictions[["status", "error_type", "error"]],
                                      live.predictions[["status", "error_type", "error"]])  # fmt: skip
