"""The provider's batch queue at work: trials go there as files of requests and come back hours later, at half price.

    trials ─render→ lines ─noted in the journal→ file → batch ─ … hours … → results ─parse→ attempts → store, journal

What may be in the queue is in the journal before it is submitted, so that after a kill the same cell finds it again.
What the queue itself refuses is raised as an `AttemptError`, after as many tries as an outage is waited for.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable
from itertools import count

from llmlab.client import BatchClient
from llmlab.display import QueuedBatch, Tally
from llmlab.engine.attempt import Attempts
from llmlab.engine.batch.batch_results import BatchResults
from llmlab.engine.batch.earlier import EarlierBatches
from llmlab.engine.batch.patience import Patience
from llmlab.engine.batch.submission import Batch, Submissions
from llmlab.engine.queue import Asked
from llmlab.engine.setup import Setup
from llmlab.engine.verdict import Stop
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
        self._setup, self._tally, self._over, self._ended = setup, tally, over, ended
        self._client = BatchClient(setup.endpoint)
        self._patience = self._new_patience()
        self._results = BatchResults(self._client, attempts, self._patience, ended)
        self._earlier = EarlierBatches(setup, attempts.writer, journal, self._client, self._patience)
        self._submissions = Submissions(
            attempts.writer, attempts.intake, journal, self._client, self._patience, setup.endpoint.account
        )
        self._open: dict[str, Batch] = {}
        self._numbers = count(1)
        self._most = 0
        self.cancelled = self._takes_no_more = False

    @property
    def positions(self) -> set[int]:
        """The trials that earlier sessions may have submitted."""
        return self._earlier.positions

    @property
    def open(self) -> int:
        """Batches that the provider works on, or may work on."""
        return len(self._open) + self._submissions.on_its_way

    def add(self, asked: Iterable[Asked]) -> None:
        """Have these trials submitted, unless `cancel` was called."""
        if not self._takes_no_more:
            self._submissions.add(asked)

    def leave(self) -> None:
        """Wait for nothing any more; what is in the provider's queue goes on there."""
        self._patience.end()

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def cancel(self) -> None:
        """Ask the provider to cancel what is in the queue, and submit nothing more; what is done is read.

        Raises
        ------
        AttemptError
            The provider does not answer, or refuses.
        """
        self.cancelled = self._takes_no_more = True
        self._submissions.clear()
        # A client of its own, as the run may be over.
        client, patience = BatchClient(self._setup.endpoint), self._new_patience()
        try:
            for batch in list(self._open.values()):
                if not batch.is_cancelled:
                    batch_id = batch.state.batch_id
                    await patience.until_done(lambda batch_id=batch_id: client.cancel(batch_id))
                    batch.is_cancelled = True
        finally:
            await client.close()

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
            await self._keep(batch)
        return again

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
            if await self._submit():
                poll_s = FIRST_POLL_S
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

    async def _submit(self) -> bool:
        """Submit what can be submitted now; returns whether there was anything."""
        before = self._most
        self._submissions.clear(self._over)
        while (submitted := await self._submissions.next(self._open)) is not None:
            if isinstance(submitted, Stop):
                self._submissions.clear(submitted.models or None)
                self._ended(submitted)
            else:
                await self._keep(submitted)
        return self._most > before

    async def _keep(self, batch: Batch) -> None:
        batch.number = self._most = next(self._numbers)
        self._open[batch.nonce] = batch
        if self._takes_no_more:
            # The user said so while it was on its way.
            await self.cancel()
        self.show()

    async def _look(self, batch: Batch) -> list[Asked]:
        """See where a batch stands, and take in its results if it has ended and they are there."""
        state = await self._patience.until_done(lambda: self._client.look(batch.state.batch_id), for_ever=True)
        replies: dict[str, Reply] = {}
        is_there = state.status != "gone"
        if is_there:
            batch.state = state
            if state.ended:
                replies, is_there = await self._results.read(state)
        if self._patience.is_over:
            return []
        if is_there:
            batch.lacking_since = math.inf
            if not state.ended:
                return []
        elif not self._is_lost(batch):
            return []
        del self._open[batch.nonce]
        taken = await self._results.take_in(batch, replies, is_whole=is_there)
        self.cancelled = self.cancelled or taken.is_cancelled
        if taken.is_refused:
            said = "; ".join(problem.message for problem in batch.state.problems)
            stop = self._submissions.make_room(batch.model, len(batch.asked), self._open, said)
            if stop is not None:
                self._ended(stop)
        if batch.state.status != "failed":
            return taken.due
        # It failed as a whole, and nothing was charged: what is not at fault is submitted once more.
        self.add(taken.due)
        return []

    def _is_lost(self, batch: Batch) -> bool:
        """Whether a batch, or a part of its results, has been lacking for as long as an outage is waited for."""
        now = time.monotonic()
        batch.lacking_since = min(batch.lacking_since, now)
        return now - batch.lacking_since >= self._patience.outage_s

    def _new_patience(self) -> Patience:
        return Patience(self._setup.policy.outage_s, self._setup.grace_s)

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
