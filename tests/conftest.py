"""What the tests share: a simulated provider that is closed, no limiter of another test, no key of the machine's."""

import asyncio
import os

import pytest

import llmlab as ll

# Otherwise pytest-asyncio and looptime each make a loop for the first synchronous fixture, and nobody closes it.
asyncio.set_event_loop(None)


def pytest_collection_modifyitems(items):
    """Those that wait long go first, so that side by side none of them is left for the end."""
    first = ("test_notebooks", "test_experiment", "test_limits_http", "test_notebook", "test_crash", "test_faults")
    items.sort(key=lambda item: first.index(item.path.stem) if item.path.stem in first else len(first))


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("OPENAI_", "OPENROUTER_")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _no_limiters():
    ll.RateLimiterRegistry.clear()
    yield
    ll.RateLimiterRegistry.clear()


@pytest.fixture
def provider():
    """Start a simulated provider that answers at once; it is closed after the test."""
    started = []

    def start(**settings):
        started.append(ll.simulate.client(**{"latency_s": 0, **settings}))
        return started[-1]

    yield start
    for one in started:
        one.close()
