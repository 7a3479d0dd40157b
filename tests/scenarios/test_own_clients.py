"""A client of the user's own: every token is kept, Azure is asked at its deployments, several loops are served."""

import asyncio

import openai
import pytest

from llmlab.client.writer import http_library
from llmlab.errors import InputError
from tests.provider.asking import KEY, ask, statuses, texts


@pytest.mark.parametrize("transport", [None, http_library().AsyncClient, openai.DefaultAioHttpClient])
async def test_a_client_of_ones_own_keeps_every_token(provider, transport):
    simulated = provider(error_rate=0.1, malformed_rate=0.1, seed=3)
    given = {} if transport is None else {"http_client": transport()}
    async with openai.AsyncOpenAI(base_url=simulated.base_url, api_key=KEY, **given) as client:
        results = await ask(simulated, texts(100), client=client)
        assert not client.is_closed()
    assert statuses(results)["ok"] > 90
    assert simulated.counts().requests == len(results.attempts)
    assert simulated.counts().total_tokens == results.attempts["total_tokens"].sum()


async def test_azure_is_asked_at_its_deployments(recorder):
    endpoint = recorder.url.removesuffix("/v1")
    async with openai.AsyncAzureOpenAI(azure_endpoint=endpoint, api_key=KEY, api_version="2026-01-01") as client:
        results = await ask(None, texts(3), "my-gpt", client=client)
    assert statuses(results) == {"ok": 3}
    assert results.attempts["total_tokens"].tolist() == [15] * 3
    path, headers, body = recorder.requests[0]
    assert path == "/openai/deployments/my-gpt/chat/completions?api-version=2026-01-01"
    assert headers["api-key"] == KEY
    assert body["model"] == "my-gpt"


def test_one_client_serves_several_loops(provider):
    simulated = provider(latency_s=0.02)
    client = openai.AsyncOpenAI(base_url=simulated.base_url, api_key=KEY)
    for _ in range(3):
        results = asyncio.run(ask(simulated, texts(40), client=client))
        assert statuses(results) == {"ok": 40}
    asyncio.run(client.close())
    # No request was made that is not an attempt.
    assert simulated.counts().requests == 3 * 40
    assert simulated.counts().dropped == 0


def test_a_key_in_a_client_is_checked_and_not_shown(provider):
    client = openai.AsyncOpenAI(base_url=provider().base_url, api_key="sk-5ecre7\n")
    with pytest.raises(InputError, match="line break") as caught:
        asyncio.run(ask(None, ["text"], client=client))
    asyncio.run(client.close())
    assert "5ecre7" not in str(caught.value)
