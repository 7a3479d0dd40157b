"""A bug in the user's own code is raised with the answers so far; a view that fails costs nothing."""

import asyncio
import os
import sys
import threading

import pandas as pd
import pytest

import llmlab as ll
from llmlab.errors import InputError
from tests.provider.asking import statuses, texts


def prompts_that_fail_at(unit_ids):
    def prompt(unit):
        if unit["unit_id"] in unit_ids:
            raise LookupError(f"no template for {unit['unit_id']}")
        return f"Classify: {unit['text']}"

    return prompt


@pytest.mark.parametrize("where", ["prompt", "parse", "wait", "ids"])
async def test_a_bug_of_the_users_is_raised_with_the_answers_and_loses_none(provider, tmp_path, where):
    simulated = provider(error_rate=0.5 if where == "wait" else 0, seed=1)
    prompt, settings = "{text}", {"parse": str.strip}
    if where == "prompt":
        prompt = prompts_that_fail_at({7})
    elif where == "parse":
        settings = {"parse": lambda text: text.missing}
    elif where == "ids":
        prompt = lambda unit: 42  # noqa: E731
    if where == "wait":
        settings["retry"] = ll.RetryPolicy(wait=lambda attempt: 1 / 0)
    path = tmp_path / "journal.sqlite"
    with pytest.raises((LookupError, AttributeError, ZeroDivisionError, InputError)) as caught:
        await ll.run_experiment(
            texts(20), prompt, model="m", client=simulated, limiter=ll.RateLimiter(None), max_concurrent=3,
            progress=False, journal=path, **settings,
        )  # fmt: skip
    assert caught.value.__notes__ == ["The answers so far: llmlab.last_results()"]
    results = caught.value.results
    assert results is ll.last_results()
    assert "an error in your code" in results.stopped
    # Every request is an attempt, in memory and in the file, also the one over which the code fell.
    assert simulated.counts().requests == len(results.attempts)
    assert simulated.counts().total_tokens == results.attempts["total_tokens"].sum()
    pd.testing.assert_frame_equal(ll.load_results(path).attempts, results.attempts)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert not [thread for thread in threading.enumerate() if thread.name == "llmlab-journal"]


async def test_progress_on_a_stream_that_is_closed_costs_nothing(provider, monkeypatch):
    with open(os.devnull, "w") as gone:
        monkeypatch.setattr(sys, "stderr", gone)
        gone.close()
        results = await ll.run_experiment(
            texts(10), "{text}", model="m", client=provider(), progress="text", limiter=ll.RateLimiter(None)
        )
    assert statuses(results) == {"ok": 10}
