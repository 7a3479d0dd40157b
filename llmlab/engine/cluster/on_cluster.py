"""An experiment on a cluster: its trials go to the workers in parts, and what they make comes back.

Each worker carries out an ordinary run over shared limits (`remote`); the experiment asks each for a report a few times
a second (`desk`). What is with a worker that dies is given to the others.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from llmlab.display import Tally
from llmlab.engine.attempt import Attempts
from llmlab.engine.cluster.dask_workers import ClientClosed, Hired, Workers
from llmlab.engine.cluster.desk import MOST_LOSSES, Desk, Ends
from llmlab.engine.cluster.member import Member
from llmlab.engine.cluster.outfit import kit_of
from llmlab.engine.cluster.travel import Orders, Report, Sealed, sealed
from llmlab.engine.queue import Asked
from llmlab.engine.setup import Setup
from llmlab.engine.stages import AllLive
from llmlab.engine.verdict import Stop
from llmlab.errors import InputError
from llmlab.results import Journal, NoJournal, Store

logger = logging.getLogger("llmlab.engine")

LOOK_S = 0.5
SCHEDULER_GONE_S = 10.0
STOP_PATIENCE_S = 5.0
TRIES, TRY_AGAIN_S = 5, 0.5


class OnCluster(AllLive):
    """All trials are asked by the workers of a cluster; the parameters are those of `Desk`."""

    def __init__(
        self,
        setup: Setup,
        positions: Sequence[int],
        store: Store,
        journal: Journal | NoJournal,
        attempts: Attempts,
        ended: Mapping[str, Stop],
        ends: Ends,
    ) -> None:
        super().__init__(setup, positions, store)
        self._ends = ends
        self._desk = Desk(setup, positions, store, journal, attempts, ended, ends)
        self._members = self._desk.members
        self._kit = kit_of(setup, journal.session, keeps_messages=isinstance(journal, Journal))
        self._workers = Workers(setup.cluster)
        # Workers that cannot take part and why; how often each was lost.
        self._dismissed: dict[str, Exception] = {}
        self._losses: Counter[str] = Counter()
        self._over = asyncio.Event()

    def first(self) -> list[Iterator[Asked]]:
        """Nothing is asked in this process."""
        return []

    async def begin(self) -> None:
        """Have every trial asked; returns when all have ended or the run is stopped."""
        look = asyncio.ensure_future(self._look_for_workers())
        look.add_done_callback(lambda _: self._over.set())
        try:
            await self._over.wait()
        finally:
            look.cancel()
        if look.done() and not look.cancelled():
            look.result()

    def leave(self, grace_s: float | None) -> None:
        """Have nothing more asked; what is in flight ends, within `grace_s` seconds if given."""
        self._desk.close(grace_s)
        if grace_s is not None:
            asyncio.get_running_loop().call_later(grace_s + STOP_PATIENCE_S, self._let_all_go)
        self._end_if_over()

    async def close(self) -> None:
        """Nobody is at work any more when this returns."""
        if self._members:
            self.leave(0.0)
        await asyncio.gather(*(member.task for member in self._members.values()), return_exceptions=True)
        self._desk.forget_wishes()

    def count(self, tally: Tally) -> None:
        """Add what is under way at the workers."""
        members = self._members.values()
        tally.in_flight = sum(member.in_flight for member in members)
        tally.waiting = sum(member.waiting for member in members)
        tally.retrying = sum(member.retrying for member in members)

    def _let_all_go(self) -> None:
        for member in self._members.values():
            member.task.cancel()

    def _end_if_over(self) -> None:
        if not self._members and (self._desk.closing or self._desk.all_done):
            self._over.set()

    # who takes part

    async def _look_for_workers(self) -> None:
        """Hire who is there and who comes, and let go who is gone."""
        reached = heard = time.monotonic()
        while not self._over.is_set():
            now = time.monotonic()
            try:
                addresses = await self._workers.addresses()
            except Exception as error:
                if now - reached > SCHEDULER_GONE_S or isinstance(error, ClientClosed):
                    self._ends.end(Stop(f"the scheduler of the cluster cannot be reached: {error!r}"))
                    self._let_all_go()
            else:
                reached = now
                for gone in self._members.keys() - addresses:
                    self._members[gone].task.cancel()
                self._hire(addresses - self._members.keys() - self._dismissed.keys())
            heard = max([heard, *(member.reported_at for member in self._members.values())])
            if not self._members and self._dismissed:
                self._nobody_can(list(self._dismissed.values())[-1])
            elif now - heard > self._setup.policy.outage_s:
                self._ends.end(Stop(f"no worker of the cluster has reported for {now - heard:,.0f} s"))
                self._let_all_go()
            self._end_if_over()
            await asyncio.sleep(LOOK_S)

    def _hire(self, addresses: set[str]) -> None:
        if self._desk.closing or self._desk.all_done:
            return
        for address in sorted(addresses):
            member = self._members[address] = Member(address, news=dict(self._desk.answered))
            member.task = asyncio.ensure_future(self._work_with(member))

    def _nobody_can(self, why: Exception) -> None:
        if isinstance(why, InputError):
            self._ends.fail(why)
        else:
            self._ends.end(Stop(f"no worker of the cluster can take part: {type(why).__name__}: {why}"))

    async def _work_with(self, member: Member) -> None:
        """Everything from hiring a worker to its last report."""
        try:
            hired = await self._workers.hire(member.address)
            await hired.begin(self._kit)
            while not member.over:
                report = await _exchanged(hired, sealed(self._desk.orders_for(member)))
                await self._take(member, report.opened())
        except InputError as error:
            self._dismiss(member, error)
        except Exception as error:
            logger.warning("The worker %s is lost: %s: %s", member.address, type(error).__name__, error)
            self._losses[member.address] += 1
            if self._losses[member.address] >= MOST_LOSSES:
                self._dismiss(member, error)
        finally:
            del self._members[member.address]
            try:
                await self._desk.take_back(member)
            except Exception as bug:
                self._ends.fail(bug)
            self._end_if_over()

    async def _take(self, member: Member, report: Report) -> None:
        try:
            for reason in await self._desk.take(member, report):
                self._dismiss(member, ConnectionError(reason))
        except Exception as bug:
            # What cannot be taken in would be asked again, paid, and not taken in again.
            self._ends.fail(bug)
            raise

    def _dismiss(self, member: Member, why: Exception) -> None:
        logger.warning("The worker %s takes no part: %s", member.address, why)
        self._dismissed[member.address] = why


async def _exchanged(hired: Hired, orders: Sealed[Orders]) -> Sealed[Report]:
    """The report on these orders; a connection that broke is tried again."""
    for _ in range(TRIES - 1):
        try:
            return await hired.exchange(orders)
        except OSError:
            await asyncio.sleep(TRY_AGAIN_S)
    return await hired.exchange(orders)
