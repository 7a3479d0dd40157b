"""How many requests may be in flight: a few at first, as many as allowed soon, and fewer where a provider is full."""

from __future__ import annotations

import time

FIRST_SLOTS = 16
NARROWING = 0.5
WIDENING = 1 / 8


class Width:
    """The number of slots at present.

    Parameters
    ----------
    most : int
        Never more.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._allowed: float = min(FIRST_SLOTS, most)
        # Never narrowed yet: the number of slots still doubles.
        self._ramping = True
        self._narrowed_at = 0.0

    @property
    def allowed(self) -> int:
        """Slots at present."""
        return int(self._allowed)

    @property
    def grows(self) -> bool:
        """Whether it doubles until it is at its most."""
        return self._ramping and self._allowed < self._most

    def double(self) -> None:
        """A moment has passed since it began."""
        self._allowed = min(2 * self._allowed, self._most)

    def begin(self) -> None:
        """Begin with a few again, after a rest."""
        if self._ramping:
            self._allowed = min(self._allowed, FIRST_SLOTS)

    def allow(self, most: int) -> bool:
        """Never more than `most` from now on; returns whether that is more than before."""
        grows, self._most = most > self._most, most
        # Where there was no slot at all, no answer could come that asks for more of them.
        least = FIRST_SLOTS if self._ramping else 1
        self._allowed = min(max(self._allowed, least), most)
        return grows

    def narrow(self, sent_at: float, room: float) -> None:
        """Allow half as many slots as there was room for; once for all requests that were in flight together.

        Parameters
        ----------
        sent_at : float
            When the request was sent for which this is done, by `time.monotonic`.
        room : float
            How many requests the provider seems to work on.
        """
        if self._ramping or sent_at >= self._narrowed_at:
            self._ramping, self._narrowed_at = False, time.monotonic()
            self._allowed = min(self._allowed, max(1.0, NARROWING * room))

    def widen(self) -> None:
        """An answer came: after a narrowing, eight of them make one slot more."""
        if not self._ramping:
            self._allowed = min(self._allowed + WIDENING, self._most)
