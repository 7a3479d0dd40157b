"""What a worker of a cluster carries out: the thread in which its run lives, and the object that dask knows."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
import traceback
from concurrent.futures import Future
from dataclasses import replace
from importlib.metadata import version

from llmlab.engine.cluster.outbox import Outbox
from llmlab.engine.cluster.travel import Kit, Made, Orders, Report, Sealed, sealed
from llmlab.errors import InputError
from llmlab.limits import share_limits, shared_place
from llmlab.records import ATTEMPT

logger = logging.getLogger("llmlab.engine")

SILENCE_S, LINGER_S = 60.0, 30.0


class Errand:
    """A run in a thread with an event loop of its own, so that the user's code never holds up the worker's.

    When the experiment has said nothing for a minute, the run ends: nobody would hear what it pays for.

    Attributes
    ----------
    begun : Future
        The thread's event loop, once the run has begun, or why it has not.
    """

    def __init__(self, kit: Sealed[Kit]) -> None:
        self.begun: Future[asyncio.AbstractEventLoop] = Future()
        self._over, self._number = False, 0
        self._bugs: list[Exception] = []
        self._heard_at = time.monotonic()
        threading.Thread(target=lambda: asyncio.run(self._main(kit)), name="llmlab worker", daemon=True).start()

    async def exchange(self, orders: Orders) -> Sealed[Report]:
        """Follow orders, and report as soon as there is something to tell; in the thread's event loop."""
        self._heard_at = time.monotonic()
        if orders.number != self._number:
            self._number = orders.number
            self._answer = asyncio.ensure_future(self._carry_out(orders))
        # Orders that come twice are answered twice and followed once.
        return await asyncio.shield(self._answer)

    async def _main(self, kit: Sealed[Kit]) -> None:
        try:
            # The run's module imports the one of the experiment, which imports this one.
            from llmlab.engine.cluster.remote import RemoteRun, RemoteSetup

            opened = _checked(kit.opened())
            share_limits(opened.shared)
            self._outbox = Outbox(opened.session, keeps_messages=opened.keeps_messages)
            setup = RemoteSetup(**opened.settings, units=opened.units, kit=opened)
            self._run = RemoteRun(setup, self._outbox)
        except BaseException as error:
            self.begun.set_exception(error)
            return
        self._told_all = asyncio.Event()
        self.begun.set_result(asyncio.get_running_loop())
        silence = asyncio.ensure_future(self._end_in_silence())
        try:
            await self._run.go()
        except Exception as raised:
            self._bugs.append(_that_travels(raised))
        self._over = True
        self._outbox.wake()
        await self._told_all.wait()
        silence.cancel()
        # For orders that come a second time, as the report on the first has got lost.
        await asyncio.sleep(LINGER_S)

    async def _end_in_silence(self) -> None:
        while True:
            await asyncio.sleep(SILENCE_S / 10)
            if time.monotonic() - self._heard_at > SILENCE_S:
                self._run.stop("the experiment has said nothing for a minute")
            if self._over and time.monotonic() - self._heard_at > 10 * SILENCE_S:
                self._told_all.set()

    async def _carry_out(self, orders: Orders) -> Sealed[Report]:
        self._run.follow(orders)
        if not self._over:
            await self._outbox.wait(orders.hold_s, orders.gather_s, lambda: self._over or self._run.is_idle)
        over = self._over
        report = self._run.report(self._bugs[0] if self._bugs else None, over=over)
        if over:
            self._told_all.set()
        try:
            return sealed(report)
        except Exception:
            return sealed(self._without_what_cannot_travel(report))

    def _without_what_cannot_travel(self, report: Report) -> Report:
        """A prediction that cannot be sent counts as an answer that could not be read, and ends the run."""
        made: list[Made] = []
        for one in report.told.made:
            try:
                sealed(one.value)
                made.append(one)
            except Exception as error:
                bug = TypeError(f"a prediction of type {type(one.value).__name__} cannot travel from a worker: {error}")
                self._bugs.append(bug)
                self._run.stop(f"an error in your code: {bug}")
                names = list(ATTEMPT.columns)
                cells = dict(zip(names, one.cells, strict=True))
                cells |= {"status": "parse_error", "error_type": "ParseError", "error": str(bug)}
                made.append(replace(one, cells=tuple(cells.values()), value=None))
        return replace(report, told=replace(report.told, made=made), bug=self._bugs[0] if self._bugs else None)


class Helper:
    """What dask knows of a worker's part in an experiment: an actor, which is empty until the experiment calls it.

    It is made without arguments: the key and the texts come with calls, of which dask keeps nothing. If dask makes it
    anew after a worker has died, it does nothing, so that nothing is paid twice.
    """

    def __init__(self) -> None:
        self._errands: list[Errand] = []

    async def begin(self, kit: Sealed[Kit]) -> None:
        """Begin a run.

        Raises
        ------
        InputError
            It cannot be carried out here.
        """
        errand = Errand(kit)
        await asyncio.wrap_future(errand.begun)
        self._errands.append(errand)

    async def exchange(self, orders: Sealed[Orders]) -> Sealed[Report]:
        """Pass on orders, and fetch a report."""
        for errand in self._errands:
            loop = errand.begun.result()
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(errand.exchange(orders.opened()), loop))
        raise LookupError("nothing was begun on this worker")


def _checked(kit: Kit) -> Kit:
    here, host = version("llmlab"), socket.gethostname()
    if here != kit.version:
        raise InputError(f"The worker on {host} has llmlab {here}, the experiment {kit.version}: install the same.")
    if "://" not in kit.shared and host != kit.host:
        raise InputError(
            f"The worker on {host} cannot share limits through the file {kit.shared} on {kit.host}: "
            'use ll.share_limits("redis://…").'
        )
    if shared_place() not in ("", kit.shared):
        raise InputError(f"The worker on {host} shares its limits elsewhere: {shared_place()}, not {kit.shared}.")
    return kit


def _that_travels(raised: Exception) -> Exception:
    """The exception with the worker's traceback, in a form that can be sent and opened."""
    told = "".join(traceback.format_exception(raised))
    try:
        sealed(raised).opened()
    except Exception:
        raised = RuntimeError(f"{type(raised).__name__}: {raised}")
    raised.add_note(f"On a worker of the cluster:\n{told}")
    return raised
