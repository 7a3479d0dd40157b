"""One of several processes that share a limit: `python -m tests.benchmarks.sharer OPTIONS`; prints JSON.

It waits for a line on its standard input before it begins, so that all begin together.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import resource
import sys
import time

import llmlab as ll


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--where", default="", help="as of share_limits; empty: alone")
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--units", type=int, required=True)
    parser.add_argument("--limit", type=float, required=True)
    parser.add_argument("--period-s", type=float, default=5.0)
    parser.add_argument("--margin-s", type=float, default=1.0)
    parser.add_argument("--light", action="store_true", help="ask without an experiment around it")
    parser.add_argument("--clock-off-s", type=float, default=0.0, help="this process's clock is so much ahead")
    return parser.parse_args()


async def experiment(limiter: ll.RateLimiter, base_url: str, units: int) -> tuple[int, int, list[str], list[float]]:
    """Answered, refused, kinds of errors, and when each request was sent."""
    texts = [f"the parcel {n} has not arrived" for n in range(units)]
    results = await ll.run_experiment(
        texts, "{text}", model="m", base_url=base_url, api_key="sk-shared-0123456789",
        categories=["delivery", "bug"], limiter=limiter, progress=False,
    )  # fmt: skip
    attempts = results.attempts
    sent = attempts["started_at"].astype("datetime64[us, UTC]").astype("int64") / 1e6
    answered, refused = results.predictions["status"].eq("ok").sum(), (attempts["http_status"] == 429).sum()
    return int(answered), int(refused), sorted(set(attempts["error_type"].dropna())), [float(at) for at in sent]


async def light(limiter: ll.RateLimiter, base_url: str, units: int) -> tuple[int, int, list[str], list[float]]:
    """The same of the limiter and plain HTTP alone."""
    import aiohttp

    sent: list[float] = []
    statuses: list[int] = []

    async def ask(session: aiohttp.ClientSession) -> None:
        grant = await limiter.acquire()
        sent.append(time.time())
        body = {"model": "m", "messages": [{"role": "user", "content": "the parcel has not arrived"}]}
        async with session.post(f"{base_url}/chat/completions", json=body) as response:
            await response.read()
        statuses.append(response.status)
        if response.status == 429:
            grant.refused()
        else:
            grant.answered()

    headers = {"Authorization": "Bearer sk-shared-0123456789"}
    async with aiohttp.ClientSession(headers=headers, connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(ask(session) for _ in range(units)))
    others = sorted({str(status) for status in statuses} - {"200", "429"})
    return statuses.count(200), statuses.count(429), others, sent


def main() -> None:
    """Ask, and say what came of it."""
    given = options()
    messages: list[str] = []
    handler = logging.Handler(logging.INFO)
    handler.emit = lambda record: messages.append(record.getMessage())
    logging.getLogger("llmlab.limits").addHandler(handler)
    logging.getLogger("llmlab.limits").setLevel(logging.INFO)
    if given.where:
        ll.share_limits(given.where)
    limiter = ll.RateLimiter(
        given.limit,
        period_s=given.period_s,
        margin_s=given.margin_s,
        name="shared",
        clock=lambda: time.monotonic() + given.clock_off_s,
    )
    print("ready", flush=True)
    sys.stdin.readline()
    began, cpu = time.time(), time.process_time()
    ask = light if given.light else experiment
    answered, refused, errors, sent = asyncio.run(ask(limiter, given.base_url, given.units))
    print(
        json.dumps(
            {
                "began": began,
                "ended": time.time(),
                "cpu_s": time.process_time() - cpu,
                "answered": answered,
                "refused": refused,
                "errors": errors,
                "sent": sorted(sent),
                "metrics": limiter.get_metrics(),
                "messages": messages,
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    main()
