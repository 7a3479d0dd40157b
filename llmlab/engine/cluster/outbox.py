"""What stands on a worker for the experiment's journal, store and budget: all of them are kept by the experiment."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from llmlab.engine.budget import Budget
from llmlab.engine.cluster.travel import Made, Settled, Told
from llmlab.errors import AttemptError
from llmlab.records import ATTEMPT, TokenUsageAttempt, Trial
from llmlab.results import NoJournal, Store

MOST_UNTOLD = 1000
LOOK_S = 0.02


class Outbox(NoJournal):
    """Attempts on their way to the experiment; in the place of a journal.

    They are kept until the experiment has them. When more than a thousand wait, further ones hold their slots: a
    worker whose experiment does not listen comes to rest.

    Parameters
    ----------
    session : int
        Number of the experiment's session.
    keeps_messages : bool
        Whether what is sent has to travel along.
    """

    def __init__(self, session: int, *, keeps_messages: bool) -> None:
        super().__init__(session)
        self._told = Told()
        self._keeps_messages = keeps_messages
        # Trials that go on and whose messages have been told.
        self._noted: set[int] = set()
        self._something = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()

    def put(self, attempt: TokenUsageAttempt, value: object, messages: list[dict[str, Any]]) -> Awaitable[None]:
        """Queue one attempt; what is returned is done once there is room for the next."""
        position = attempt.trial.position
        first = self._keeps_messages and position not in self._noted
        is_last = attempt.retry_in_s is None
        self._told.made.append(Made(position, is_last, ATTEMPT.cells(attempt), value, messages if first else []))
        if is_last:
            self._noted.discard(position)
        else:
            self._noted.add(position)
        self._something.set()
        if len(self._told.made) < MOST_UNTOLD:
            return super().put(attempt, value, messages)
        self._room.clear()
        return self._has_room()

    async def _has_room(self) -> None:
        await self._room.wait()

    def put_failure(self, trial: Trial, error: AttemptError) -> None:
        """Queue the failure of a trial that was not sent."""
        self._told.unsent.append((trial.position, error))
        self._something.set()

    def wish(self, number: int, worst_usd: float) -> None:
        """Ask for money."""
        self._told.wishes[number] = worst_usd
        self._something.set()

    def settle(self, settled: Settled) -> None:
        """Tell what became of it."""
        self._told.settled.append(settled)
        self._something.set()

    def wake(self) -> None:
        """There is something to report that is not kept here."""
        self._something.set()

    async def wait(self, hold_s: float, gather_s: float, is_idle: Callable[[], bool]) -> None:
        """Until there is something to report, and a moment longer, as more of it will come.

        A report costs some milliseconds of CPU at every end, so few of them carry much. Who waits for money, or has
        nothing left to do, does not wait for more.
        """
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._something.wait(), hold_s)
        for _ in range(round(gather_s / LOOK_S)):
            if self._told.wishes or is_idle():
                return
            await asyncio.sleep(LOOK_S)

    def take(self) -> Told:
        """What is to be told; it is here no longer."""
        told, self._told = self._told, Told()
        self._something.clear()
        self._room.set()
        return told


class Elsewhere(Store):
    """The store of a worker, which keeps nothing: what was answered has been sent home."""

    def record(self, attempt: TokenUsageAttempt, value: Any = None) -> None:
        """It is kept by the experiment."""

    def fail_as(self, position: int, error_type: str, error: str) -> None:
        """It is kept by the experiment."""


class RemoteBudget(Budget):
    """The budget of the experiment, seen from a worker: each call asks it for its worst case.

    Parameters
    ----------
    cap_usd : float
        US dollars.
    outbox : Outbox
        Takes the wishes along.
    """

    def __init__(self, cap_usd: float, outbox: Outbox) -> None:
        super().__init__(cap_usd)
        self._outbox = outbox
        self._numbers = itertools.count(1)
        self._waiting: dict[int, tuple[asyncio.Future[bool], float]] = {}
        self._spent_usd = 0.0

    @property
    def spent_usd(self) -> float:
        """US dollars that the whole experiment has cost, when last heard of."""
        return self._spent_usd

    async def reserve(self, worst_usd: float) -> bool:
        """Have `worst_usd` put aside; False if the cap leaves no room for it."""
        number = next(self._numbers)
        answer: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer, worst_usd
        self._outbox.wish(number, worst_usd)
        try:
            return await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled() and answer.result():
                self.release(worst_usd)
            raise

    def hear(self, granted: Mapping[int, bool], spent_usd: float) -> None:
        """The answers to wishes."""
        self._spent_usd = spent_usd
        for number, is_granted in granted.items():
            answer, worst_usd = self._waiting.pop(number)
            if not answer.done():
                answer.set_result(is_granted)
            elif is_granted:
                # Whoever asked has been taken back meanwhile.
                self.release(worst_usd)

    def settle(self, worst_usd: float, cost_usd: float | None, *, may_be_billed: bool) -> None:
        """The call for which `worst_usd` was put aside has ended."""
        self._outbox.settle(Settled(worst_usd, cost_usd, may_be_billed))
