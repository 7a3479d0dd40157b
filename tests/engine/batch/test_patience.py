"""Calls about the batch queue are repeated as long as an outage is waited for, or for ever, and end with the run."""

import asyncio

import pytest

from llmlab.engine.batch.patience import Patience
from llmlab.errors import AuthenticationError, CancelledError, OverloadedError


class Calls:
    """A call that fails so many times; each failure asks for no wait."""

    def __init__(self, failures, error=OverloadedError):
        self.failures, self.error, self.made = failures, error, 0

    async def __call__(self):
        self.made += 1
        if self.made <= self.failures:
            raised = self.error("not now")
            raised.retry_after_s = 0.001
            raise raised
        return "done"


async def test_what_passes_is_repeated():
    call = Calls(3)
    assert await Patience(5.0, 0.0).until_done(call) == "done"
    assert call.made == 4


async def test_what_will_not_pass_is_not():
    call = Calls(3, AuthenticationError)
    with pytest.raises(AuthenticationError):
        await Patience(5.0, 0.0).until_done(call, for_ever=True)
    assert call.made == 1


async def test_an_outage_is_waited_for_no_longer_than_said_unless_for_ever():
    with pytest.raises(OverloadedError):
        await Patience(0.0, 0.0).until_done(Calls(1000))
    assert await Patience(0.0, 0.0).until_done(Calls(5), for_ever=True) == "done"


async def test_the_end_ends_a_wait_and_a_call_that_hangs():
    patience = Patience(5.0, 0.01)
    asyncio.get_running_loop().call_later(0.01, patience.end)
    await patience.sleep(1000)
    with pytest.raises(CancelledError, match="before the batch queue answered"):
        await patience.until_done(lambda: asyncio.sleep(1000), for_ever=True)
    assert patience.is_over
    assert await patience.until_done(Calls(0)) == "done"
