"""What the tests of the limiter share."""

import logging

import pytest


@pytest.fixture
def limit_lines(caplog):
    """The limiter's log lines so far."""
    caplog.set_level(logging.INFO, "llmlab.limits")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "llmlab.limits"]
