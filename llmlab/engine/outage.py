"""When nobody answers: how one tells, who may knock, how often, and when it is given up.

A failure that means "nobody there" (`AttemptError.away`) is an outage unless others of the same model get through
meanwhile; then it means too many at once. In an outage the trials wait, and one at a time is sent as a probe. It is an
outage of one model if a gateway answers for it, and of all if there is not even a connection. This module decides with
plain numbers; the engine waits and sends.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from llmlab.errors import AttemptError

FIRST_PROBE_S, LONGEST_PROBE_S = 2.0, 30.0
SURE_AFTER = 3
REFUSED_STOP = 5


@dataclass(frozen=True, slots=True)
class Mark:
    """What was known of a model when a request was sent: how often it had been heard of, and of anyone."""

    model: str
    heard: int
    heard_any: int


@dataclass(frozen=True, slots=True)
class Away:
    """Nobody is there.

    Attributes
    ----------
    models : frozenset of str
        Those whose trials have to wait.
    everyone : bool
        Whether the whole endpoint is away, not only one model.
    probe_in_s : float
        Seconds until the next probe.
    stop : str
        Why the run is given up; empty if it is not.
    """

    models: frozenset[str]
    everyone: bool
    probe_in_s: float = 0.0
    stop: str = ""


@dataclass(slots=True)
class _Presence:
    """What is known of one model, or of the whole endpoint."""

    heard: int = 0
    failures: int = 0
    away_since: float = math.inf
    probes: int = 0
    hint_s: float | None = None

    @property
    def away(self) -> bool:
        return self.away_since < math.inf

    def hear(self) -> bool:
        """Somebody is there; returns whether that ends an outage."""
        self.heard += 1
        self.failures = 0
        over, self.away_since = self.away, math.inf
        return over

    @property
    def probe_in_s(self) -> float:
        """Seconds until the next probe: what the server asks for, else 2, 4, 8 … 30 s."""
        if self.hint_s is not None:
            return self.hint_s
        return min(LONGEST_PROBE_S, FIRST_PROBE_S * 2.0**self.probes)


@dataclass(slots=True)
class Outages:
    """Who is away, of the models of one run.

    Parameters
    ----------
    models : iterable of str
    outage_s : float
        Seconds after which an outage is given up.
    clock : callable
        Seconds that never run backwards.
    """

    models: Iterable[str]
    outage_s: float
    clock: Callable[[], float] = time.monotonic
    _all: _Presence = field(default_factory=_Presence)
    _each: dict[str, _Presence] = field(init=False)
    _refused: int = 0

    def __post_init__(self) -> None:
        self._each = {model: _Presence() for model in self.models}

    def mark(self, model: str) -> Mark:
        """To be taken when a request is sent."""
        return Mark(model, self._each[model].heard, self._all.heard)

    def is_away(self, model: str) -> bool:
        """Whether nobody is there for this model."""
        return self._all.away or self._each[model].away

    def got_through(self, mark: Mark) -> int:
        """How many requests of the same model were heard of since a request was sent."""
        return self._each[mark.model].heard - mark.heard

    def heard(self, mark: Mark, *, away: bool) -> frozenset[str]:
        """An HTTP answer came; returns the models that may be asked again.

        Parameters
        ----------
        away : bool
            Whether it says that nobody is there for this model: then it is only the endpoint that answers.
        """
        ended = self._all.hear()
        if not away:
            ended = self._each[mark.model].hear() or ended
        return frozenset(model for model, one in self._each.items() if not one.away) if ended else frozenset()

    def failed(self, mark: Mark, error: AttemptError, *, answered: bool, last: bool) -> Away | None:
        """Whether a failure that means "nobody there" is an outage.

        Parameters
        ----------
        answered : bool
            Whether it is the answer of a gateway; otherwise there was no connection.
        last : bool
            Whether the trial would end with it: then the others are not given up before one of them has been asked.

        Returns
        -------
        Away or None
            `None` if it is one attempt's own failure.
        """
        one = self._each[mark.model] if answered else self._all
        if one.heard > (mark.heard if answered else mark.heard_any):
            return None
        if not answered and not one.heard:
            self._refused += 1
            if self._refused < REFUSED_STOP:
                return None
            reason = f"nobody answers at base_url, the first {REFUSED_STOP} requests got no connection: {error}"
            return self._away(one, mark.model, reason)
        one.failures += 1
        one.hint_s = error.retry_after_s
        now = self.clock()
        if not one.away:
            if one.heard and one.failures < SURE_AFTER and not last:
                return None
            one.away_since, one.probes = now, 0
        away_s = now - one.away_since
        return self._away(
            one, mark.model, f"nobody answered for {away_s:,.0f} s: {error}" if away_s > self.outage_s else ""
        )

    def next_probe(self, models: frozenset[str]) -> float | None:
        """After a probe of models on hold: seconds until the next one, or `None` if they are back."""
        for one in self._presences(models):
            if one.away:
                one.probes += 1
                return one.probe_in_s
        return None

    def _away(self, one: _Presence, model: str, stop: str) -> Away:
        everyone = one is self._all
        return Away(frozenset(self._each) if everyone else frozenset({model}), everyone, one.probe_in_s, stop)

    def _presences(self, models: frozenset[str]) -> list[_Presence]:
        """What a hold of these models may rest on: the endpoint's absence, or that of the only one."""
        endpoint = [self._all] if models == self._each.keys() else []
        return endpoint + [self._each[model] for model in models if len(models) == 1]
