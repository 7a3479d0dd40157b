"""With the root logger at INFO the HTTP library's line for each request is not there; llmlab's own lines are."""

import logging

import openai
import pytest

import llmlab as ll
from llmlab.client.writer import http_library


async def ask(client):
    results = await ll.run_experiment(
        ["a", "b", "c"], "{text}", model="m", client=client, requests_per_minute=None, progress=False
    )
    assert results.predictions["status"].tolist() == ["ok"] * 3


def own_client(server):
    # With an http_client of its own, a client sends every request itself.
    return openai.AsyncOpenAI(
        base_url=server.base_url, api_key="k" * 20, http_client=openai.DefaultAsyncHttpxClient(), max_retries=0
    )


@pytest.mark.parametrize("kind", ["shipped", "plain", "own"])
async def test_no_line_for_each_request(kind, simulated, caplog):
    server = simulated()
    plain = openai.AsyncOpenAI(base_url=server.base_url, api_key="k" * 20)
    with caplog.at_level(logging.INFO):
        async with plain, own_client(server) as own:
            await ask({"shipped": server, "plain": plain, "own": own}[kind])
    assert [record.name for record in caplog.records if not record.name.startswith("llmlab")] == []


async def test_requests_of_the_users_own_are_logged_as_ever(simulated, caplog):
    with caplog.at_level(logging.INFO):
        async with own_client(simulated()) as client:
            await ask(client)
            await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "hello"}])
    assert [record.name for record in caplog.records] == [http_library().__name__]


async def test_whoever_sets_the_librarys_level_sees_its_lines(simulated, caplog):
    with caplog.at_level(logging.INFO, logger=http_library().__name__):
        async with own_client(simulated()) as client:
            await ask(client)
    assert len([record for record in caplog.records if "HTTP Request" in record.getMessage()]) == 3
