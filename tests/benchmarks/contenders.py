"""One contender in its own process: `python -m tests.benchmarks.contenders NAME PORT UNITS IN_FLIGHT`; prints JSON.

With the folder of another version of llmlab as a fifth argument, `llmlab_…` is that version.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

PROMPT = "Which category fits?\n\n"
CATEGORIES = ["billing", "bug", "delivery", "other"]
BODY = {"model": "m", "messages": [{"role": "user", "content": PROMPT + "the lamp does not turn on"}]}


async def raw_aiohttp(url: str, units: int, in_flight: int) -> int:
    """The floor: aiohttp with bytes made once."""
    import aiohttp

    body = json.dumps(BODY).encode()
    headers = {"Content-Type": "application/json", "Authorization": "Bearer k"}
    left = iter(range(units))
    answered = 0
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:

        async def work() -> None:
            nonlocal answered
            for _ in left:
                async with session.post(url + "/chat/completions", data=body) as response:
                    data = json.loads(await response.read())
                answered += data["usage"]["total_tokens"] > 0

        await asyncio.gather(*(work() for _ in range(in_flight)))
    return answered


async def _sdk(url: str, units: int, in_flight: int, http_client: object) -> int:
    import openai

    client = openai.AsyncOpenAI(base_url=url, api_key="k" * 20, max_retries=0, http_client=http_client)
    left = iter(range(units))
    answered = 0

    async def work() -> None:
        nonlocal answered
        for _ in left:
            try:
                completion = await client.chat.completions.create(**BODY)
                answered += completion.usage.total_tokens > 0
            except openai.APIError:
                continue

    await asyncio.gather(*(work() for _ in range(in_flight)))
    await client.close()
    return answered


async def sdk_aiohttp(url: str, units: int, in_flight: int) -> int:
    """AsyncOpenAI on DefaultAioHttpClient, with workers."""
    import openai

    return await _sdk(url, units, in_flight, openai.DefaultAioHttpClient())


async def sdk_httpx(url: str, units: int, in_flight: int) -> int:
    """AsyncOpenAI on its default transport, with workers."""
    return await _sdk(url, units, in_flight, None)


async def llmlab(url: str, units: int, in_flight: int, **settings: object) -> int:
    """A whole experiment: limiter, retries, tokens, parse, records, frames; progress off."""
    import llmlab as ll

    if "client" not in settings:
        settings |= {"base_url": url, "api_key": "k" * 20}
    results = await ll.run_experiment(
        [f"the lamp {n} does not turn on" for n in range(units)],
        PROMPT + "{text}",
        model="m",
        categories=CATEGORIES,
        limiter=ll.RateLimiter(1e6, burst=1e6),
        max_concurrent=in_flight,
        progress=False,
        **settings,
    )
    return int((results.attempts["total_tokens"] > 0).sum()) if results.predictions["status"].eq("ok").any() else 0


async def llmlab_journal(url: str, units: int, in_flight: int) -> int:
    """The same with a journal."""
    with tempfile.TemporaryDirectory() as folder:
        return await llmlab(url, units, in_flight, journal=Path(folder) / "bench.sqlite")


async def llmlab_own_client(url: str, units: int, in_flight: int) -> int:
    """The same through a client of the user's own."""
    import openai

    async with openai.AsyncOpenAI(base_url=url, api_key="k" * 20, http_client=openai.DefaultAioHttpClient()) as client:
        return await llmlab(url, units, in_flight, client=client)


async def _lag(samples: list[float]) -> None:
    while True:
        due = time.perf_counter() + 0.01
        await asyncio.sleep(0.01)
        samples.append(time.perf_counter() - due)


async def _measure(name: str, url: str, units: int, in_flight: int) -> dict[str, object]:
    contender = globals()[name]
    await contender(url, 50, 5)
    gc.collect()
    samples: list[float] = []
    watcher = asyncio.create_task(_lag(samples))
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cpu, wall = time.process_time(), time.perf_counter()
    answered = await contender(url, units, in_flight)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    watcher.cancel()
    samples.sort()
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "name": name,
        "units": units,
        "answered": answered,
        "cpu_ms_per_call": 1000 * cpu / units,
        "calls_per_s": units / wall,
        "lag_p99_ms": 1000 * (samples[int(0.99 * len(samples))] if samples else 0.0),
        "lag_max_ms": 1000 * max(samples, default=0.0),
        "kb_per_call": (peak_kb - before_kb) / units,
        "peak_mb": peak_kb / 1024,
    }


if __name__ == "__main__":
    which, port, count, flight, *other = sys.argv[1:]
    sys.path[:0] = other
    print(json.dumps(asyncio.run(_measure(which, f"http://127.0.0.1:{port}/v1", int(count), int(flight)))))
