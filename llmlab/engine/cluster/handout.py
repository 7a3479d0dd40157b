"""Which trials of an experiment on a cluster are with whom, and which are still to be given out."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

LEAST_AHEAD = 32
MOST_AHEAD = 4000
AHEAD_S = 0.75


class Handout:
    """Trials by position; those that are given back go first.

    Parameters
    ----------
    positions : iterable of int
        In the order in which they are to be asked.
    unit_of : callable
        Position → row of its unit: the trials of a unit stay together.
    """

    def __init__(self, positions: Iterable[int], unit_of: Callable[[int], int]) -> None:
        self._fresh: Iterator[int] = iter(positions)
        self._first: deque[int] = deque()
        self._unit_of = unit_of

    def take(self, most: int, is_over: Callable[[int], bool]) -> list[int]:
        """About so many of them; none if there are none left.

        Parameters
        ----------
        is_over : callable
            Says of which trials nothing has to be asked any more.
        """
        taken: list[int] = []
        while (position := self._next()) is not None:
            if is_over(position):
                continue
            if len(taken) >= most and self._unit_of(position) != self._unit_of(taken[-1]):
                self._first.appendleft(position)
                break
            taken.append(position)
        return taken

    def give_back(self, positions: Iterable[int]) -> None:
        """These were not asked to their end."""
        self._first.extendleft(sorted(positions, reverse=True))

    def clear(self) -> None:
        """Nothing more is given out."""
        self._fresh = iter(())
        self._first.clear()

    @property
    def empty(self) -> bool:
        """Whether nothing is left to give out."""
        position = self._next()
        if position is None:
            return True
        self._first.appendleft(position)
        return False

    def _next(self) -> int | None:
        return self._first.popleft() if self._first else next(self._fresh, None)


def ahead(sent: int, in_s: float) -> int:
    """How many trials a worker is to have before it: what it sends in three quarters of a second, at its late pace."""
    pace = sent / in_s if in_s > 0 else 0.0
    return max(LEAST_AHEAD, min(MOST_AHEAD, int(pace * AHEAD_S)))
