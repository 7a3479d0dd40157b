"""The whole story over real HTTP: slots, grants, retries, tokens, early ends, and every way to start it."""

import asyncio
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

import llmlab as ll
from llmlab.errors import ExperimentStopped, InputError
from llmlab.records import Trial

ROOT = Path(__file__).parent.parent
TICKETS = pd.read_csv(ROOT / "data" / "tickets.csv")
CATEGORIES = sorted(TICKETS["gold"].unique())
MODEL = "openai/gpt-4o-mini"
PROMPT = "Which category fits?\n\n{text}"
AT_ONCE = ll.RetryPolicy(wait=lambda attempt: 0)
TOKENS = ["prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens", "total_tokens"]


def settings(provider, **more):
    return {"model": MODEL, "requests_per_minute": None, "progress": False, "client": provider} | more


async def run(provider, units, prompt="{text}", **more):
    return await ll.run_experiment(units, prompt, **settings(provider, **more))


def texts(count):
    return [f"text number {n}" for n in range(count)]


async def until(condition, timeout_s=20):
    """Wait for it; real time, as the provider runs in another thread."""
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it never happened"
        await asyncio.sleep(0.005)


# the main job


async def test_250_tickets_three_times_lose_neither_token_nor_answer(provider):
    client = provider(latency_s=0.05, malformed_rate=0.05, error_rate=0.05, missing_usage_rate=0.05, seed=3)
    policy = ll.RetryPolicy(max_retries=8, wait=lambda attempt: 0)
    results = await run(client, TICKETS, PROMPT, categories=CATEGORIES, runs=3, retry=policy, max_concurrent=100)
    predictions, attempts = results
    counts = client.counts()
    assert results.stopped is None
    assert predictions["status"].tolist() == ["ok"] * 750
    assert predictions["unit_id"].tolist() == TICKETS["unit_id"].repeat(3).tolist()
    assert predictions["run"].tolist() == [1, 2, 3] * 250
    assert len(attempts) == counts.requests == counts.ok + counts.errors
    assert counts.errors == (attempts["http_status"] == 500).sum() > 10
    assert attempts["error_type"].isin(["ParseError", "TruncatedError", "InvalidLabelError"]).sum() > 10
    assert counts.usage_missing == (attempts["http_status"].eq(200) & attempts["total_tokens"].isna()).sum() > 10
    assert {name: int(attempts[name].sum()) for name in TOKENS} == {name: getattr(counts, name) for name in TOKENS}
    assert {name: int(predictions[name].sum()) for name in TOKENS} == {name: getattr(counts, name) for name in TOKENS}
    assert (predictions["prediction"].astype(str) == predictions["gold"]).mean() > 0.75
    assert predictions.groupby("unit_id")["prediction"].nunique().gt(1).any()
    assert attempts["cost_usd"].notna().equals(attempts["total_tokens"].notna())


async def test_the_attempts_say_when_and_how_long(provider):
    client = provider(latency_s=0.05)
    before = pd.Timestamp.now("UTC")
    results = await run(client, texts(6), max_concurrent=2, limiter=ll.RateLimiter(600, margin_s=0.0))
    _, attempts = results
    assert (attempts["latency_s"] >= 0.05).all()
    assert attempts["latency_s"].max() < 5
    assert (attempts["queue_s"] >= 0).all()
    # The third pair stands behind two others that take 50 ms each.
    assert attempts["queue_s"].nlargest(2).min() >= 0.1
    assert attempts["throttled"].sum() >= 3
    assert attempts.loc[~attempts["throttled"], "wait_s"].eq(0).all()
    assert attempts["started_at"].between(before, pd.Timestamp.now("UTC")).all()
    assert attempts["started_at"].max() - attempts["started_at"].min() > pd.Timedelta(0.45, "s")


async def test_10_000_units_at_200_in_flight_are_all_answered(provider):
    client = provider(latency_s=0.1)
    results = await run(client, texts(10_000), max_concurrent=200)
    predictions, attempts = results
    counts = client.counts()
    assert predictions["status"].eq("ok").all()
    assert predictions["unit_id"].tolist() == list(range(10_000))
    assert len(attempts) == counts.requests == counts.ok == 10_000
    assert int(attempts["total_tokens"].sum()) == counts.total_tokens
    assert counts.peak_in_flight <= 200


# slots


@pytest.mark.parametrize("most", [1, 3, 20])
async def test_at_most_max_concurrent_are_in_flight_and_so_many_are(provider, most):
    client = provider(latency_s=0.05)
    await run(client, texts(4 * most), max_concurrent=most)
    assert client.counts().peak_in_flight == most


async def test_there_are_never_more_tasks_than_slots(provider):
    client, slots, most, over = provider(), 0, 0, asyncio.Event()

    async def watch():
        nonlocal slots, most
        while not over.is_set():
            tasks = asyncio.all_tasks()
            slots = max(slots, sum(task.get_coro().__qualname__ == "Run._attempt" for task in tasks))
            most = max(most, len(tasks))
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    before = len(asyncio.all_tasks())
    results = await run(client, texts(500), runs=4, max_concurrent=16)
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
    results = await run(client, texts(4), model="fault/s500-json/n1", max_concurrent=1, retry=policy)
    order = results.attempts.sort_values("started_at")
    assert order["attempt"].tolist() == [1] * 4 + [2] * 4
    assert order["unit_id"].tolist() == [0, 1, 2, 3] * 2
    assert results.predictions["status"].eq("ok").all()
    assert results.attempts["retry_in_s"].tolist() == [0.5, pd.NA] * 4
    assert client.counts().peak_in_flight == 1
    waited = order["started_at"].iloc[4:].to_numpy() - order["started_at"].iloc[:4].to_numpy()
    assert (waited >= pd.Timedelta(0.5, "s")).all()


# the limiter


async def test_every_request_has_one_grant_of_the_keys_limiter(provider):
    client = provider(error_rate=0.3, malformed_rate=0.2, seed=2)
    key = client.api_key
    results = await run(client, texts(40), categories=["a", "b"], requests_per_minute=60_000, retry=AT_ONCE)
    limiter = ll.RateLimiterRegistry.get_limiter(key)
    metrics = ll.RateLimiterRegistry.get_metrics(key)
    assert metrics["total_requests"] == client.counts().requests == len(results.attempts) > 40
    assert metrics["limit"] == limiter.limit == 60_000
    assert metrics["throttled_requests"] == results.attempts["throttled"].sum()
    assert metrics["avg_wait_time"] == pytest.approx(results.attempts["wait_s"].mean())
    assert ll.RateLimiterRegistry.get_metrics()["total_requests"] == metrics["total_requests"]
    assert ll.RateLimiterRegistry.get_metrics("another key")["total_requests"] == 0


async def test_grants_are_paced_however_few_the_slots(provider):
    limiter = ll.RateLimiter(1000, period_s=10.0, margin_s=0.0)
    results = await run(provider(), texts(60), limiter=limiter, max_concurrent=4)
    sent = results.attempts["started_at"]
    assert sent.max() - sent.min() > pd.Timedelta(0.9 * 59 * 10 / 1000, "s")
    assert limiter.get_metrics()["total_requests"] == 60


def keyed(provider, key):
    """The same provider for another key."""
    return {"client": None, "base_url": provider.base_url, "api_key": key}


async def test_two_experiments_on_one_key_share_one_limit(provider):
    client = provider()
    results = await asyncio.gather(*(
        run(client, texts(20), requests_per_minute=2400, model=model, **keyed(client, "shared")) for model in ("m", "n")
    ))  # fmt: skip
    limiter = ll.RateLimiterRegistry.get_limiter("shared")
    assert limiter.get_metrics()["total_requests"] == client.counts().requests == 40
    sent = pd.concat([one.attempts for one in results]).sort_values("started_at")
    assert sent["started_at"].iloc[-1] - sent["started_at"].iloc[0] > pd.Timedelta(0.9 * 39 * 60 / 2400, "s")
    # Both stand in one line: neither runs ahead of the other.
    assert set(sent["model"].iloc[:8]) == {"m", "n"}


async def test_a_strict_provider_refuses_none_of_two_experiments_with_one_limiter(provider):
    client = provider(limit=40, period_s=1.0)
    limiter = ll.RateLimiter(40, period_s=1.0, burst=40, margin_s=0.3)
    results = await asyncio.gather(*(run(client, texts(30), limiter=limiter) for _ in range(2)))
    assert all(one.predictions["status"].eq("ok").all() for one in results)
    counts = client.counts()
    assert (counts.requests, counts.refused) == (60, 0)
    assert counts.max_in_window <= 40


async def test_two_keys_do_not_slow_each_other(provider):
    client = provider()
    results = await asyncio.gather(*(
        run(client, ["a"], requests_per_minute=1, **keyed(client, key)) for key in ("one", "two")
    ))  # fmt: skip
    assert [one.attempts["throttled"].tolist() for one in results] == [[False], [False]]
    assert ll.RateLimiterRegistry.get_metrics()["total_requests"] == 2
    for key in ("one", "two"):
        assert ll.RateLimiterRegistry.get_metrics(key)["total_requests"] == 1


# retries and early ends


async def test_default_waits_are_in_the_frame_and_a_stop_does_not_wait_them_out(provider):
    experiment = ll.start_experiment(texts(1), "{text}", **settings(provider(), model="fault/s500-json"))
    await until(lambda: len(experiment.attempts) == 2)
    experiment.stop()
    results = await experiment
    assert results.attempts["retry_in_s"].tolist() == [0.0, 20.0]
    # A third one was due: the trial did not have its whole turn.
    row = results.predictions.loc[0, ["status", "error_type", "attempts"]].tolist()
    assert row == ["not_run", "OverloadedError", 2]


async def test_there_are_max_retries_attempts_and_no_wait_after_the_last(provider):
    client = provider()
    policy = ll.RetryPolicy(max_retries=4, wait=lambda attempt: 0.01 * attempt)
    results = await run(client, texts(3), model="fault/s503-html", retry=policy)
    assert results.attempts["retry_in_s"].tolist() == [0.01, 0.02, 0.03, pd.NA] * 3
    assert results.predictions["status"].eq("failed").all()
    assert results.stopped is None
    assert client.counts().requests == 12
    single = await run(client, texts(3), model="fault/s503-html", max_retries=1)
    assert len(single.attempts) == 3


async def test_a_fatal_error_stops_the_run_with_one_message_and_a_mended_key_goes_on(provider):
    client = provider(latency_s=0.01)
    # Ten good answers, then the key is revoked for half a second.
    results = await run(client, texts(200), model="fault/s401-key/a10/w0.5", max_concurrent=5)
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
    results = await run(client, texts(300), model=f"fault/{fault}", max_concurrent=4)
    assert results.stopped
    assert len(results.attempts) == client.counts().requests <= 8
    assert set(results.predictions["status"]) == {"failed", "not_run"}


async def test_the_same_refusal_of_the_first_trials_stops_the_run(provider):
    client = provider()
    results = await run(client, texts(300), model="fault/s422-detail", max_concurrent=1)
    assert results.stopped.startswith("the first 5 trials failed the same way")
    assert client.counts().requests == 5


@pytest.mark.parametrize("fault", ["s400-context", "s400-filter"])
async def test_a_long_or_offensive_text_says_nothing_of_the_others(provider, fault):
    client = provider()
    results = await run(client, texts(12), model=f"fault/{fault}", max_concurrent=1)
    assert results.stopped is None
    assert results.predictions["status"].eq("failed").all()
    assert client.counts().requests == 12


async def test_a_blank_text_fails_without_a_request(provider):
    client = provider()
    units = pd.DataFrame({"text": ["a", "", " \u200b", "b"], "note": [None, "x", None, None]})
    results = await run(client, units, runs=2)
    assert results.predictions["status"].tolist() == ["ok"] * 2 + ["failed"] * 4 + ["ok"] * 2
    assert results.failed["error_type"].eq("EmptyInputError").all()
    assert results.failed["attempts"].eq(0).all()
    assert client.counts().requests == len(results.attempts) == 4


async def test_silence_ends_at_the_timeout_and_is_asked_once_more(provider):
    client = provider()
    results = await run(client, texts(2), model="fault/w-hang", timeout=0.2, retry=AT_ONCE)
    assert results.predictions["error_type"].tolist() == ["TimeoutError"] * 2
    assert results.predictions["attempts"].tolist() == [2, 2]
    assert results.predictions["total_tokens"].isna().all()
    assert results.attempts["latency_s"].between(0.2, 5).all()
    assert results.attempts["http_status"].isna().all()
    late = await run(client, texts(2), model="fault/w-hang/n1", timeout=0.2, retry=AT_ONCE)
    assert late.predictions["status"].tolist() == ["ok", "ok"]


async def test_max_cost_is_never_exceeded(provider):
    client = provider(cost=True, latency_s=0.005)
    cap = 0.0008
    results = await run(client, texts(300), max_tokens=20, max_cost_usd=cap, max_concurrent=20)
    predictions, attempts = results
    spent = attempts["cost_usd"].sum()
    assert cap / 2 < spent <= cap
    assert results.stopped.startswith(f"max_cost_usd={cap:g} allows no further call")
    assert set(predictions["status"]) == {"ok", "not_run"}
    assert len(attempts) == client.counts().requests
    again = await results.rerun_failed()
    assert spent < again.attempts["cost_usd"].sum() <= spent + cap


async def test_max_cost_is_kept_where_usage_is_missing(provider):
    client = provider(cost=True, missing_usage_rate=1.0)
    results = await run(client, texts(100), max_tokens=20, max_cost_usd=0.0002)
    assert results.stopped
    billed = client.counts().unsent_tokens * 0.6e-6
    assert 0 < billed <= 0.0002
    assert results.attempts["cost_usd"].isna().all()


async def test_max_cost_large_enough_stops_nothing(provider):
    results = await run(provider(cost=True), texts(30), max_cost_usd=0.02, max_concurrent=10)
    assert results.stopped is None
    assert results.predictions["status"].eq("ok").all()


async def test_max_cost_needs_a_price(provider):
    client = provider()
    with pytest.raises(InputError, match="the price of nobody/knows is unknown"):
        await run(client, texts(3), model=[MODEL, "nobody/knows"], max_cost_usd=1.0)
    assert client.counts().requests == 0


async def test_on_stop_raise_raises_with_the_results(provider):
    with pytest.raises(ExperimentStopped, match="401") as caught:
        await run(provider(), texts(50), model="fault/s401-key/a5", on_stop="raise", max_concurrent=2)
    assert caught.value.results.predictions["status"].eq("ok").sum() >= 5
    fine = await run(provider(), texts(2), on_stop="raise")
    assert fine.stopped is None


async def test_a_bug_of_the_users_is_raised_and_the_answers_are_kept(provider):
    client = provider()

    def parse(text):
        return 1 // (int(text.split()[-2]) - 3)

    with pytest.raises(ZeroDivisionError) as caught:
        await run(client, ["w " * n for n in (1, 2, 3, 4, 5)], parse=parse, max_concurrent=1)
    results = ll.last_results()
    assert caught.value.results is results
    assert results.predictions["status"].tolist() == ["ok", "ok", "failed", "not_run", "not_run"]
    assert len(results.attempts) == client.counts().requests == 3
    assert results.attempts["total_tokens"].sum() == client.counts().total_tokens

    def prompt(unit):
        return unit["nope"]

    with pytest.raises(KeyError):
        await run(client, texts(3), prompt)
    assert ll.last_results().predictions["status"].eq("not_run").all()
    assert client.counts().requests == 3


async def test_last_results_are_those_of_the_last_experiment(provider):
    results = await run(provider(), texts(2))
    assert_frame_equal(ll.last_results().predictions, results.predictions)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"max_concurrent": 0}, "max_concurrent must be a whole number of at least 1, not 0"),
        ({"max_concurrent": 1.5}, "max_concurrent"),
        ({"max_concurrent": True}, "max_concurrent"),
        ({"timeout": 0}, "timeout must be a positive number, not 0"),
        ({"timeout": None}, "timeout"),
        ({"max_cost_usd": -1}, "max_cost_usd"),
        ({"grace_s": -1}, "grace_s"),
        ({"progress": "bar"}, "progress"),
        ({"on_stop": "panic"}, "on_stop"),
        ({"runs": 0}, "runs must be a whole number of at least 1, not 0"),
        ({"model": []}, "model"),
        ({"max_retries": 0}, "max_retries"),
        ({"requests_per_minute": 0}, "limit must be"),
        ({"requests_per_minute": -60}, "limit must be"),
        ({"requests_per_minute": "fast"}, "auto"),
        ({"tokens_per_minute": 0}, "tokens must be"),
        ({"categories": [], "parse": None}, "categories is empty"),
        ({"categories": 5}, "categories is 5"),
        ({"categories": ["a"], "parse": len}, "categories and parse are given"),
        ({"response_model": dict}, "response_model"),
        ({"client": object()}, "client= takes"),
        ({"stream": True}, "stream"),
        ({"temperature": object()}, "cannot be sent as JSON"),
    ],
)
async def test_what_cannot_work_is_refused_before_anything_is_sent(provider, wrong, said):
    client = provider()
    with pytest.raises(InputError, match=said):
        await run(client, texts(2), **wrong)
    with pytest.raises(InputError, match=r"asks for {txt}, but units have: unit_id, text"):
        await run(client, texts(2), "{txt}")
    assert client.counts().requests == 0


async def test_without_a_key_nothing_starts():
    with pytest.raises(InputError, match="OPENROUTER_API_KEY and OPENAI_API_KEY are not set"):
        await ll.run_experiment(texts(2), "{text}", model=MODEL)


# in the background


async def test_an_experiment_in_the_background_shows_what_is_answered_so_far(provider):
    experiment = ll.start_experiment(texts(60), "{text}", **settings(provider(latency_s=0.05), max_concurrent=10))
    assert experiment.predictions["status"].eq("not_run").all()
    await until(lambda: experiment.predictions["status"].eq("ok").sum() >= 10)
    early = experiment.results
    assert 10 <= len(early.attempts) < 60
    assert "running" in repr(experiment)
    results = await experiment
    assert results.predictions["status"].eq("ok").all()
    assert (await experiment) is results
    assert early.predictions["status"].eq("not_run").any()
    assert "done" in repr(experiment)
    assert_frame_equal(experiment.predictions, results.predictions)


async def test_stop_gives_partial_results_that_can_go_on(provider):
    client = provider(latency_s=0.05)
    experiment = ll.start_experiment(texts(100), "{text}", **settings(client, max_concurrent=5))
    await until(lambda: len(experiment.attempts) >= 10)
    threading.Thread(target=experiment.stop).start()
    results = await experiment
    predictions = results.predictions
    answered = predictions["status"].eq("ok").sum()
    assert 10 <= answered < 100
    assert set(predictions["status"]) == {"ok", "not_run"}
    assert len(results.attempts) == client.counts().requests == answered
    assert results.stopped.startswith(f"stopped; {100 - answered} of 100 trials are not answered")
    rest = await results.rerun_failed()
    assert rest.predictions["status"].eq("ok").all()
    assert client.counts().requests == 100


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
    first = await run(client, texts(40), max_concurrent=40)
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


async def test_cancelling_the_call_ends_the_run_and_leaves_no_task(provider):
    client = provider(latency_s=30)
    task = asyncio.create_task(run(client, texts(5)))
    await until(lambda: client.counts().requests == 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert ll.last_results().attempts["error_type"].tolist() == ["CancelledError"] * 5


def test_start_experiment_needs_a_loop(provider):
    with pytest.raises(InputError, match="in a script use run_experiment_sync"):
        ll.start_experiment(texts(1), "{text}", **settings(provider()))


# loops and threads


def test_one_provider_serves_several_runs_of_asyncio(provider):
    client = provider()
    results = [asyncio.run(run(client, texts(3))) for _ in range(3)]
    again = asyncio.run(results[0].rerun(results[0].predictions))
    assert again.predictions["attempts"].tolist() == [2, 2, 2]
    assert client.counts().requests == 12


def test_sync_works_without_a_loop_and_in_a_thread(provider):
    client = provider()
    results = [ll.run_experiment_sync(texts(3), "{text}", **settings(client))]
    thread = threading.Thread(
        target=lambda: results.append(ll.run_experiment_sync(texts(3), "{text}", **settings(client)))
    )
    thread.start()
    thread.join(30)
    assert [one.predictions["status"].tolist() for one in results] == [["ok"] * 3] * 2


def script(body):
    """Run it in a fresh interpreter; everything that a script of a user would be."""
    head = f"""
    import asyncio, sys
    sys.path.insert(0, {str(ROOT)!r})
    import llmlab as ll
    client = ll.simulate.client(latency_s=0)
    settings = dict(model="m", client=client, requests_per_minute=None, progress=False)
    """
    code = textwrap.dedent(head) + textwrap.dedent(body)
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_sync_in_a_script_applies_no_nest_asyncio():
    assert script("""
    results = ll.run_experiment_sync(["a", "b"], "{text}", **settings)
    print(*results.predictions["status"], "nest_asyncio" in sys.modules)
    """) == ["ok", "ok", "False"]


def test_sync_in_a_running_loop_applies_nest_asyncio_only_then():
    assert script("""
    async def cell():
        print("nest_asyncio" in sys.modules)
        ticks = []
        async def other():
            while True:
                ticks.append(1)
                await asyncio.sleep(0.001)
        task = asyncio.create_task(other())
        results = ll.run_experiment_sync(["a", "b"], "{text}", **settings)
        print(*results.predictions["status"], "nest_asyncio" in sys.modules, len(ticks) > 0)
        again = ll.run_experiment_sync(results.predictions, "{text}", **settings)
        print(*again.predictions["status"])
        task.cancel()
        return await ll.run_experiment(["c"], "{text}", **settings)

    print(*asyncio.run(cell()).predictions["status"])
    """) == ["False", "ok", "ok", "True", "True", "ok", "ok", "ok"]


def test_sync_in_a_loop_that_cannot_be_patched_runs_in_a_thread():
    assert script("""
    class OtherLoop(asyncio.AbstractEventLoop):
        "No BaseEventLoop, as uvloop's is none."

    asyncio._set_running_loop(OtherLoop())
    results = ll.run_experiment_sync(["a", "b"], "{text}", **settings)
    try:
        ll.run_experiment_sync(["a"], "{nope}", **settings)
    except ll.InputError:
        print("refused")
    asyncio._set_running_loop(None)
    print(*results.predictions["status"])
    """) == ["refused", "ok", "ok"]


def test_trials_are_values():
    assert Trial(0, "a", "m", 1) == Trial(0, "a", "m", 1)
