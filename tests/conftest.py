"""What the tests share: providers that are closed, the example tickets, no limiter of another test, no key."""

import asyncio
import csv
import os
from pathlib import Path

import pytest

import llmlab as ll
from tests.provider.recorder import Recorder
from tests.provider.server import FaultProvider

TICKETS = Path(__file__).parent.parent / "data" / "tickets.csv"

# Otherwise pytest-asyncio and looptime each make a loop for the first synchronous fixture, and nobody closes it.
asyncio.set_event_loop(None)


def pytest_xdist_auto_num_workers(config):
    """Twice as many workers as processors: half of the time a test waits for a socket, a timer or another process."""
    return 2 * (os.cpu_count() or 1)


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "OPENROUTER_", "AZURE_")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _no_limiters():
    ll.RateLimiterRegistry.clear()
    yield
    ll.RateLimiterRegistry.clear()


def _started(make):
    """A function that starts providers, and closes them after the test."""
    started = []

    def start(**settings):
        started.append(make(**{"latency_s": 0, **settings}))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def provider():
    """Start a provider that answers at once, and plays any fault of `tests.provider`."""
    yield from _started(FaultProvider)


@pytest.fixture
def simulated():
    """Start the simulated provider that llmlab ships; it answers at once."""
    yield from _started(ll.simulate.client)


@pytest.fixture
def recorder():
    """A server that keeps what it is sent and gives scripted answers."""
    with Recorder() as one:
        yield one


@pytest.fixture(scope="session")
def tickets():
    """The 250 example tickets, as mappings of text."""
    with TICKETS.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
