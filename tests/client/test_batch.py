"""The batch queue through the openai package: create, find again, look, read, cancel; failures say what they mean."""

import asyncio

import pytest

from llmlab import errors
from llmlab.client import resolve
from llmlab.client.batch import BatchClient, Problem
from llmlab.client.batch_lines import read_lines, write_line

KEY = "sk-5ecre7-5ecre7-5ecre7"


@pytest.fixture
async def queue(provider):
    """A batch queue at a provider with these settings."""
    opened = []

    def at(url=None, **settings):
        url = url or provider(**{"batch_s": 0.1, **settings}).base_url
        opened.append(BatchClient(resolve(url, KEY)))
        return opened[-1]

    yield at
    for one in opened:
        await one.close()


def file(count=3):
    body = {"model": "m", "messages": [{"role": "user", "content": "the app crashes"}]}
    return b"".join(write_line(str(at), body) for at in range(count))


async def ended(queue, state):
    while not state.ended:
        await asyncio.sleep(0.02)
        state = await queue.look(state.batch_id)
    return state


async def test_a_batch_is_created_looked_at_and_read(queue):
    one = queue()
    state = await one.create(await one.upload(file()), "n1")
    assert (state.status, state.nonce, state.ended) == ("validating", "n1", False)
    assert state.expires_at - state.created_at == 86_400
    state = await ended(one, state)
    assert (state.status, state.total, state.done, state.failed, state.problems) == ("completed", 3, 3, 0, ())
    assert state.ended_at >= state.created_at
    replies = dict(read_lines(await one.read(state.output_file_id)))
    assert sorted(replies) == ["0", "1", "2"]
    assert all(reply.content for reply in replies.values())
    assert await one.read("file-unknown") == b""
    assert (await one.look("batch_unknown")).status == "gone"


async def test_batches_are_found_again_by_their_nonce(queue):
    one = queue()
    for nonce in ("n1", "n2", "n3"):
        await one.create(await one.upload(file()), nonce)
    found = await one.find({"n1", "n3", "never"})
    assert {nonce: state.nonce for nonce, state in found.items()} == {"n1": "n1", "n3": "n3"}


async def test_a_batch_that_failed_says_why(queue):
    one = queue(batch_lines=2)
    state = await ended(one, await one.create(await one.upload(file()), "n"))
    assert state.status == "failed"
    assert state.problems == (Problem("too_many_tasks", "The batch file has more than 2 requests.", None),)


async def test_a_batch_can_be_cancelled(queue):
    one = queue(batch_s=5)
    state = await one.create(await one.upload(file()), "n")
    assert (await one.cancel(state.batch_id)).status == "cancelling"
    assert (await ended(one, state)).status == "cancelled"


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("s401-key", errors.AuthenticationError),
        ("s503-html", errors.OverloadedError),
        ("w-reset", errors.ConnectionError),
        ("r429-after", errors.RateLimitError),
        ("b-html", errors.TransientError),
    ],
)
async def test_a_failure_is_an_error_of_the_house(queue, fault, kind):
    one = queue(fault=fault)
    calls = [
        lambda: one.upload(file()),
        lambda: one.look("batch_1"),
        lambda: one.find({"n"}),
        lambda: one.create("f", "n"),
    ]
    for call in calls if fault == "b-html" else [*calls, lambda: one.read("file-1")]:
        with pytest.raises(kind) as caught:
            await call()
        assert KEY not in f"{caught.value}{caught.value.__cause__}"


async def test_an_endpoint_without_a_queue_is_named_with_the_way_out(queue, provider):
    await queue().check()
    one = queue(f"{provider().base_url}/nowhere")
    with pytest.raises(errors.ConfigError, match=r"has no batch queue \(at /batches: 404: .*\): leave out batch="):
        await one.check()


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        ("b-html", errors.ConfigError, "has no batch queue"),
        ("s403-region", errors.ConfigError, "has no batch queue"),
        ("s501", errors.ConfigError, "has no batch queue"),
        ("s401-key", errors.AuthenticationError, "401"),
        ("s503-html", errors.OverloadedError, "503"),
        ("r429-after", errors.RateLimitError, "429"),
        ("w-reset", errors.ConnectionError, "broke"),
    ],
)
async def test_what_passes_and_a_bad_key_say_nothing_of_the_queue(queue, fault, kind, words):
    with pytest.raises(kind, match=words):
        await queue(fault=fault).check()
