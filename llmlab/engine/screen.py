"""The view of a run, kept up to date, and never the reason to lose an experiment."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llmlab.display import Silent, Tally, View, make_view
from llmlab.engine.outlook import outlook
from llmlab.engine.probes import Probes
from llmlab.engine.queue import TrialQueue
from llmlab.engine.slots import Slots
from llmlab.limits import RateLimiter


class Screen:
    """Shows where a run stands; silent from the first time that the view fails.

    Parameters
    ----------
    progress : bool or str
        As in `llmlab.run_experiment`.
    tally : Tally
    limiters : sequence of RateLimiter
    stop : callable
        What the widget's button does.
    count : callable
        Adds to the tally what is under way in other processes.
    """

    def __init__(
        self,
        progress: bool | str,
        tally: Tally,
        limiters: Sequence[RateLimiter],
        stop: Callable[[str], object],
        count: Callable[[Tally], None],
    ) -> None:
        self._tally, self._limiters, self._count = tally, limiters, count
        self._view: View = make_view(progress, tally, stop)

    def show(
        self, trials: TrialQueue, slots: Slots, probes: Probes, stopped: str | None, *, last: bool = False
    ) -> None:
        """Show where the run stands.

        Parameters
        ----------
        stopped : str or None
            Why it ended early.
        last : bool
            Whether it has ended.
        """
        try:
            due = trials.retries_due
            self._tally.retrying = len(due)
            self._count(self._tally)
            self._tally.look(outlook(
                self._limiters, waiting=self._tally.waiting, retries_due=due,
                slots=max(slots.width.allowed, self._tally.in_flight),
                next_probe_s=probes.next_s,
            ))  # fmt: skip
            self._view.show(self._tally, last=last, stopped=stopped)
        except Exception:
            self._view = Silent()
