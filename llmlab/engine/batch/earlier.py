"""The batches of earlier sessions, found again after a kill or another day."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence

from llmlab.client import BatchClient, BatchState
from llmlab.engine.batch.patience import Patience
from llmlab.engine.batch.submission import Batch, created, fingerprint
from llmlab.engine.queue import Asked
from llmlab.engine.request import RequestWriter
from llmlab.engine.setup import Setup
from llmlab.errors import ConfigError
from llmlab.records import BATCH
from llmlab.results import Journal, Line


class EarlierBatches:
    """What a journal says is, or may be, in the provider's queue.

    Parameters
    ----------
    setup : Setup
    writer : RequestWriter
        Its budget puts aside what the batches may cost.
    journal : Journal
    client : BatchClient
    patience : Patience
    """

    def __init__(
        self, setup: Setup, writer: RequestWriter, journal: Journal, client: BatchClient, patience: Patience
    ) -> None:
        self._setup, self._writer, self._journal = setup, writer, journal
        self._client, self._patience = client, patience
        self._account = fingerprint(setup.endpoint.account)

    @property
    def positions(self) -> set[int]:
        """The trials in them."""
        return {line.position for noted in self._journal.batches for line in noted.lines}

    async def find(self) -> tuple[list[Batch], list[Asked]]:
        """Ask the provider where they stand.

        Returns
        -------
        tuple of (list of Batch, list of Asked)
            The batches that the provider has or had, and the trials that never got into one.

        Raises
        ------
        ConfigError
            They are another key's.
        """
        unsure = {one.nonce for one in self._journal.batches if one.batch_id is None}
        known = await created(self._client, self._patience, unsure)
        found: list[Batch] = []
        again: list[Asked] = []
        for noted in self._journal.batches:
            asked = self._asked(noted.lines)
            state = known.get(noted.nonce, BatchState.gone(noted.batch_id or "", noted.noted_at))
            if noted.batch_id is not None:
                batch_id = noted.batch_id
                looked = await self._patience.until_done(lambda batch_id=batch_id: self._client.look(batch_id))
                state = state if looked.status == "gone" else looked
            if state.status == "gone" and noted.account != self._account:
                raise ConfigError(
                    f"{len(noted.lines):,} trials were submitted as a batch with another key, and this one does not "
                    "see it: go on with that key, or choose another journal"
                )
            if noted.batch_id is None and state.status == "gone":
                # It was noted, and the kernel died before it was created.
                self._journal.forget_batch(noted.nonce)
                again += asked.values()
                continue
            if noted.batch_id is None:
                await self._journal.batch_submitted(noted.nonce, state.batch_id)
            each_usd = self._put_aside(asked.values())
            found.append(Batch(noted.nonce, noted.model, state, asked, each_usd, None))
        return found, again

    def _asked(self, lines: Sequence[Line]) -> dict[str, Asked]:
        """The trials of a batch as they were when it was submitted."""
        trials = self._setup.plan.trials(line.position for line in lines)
        return {
            line.name: Asked(trial, line.attempt - 1, time.monotonic())
            for line, trial in zip(lines, trials, strict=True)
        }

    def _put_aside(self, asked: Collection[Asked]) -> float:
        """Put aside what a batch may cost that is in the queue already; returns the share of one line."""
        if self._setup.max_cost_usd is None:
            return 0.0
        each = [self._writer.write(one, BATCH).worst_usd for one in asked]
        self._writer.budget.put_aside(sum(each), len(each))
        return sum(each) / len(each)
