"""An experiment on a real dask cluster of two processes is the one that a single process would have made."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import os
import signal
import threading
import urllib.error
import urllib.request
from collections import Counter
from typing import Literal

import distributed
import openai
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from pydantic import BaseModel

import llmlab as ll
from tests.helpers import said, serving, texts, until

KEY = "sk-local-0123456789"
# What differs between any two runs of one experiment.
OF_THE_CLOCK = ["started_at", "queue_s", "wait_s", "latency_s", "throttled", "finished_at", "request_id"]


@pytest.fixture(scope="module")
def cluster():
    with quiet(), distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def workers(cluster):
    """A client of the cluster, whose two workers have done something."""
    with distributed.Client(cluster, set_as_default=False) as client:
        client.run(lambda: __import__("openai"))
        yield client


@pytest.fixture(autouse=True)
def shared(tmp_path):
    ll.share_limits(tmp_path / "limits.sqlite")
    yield
    ll.share_limits(False)


@pytest.fixture(autouse=True)
def there_too(workers):
    """The workers forget where the limits of the last test were."""
    yield
    workers.run(ll.share_limits, False)


@contextlib.contextmanager
def quiet():
    """Dask says on its loggers what happens to workers that are killed."""
    logger = logging.getLogger("distributed")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)


def question(body):
    return body["messages"][-1]["content"]


def odd_ones(asked: Counter):
    """A server that fails now and then, always at the same trials."""

    def reply(body):
        trial = question(body), body["model"], body["seed"]
        asked[trial] += 1
        number = int(trial[0].split()[2])
        if number % 5 == 1 and asked[trial] == 1:
            return 500, {"error": {"message": "no capacity"}}
        if number % 7 == 2 and asked[trial] <= 2:
            return said("neither")
        if number % 11 == 3:
            return 400, {"error": {"message": "too long", "code": "context_length_exceeded"}}
        return said("odd" if number % 2 else "even")

    return reply


async def test_frames_are_those_of_one_process(workers):
    units = pd.DataFrame({"text": texts(60), "gold": ["even", "odd"] * 30, "other": range(60)})
    units.loc[7, "text"] = " "
    policy = ll.RetryPolicy(wait=lambda attempt: 0.01)
    asked = {"prompt": "{text}", "categories": ["even", "odd"], "runs": 2, "seed": 1, "retry": policy}
    frames = []
    for cluster in (None, workers):
        async with serving(odd_ones(Counter())) as settings:
            settings |= {"model": ["large", "small"]}
            frames.append(await ll.run_experiment(units, **asked, **settings, cluster=cluster))
    alone, together = frames
    assert_frame_equal(
        together.predictions.drop(columns=OF_THE_CLOCK, errors="ignore"),
        alone.predictions.drop(columns=OF_THE_CLOCK, errors="ignore"),
    )
    assert together.predictions["status"].value_counts().to_dict() == {"ok": 212, "failed": 28}
    assert len(together.attempts) == len(alone.attempts)
    counted = ["unit_id", "model", "run", "attempt", "status", "error_type"]
    assert_frame_equal(together.attempts[counted].tail(20), alone.attempts[counted].tail(20))
    assert together.stopped is None


def made_in_a_cell():
    """A class that no worker can import."""

    class Verdict(BaseModel):
        label: Literal["even", "odd"]
        number: int

    return Verdict


async def test_functions_and_models_travel(workers):
    verdict = made_in_a_cell()
    prefix = "text number"

    def prompt(unit):
        return f"{prefix} {unit['n']}"

    def reply(body):
        number = int(question(body).split()[2])
        return said(json.dumps({"label": "odd" if number % 2 else "even", "number": number}))

    units = pd.DataFrame({"n": range(40)})
    async with serving(reply) as settings:
        results = await ll.run_experiment(units, prompt, **settings, response_model=verdict, cluster=workers)
        pids = await ll.run_experiment(units, prompt, **settings, parse=lambda text: os.getpid(), cluster=workers)
    assert all(isinstance(one, verdict) for one in results.predictions["prediction"])
    assert results.predictions["number"].tolist() == list(range(40))
    # Both took part, and neither is this process.
    assert len(set(pids.predictions["prediction"]) - {os.getpid()}) == 2


async def test_a_worker_that_is_killed_loses_nothing_that_was_answered_and_its_successor_takes_part(workers):
    asked, latency_s = Counter(), 0.05

    async def reply(body):
        asked[question(body)] += 1
        await asyncio.sleep(latency_s)
        return said("fine")

    def pids():
        return set(experiment.predictions["prediction"].dropna())

    async with serving(reply) as settings:
        experiment = ll.start_experiment(
            texts(1500), "{text}", **settings, parse=lambda text: os.getpid(), max_concurrent=40, cluster=workers
        )
        await until(lambda: asked.total() > 300)
        answered = set(experiment.predictions.query("status == 'ok'")["text"])
        before = set(workers.run(os.getpid).values())
        with quiet():
            os.kill(min(before), signal.SIGKILL)
            latency_s = 0.5
            while not pids() - before:
                await asyncio.sleep(0.1)
            latency_s = 0.0
            results = await experiment
    assert results.predictions["status"].eq("ok").all()
    assert results.attempts["status"].eq("ok").sum() == 1500
    again = {text for text, times in asked.items() if times > 1}
    # What 20 places ask in 50 ms each between two reports, and what was under way.
    unheard = 200
    assert len(again) <= unheard
    assert not again & answered
    # What was in flight there stands in the frame, as something that may have been billed.
    lost = results.attempts.query("status != 'ok'")
    assert set(lost["error_type"]) <= {"CancelledError"}
    assert lost["may_be_billed"].all()
    assert lost["total_tokens"].isna().all()
    assert -len(lost) <= asked.total() - len(results.attempts) <= unheard


async def test_the_journal_is_kept_here(workers, tmp_path):
    asked = Counter()

    def reply(body):
        asked[question(body)] += 1
        return said("fine")

    path = tmp_path / "book.sqlite"
    async with serving(reply) as settings:
        for count in (30, 50):
            results = await ll.run_experiment(texts(count), "{text}", **settings, journal=path, cluster=workers)
    assert asked == Counter(texts(50))
    assert results.predictions["status"].eq("ok").all()
    kept = ll.load_results(path)
    assert_frame_equal(kept.predictions, results.predictions)
    assert kept.messages(49) == results.messages(49)


async def test_the_key_is_in_no_log_no_task_and_on_no_dashboard(workers, cluster, caplog):
    seen = []
    with caplog.at_level(logging.DEBUG):
        async with serving(lambda body: said("fine")) as settings:
            experiment = ll.start_experiment(texts(2000), "{text}", **settings, cluster=workers)
            await until(lambda: len(experiment.attempts) > 20)
            seen.append(await asyncio.to_thread(all_that_dask_shows, workers, cluster))
            await experiment
    seen += [await asyncio.to_thread(all_that_dask_shows, workers, cluster), caplog.text, repr(experiment)]
    assert "llmlab-" in seen[0]
    for text in seen:
        assert KEY not in text
        assert "0123456789" not in text
        assert "text number" not in text


def all_that_dask_shows(client, cluster) -> str:
    """Logs, events, tasks with what they were called with, and the pages of scheduler and workers."""

    def on_scheduler(dask_scheduler):
        tasks = {repr(key): (repr(task), repr(task.run_spec)) for key, task in dask_scheduler.tasks.items()}
        return repr(tasks), repr(dask_scheduler.identity()), repr(dask_scheduler.extensions)

    def on_worker(dask_worker):
        return repr(dask_worker.state.tasks), repr(dask_worker.state.actors), repr(dask_worker.state.log)

    shown = [client.get_scheduler_logs(), client.get_worker_logs(), client.get_events(), client.scheduler_info()]
    shown += [client.run_on_scheduler(on_scheduler), client.run(on_worker)]
    shown += [client.story(task) for task in client.run_on_scheduler(lambda dask_scheduler: list(dask_scheduler.tasks))]
    state = io.StringIO()
    keys = client.run_on_scheduler(lambda dask_scheduler: [str(key) for key in dask_scheduler.tasks])
    base = cluster.dashboard_link.removesuffix("/status")
    pages = ["json/index.html", "json/counts.json", "json/identity.json", "info/main/workers.html", "metrics", "status"]
    pages += [f"info/task/{key}.html" for key in keys]
    for page in pages:
        with contextlib.suppress(urllib.error.HTTPError), urllib.request.urlopen(f"{base}/{page}", timeout=5) as answer:
            state.write(answer.read().decode("utf-8", "replace"))
    return "\n".join(map(repr, shown)) + state.getvalue()


async def test_a_stop_ends_it_with_what_is_answered(workers):
    async def reply(body):
        await asyncio.sleep(0.02)
        return said("fine")

    async with serving(reply) as settings:
        experiment = ll.start_experiment(texts(5000), "{text}", **settings, cluster=workers)
        await until(lambda: (experiment.predictions["status"] == "ok").sum() > 100)
        experiment.stop()
        results = await experiment
    answered = results.predictions["status"].eq("ok").sum()
    assert 100 < answered < 5000
    assert results.stopped == f"stopped; {5000 - answered:,} of 5,000 trials are not answered"
    assert results is ll.last_results()


async def test_the_cap_holds_for_all_workers_together(workers):
    asked = []

    async def reply(body):
        asked.append(body)
        await asyncio.sleep(0.02)
        return said("fine")

    async with serving(reply) as settings:
        results = await ll.run_experiment(
            [f"{text} and so on {'and on ' * 30}" for text in texts(400)], "{text}", **settings, cluster=workers, max_tokens=6, max_cost_usd=2.0,
            prices={"m": (1000.0, 1000.0)},
        )  # fmt: skip
    assert results.stopped.startswith("max_cost_usd=2 allows no further call")
    assert 1.7 < results.attempts["cost_usd"].sum() <= 2.0
    assert len(asked) == len(results.attempts)


async def test_a_model_that_is_missing_ends_alone_and_the_form_is_found_once(workers):
    forms = Counter()

    def reply(body):
        if body["model"] == "gone":
            return 404, {"error": {"message": "no such model", "code": "model_not_found"}}
        form = body.get("response_format", {}).get("type", "text")
        forms[form] += 1
        if form == "json_schema":
            return 400, {"error": {"message": "response_format json_schema is not supported"}}
        return said('{"label": "bug"}')

    async with serving(reply) as settings:
        settings |= {"model": ["gone", "m"]}
        results = await ll.run_experiment(
            texts(500), "{text}", **settings, categories=["bug", "other"], cluster=workers, max_concurrent=20
        )
    status = results.predictions.groupby("model")["status"].value_counts().to_dict()
    assert status["m", "ok"] == 500
    assert status["gone", "not_run"] > 400
    assert "gone" in results.stopped
    assert forms["json_schema"] <= 100
    assert forms["json_object"] == 500


async def test_an_error_in_the_users_code_is_raised_with_the_answers_so_far(workers):
    def parse(text):
        if text == "fatal":
            raise ZeroDivisionError("in parse")
        return text

    async with serving(lambda body: said("fatal" if question(body).endswith("99") else "fine")) as settings:
        with pytest.raises(ZeroDivisionError, match="in parse") as raised:
            await ll.run_experiment(texts(300), "{text}", **settings, parse=parse, cluster=workers)
    assert "On a worker of the cluster" in raised.value.__notes__[0]
    assert ll.last_results().predictions["status"].eq("ok").any()


async def test_together_they_have_no_more_in_flight_than_allowed(workers):
    flying, most = 0, 0

    async def reply(body):
        nonlocal flying, most
        flying += 1
        most = max(most, flying)
        await asyncio.sleep(0.02)
        flying -= 1
        return said("fine")

    async with serving(reply) as settings:
        results = await ll.run_experiment(texts(200), "{text}", **settings, cluster=workers, max_concurrent=7)
    assert results.predictions["status"].eq("ok").all()
    assert most <= 7


async def test_a_client_that_is_closed_ends_it_with_what_is_answered(cluster, workers):
    async def reply(body):
        await asyncio.sleep(0.02)
        return said("fine")

    client = await asyncio.to_thread(distributed.Client, cluster, set_as_default=False)
    async with serving(reply) as settings:
        experiment = ll.start_experiment(texts(5000), "{text}", **settings, cluster=client)
        await until(lambda: (experiment.predictions["status"] == "ok").sum() > 100)
        with quiet():
            await asyncio.to_thread(client.close)
            results = await experiment
    assert results.stopped.startswith("the scheduler of the cluster cannot be reached: ClientClosed")
    assert results.predictions["status"].eq("ok").sum() > 100
    assert results is ll.last_results()


def test_what_cannot_work_is_said_before_anything_is_sent(workers):
    def ask(**more):
        settings = {"model": "m", "api_key": KEY, "base_url": "http://127.0.0.1:9/v1", "progress": False}
        return ll.run_experiment_sync(["a"], "{text}", **settings | {"cluster": workers} | more)

    lock = threading.Lock()
    with pytest.raises(ll.InputError, match="parse cannot travel to the workers"):
        ask(parse=lambda text: lock and text)
    with pytest.raises(ll.InputError, match="cannot travel"):
        ask(client=openai.AsyncOpenAI(api_key=KEY), api_key=None, base_url=None)
    with pytest.raises(ll.InputError, match="a limiter needs a name"):
        ask(limiter=ll.RateLimiter(10))
    with pytest.raises(ll.InputError, match=r"takes a dask.distributed.Client, not 'tcp://"):
        ask(cluster="tcp://127.0.0.1:8786")
    ll.share_limits(False)
    with pytest.raises(ll.InputError, match=r"ll.share_limits\(\) before"):
        ask()
