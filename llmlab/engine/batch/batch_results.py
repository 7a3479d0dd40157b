"""The results of a batch that has ended: read whole, and taken in line by line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from llmlab.client import BatchClient, BatchState, lacking_lines, read_lines
from llmlab.engine.attempt import Attempts
from llmlab.engine.batch.patience import Patience
from llmlab.engine.batch.submission import SLICE, Batch
from llmlab.engine.intake import Course
from llmlab.engine.queue import Asked
from llmlab.engine.verdict import Stop
from llmlab.errors import CancelledError, RateLimitError
from llmlab.records import BATCH, Reply


@dataclass(slots=True)
class Taken:
    """What followed from a batch's results.

    Attributes
    ----------
    due : list of Asked
        Trials that are to be asked again.
    is_cancelled : bool
        Whether lines of it were cancelled.
    is_refused : bool
        Whether it failed as a whole, because the queue was full.
    """

    due: list[Asked]
    is_cancelled: bool = False
    is_refused: bool = False


class BatchResults:
    """Reads the results of batches, and takes them in.

    Parameters
    ----------
    client : BatchClient
    attempts : Attempts
        Takes in each line.
    patience : Patience
    ended : callable
        Told what ends before its time.
    """

    def __init__(
        self, client: BatchClient, attempts: Attempts, patience: Patience, ended: Callable[[Stop], None]
    ) -> None:
        self._client, self._attempts, self._patience, self._ended = client, attempts, patience, ended

    async def read(self, state: BatchState) -> tuple[dict[str, Reply], bool]:
        """Read the files of a batch that has ended.

        Returns
        -------
        tuple of (dict of Reply, bool)
            The results by name, of a name that comes twice the first; and whether there are as many as the provider
            says that there are. A file may come late, or not whole.
        """
        replies: dict[str, Reply] = {}
        rows = 0
        for file_id in filter(None, (state.output_file_id, state.error_file_id)):
            read = self._patience.until_done(lambda file_id=file_id: self._client.read(file_id), for_ever=True)
            for name, reply in read_lines(await read, key=self._client.secrets):
                replies.setdefault(name, reply)
                rows += 1
                if rows % SLICE == 0:
                    await asyncio.sleep(0)
        return replies, rows >= state.done + state.failed

    async def take_in(self, batch: Batch, replies: dict[str, Reply], *, is_whole: bool) -> Taken:
        """Take in the result of each line.

        Parameters
        ----------
        replies, is_whole
            Of `read`.

        Raises
        ------
        Exception
            What the user's own code raises, after all lines have been kept.
        """
        state, rows, taken = batch.state, list(batch.asked.items()), Taken([])
        bugs: list[Exception] = []
        took_s = max(0.0, (state.ended_at or time.time()) - state.created_at)
        course = Course(state.created_at, took_s, batch.worst_usd, batch.answer_form, BATCH)
        instead = lacking_lines(state, len(rows), is_whole=is_whole)
        taken.is_refused = any(isinstance(reply.error, RateLimitError) for reply in instead)
        for begin in range(0, len(rows), SLICE):
            part = [
                (asked, replies.get(name, other))
                for (name, asked), other in zip(rows[begin : begin + SLICE], instead[begin:], strict=False)
            ]
            given = await asyncio.gather(*(self._attempts.take_line(asked, course, reply) for asked, reply in part))
            for (asked, reply), follows in zip(part, given, strict=True):
                bugs += follows.bugs
                for stop in follows.stop:
                    self._ended(stop)
                if isinstance(reply.error, CancelledError):
                    taken.is_cancelled = True
                elif follows.retry_in_s is not None:
                    # From now on it waits, and not since the batch was submitted.
                    asked.ready_at = time.monotonic()
                    taken.due.append(asked)
        for bug in bugs:
            raise bug
        return taken
