"""A run begins, acts on what its attempts return, and ends: slots, retries, early ends, and what then is told."""

import asyncio
import signal

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

import llmlab as ll
from tests.helpers import ask, settings, texts, until

AT_ONCE = ll.RetryPolicy(wait=lambda attempt: 0)


@pytest.mark.parametrize("most", [1, 3, 20])
async def test_at_most_max_concurrent_are_in_flight_and_so_many_are(provider, most):
    client = provider(latency_s=0.05)
    await ask(client, texts(4 * most), max_concurrent=most)
    assert client.counts().peak_in_flight == most


async def test_there_are_never_more_tasks_than_slots(provider):
    client, slots, most, over = provider(), 0, 0, asyncio.Event()

    async def watch():
        nonlocal slots, most
        while not over.is_set():
            tasks = asyncio.all_tasks()
            slots = max(slots, sum(task.get_coro().__qualname__ == "Run._one_attempt" for task in tasks))
            most = max(most, len(tasks))
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    before = len(asyncio.all_tasks())
    results = await ask(client, texts(100), runs=4, max_concurrent=16)
    over.set()
    await watching
    assert results.predictions["status"].eq("ok").all()
    assert slots == 16
    # Beside them the view's ticker, and what the transport needs for each connection that it makes.
    assert most <= before + 2 * 16 + 4
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_trial_that_waits_for_its_next_attempt_holds_no_slot(provider):
    client = provider()
    policy = ll.RetryPolicy(wait=lambda attempt: 0.5)
    results = await ask(client, texts(4), model="fault/s500-json/n1", max_concurrent=1, retry=policy)
    order = results.attempts.sort_values("started_at")
    assert order["attempt"].tolist() == [1] * 4 + [2] * 4
    assert order["unit_id"].tolist() == [0, 1, 2, 3] * 2
    assert results.predictions["status"].eq("ok").all()
    assert results.attempts["retry_in_s"].tolist() == [0.5, pd.NA] * 4
    assert client.counts().peak_in_flight == 1
    waited = order["started_at"].iloc[4:].to_numpy() - order["started_at"].iloc[:4].to_numpy()
    assert (waited >= pd.Timedelta(0.5, "s")).all()


async def test_default_waits_are_in_the_frame_and_a_stop_does_not_wait_them_out(provider):
    experiment = ll.start_experiment(texts(1), "{text}", **settings(provider(), model="fault/s500-json"))
    await until(lambda: len(experiment.attempts) == 2)
    experiment.stop()
    results = await experiment
    assert results.attempts["retry_in_s"].tolist() == [0.0, 20.0]
    assert results.predictions.loc[0, ["status", "error_type", "attempts"]].tolist() == [
        "not_run",
        "OverloadedError",
        2,
    ]


async def test_there_are_max_retries_attempts_and_no_wait_after_the_last(provider):
    client = provider()
    policy = ll.RetryPolicy(max_retries=4, wait=lambda attempt: 0.01 * attempt)
    results = await ask(client, texts(3), model="fault/s500-json", retry=policy)
    assert results.attempts["retry_in_s"].tolist() == [0.01, 0.02, 0.03, pd.NA] * 3
    assert results.predictions["status"].eq("failed").all()
    assert results.stopped is None
    assert client.counts().requests == 12
    single = await ask(client, texts(3), model="fault/s500-json", max_retries=1)
    assert len(single.attempts) == 3


async def test_a_fatal_error_stops_the_run_with_one_message_and_a_mended_key_goes_on(provider):
    client = provider(latency_s=0.01)
    # Ten good answers, then the key is revoked for half a second.
    results = await ask(client, texts(200), model="fault/s401-key/a10/w0.5", max_concurrent=5)
    predictions, attempts = results
    counts = predictions["status"].value_counts()
    assert counts["ok"] >= 10
    assert 1 <= counts["failed"] <= 5
    assert counts["not_run"] >= 180
    assert len(attempts) == client.counts().requests <= 20
    assert predictions.loc[predictions["status"] == "failed", "error_type"].eq("AuthenticationError").all()
    assert results.stopped.startswith("401: ")
    assert f"{counts['failed'] + counts['not_run']} of 200 trials are not answered" in results.stopped
    assert results.stopped.endswith("are not answered")
    assert results.stopped.count("401") == 1
    await asyncio.sleep(0.5)
    mended = await results.rerun_failed()
    assert mended.stopped is None
    assert mended.predictions["status"].eq("ok").all()
    assert len(mended.attempts) == client.counts().requests == 200 + counts["failed"]
    assert mended.attempts["total_tokens"].sum() == client.counts().total_tokens


@pytest.mark.parametrize("fault", ["s404-model", "s402-credits", "r429-quota", "s400-schema"])
async def test_errors_that_every_trial_would_meet_cost_few_requests(provider, fault):
    client = provider()
    results = await ask(client, texts(300), model=f"fault/{fault}", max_concurrent=4)
    assert results.stopped
    assert len(results.attempts) == client.counts().requests <= 8
    assert set(results.predictions["status"]) == {"failed", "not_run"}


async def test_the_same_complaint_about_the_settings_of_the_first_trials_stops_the_run(provider):
    client = provider()
    results = await ask(client, texts(300), model="fault/s422-detail", max_concurrent=1)
    assert results.stopped.startswith("the first 5 trials failed the same way")
    assert client.counts().requests == 5


@pytest.mark.parametrize("fault", ["s400-context", "s400-filter"])
async def test_a_long_or_offensive_text_says_nothing_of_the_others(provider, fault):
    client = provider()
    results = await ask(client, texts(12), model=f"fault/{fault}", max_concurrent=1)
    assert results.stopped is None
    assert results.predictions["status"].eq("failed").all()
    assert client.counts().requests == 12


async def test_a_blank_text_fails_without_a_request(provider):
    client = provider()
    units = pd.DataFrame({"text": ["a", "", " \u200b", "b"], "note": [None, "x", None, None]})
    results = await ask(client, units, runs=2)
    assert results.predictions["status"].tolist() == ["ok"] * 2 + ["failed"] * 4 + ["ok"] * 2
    assert results.failed["error_type"].eq("EmptyInputError").all()
    assert results.failed["attempts"].eq(0).all()
    assert client.counts().requests == len(results.attempts) == 4


async def test_silence_ends_at_the_timeout_and_is_asked_once_more(provider):
    client = provider()
    results = await ask(client, texts(2), model="fault/w-hang", timeout=0.2, retry=AT_ONCE)
    assert results.predictions["error_type"].tolist() == ["TimeoutError"] * 2
    assert results.predictions["attempts"].tolist() == [2, 2]
    assert results.predictions["total_tokens"].isna().all()
    assert results.attempts["latency_s"].between(0.2, 5).all()
    assert results.attempts["http_status"].isna().all()
    late = await ask(client, texts(2), model="fault/w-hang/n1", timeout=0.2, retry=AT_ONCE)
    assert late.predictions["status"].tolist() == ["ok", "ok"]


async def test_stop_before_the_start_sends_nothing(provider):
    client = provider()
    experiment = ll.start_experiment(texts(5), "{text}", **settings(client))
    experiment.stop()
    results = await experiment
    assert results.predictions["status"].eq("not_run").all()
    assert client.counts().requests == 0


async def test_what_is_in_flight_after_the_grace_is_cancelled_and_said_to_be_billed(provider):
    client = provider(latency_s=30)
    experiment = ll.start_experiment(texts(5), "{text}", **settings(client, max_concurrent=3, grace_s=0.05))
    await until(lambda: client.counts().requests == 3)
    experiment.stop()
    results = await experiment
    assert results.predictions["status"].tolist() == ["failed"] * 3 + ["not_run"] * 2
    assert results.attempts["error_type"].tolist() == ["CancelledError"] * 3
    assert results.attempts["total_tokens"].isna().all()
    assert results.attempts["latency_s"].gt(0).all()


async def test_a_stopped_rerun_keeps_the_outcomes_it_did_not_come_to(provider):
    client = provider(latency_s=0.05)
    first = await ask(client, texts(40), max_concurrent=40)
    limiter = ll.RateLimiterRegistry.get_limiter(client.api_key)
    limiter.limit = 60
    again = asyncio.create_task(first.rerun(first.predictions))
    await until(lambda: client.counts().requests > 40)
    signal.raise_signal(signal.SIGINT)
    results = await again
    assert results.stopped.startswith("interrupted")
    assert results.predictions["status"].eq("ok").all()
    assert_frame_equal(
        results.predictions.query("attempts == 1"), first.predictions.loc[results.predictions["attempts"] == 1]
    )
    assert 40 < len(results.attempts) == client.counts().requests < 80


# panel and frame


def same_counts(experiment, results):
    """The tally's counts are the frame's."""
    tally, counts = experiment._run.tally, results.predictions["status"].value_counts()
    found = (tally.ok, tally.failed, tally.trials - tally.done)
    assert found == tuple(int(counts.get(name, 0)) for name in ("ok", "failed", "not_run"))
    return found


async def test_what_waits_for_its_next_attempt_when_the_run_is_stopped_is_not_run_and_keeps_its_error(provider):
    client = provider()
    units = pd.DataFrame({"text": [*texts(20), "", "last"]})
    experiment = ll.start_experiment(
        units,
        "{text}",
        **settings(client, model="fault/s500-json/a13", max_concurrent=5, retry=ll.RetryPolicy(wait=lambda n: 30)),
    )
    await until(lambda: len(experiment.attempts) == 21 and experiment._run.tally.done == 14)
    experiment.stop()
    results = await experiment
    assert same_counts(experiment, results) == (13, 1, 8)
    waiting = results.predictions.query("status == 'not_run'")
    assert waiting["error_type"].eq("OverloadedError").all()
    assert waiting["error"].str.startswith("500").all()
    assert results.attempts.query("status == 'call_error'")["retry_in_s"].eq(30).all()
    assert results.predictions["error_type"].iloc[20] == "EmptyInputError"


@pytest.mark.parametrize("fault", ["s401-key/a5", "s500-json/n3", "w-hang", ""])
async def test_tally_and_frame_agree_however_a_run_ends(provider, fault):
    client = provider(latency_s=0.01, malformed_rate=0.2, seed=5)
    model = f"fault/{fault}" if fault else "m"
    experiment = ll.start_experiment(
        texts(40), "{text}", **settings(client, model=model, categories=["a", "b"], max_concurrent=4, grace_s=0.05)
    )
    await until(lambda: client.counts().requests >= 4)
    experiment.stop()
    results = await experiment
    same_counts(experiment, results)
    assert len(results.attempts) == client.counts().requests


async def test_a_trial_that_was_to_be_asked_again_when_a_fatal_error_came_is_not_run(provider):
    def wait(attempt):
        return 30.0

    client = provider()
    results = await ask(
        client, texts(4), model=["fault/s500-json", "fault/s401-key"], max_concurrent=1, retry=ll.RetryPolicy(wait=wait)
    )
    assert results.stopped.startswith("401")
    assert results.predictions["status"].tolist() == ["not_run", "failed", *["not_run"] * 6]
    assert results.predictions["error_type"].dropna().tolist() == ["OverloadedError", "AuthenticationError"]
