"""What the limiter costs: `python -m tests.benchmarks.limiter`. CPU time, as the machine may be shared."""

from __future__ import annotations

import asyncio
import time
from collections import deque

import llmlab as ll
from llmlab.limits.schedule import Schedule


async def acquire_us(count: int = 50_000) -> float:
    """One uncontended acquire."""
    limiter = ll.RateLimiter(1e9, burst=1e9)
    began = time.process_time()
    for _ in range(count):
        await limiter.acquire()
    return 1e6 * (time.process_time() - began) / count


async def cancel_s(waiting: int = 100_000) -> float:
    """Cancelling every second waiter."""
    limiter = ll.RateLimiter(60)
    await limiter.acquire()
    tasks = [asyncio.ensure_future(limiter.acquire()) for _ in range(waiting)]
    await asyncio.sleep(0)
    began = time.process_time()
    for task in tasks[::2]:
        task.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    took = time.process_time() - began
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return took


def schedule_us(limit: float, count: int = 200_000) -> float:
    """One request booked, sent and settled with a full window."""
    schedule = Schedule(limit, period_s=60.0, tokens=1e12, burst=1, margin_s=1.0)
    sent: deque = deque()
    now, began = 0.0, time.process_time()
    for _ in range(count):
        now = max(now, schedule.ready_at(10.0, now))
        sent.append(schedule.book(10.0, now, now))
        while sent[0].sent_at + 0.3 <= now:
            schedule.answered(sent.popleft(), 8.0, now)
    return 1e6 * (time.process_time() - began) / count


def main() -> None:
    """Print the figures."""
    print(f"an uncontended acquire: {asyncio.run(acquire_us()):.1f} µs")
    print(f"cancelling 50,000 of 100,000 waiters: {asyncio.run(cancel_s()):.2f} s")
    for limit in (60, 6000, 60_000):
        print(f"a request in the schedule at {limit:,} per minute: {schedule_us(limit):.1f} µs")


if __name__ == "__main__":
    main()
