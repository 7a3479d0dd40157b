"""A cap on what an experiment may cost, which calls in flight cannot break."""

from __future__ import annotations

import asyncio
import math

from llmlab.analysis import Total


class Budget:
    """Puts the worst case of every call aside before it is sent, and settles it when its cost is known.

    Parameters
    ----------
    cap_usd : float or None
        US dollars; `None` is no cap.

    Attributes
    ----------
    spent_usd : float
        What the settled calls cost; a call of unknown cost counts at its worst case.
    """

    def __init__(self, cap_usd: float | None) -> None:
        self._cap_usd = math.inf if cap_usd is None else cap_usd
        self._total = Total()
        self._assumed_usd = 0.0
        self._aside_usd = 0.0
        self._calls = 0
        self._settled = asyncio.Event()

    @property
    def spent_usd(self) -> float:
        """US dollars, unknown costs at their worst case."""
        return self._total.known + self._assumed_usd

    async def reserve(self, worst_usd: float) -> bool:
        """Put `worst_usd` aside, waiting for calls in flight to settle; False if the cap leaves no room for it."""
        while self.spent_usd + self._aside_usd + worst_usd > self._cap_usd:
            if self.spent_usd + worst_usd > self._cap_usd or not self._calls:
                return False
            self._settled.clear()
            await self._settled.wait()
        self._aside_usd += worst_usd
        self._calls += 1
        return True

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
