"""The simulated batch queue: files in, a scaled clock, files out, and everything that goes wrong with batches."""

import asyncio
import json

import openai
import pytest

from tests.helpers import messages

COUNT = 40


def lines(count=COUNT, model="m", **more):
    """Requests as JSON lines."""
    rows = [
        {
            "custom_id": f"line {at}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": model, "messages": messages(f"The parcel {at} is late"), **more},
        }
        for at in range(count)
    ]
    return "\n".join(json.dumps(row) for row in rows).encode()


@pytest.fixture
async def asked(simulated):
    """A provider with these settings and a client of the SDK at it."""
    clients = []

    def start(**settings):
        provider = simulated(**{"batch_s": 0.2, **settings})
        clients.append(openai.AsyncOpenAI(base_url=provider.base_url, api_key="k", max_retries=0))
        return provider, clients[-1]

    yield start
    for client in clients:
        await client.close()


async def submit(client, content, **more):
    file = await client.files.create(file=("lines.jsonl", content), purpose="batch")
    return await client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", **more
    )


async def ended(client, batch):
    while batch.status not in ("completed", "failed", "expired", "cancelled"):
        await asyncio.sleep(0.02)
        batch = await client.batches.retrieve(batch.id)
    return batch


async def read(client, file_id):
    """The rows of a file; none if there is no file."""
    text = (await client.files.content(file_id)).text if file_id else ""
    return [json.loads(row) for row in text.splitlines()]


async def both(client, batch):
    return await read(client, batch.output_file_id), await read(client, batch.error_file_id)


async def test_every_line_is_answered_once_in_any_order_at_half_the_price(asked):
    provider, client = asked(cost=True)
    batch = await submit(client, lines(), metadata={"nonce": "abc"})
    assert (batch.status, batch.metadata, batch.expires_at - batch.created_at) == (
        "validating",
        {"nonce": "abc"},
        86_400,
    )
    batch = await ended(client, batch)
    output, errors = await both(client, batch)
    assert (batch.status, batch.request_counts.completed, errors) == ("completed", COUNT, [])
    assert sorted(row["custom_id"] for row in output) == sorted(f"line {at}" for at in range(COUNT))
    assert [row["custom_id"] for row in output] != [f"line {at}" for at in range(COUNT)]
    bodies = [row["response"]["body"] for row in output]
    counts = provider.counts()
    assert (counts.batch_lines, counts.requests) == (COUNT, 0)
    assert counts.total_tokens == sum(body["usage"]["total_tokens"] for body in bodies)
    assert counts.cost_usd == pytest.approx(sum(body["usage"]["cost"] for body in bodies))
    live = await client.chat.completions.create(model="m", messages=messages("The parcel 0 is late"))
    flex = await client.chat.completions.create(
        model="m", messages=messages("The parcel 0 is late"), service_tier="flex"
    )
    assert flex.service_tier == "flex"
    assert live.usage.cost == 2 * flex.usage.cost == 2 * bodies[0]["usage"]["cost"]


async def test_it_goes_through_the_states_of_a_real_batch(asked):
    _, client = asked(batch_s=0.5)
    batch = await submit(client, lines())
    seen = [batch.status]
    done = [0]
    while seen[-1] != "completed":
        await asyncio.sleep(0.01)
        batch = await client.batches.retrieve(batch.id)
        seen += [batch.status] if batch.status != seen[-1] else []
        done.append(batch.request_counts.completed)
    assert seen == ["validating", "in_progress", "finalizing", "completed"]
    assert done == sorted(done)
    assert len(set(done)) > 3
    assert [one.id async for one in client.batches.list()] == [batch.id]


@pytest.mark.parametrize(
    ("fault", "status", "output", "errors"),
    [
        ("none", "completed", COUNT, 0),
        ("missing", "completed", COUNT - 4, 0),
        ("doubled", "completed", COUNT + 4, 0),
        ("errors", "completed", COUNT - 4, 4),
        ("expired", "expired", COUNT // 2, COUNT // 2),
        ("cancelled", "cancelled", COUNT // 2, COUNT // 2),
    ],
)
async def test_a_fault_of_a_batch(asked, fault, status, output, errors):
    provider, client = asked(batch_faults=(fault,))
    batch = await ended(client, await submit(client, lines()))
    rows, wrong = await both(client, batch)
    assert (batch.status, len(rows), len(wrong)) == (status, output, errors)
    counts = provider.counts()
    unique = {row["custom_id"]: row for row in rows}
    assert counts.total_tokens == sum(row["response"]["body"]["usage"]["total_tokens"] for row in unique.values())
    # Lines that are missing were paid for; those in the error file were not.
    assert (counts.usage_missing, counts.batch_lines) == (4 * (fault == "missing"), COUNT - errors)
    if status != "completed":
        assert {row["error"]["code"] for row in wrong} == {f"batch_{status}"}
    # The next batch meets nothing.
    assert (await ended(client, await submit(client, lines()))).request_counts.completed == COUNT


async def test_the_output_can_be_gone_though_it_was_paid_for(asked):
    provider, client = asked(batch_faults=("gone",))
    batch = await ended(client, await submit(client, lines()))
    with pytest.raises(openai.NotFoundError, match="No such File"):
        await client.files.content(batch.output_file_id)
    counts = provider.counts()
    assert (counts.usage_missing, counts.total_tokens) == (COUNT, 0)
    assert counts.unsent_tokens > 0


@pytest.mark.parametrize(
    ("settings", "content", "code"),
    [
        ({"batch_faults": ("failed",)}, lines(), "internal_error"),
        ({"batch_lines": 39}, lines(), "too_many_tasks"),
        ({"enqueued_tokens": 100}, lines(), "token_limit_exceeded"),
        ({}, b"", "empty_file"),
        ({}, b"{", "invalid_json_line"),
        ({}, lines(1) + b"\n" + lines(1), "duplicate_custom_id"),
        ({}, lines(1) + b"\n" + lines(2, "n"), "mismatched_model"),
        ({}, lines(1, max_tokens=0), "invalid_request"),
    ],
)
async def test_a_batch_with_anything_wrong_fails_whole_and_costs_nothing(asked, settings, content, code):
    provider, client = asked(**settings)
    batch = await ended(client, await submit(client, content))
    assert (batch.status, batch.output_file_id, batch.request_counts.total) == ("failed", None, 0)
    assert code in [error.code for error in batch.errors.data]
    assert provider.counts().batch_lines == 0


async def test_tokens_that_wait_in_another_batch_count_until_it_is_done(asked):
    tokens = sum(len(json.dumps(messages(f"The parcel {at} is late"))) // 4 for at in range(COUNT))
    _, client = asked(enqueued_tokens=tokens + 10, batch_s=0.3)
    first = await submit(client, lines())
    await asyncio.sleep(0.1)
    await client.batches.retrieve(first.id)
    assert (await ended(client, await submit(client, lines()))).errors.data[0].code == "token_limit_exceeded"
    await ended(client, first)
    assert (await ended(client, await submit(client, lines()))).status == "completed"


async def test_a_cancelled_batch_keeps_what_is_done(asked):
    _, client = asked(batch_s=0.4)
    batch = await submit(client, lines())
    await asyncio.sleep(0.1)
    await client.batches.retrieve(batch.id)
    await asyncio.sleep(0.1)
    assert (await client.batches.cancel(batch.id)).status == "cancelling"
    batch = await ended(client, batch)
    output, errors = await both(client, batch)
    assert batch.status == "cancelled"
    assert 0 < len(output) < COUNT == len(output) + len(errors)
    with pytest.raises(openai.BadRequestError, match="Cannot cancel"):
        await client.batches.cancel(batch.id)


async def test_a_key_sees_its_own_files_and_batches_only(asked):
    provider, client = asked()
    batch = await submit(client, lines())
    async with openai.AsyncOpenAI(base_url=provider.base_url, api_key="another", max_retries=0) as other:
        for call in (
            other.batches.retrieve(batch.id),
            other.files.content(batch.input_file_id),
            other.files.delete(batch.input_file_id),
        ):
            with pytest.raises(openai.NotFoundError):
                await call
        assert [one async for one in other.batches.list()] == []
    assert (await client.files.delete(batch.input_file_id)).deleted


async def test_lines_meet_the_rates_and_the_named_faults_of_live_requests(asked):
    provider, client = asked(error_rate=0.3, seed=1)
    output, errors = await both(client, await ended(client, await submit(client, lines())))
    assert len(output) + len(errors) == COUNT
    assert {row["response"]["status_code"] for row in errors} == {500}
    output, errors = await both(client, await ended(client, await submit(client, lines(3, "fault/too_long"))))
    assert (output, [row["response"]["status_code"] for row in errors]) == ([], [400] * 3)
    assert provider.counts().batch_lines == COUNT + 3
