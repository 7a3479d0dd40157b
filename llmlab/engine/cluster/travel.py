"""What travels between an experiment and its workers on a cluster.

    experiment ─Kit, then Orders with Parts→ worker ─Report with what was made→ experiment

Everything is sealed before it travels: in a task, a log or a dashboard it would show as a few bytes without a content.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import pandas as pd

from llmlab.client import Endpoint
from llmlab.engine.verdict import Stop
from llmlab.errors import AttemptError
from llmlab.limits import LimiterSettings

T = TypeVar("T")


class Sealed(Generic[T]):
    """Something in bytes; its repr does not show it."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __repr__(self) -> str:
        return "<sealed>"

    def __len__(self) -> int:
        return len(self._data)

    def __reduce__(self) -> tuple[type, tuple[bytes]]:
        return Sealed, (self._data,)

    def opened(self) -> T:
        """What was sealed."""
        return pickle.loads(self._data)


def sealed(what: T) -> Sealed[T]:
    """Seal something; classes and functions of a notebook travel by value.

    Raises
    ------
    Exception
        It holds what cannot travel, such as an open file or a lock.
    """
    import cloudpickle

    return Sealed(cloudpickle.dumps(what))


@dataclass(frozen=True, slots=True, kw_only=True)
class Kit:
    """What a worker needs before its first part.

    Attributes
    ----------
    settings : mapping
        Fields of `Setup`.
    units : DataFrame
        The units' columns, without a row.
    endpoint : Endpoint
        With the key, which travels nowhere else.
    limiters : mapping
        Model → settings of its own limiter; `None` → those of the key's.
    own_limiter : bool
        Whether the limiter is the user's own, and in no registry.
    shared : str
        Where the limits are shared.
    host, version : str
        The machine of the experiment, and its version of llmlab.
    session : int
        Number of the session, for the attempts.
    keeps_messages : bool
        Whether what is sent has to come back for the journal.
    """

    settings: Mapping[str, Any] = field(repr=False)
    units: pd.DataFrame = field(repr=False)
    endpoint: Endpoint
    limiters: Mapping[str | None, LimiterSettings]
    own_limiter: bool
    shared: str
    host: str
    version: str
    session: int
    keeps_messages: bool


@dataclass(frozen=True, slots=True)
class ToAsk:
    """A trial that a worker is to ask.

    Attributes
    ----------
    position : int
        Of the trial in the experiment.
    row : int
        Of its unit in the part.
    model : str
    prompt : str or None
    run : int
    before : int
        Attempts that it has had.
    """

    position: int
    row: int
    model: str
    prompt: str | None
    run: int
    before: int


@dataclass(frozen=True, slots=True)
class Part:
    """Some trials, with the units that they are about."""

    units: pd.DataFrame
    trials: tuple[ToAsk, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """What a worker is told.

    Attributes
    ----------
    number : int
        From 1; orders that come twice are followed once.
    slots : int
        Most requests that it may have in flight.
    part : Part or None
        Further trials.
    ended : mapping
        The models that have ended, and why.
    answered : mapping
        The models of which another worker got an answer since the last orders, with the form that it was asked for in.
    granted : mapping
        Number of a wish for money → whether it is granted.
    spent_usd : float
        What the experiment has cost so far.
    stops : bool
        Whether the run ends: nothing more is sent.
    grace_s : float or None
        How many seconds what is in flight has then; `None` if as many as it needs.
    no_more : bool
        Whether no further part will come.
    hold_s, gather_s : float
        How long to wait for something to report, and from then on for more of it.
    """

    number: int
    slots: int
    part: Part | None = None
    ended: Mapping[str, Stop] = field(default_factory=dict)
    answered: Mapping[str, str | None] = field(default_factory=dict)
    granted: Mapping[int, bool] = field(default_factory=dict)
    spent_usd: float = 0.0
    stops: bool = False
    grace_s: float | None = None
    no_more: bool = False
    hold_s: float = 0.25
    gather_s: float = 0.05


@dataclass(frozen=True, slots=True)
class Made:
    """An attempt that was made.

    Attributes
    ----------
    position : int
        Of its trial.
    is_last : bool
        Whether the trial has ended with it.
    cells : tuple
        Its fields, as `ATTEMPT.cells` gives them.
    value : object
        The prediction.
    messages : list of messages
        What was sent, if the journal needs it.
    """

    position: int
    is_last: bool
    cells: tuple[Any, ...]
    value: Any
    messages: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Settled:
    """A call for which money was put aside has ended; see `Budget.settle`."""

    worst_usd: float
    cost_usd: float | None
    may_be_billed: bool


@dataclass(slots=True)
class Told:
    """What a worker tells once.

    Attributes
    ----------
    made : list of Made
        Attempts, in the order in which they ended.
    unsent : list of (int, AttemptError)
        Trials that ended without an attempt.
    wishes : dict
        Number → US dollars that are to be put aside for a call.
    settled : list of Settled
    """

    made: list[Made] = field(default_factory=list)
    unsent: list[tuple[int, AttemptError]] = field(default_factory=list)
    wishes: dict[int, float] = field(default_factory=dict)
    settled: list[Settled] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a worker tells.

    Attributes
    ----------
    told : Told
        What happened since the last report.
    in_flight : int
        Requests in flight.
    exposed : tuple of int
        The trials whose requests are, or will be in this moment.
    slots_used, waiting, retrying : int
        Slots taken, trials that wait for the limiter, and trials that wait for their next attempt.
    last_retry_s : float
        Seconds until the last of these is asked again.
    idle : bool
        Whether nothing is left of what it was given.
    ended : mapping
        The models that have ended here, and why.
    stops : tuple of Stop
        Why the run ends before its time; usually empty.
    bug : Exception or None
        What the user's own code raised.
    over : bool
        Whether this is the last report.
    """

    told: Told
    in_flight: int
    exposed: tuple[int, ...]
    slots_used: int
    waiting: int
    retrying: int
    last_retry_s: float
    idle: bool
    ended: Mapping[str, Stop]
    stops: tuple[Stop, ...]
    bug: Exception | None
    over: bool
