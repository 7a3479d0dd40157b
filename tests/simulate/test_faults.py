"""The named faults: each comes as it is declared, from the request and for the seconds that are set."""

import asyncio
import json

import aiohttp
import pytest

from llmlab.simulate import FAULTS
from tests.helpers import HttpClient


@pytest.mark.parametrize("name", [name for name in FAULTS if name not in ("silent", "cut")])
async def test_a_fault_arrives_as_declared(simulated, name):
    provider = simulated(fault=name)
    async with HttpClient(provider) as client:
        status, _, body = await client.ask()
        assert (
            (status, body) == (await client.ask(model=f"fault/{name}"))[::2] == (FAULTS[name].status, FAULTS[name].body)
        )
    counts = provider.counts()
    assert counts.faults == counts.requests == 2
    assert counts.total_tokens == 2 * FAULTS[name].tally.get("total_tokens", 0)


async def test_silence_lasts_and_a_cut_answer_was_paid_for(simulated):
    provider = simulated()
    async with HttpClient(provider) as client:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.ask(model="fault/silent"), 0.05)
        with pytest.raises(aiohttp.ClientPayloadError):
            await client.ask(model="fault/cut")
    counts = provider.counts()
    assert (counts.usage_missing, counts.total_tokens) == (2, 0)
    assert counts.unsent_tokens > 0


async def test_a_fault_begins_and_ends_when_it_is_told_to(simulated):
    provider = simulated(fault="outage", fault_after=2, fault_s=0.1)
    async with HttpClient(provider) as client:
        assert [(await client.ask(str(at)))[0] for at in range(4)] == [200, 200, 503, 503]
        await asyncio.sleep(0.1)
        assert (await client.ask("4"))[0] == 200


async def test_an_unknown_fault_is_an_unknown_model_and_names_those_there_are(simulated):
    async with HttpClient(simulated()) as client:
        status, _, body = await client.ask(model="fault/outrage")
    assert status == 404
    assert "There is no fault 'outrage'; there are outage, overloaded" in json.loads(body)["error"]["message"]
