"""Waiting in synchronous code gives the result, and does not show it."""

from llmlab.engine.pending import run_blocking


class Large:
    """The summary of a million trials takes seconds."""

    shown = 0

    def __repr__(self):
        self.shown += 1
        return "large"


def test_the_result_is_handed_over_unseen():
    async def work():
        return Large()

    assert run_blocking(work()).shown == 0
