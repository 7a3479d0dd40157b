"""A cap on what an experiment may cost, which calls in flight cannot break."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from llmlab.analysis import Total
from llmlab.display import CAPPED
from llmlab.engine.setup import Setup
from llmlab.results import Store

NOTHING = Total()


class Budget:
    """Puts the worst case of every call aside before it is sent, and settles it when its cost is known.

    Parameters
    ----------
    cap_usd : float or None
        US dollars; `None` is no cap.
    before : Total
        What the experiment has cost already, in earlier runs too.
    assumed_usd : float
        The worst case of its attempts of unknown cost.

    Attributes
    ----------
    spent_usd : float
        What the settled calls cost; a call of unknown cost counts at its worst case.
    """

    def __init__(self, cap_usd: float | None, before: Total = NOTHING, assumed_usd: float = 0.0) -> None:
        self._cap_usd = math.inf if cap_usd is None else cap_usd
        self._total = before
        self._assumed_usd = assumed_usd
        self._aside_usd = 0.0
        self._calls = 0
        self._settled = asyncio.Event()

    @property
    def spent_usd(self) -> float:
        """US dollars, unknown costs at their worst case."""
        return self._total.known + self._assumed_usd

    async def reserve(self, worst_usd: float) -> bool:
        """Put `worst_usd` aside, waiting for calls in flight to settle; False if the cap leaves no room for it."""
        while not self.has_room(worst_usd):
            if self.spent_usd + worst_usd > self._cap_usd or not self._calls:
                return False
            self._settled.clear()
            await self._settled.wait()
        self.put_aside(worst_usd, 1)
        return True

    def put_aside(self, worst_usd: float, calls: int) -> None:
        """Put aside what these calls may cost together; they are sent whether or not the cap leaves room."""
        self._aside_usd += worst_usd
        self._calls += calls

    def has_room(self, worst_usd: float) -> bool:
        """Whether this may be spent beside what is spent and put aside."""
        return self.spent_usd + self._aside_usd + worst_usd <= self._cap_usd

    def release(self, worst_usd: float) -> None:
        """The call for which `worst_usd` was put aside was not sent."""
        self.settle(worst_usd, None, may_be_billed=False)

    def settle(self, worst_usd: float, cost_usd: float | None, *, may_be_billed: bool) -> None:
        """The call for which `worst_usd` was put aside has ended.

        Parameters
        ----------
        cost_usd : float or None
            What it cost; `None` if that is not known.
        may_be_billed : bool
            Whether the provider may have charged for it.
        """
        self._calls -= 1
        # Without calls in flight nothing is aside; this forgets the rounding errors of the sums.
        self._aside_usd = self._aside_usd - worst_usd if self._calls else 0.0
        total = self._total.plus(cost_usd, may_be_billed)
        self._assumed_usd += worst_usd * (total.unknown - self._total.unknown)
        self._total = total
        self._settled.set()

    def refusal(self, worst_usd: float, *, is_limited: bool) -> str:
        """Why there is no room for a call, and what would make some.

        Parameters
        ----------
        is_limited : bool
            Whether the request limits its answer.
        """
        spent, worst = dollars(self.spent_usd), dollars(worst_usd)
        said = f"{CAPPED}{self._cap_usd:g} allows no further call: ${spent} spent, and one more may cost ${worst}"
        if is_limited:
            return f"{said}: raise max_cost_usd"
        return f"{said}, because its answer has no limit: set max_tokens, or raise max_cost_usd"


WorstUsd = Callable[[str, dict[str, Any]], float]
MakeBudget = Callable[[Setup, Store, WorstUsd], Budget]


def budget_of(setup: Setup, store: Store, worst_usd: WorstUsd) -> Budget:
    """The budget of a whole experiment: what earlier runs and the journal have of it counts.

    Parameters
    ----------
    worst_usd : callable
        Takes a model and a request, and gives what it may cost at most.
    """
    if setup.max_cost_usd is None:
        return Budget(None)
    table = store.table
    costs, billed = table.numbers("cost_usd"), np.array(table.array("may_be_billed", np.arange(len(table))))
    unknown = np.flatnonzero(np.isnan(costs) & billed).tolist()
    assumed_usd = 0.0
    for trial in setup.plan.trials([table.position[at] for at in unknown]):
        body = setup.body | {"model": trial.model, "messages": setup.asks.messages_of(trial)}
        assumed_usd += worst_usd(trial.model, body)
    return Budget(
        setup.max_cost_usd, Total(float(np.nansum(costs)), len(unknown), int(np.isfinite(costs).sum())), assumed_usd
    )


def dollars(amount: float) -> str:
    """An amount with at least two significant digits: `0.0025`, `0.20`, `12.00`."""
    if amount <= 0:
        return "0"
    return f"{amount:.{max(2, 1 - math.floor(math.log10(amount)))}f}"
