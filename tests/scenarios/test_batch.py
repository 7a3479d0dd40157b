"""batch=True from end to end: nothing is lost and nothing is paid twice, whatever the queue does and whenever one dies."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

import llmlab as ll
from llmlab.simulate import Settings, SimulatedProvider
from llmlab.simulate.service import Service

ROOT = Path(__file__).parents[2]
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
MODELS = [f"model-{at}" for at in range(10)]
# `make crashes` asks 500.
UNITS = int(os.environ.get("LLMLAB_BATCH_UNITS", "80"))

# What the provider does to the first batches; more follow as the full queue splits some of them.
FAULTS = ("missing", "doubled", "none", "errors", "expired", "failed", "gone", "cancelled", "expired", "missing")

EXPERIMENT = f"""
import sys
import llmlab as ll
results = ll.run_experiment_sync(
    [f"the parcel {{at}} is late" for at in range({UNITS})], "Which category fits?\\n\\n{{text}}", model={MODELS!r},
    categories=["bug", "delivery"], base_url=sys.argv[1], api_key="none", journal=sys.argv[2], batch=True, progress=False,
    limiter=ll.RateLimiter(None), retry=ll.RetryPolicy(wait=lambda attempt: 0.02, max_retries=5, outage_s=1.0),
)
print(results.stopped, flush=True)
"""


@dataclass
class Killer:
    """Kills the client in the middle of the requests on its list: (what is asked, how often before, before or after)."""

    due: list[tuple[str, int, str]]
    victims: list[subprocess.Popen] = field(default_factory=list)
    seen: Counter = field(default_factory=Counter)
    kills: int = 0

    def at(self, what, when):
        """A request of this kind is there; the client dies before or after it is worked on, if that is next."""
        self.seen[what] += when == "before"
        if self.victims and self.due and (what, when) == self.due[0][::2] and self.seen[what] > self.due[0][1]:
            if when == "late":
                # The client reads what it was sent, and dies while it takes that in.
                threading.Timer(0.05, self._kill).start()
                self.due.pop(0)
            else:
                self._kill()
                self.due.pop(0)

    def _kill(self):
        self.victims[-1].send_signal(signal.SIGKILL)
        self.seen.clear()
        self.kills += 1


class DeadlyService(Service):
    """Serves as usual, beside a killer."""

    def __init__(self, settings, killer):
        super().__init__(settings)
        self.killer = killer

    def decide(self, request):
        self.killer.at("chat", "before")
        return super().decide(request)

    def upload(self, *given):
        return self._watched("upload", super().upload, *given)

    def queue(self, method, path, key, raw):
        kind = "create" if method == "POST" and path == "/batches" else "content" if "content" in path else "look"
        kind = "list" if kind == "look" and path == "/batches" else kind
        return self._watched(kind, super().queue, method, path, key, raw)

    def _watched(self, kind, serve, *given):
        self.killer.at(kind, "before")
        reply = serve(*given)
        self.killer.at(kind, "after")
        self.killer.at(kind, "late")
        return reply


class DeadlyProvider(SimulatedProvider):
    def __init__(self, killer, **settings):
        self._killer = killer
        super().__init__(Settings(**settings))

    def _make_service(self):
        return DeadlyService(self.settings, self._killer)


@POSIX
def test_every_fault_and_ten_kills_lose_nothing_and_pay_no_line_twice(tmp_path):
    killer = Killer([
        ("chat", 0, "before"), ("upload", 0, "before"), ("upload", 1, "after"), ("create", 0, "before"),
        ("create", 1, "after"), ("create", 2, "after"), ("look", 4, "after"), ("content", 0, "before"),
        ("content", 0, "late"), ("content", 2, "late"),
    ])  # fmt: skip
    path = tmp_path / "study.sqlite"
    with DeadlyProvider(
        killer, latency_s=0.1, batch_s=1.0, cost=True, batch_faults=FAULTS, enqueued_tokens=36 * UNITS, malformed_rate=0.03,
        seed=3,
    ) as provider:  # fmt: skip
        for _ in range(25):
            child = subprocess.Popen(
                [sys.executable, "-c", EXPERIMENT, provider.base_url, path], cwd=ROOT, env=os.environ, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
            killer.victims.append(child)
            said, errors = child.communicate(timeout=120)
            assert child.returncode in (0, -signal.SIGKILL), errors
            if child.returncode == 0 and said.strip() == "None":
                break
        counts = provider.counts()
    assert killer.kills == 10
    results = ll.load_results(path)
    predictions, attempts = results
    assert predictions["status"].tolist() == ["ok"] * (len(MODELS) * UNITS)
    # Every line that was paid for is one attempt, and no attempt is a second line.
    queued = attempts[attempts["service_tier"] == "batch"]
    assert queued["may_be_billed"].sum() == counts.batch_lines
    assert not attempts.duplicated(["unit_id", "model", "run", "attempt"]).any()
    # Tokens and dollars of the book are the provider's.
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert attempts[name].sum() == getattr(counts, name)
    assert attempts["cost_usd"].sum() == pytest.approx(counts.cost_usd)


# in one process

TEXTS = [f"the parcel {at} is late" for at in range(40)]


async def ask(client, path, units=TEXTS, **settings):
    usual = {"model": "m", "categories": ["bug", "delivery"], "batch": True, "progress": False}
    return await ll.run_experiment(
        units, "{text}", client=client, journal=path, limiter=ll.RateLimiter(None), **(usual | settings)
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "study.sqlite"


def tiers(results):
    return results.attempts["service_tier"].value_counts().to_dict()


async def test_one_trial_of_each_model_and_prompt_is_live_and_the_rest_is_queued(simulated, path):
    client = simulated(batch_s=0.3, cost=True)
    prompts = {"short": "{text}", "long": "Which category fits?\n\n{text}"}
    results = await ll.run_experiment(
        TEXTS, prompts, model=["m", "n"], categories=["bug", "delivery"], client=client, journal=path, batch=True,
        progress=False, limiter=ll.RateLimiter(None),
    )  # fmt: skip
    predictions, attempts = results
    assert predictions["status"].eq("ok").all()
    live = attempts[attempts["service_tier"] != "batch"]
    assert sorted(zip(live["model"], live["prompt"], strict=True)) == [(m, p) for m in "mn" for p in ("long", "short")]
    assert client.counts().batch_lines == 4 * len(TEXTS) - 4
    assert attempts["total_tokens"].sum() == client.counts().total_tokens
    assert attempts["cost_usd"].sum() == pytest.approx(client.counts().cost_usd)
    queued = attempts[attempts["service_tier"] == "batch"]
    assert (queued[["queue_s", "wait_s"]] == 0).all(axis=None)
    assert queued["latency_s"].between(0, 30).all()
    loaded = ll.load_results(path)
    assert loaded.predictions.equals(predictions)
    assert loaded.attempts.equals(attempts)


@pytest.mark.parametrize(("batch", "tier"), [(True, "default"), ("again", "batch")])
async def test_what_the_queue_left_is_asked_again_as_the_user_says(simulated, path, batch, tier):
    client = simulated(batch_s=0.2, batch_faults=("missing",))
    results = await ask(client, path, batch=batch)
    assert results.predictions["status"].eq("ok").all()
    again = results.attempts[results.attempts["attempt"] == 2]
    assert again["service_tier"].tolist() == [tier] * 4
    first = results.attempts[results.attempts["error_type"] == "BadResponseError"]
    assert first["may_be_billed"].all()
    assert first["total_tokens"].isna().all()


async def until(condition):
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never happened")


async def test_stop_leaves_the_batch_running_and_the_same_cell_reads_it_later(simulated, path):
    client = simulated(batch_s=2.0)
    settings = {"model": "m", "categories": ["bug", "delivery"], "batch": True, "progress": False, "client": client,
                "journal": path, "limiter": ll.RateLimiter(None)}  # fmt: skip
    experiment = ll.start_experiment(TEXTS, "{text}", **settings)
    await until(lambda: experiment._run.tally.batches)
    experiment.stop()
    results = await experiment
    assert "the batch goes on at the provider: the same cell reads it later, and cancel_batch() of" in results.stopped
    assert results.predictions["status"].value_counts().to_dict() == {"not_run": 39, "ok": 1}
    again = await ll.run_experiment(TEXTS, "{text}", **settings)
    assert again.predictions["status"].eq("ok").all()
    assert (client.counts().requests, client.counts().batch_lines) == (1, 39)


async def test_what_was_stopped_can_also_go_on_by_asking_what_failed(simulated, path):
    client = simulated(batch_s=2.0)
    experiment = ll.start_experiment(
        TEXTS, "{text}", model="m", client=client, journal=path, batch=True, progress=False
    )
    await until(lambda: experiment._run.tally.batches)
    experiment.stop()
    results = await (await experiment).rerun_failed()
    assert results.predictions["status"].eq("ok").all()
    assert (client.counts().requests, client.counts().batch_lines) == (1, 39)


async def test_without_batch_what_is_in_the_queue_is_not_paid_a_second_time(simulated, path):
    client = simulated(batch_s=2.0)
    experiment = ll.start_experiment(
        TEXTS, "{text}", model="m", client=client, journal=path, batch=True, progress=False
    )
    await until(lambda: experiment._run.tally.batches)
    experiment.stop()
    await experiment
    with pytest.raises(ll.JournalError, match=r"39 trials are in the provider's batch queue.*batch=True"):
        await ll.run_experiment(TEXTS, "{text}", model="m", client=client, journal=path, progress=False)
    assert client.counts().requests == 1


async def test_a_batch_can_be_cancelled_and_what_is_done_is_kept(simulated, path):
    client = simulated(batch_s=6.0)
    settings = {"model": "m", "categories": ["bug", "delivery"], "batch": True, "progress": False, "client": client,
                "journal": path, "limiter": ll.RateLimiter(None)}  # fmt: skip
    experiment = ll.start_experiment(TEXTS, "{text}", **settings)
    await until(lambda: any(batch.done for batch in experiment._run.tally.batches))
    await experiment.cancel_batch()
    results = await experiment
    assert results.stopped.startswith("the batch was cancelled; ")
    done = results.predictions["status"].eq("ok").sum()
    assert 1 < done < 40
    assert results.predictions["status"].value_counts()["not_run"] == 40 - done
    again = await ll.run_experiment(TEXTS, "{text}", **settings)
    assert again.predictions["status"].eq("ok").all()
    assert again.attempts["total_tokens"].sum() == client.counts().total_tokens


async def test_only_batches_can_be_cancelled(simulated):
    experiment = ll.start_experiment(["a"], "{text}", model="m", client=simulated(), progress=False)
    with pytest.raises(ll.InputError, match="There is no batch to cancel"):
        await experiment.cancel_batch()
    await experiment


async def test_the_cap_is_kept_before_a_batch_is_submitted(simulated, path):
    client = simulated(batch_s=0.2)
    results = await ask(client, path, model="gpt-4o-mini", max_tokens=20, max_cost_usd=0.0001)
    assert "max_cost_usd=0.0001" in results.stopped
    spent = results.attempts["cost_usd"].sum()
    assert 0 < client.counts().batch_lines < 39
    assert spent <= 0.0001
    assert spent == pytest.approx(client.counts().cost_usd)


async def test_without_a_journal_it_is_refused_with_the_reason(simulated):
    with pytest.raises(ll.InputError, match="batch=True needs a journal, as in journal="):
        await ll.run_experiment(TEXTS, "{text}", model="m", client=simulated(), batch=True)


async def test_two_tiers_at_once_are_refused(simulated, path):
    with pytest.raises(ll.InputError, match=r"a tier of its own: leave out service_tier='flex'"):
        await ask(simulated(), path, service_tier="flex")


async def test_a_pilot_does_not_ask_what_is_in_the_queue(simulated, path):
    client = simulated(batch_s=2.0)
    experiment = ll.start_experiment(
        TEXTS, "{text}", model="m", client=client, journal=path, batch=True, progress=False
    )
    await until(lambda: experiment._run.tally.batches)
    experiment.stop()
    await experiment
    with pytest.raises(ll.JournalError, match="are in the provider's batch queue"):
        await ll.estimate(TEXTS, "{text}", model="m", client=client, journal=path, batch=True, progress=False, pilot=5)


async def test_an_endpoint_without_a_queue_names_the_live_way_and_asks_nothing(recorder, path):
    results = await ll.run_experiment(
        TEXTS, "{text}", model="m", base_url=recorder.url, api_key="none", batch=True, journal=path, progress=False
    )
    assert "has no batch queue" in results.stopped
    assert "leave out batch= to ask it live" in results.stopped
    assert recorder.requests == []


async def test_nothing_is_submitted_for_a_prompt_that_fails_live(simulated, path):
    client = simulated(batch_s=0.2)
    results = await ask(client, path, model=["m", "fault/empty", "fault/too_long"])
    assert client.counts().batch_lines == 39
    status = results.predictions.groupby("model")["status"].value_counts()
    assert status["m", "ok"] == 40
    assert (status["fault/empty", "failed"], status["fault/empty", "not_run"]) == (3, 37)
    assert "none of the first 3 trials of fault/empty was answered; the others were not submitted" in results.stopped
    # That texts are too long says nothing of the next one; but twenty in a row do.
    assert (status["fault/too_long", "failed"], status["fault/too_long", "not_run"]) == (20, 20)


async def test_first_rows_with_nothing_to_ask_do_not_keep_the_others_from_the_queue(simulated, path):
    client = simulated(batch_s=0.2)
    results = await ask(client, path, [" "] * 5 + TEXTS)
    assert results.predictions["status"].value_counts().to_dict() == {"ok": 40, "failed": 5}
    assert (client.counts().requests, client.counts().batch_lines) == (1, 39)


async def test_a_blank_unit_fails_and_a_bug_in_the_prompt_is_raised_with_the_answers(simulated, path):
    client = simulated(batch_s=0.2)
    results = await ask(client, path, [*TEXTS, " "])
    assert results.predictions["status"].value_counts().to_dict() == {"ok": 40, "failed": 1}

    def prompt(unit):
        return unit["text"] if unit["unit_id"] < 20 else 1 / 0

    with pytest.raises(ZeroDivisionError) as caught:
        await ll.run_experiment(
            TEXTS, prompt, model="n", client=client, journal=path, batch=True, progress=False,
        )  # fmt: skip
    assert caught.value.results.predictions["status"].value_counts().to_dict() == {"not_run": 39, "ok": 1}


async def test_a_batch_of_another_key_is_not_taken_for_gone(simulated, path):
    client = simulated(batch_s=5.0)
    given = {"model": "m", "base_url": client.base_url, "batch": True, "journal": path, "progress": False,
             "limiter": ll.RateLimiter(None)}  # fmt: skip
    experiment = ll.start_experiment(TEXTS, "{text}", api_key="sk-first-0123456789", **given)
    await until(lambda: experiment._run.tally.batches)
    experiment.stop()
    await experiment
    results = await ll.run_experiment(TEXTS, "{text}", api_key="sk-second-0123456789", **given)
    assert "39 trials were submitted as a batch with another key" in results.stopped
    assert client.counts().requests == 1
    assert b"sk-first" not in path.read_bytes()
