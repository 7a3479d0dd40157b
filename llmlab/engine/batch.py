"""The provider's batch queue at work: trials go there as files of requests and come back hours later, at half price.

    trials ─render→ lines ─noted in the journal→ file → batch ─ … hours … → results ─parse→ attempts → store, journal

What may be in the queue is in the journal before it is submitted, so that after a kill the same cell finds it again.
What the queue itself refuses is raised as an `AttemptError`, after as many tries as an outage is waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Iterable
from itertools import count

from llmlab.client import BatchClient, BatchState, missing_line, read_lines, refused_lines
from llmlab.display import QueuedBatch, Tally
from llmlab.engine.attempt import Attempts
from llmlab.engine.earlier import EarlierBatches
from llmlab.engine.intake import Course
from llmlab.engine.patience import Patience
from llmlab.engine.pricing import BATCH
from llmlab.engine.queue import Asked
from llmlab.engine.setup import Setup
from llmlab.engine.submission import SLICE, Batch, Submissions
from llmlab.engine.verdict import Stop
from llmlab.errors import AttemptError, CancelledError, RateLimitError
from llmlab.records import Reply
from llmlab.results import Journal

FIRST_POLL_S, LONGEST_POLL_S = 0.5, 60.0


class BatchQueue:
    """Submits trials as batches, waits for these, and takes in their results.

    Parameters
    ----------
    attempts : Attempts
        Takes in each result.
    journal : Journal
    over : collection of str
        The models that have ended.
    ended : callable
        Told what ends before its time.

    Attributes
    ----------
    cancelled : bool
        Whether a batch was cancelled, here or elsewhere.
    """

    def __init__(
        self,
        setup: Setup,
        attempts: Attempts,
        journal: Journal,
        tally: Tally,
        over: Collection[str],
        ended: Callable[[Stop], None],
    ) -> None:
        self._attempts, self._tally, self._over, self._ended = attempts, tally, over, ended
        self._client = BatchClient(setup.endpoint)
        self._patience = Patience(setup.policy.outage_s)
        self._earlier = EarlierBatches(setup, attempts.writer, journal, self._client, self._patience)
        self._submissions = Submissions(
            attempts.writer, attempts.intake, journal, self._client, self._patience, setup.endpoint.account
        )
        self._open: dict[str, Batch] = {}
        self._numbers = count(1)
        self._most = 0
        self.cancelled = False

    @property
    def positions(self) -> set[int]:
        """The trials that earlier sessions may have submitted."""
        return self._earlier.positions

    @property
    def open(self) -> int:
        """Batches that the provider works on."""
        return len(self._open)

    def add(self, asked: Iterable[Asked]) -> None:
        """Have these trials submitted."""
        self._submissions.add(asked)

    def leave(self) -> None:
        """Wait for nothing any more; what is in the provider's queue goes on there."""
        self._patience.end()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def cancel(self) -> None:
        """Ask the provider to cancel what is in the queue, and submit nothing more; what is done is read."""
        self.cancelled = True
        self._submissions.clear()
        for batch in list(self._open.values()):
            # It may have ended meanwhile.
            with contextlib.suppress(AttemptError):
                await self._client.cancel(batch.state.batch_id)

    async def begin(self) -> list[Asked]:
        """Find the batches of earlier sessions again; returns the trials that never got into one.

        Raises
        ------
        ConfigError
            The endpoint has no batch queue, or the batches are another key's.
        """
        await self._patience.until_done(self._client.check)
        batches, again = await self._earlier.find()
        for batch in batches:
            self._keep(batch)
        return again

    def _keep(self, batch: Batch) -> None:
        batch.number = self._most = next(self._numbers)
        self._open[batch.nonce] = batch
        self.show()

    # waiting

    async def collect(self) -> list[Asked]:
        """Submit what is to be submitted, wait until all batches have ended, and take in their results.

        Returns
        -------
        list of Asked
            Trials that are to be asked again.
        """
        due: list[Asked] = []
        poll_s = FIRST_POLL_S
        while not self._patience.is_over:
            await self._submit()
            if not self._open and self._submissions.is_empty:
                break
            for batch in list(self._open.values()):
                due += await self._look(batch)
            self.show()
            if self._open or not self._submissions.is_empty:
                await self._patience.sleep(poll_s)
                poll_s = min(1.5 * poll_s, LONGEST_POLL_S)
        self.show()
        return due

    async def _submit(self) -> None:
        self._submissions.clear(self._over)
        while (submitted := await self._submissions.next(self._open)) is not None:
            if isinstance(submitted, Stop):
                self._submissions.clear()
                self._ended(submitted)
            else:
                self._keep(submitted)

    async def _look(self, batch: Batch) -> list[Asked]:
        """See where a batch stands, and read it if it has ended."""
        batch.state = await self._patience.until_done(lambda: self._client.look(batch.state.batch_id), for_ever=True)
        if not batch.state.ended or self._patience.is_over:
            return []
        replies = await self._replies(batch.state)
        del self._open[batch.nonce]
        due = await self._take_in(batch, replies)
        if batch.state.status != "failed":
            return due
        # It failed as a whole, and nothing was charged: what is not at fault is submitted once more.
        self.add(due)
        return []

    async def _replies(self, state: BatchState) -> dict[str, Reply]:
        """The results by name; of a name that comes twice the first."""
        replies: dict[str, Reply] = {}
        for _ in range(2):
            for file_id in filter(None, (state.output_file_id, state.error_file_id)):
                read = self._patience.until_done(lambda file_id=file_id: self._client.read(file_id), for_ever=True)
                for name, reply in read_lines(await read, key=self._client.secrets):
                    replies.setdefault(name, reply)
            if len(replies) >= state.done + state.failed:
                break
            # Lines are missing: at the provider, or because the file did not come whole.
        return replies

    async def _take_in(self, batch: Batch, replies: dict[str, Reply]) -> list[Asked]:
        """Take in the result of each line; returns the trials that are to be asked again."""
        state, rows = batch.state, list(batch.asked.items())
        due: list[Asked] = []
        bugs: list[Exception] = []
        took_s = max(0.0, (state.ended_at or time.time()) - state.created_at)
        course = Course(state.created_at, took_s, batch.worst_usd, batch.answer_form, BATCH)
        whole = refused_lines(state.problems, len(rows)) if state.status == "failed" else [missing_line()] * len(rows)
        for begin in range(0, len(rows), SLICE):
            part = [
                (asked, replies.get(name, instead))
                for (name, asked), instead in zip(rows[begin : begin + SLICE], whole[begin:], strict=False)
            ]
            given = await asyncio.gather(*(self._attempts.take_line(asked, course, reply) for asked, reply in part))
            for (asked, reply), follows in zip(part, given, strict=True):
                bugs += follows.bugs
                for stop in follows.stop:
                    self._ended(stop)
                if isinstance(reply.error, CancelledError):
                    self.cancelled = True
                elif follows.retry_in_s is not None:
                    due.append(asked)
        for bug in bugs:
            raise bug
        if any(isinstance(one.error, RateLimitError) for one in whole):
            said = "; ".join(problem.message for problem in state.problems)
            stop = self._submissions.make_room(batch, self._open, said)
            if stop is not None:
                self._ended(stop)
        return due

    def show(self) -> None:
        """Tell the tally what is in the queue."""
        of = self._most + self._submissions.batches
        self._tally.batches = tuple(
            QueuedBatch(
                number=one.number,
                of=of,
                done=one.state.done + one.state.failed,
                total=len(one.asked),
                submitted_at=one.state.created_at,
                ends_by=one.state.expires_at,
            )
            for one in self._open.values()
        )
