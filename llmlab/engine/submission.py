"""Trials → batches: written as lines, noted in the journal, uploaded, created; each batch at most once."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from llmlab.client import MOST_BYTES, MOST_LINES, BatchClient, BatchState, write_line
from llmlab.engine.intake import Intake
from llmlab.engine.patience import Patience
from llmlab.engine.pricing import BATCH
from llmlab.engine.queue import Asked
from llmlab.engine.request import RequestWriter
from llmlab.engine.verdict import Stop
from llmlab.errors import TrialError
from llmlab.records import Trial
from llmlab.results import Journal

SLICE = 500
"""So many lines are written, or read, before others on the event loop have a turn."""
WORTH_IT = 0.1
"""Where the budget has room for a smaller share of what is left, nothing more is submitted."""


@dataclass(slots=True)
class Batch:
    """A batch that the provider has.

    Attributes
    ----------
    number : int
        From 1.
    asked : dict of Asked
        The trials in it by the names of their lines, in the order of the lines.
    worst_usd : float
        US dollars put aside for each line.
    answer_form : str or None
        How the form of the answers was asked for; `None` if an earlier session did.
    """

    number: int
    nonce: str
    model: str
    state: BatchState
    asked: dict[str, Asked]
    worst_usd: float
    answer_form: str | None


@dataclass(slots=True)
class _Draft:
    """A batch that is being written."""

    lines: list[bytes]
    asked: dict[str, Asked]
    noted: list[tuple[Trial, int, list[dict]]]
    worst_usd: float = 0.0
    answer_form: str = ""


class Submissions:
    """The trials that are still to be submitted.

    Parameters
    ----------
    writer : RequestWriter
        Writes the requests and keeps the budget.
    intake : Intake
        Keeps the trials that cannot be asked.
    journal : Journal
    client : BatchClient
    patience : Patience
    account : str
        Whose queue it is.
    most_lines, most_bytes : int
        Of one batch.
    """

    def __init__(
        self,
        writer: RequestWriter,
        intake: Intake,
        journal: Journal,
        client: BatchClient,
        patience: Patience,
        account: str,
        most_lines: int = MOST_LINES,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self._writer, self._intake, self._journal = writer, intake, journal
        self._client, self._patience = client, patience
        self._account = fingerprint(account)
        self._most_lines, self._most_bytes = most_lines, most_bytes
        self._waiting: dict[str, deque[Asked]] = {}
        # Per model: the most lines of a batch, which is halved when the provider's queue is full.
        self._most: dict[str, int] = {}
        # Models of which one batch is submitted at a time.
        self._full: set[str] = set()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be submitted."""
        return not any(self._waiting.values())

    @property
    def batches(self) -> int:
        """How many batches it will be, as far as one can tell."""
        return sum(-(-len(one) // self._most.get(model, self._most_lines)) for model, one in self._waiting.items())

    def add(self, asked: Iterable[Asked]) -> None:
        """Have these trials submitted."""
        for one in asked:
            self._waiting.setdefault(one.trial.model, deque()).append(one)

    def clear(self, models: Collection[str] | None = None) -> None:
        """Submit nothing more, of these models or at all."""
        for model, waiting in self._waiting.items():
            if models is None or model in models:
                waiting.clear()

    async def next(self, open_batches: Mapping[str, Batch]) -> Batch | Stop | None:
        """Submit the next batch.

        Returns
        -------
        Batch, Stop or None
            A `Stop` if `max_cost_usd` leaves no room; `None` if nothing can be submitted now.
        """
        at_work = {batch.model for batch in open_batches.values()}
        for model, waiting in self._waiting.items():
            if self._patience.is_over or not waiting or (model in self._full and model in at_work):
                continue
            draft = await self._draft(waiting, self._most.get(model, self._most_lines))
            if len(draft.asked) > WORTH_IT * len(waiting):
                return await self._submit(model, draft)
            waiting.extendleft(reversed(draft.asked.values()))
            if waiting and not at_work:
                return self._writer.no_room(self._writer.write(waiting[0], BATCH))
        return None

    def make_room(self, batch: Batch, open_batches: Mapping[str, Batch], said: str) -> Stop | None:
        """The queue of the batch's model is full: one at a time from now on, and smaller ones if it was alone.

        Returns
        -------
        Stop or None
            The model ends if not even one request fits.
        """
        self._full.add(batch.model)
        if any(one.model == batch.model for one in open_batches.values()):
            return None
        if len(batch.asked) == 1:
            return Stop(f"batch: {said}", frozenset({batch.model}), "RateLimitError")
        self._most[batch.model] = len(batch.asked) // 2
        return None

    async def _draft(self, waiting: deque[Asked], most: int) -> _Draft:
        """Write as many lines as fit into a file and into the budget; trials with nothing to ask end here."""
        draft, size = _Draft([], {}, []), 0
        budget = self._writer.budget
        while waiting and len(draft.lines) < most and not self._patience.is_over:
            asked = waiting[0]
            line = self._journal.line(asked.trial.position, asked.before + asked.tried + 1)
            try:
                request = self._writer.write(asked, BATCH)
                data = write_line(line.name, request.body)
            except TrialError as error:
                self._intake.keep_unsent(waiting.popleft().trial, error)
                continue
            if size + len(data) > self._most_bytes or not budget.has_room(draft.worst_usd + request.worst_usd):
                break
            waiting.popleft()
            draft.lines.append(data)
            draft.asked[line.name] = asked
            draft.noted.append((asked.trial, line.attempt, asked.messages))
            draft.worst_usd += request.worst_usd
            draft.answer_form = request.answer_form
            size += len(data)
            if len(draft.lines) % SLICE == 0:
                await asyncio.sleep(0)
        return draft

    async def _submit(self, model: str, draft: _Draft) -> Batch:
        nonce = secrets.token_hex(12)
        await self._journal.note_batch(nonce, self._account, model, draft.noted)
        file_id = await self._patience.until_done(lambda: self._client.upload(b"".join(draft.lines)))
        tries: list[str] = []

        async def create() -> BatchState:
            # When it failed on the way, it may have come about.
            found = await self._client.find({nonce}) if tries else {}
            tries.append(nonce)
            return found[nonce] if nonce in found else await self._client.create(file_id, nonce)

        state = await self._patience.until_done(create)
        await self._journal.batch_submitted(nonce, state.batch_id)
        self._writer.budget.put_aside(draft.worst_usd, len(draft.asked))
        each = draft.worst_usd / len(draft.asked)
        return Batch(0, nonce, model, state, draft.asked, each, draft.answer_form)


def fingerprint(account: str) -> str:
    """Tells whose queue it is, and no key."""
    return hashlib.blake2b(account.encode(), digest_size=8).hexdigest()
