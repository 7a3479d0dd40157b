"""A worker's run: an ordinary one, whose trials come in parts while it goes on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from llmlab.client import Endpoint
from llmlab.engine.budget import Budget
from llmlab.engine.cluster.outbox import Elsewhere, Outbox, RemoteBudget
from llmlab.engine.cluster.travel import Kit, Orders, Part, Report
from llmlab.engine.queue import Asked
from llmlab.engine.resume import Start
from llmlab.engine.run import Run
from llmlab.engine.setup import Setup
from llmlab.limits import Limiters
from llmlab.prompts import Messages
from llmlab.records import Trial
from llmlab.units import Units


class Parts:
    """The trials that a worker was given and that have not ended, and what is sent about them."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._trials: dict[int, tuple[Mapping[str | None, Messages], int]] = {}

    def add(self, part: Part) -> list[Asked]:
        """Take in a part."""
        messages = self._setup.messages_about(Units(part.units))
        began, ids, asked = time.monotonic(), part.units.index, []
        for told in part.trials:
            self._trials[told.position] = messages, told.row
            trial = Trial(told.position, ids[told.row], told.model, told.run, told.prompt)
            asked.append(Asked(trial, told.before, began))
        return asked

    def messages_of(self, trial: Trial) -> list[dict[str, Any]]:
        """What is sent for one trial."""
        messages, row = self._trials[trial.position]
        return messages[trial.prompt].render(row)

    def forget(self, position: int) -> None:
        """The trial has ended."""
        self._trials.pop(position, None)


@dataclass(frozen=True, eq=False, kw_only=True)
class RemoteSetup(Setup):
    """The setup of an experiment whose endpoint and limiters come with a kit, and whose units come in parts."""

    kit: Kit = field(repr=False)

    @cached_property
    def endpoint(self) -> Endpoint:
        """Where the requests go, and with which key."""
        return self.kit.endpoint

    @cached_property
    def limiters(self) -> Limiters:
        """Limiters that count together with those of the experiment."""
        account = None if self.kit.own_limiter else self.endpoint.account
        return Limiters.like(self.kit.limiters, account, self.endpoint.base_url)

    @cached_property
    def asks(self) -> Any:
        """What is asked."""
        return Parts(self)


class RemoteRun(Run):
    """A run that does what the experiment orders, and reports.

    Parameters
    ----------
    setup : RemoteSetup
    outbox : Outbox
        What waits to be reported.
    """

    def __init__(self, setup: RemoteSetup, outbox: Outbox) -> None:
        self._outbox, self._parts = outbox, setup.asks
        cap = setup.max_cost_usd
        self._wishes = RemoteBudget(0.0 if cap is None else cap, outbox)
        budget = Budget(None) if cap is None else self._wishes
        super().__init__(setup, Start(Elsewhere(), outbox, ()), make_budget=lambda *_: budget)
        self._queue.expect_more()

    def follow(self, orders: Orders) -> None:
        """Do what is ordered."""
        self._wishes.hear(orders.granted, orders.spent_usd)
        self._attempts.hear(orders.answered)
        for model in orders.ended.keys() - self._ended.keys():
            self.end(replace(orders.ended[model], models=frozenset({model})))
        self._slots.allow(orders.slots)
        if orders.part is not None:
            asked = self._parts.add(orders.part)
            groups = self._setup.limiters.groups(self._setup.models)
            self._queue.add(iter([one for one in asked if one.trial.model in group]) for group in groups)
        if orders.no_more:
            self._queue.no_more()
        if orders.part is not None or orders.no_more:
            self._slots.open()
        if orders.stops:
            self._stop("stopped", orders.grace_s)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left of what it was given."""
        return not self._slots.used and self._queue.idle

    def report(self, bug: Exception | None, *, over: bool) -> Report:
        """Where it stands, and what was made since the last report."""
        now, retries, told = time.monotonic(), self._queue.retries_due, self._outbox.take()
        for one in told.made:
            if one.is_last:
                self._parts.forget(one.position)
        for position, _ in told.unsent:
            self._parts.forget(position)
        return Report(
            told=told, in_flight=self.tally.in_flight, exposed=self._slots.exposed, slots_used=self._slots.used,
            waiting=self.tally.waiting, retrying=len(retries), last_retry_s=max(retries, default=now) - now,
            idle=self.is_idle, ended=dict(self._ended), stops=tuple(self._causes), bug=bug, over=over,
        )  # fmt: skip
