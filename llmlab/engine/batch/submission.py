"""Trials → batches: written as lines, noted in the journal, uploaded, created; each batch at most once."""

from __future__ import annotations

import asyncio
import hashlib
import math
import secrets
from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from llmlab.client import MOST_BYTES, MOST_LINES, BatchClient, BatchState, write_line
from llmlab.engine.batch.patience import Patience
from llmlab.engine.intake import Intake
from llmlab.engine.queue import Asked
from llmlab.engine.request import RequestWriter
from llmlab.engine.verdict import Stop
from llmlab.errors import AttemptError, CancelledError, RateLimitError, TooLongError, TransientError, TrialError
from llmlab.records import BATCH, Trial
from llmlab.results import Journal

SLICE = 500
"""So many lines are written, or read, before others on the event loop have a turn."""
LOOK_AGAIN_S = (0.0, 1.0, 3.0)
"""Waits before a batch whose creation may have been on its way is looked for: it may be listed late."""
WORTH_IT = 0.1
"""Where the budget has room for a smaller share of what is left, nothing more is submitted."""


@dataclass(slots=True)
class Batch:
    """A batch that the provider has.

    Attributes
    ----------
    nonce, model : str
    state : BatchState
        As of the last time that the provider knew it.
    asked : dict of Asked
        The trials in it by the names of their lines, in the order of the lines.
    worst_usd : float
        US dollars put aside for each line.
    answer_form : str or None
        How the form of the answers was asked for; `None` if an earlier session did.
    number : int
        From 1; 0 as long as it has none.
    lacking_since : float
        Since when the provider does not know it, or does not have all its results, by `time.monotonic`; infinite if it
        is not so.
    is_cancelled : bool
        Whether the provider was asked to cancel it.
    """

    nonce: str
    model: str
    state: BatchState
    asked: dict[str, Asked]
    worst_usd: float
    answer_form: str | None
    number: int = 0
    lacking_since: float = math.inf
    is_cancelled: bool = False


@dataclass(slots=True)
class _Draft:
    """A batch that is being written."""

    lines: list[bytes]
    asked: dict[str, Asked]
    noted: list[tuple[Trial, int, list[dict]]]
    worst_usd: float = 0.0
    answer_form: str = ""
    # Whether the budget had no room for more.
    is_cut: bool = False


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

    Attributes
    ----------
    on_its_way : int
        Batches that are noted in the journal and of which it is not known whether the provider has them.
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
        self.on_its_way = 0

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
            A `Stop` if `max_cost_usd` leaves no room, or the provider takes no batch of a model; `None` if nothing can
            be submitted now.
        """
        for model, waiting in self._waiting.items():
            while waiting and not self._patience.is_over and not self._must_wait(model, open_batches):
                draft = await self._draft(waiting, self._most.get(model, self._most_lines))
                too_few = draft.is_cut and len(draft.asked) <= WORTH_IT * len(waiting)
                if draft.asked and not too_few and not self._patience.is_over:
                    submitted = await self._submit(model, draft, open_batches)
                    if submitted is not None:
                        return submitted
                    continue
                waiting.extendleft(reversed(draft.asked.values()))
                if draft.is_cut and not open_batches:
                    return self._writer.no_room(self._writer.write(waiting[0], BATCH))
                break
        return None

    def _must_wait(self, model: str, open_batches: Mapping[str, Batch]) -> bool:
        """Whether the queue is full as long as the model's batches are in it."""
        return model in self._full and any(batch.model == model for batch in open_batches.values())

    def make_room(self, model: str, lines: int, open_batches: Mapping[str, Batch], said: str) -> Stop | None:
        """A batch did not get in: one of the model at a time from now on, and smaller ones if it was alone.

        Parameters
        ----------
        lines : int
            How many it had.
        said : str
            What the provider said.

        Returns
        -------
        Stop or None
            The model ends if not even one request fits.
        """
        self._full.add(model)
        if self._must_wait(model, open_batches):
            return None
        if lines == 1:
            return Stop(f"batch: {said}", frozenset({model}), "RateLimitError")
        self._most[model] = lines // 2
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
            draft.is_cut = not budget.has_room(draft.worst_usd + request.worst_usd)
            if draft.is_cut or size + len(data) > self._most_bytes:
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

    async def _submit(self, model: str, draft: _Draft, open_batches: Mapping[str, Batch]) -> Batch | Stop | None:
        """Submit a batch; `None` if it has to wait, or to be smaller."""
        nonce = secrets.token_hex(12)
        await self._journal.note_batch(nonce, self._account, model, draft.noted)
        self.on_its_way += 1
        try:
            file_id = await self._patience.until_done(lambda: self._client.upload(b"".join(draft.lines)))
        except AttemptError as error:
            return self._refused(nonce, model, draft, open_batches, error)
        try:
            state = await create(self._client, self._patience, file_id, nonce)
        except AttemptError as error:
            if isinstance(error, (TransientError, CancelledError)) and not isinstance(error, RateLimitError):
                # It may have come about: the next session looks for it.
                raise
            return self._refused(nonce, model, draft, open_batches, error)
        await self._journal.batch_submitted(nonce, state.batch_id)
        self.on_its_way -= 1
        self._writer.budget.put_aside(draft.worst_usd, len(draft.asked))
        each = draft.worst_usd / len(draft.asked)
        return Batch(nonce, model, state, draft.asked, each, draft.answer_form)

    def _refused(
        self, nonce: str, model: str, draft: _Draft, open_batches: Mapping[str, Batch], error: AttemptError
    ) -> Stop | None:
        """The provider took no such batch.

        Raises
        ------
        AttemptError
            It takes none at all.
        """
        self._journal.forget_batch(nonce)
        self.on_its_way -= 1
        self._waiting[model].extendleft(reversed(draft.asked.values()))
        if isinstance(error, TooLongError) and len(draft.asked) == 1:
            self._intake.keep_unsent(self._waiting[model].popleft().trial, error)
            return None
        if isinstance(error, (RateLimitError, TooLongError)):
            return self.make_room(model, len(draft.asked), open_batches, str(error))
        if error.ends in ("trial", "model"):
            return Stop(f"batch: {error}", frozenset({model}), type(error).__name__)
        raise error


async def create(client: BatchClient, patience: Patience, file_id: str, nonce: str) -> BatchState:
    """Create a batch of an uploaded file, once.

    Raises
    ------
    AttemptError
        The last failure. After a `TransientError` that is no `RateLimitError` it may have come about all the same.
    """
    unsure: set[str] = set()

    async def attempt() -> BatchState:
        found = await created(client, patience, unsure)
        unsure.clear()
        try:
            return found[nonce] if nonce in found else await client.create(file_id, nonce)
        except RateLimitError:
            raise
        except TransientError:
            unsure.add(nonce)
            raise

    return await patience.until_done(attempt)


async def created(client: BatchClient, patience: Patience, nonces: Collection[str]) -> dict[str, BatchState]:
    """Of batches of which it is not known whether they were created those that were, by nonce."""
    found: dict[str, BatchState] = {}
    for wait_s in LOOK_AGAIN_S:
        lacking = set(nonces) - found.keys()
        if lacking:
            await patience.sleep(wait_s)
            found |= await patience.until_done(lambda lacking=lacking: client.find(lacking))
    return found


def fingerprint(account: str) -> str:
    """Tells whose queue it is, and no key."""
    return hashlib.blake2b(account.encode(), digest_size=8).hexdigest()
