"""What a user types: every way to start an experiment, to wait for it, and to get at its results."""

import asyncio
import gc
import inspect
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from pandas.testing import assert_frame_equal

import llmlab as ll
from llmlab.errors import ExperimentStopped, InputError
from tests.helpers import ask, settings, texts, until

ROOT = Path(__file__).parent.parent


# signatures


@pytest.mark.parametrize(
    ("entry", "gives", "more"),
    [
        (ll.start_experiment, "Experiment", []),
        (ll.run_experiment_sync, "Results", []),
        (ll.estimate, "Pending[Estimate]", ["pilot"]),
    ],
)
def test_every_entry_shows_the_parameters_and_defaults_of_run_experiment(entry, gives, more):
    shown, real = inspect.signature(entry), inspect.signature(ll.run_experiment)
    assert [name for name in shown.parameters if name not in real.parameters] == more
    assert all(shown.parameters[name] == one for name, one in real.parameters.items())
    assert repr(shown.return_annotation) == gives


def test_the_parameters_of_run_experiment_are_the_fields_of_a_setup():
    pending = ll.run_experiment(["a"], "{text}", model="m", api_key="k" * 20, base_url="http://127.0.0.1:9/v1")
    assert set(inspect.signature(ll.run_experiment).parameters) == set(pending.setup.__dataclass_fields__)


# awaiting


async def test_nothing_is_sent_before_it_is_awaited_and_the_repr_says_so(provider):
    client = provider()
    pending = ll.run_experiment(texts(3), "{text}", **settings(client))
    assert "results = await run_experiment(...)" in repr(pending)
    await asyncio.sleep(0.02)
    assert client.counts().requests == 0
    results = await pending
    assert client.counts().requests == len(results.attempts) == 3


async def test_it_can_be_awaited_in_every_way_a_coroutine_can(provider):
    def pending():
        return ll.run_experiment(texts(2), "{text}", **settings(client))

    client = provider()
    done = [
        await asyncio.create_task(pending()),
        await asyncio.wait_for(pending(), 20),
        *await asyncio.gather(pending(), pending()),
        await asyncio.to_thread(asyncio.run, pending()),
    ]
    assert [one.predictions["status"].tolist() for one in done] == [["ok", "ok"]] * 5
    never = pending()
    never.close()
    assert client.counts().requests == 10


def test_what_cannot_work_is_said_when_it_is_called_not_when_it_is_awaited():
    with pytest.raises(InputError, match="model"):
        ll.run_experiment(texts(2), "{text}", model=[])


# early ends


async def test_on_stop_raise_raises_with_the_results(provider):
    with pytest.raises(ExperimentStopped, match="401") as caught:
        await ask(provider(), texts(50), model="fault/s401-key/a5", on_stop="raise", max_concurrent=2)
    assert caught.value.results.predictions["status"].eq("ok").sum() >= 5
    fine = await ask(provider(), texts(2), on_stop="raise")
    assert fine.stopped is None


async def test_a_bug_of_the_users_is_raised_and_the_answers_are_kept(provider):
    client = provider()

    def parse(text):
        return 1 // (int(text.split()[-2]) - 3)

    with pytest.raises(ZeroDivisionError) as caught:
        await ask(client, ["w " * n for n in (1, 2, 3, 4, 5)], parse=parse, max_concurrent=1)
    results = ll.last_results()
    assert caught.value.results is results
    assert results.predictions["status"].tolist() == ["ok", "ok", "failed", "not_run", "not_run"]
    assert len(results.attempts) == client.counts().requests == 3
    assert results.attempts["total_tokens"].sum() == client.counts().total_tokens

    def prompt(unit):
        return unit["nope"]

    with pytest.raises(KeyError):
        await ask(client, texts(3), prompt)
    assert ll.last_results().predictions["status"].eq("not_run").all()
    assert client.counts().requests == 3


async def test_last_results_are_those_of_the_last_experiment(provider):
    results = await ask(provider(), texts(2))
    assert_frame_equal(ll.last_results().predictions, results.predictions)


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


async def test_half_results_say_that_it_still_runs_and_are_not_asked_again(provider):
    client = provider(latency_s=0.02)
    experiment = ll.start_experiment(texts(60), "{text}", **settings(client, max_concurrent=5))
    await until(lambda: len(experiment.attempts) >= 5)
    half = experiment.results
    assert half.running
    for shown in (repr(half), half._repr_html_()):
        assert "it is still running: results = await experiment" in shown
        assert "rerun_failed" not in shown
    with pytest.raises(InputError, match="still running when these results were taken"):
        await half.rerun_failed()
    results = await experiment
    # Also later: what was missing then has been answered since.
    with pytest.raises(InputError, match="results = await experiment"):
        await half.rerun(half.predictions)
    assert not results.running
    assert client.counts().requests == 60


async def test_a_client_written_into_the_call_lives_as_long_as_experiment_and_results():
    def simulated():
        return ll.simulate.client(latency_s=0.01)

    experiment = ll.start_experiment(texts(20), "{text}", **settings(simulated(), max_concurrent=2))
    gc.collect()
    first = await experiment
    del experiment
    gc.collect()
    again = await first.rerun(first.predictions.head(3))
    assert again.attempts["status"].eq("ok").all()
    assert len(again.attempts) == 23


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


async def test_cancelling_the_call_ends_the_run_and_leaves_no_task(provider):
    client = provider(latency_s=30)
    task = asyncio.create_task(ask(client, texts(5)))
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
    results = [asyncio.run(ask(client, texts(3))) for _ in range(3)]
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
