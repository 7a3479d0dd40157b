"""How a simulated provider behaves: each setting is declared once, with its default, its range and its meaning.

The checks, the documentation and the options of `python -m llmlab.simulate` follow from that declaration.
"""

from __future__ import annotations

import inspect
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any

from llmlab.errors import InputError
from llmlab.simulate.faults import FAULTS

BATCH_FAULT_NAMES = ("none", "missing", "doubled", "errors", "expired", "cancelled", "failed", "gone")
"""Lines that are missing, doubled or in the error file; a batch that expires, is cancelled elsewhere, is refused whole,
or whose output file is gone."""


@dataclass(frozen=True)
class Kind:
    """What a setting may be.

    Attributes
    ----------
    range : str
        The values that fit, in words.
    fits : callable
        Whether a value fits.
    read : callable
        Makes a value of a text from the command line; raises `ValueError`.
    """

    range: str
    fits: Callable[[Any], bool]
    read: Callable[[str], Any]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _read_accuracies(text: str) -> dict[str, float]:
    pairs = (pair.rpartition("=") for pair in text.split(","))
    return {name: float(accuracy) for name, _, accuracy in pairs}


SECONDS = Kind("seconds, 0 or more", lambda value: _is_number(value) and value >= 0, float)
PERIOD = Kind("seconds, more than 0", lambda value: _is_number(value) and value > 0, float)
DURATION = Kind("seconds, more than 0, or None for ever", lambda value: value is None or PERIOD.fits(value), float)
SHARE = Kind("a share from 0 to 1", _is_share, float)
COUNT = Kind("a whole number, 0 or more", lambda value: _is_whole(value) and value >= 0, int)
LIMIT = Kind(
    "a whole number, 1 or more, or None for unlimited",
    lambda value: value is None or (_is_whole(value) and value >= 1),
    int,
)
SEED = Kind("a whole number", _is_whole, int)
SWITCH = Kind("True or False", lambda value: isinstance(value, bool), bool)
ACCURACIES = Kind(
    "an accuracy from 0 to 1 for each, as in {'small': 0.8}; on the command line small=0.8,large=0.9",
    lambda value: value is None or (isinstance(value, Mapping) and all(map(_is_share, value.values()))),
    _read_accuracies,
)
FAULT = Kind(
    f"one of {', '.join(FAULTS)}, or None",
    lambda value: value is None or (isinstance(value, str) and value in FAULTS),
    str,
)


BATCH_FAULTS = Kind(
    f"any of {', '.join(BATCH_FAULT_NAMES)}; on the command line missing,doubled",
    lambda value: isinstance(value, Sequence) and not isinstance(value, str) and set(value) <= set(BATCH_FAULT_NAMES),
    lambda text: tuple(text.split(",")),
)


def _setting(default: Any, kind: Kind, meaning: str) -> Any:
    return field(default=default, metadata={"kind": kind, "meaning": meaning})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a simulated provider behaves.

    {parameters}

    Raises
    ------
    InputError
        For a value out of range; it says the range.
    """

    latency_s: float = _setting(0.3, SECONDS, "from a request's arrival to its answer")
    jitter_s: float = _setting(0.0, SECONDS, "the most that a uniform draw adds to the latency")
    arrival_jitter_s: float = _setting(
        0.0, SECONDS, "the most, drawn uniformly, before the rate limit sees a request: the network's part"
    )
    requests_per_minute: int | None = _setting(None, LIMIT, "requests accepted in any 60 s, per API key")
    tokens_per_minute: int | None = _setting(None, LIMIT, "tokens accepted in any 60 s, per API key")
    limit: int | None = _setting(None, LIMIT, "requests accepted in any `period_s`, per API key")
    tokens: int | None = _setting(None, LIMIT, "tokens accepted in any `period_s`, per API key")
    period_s: float = _setting(60.0, PERIOD, "the period of `limit` and `tokens`")
    count_refused: bool = _setting(False, SWITCH, "whether refused requests use up the limit, as at some providers")
    max_in_flight: int | None = _setting(None, LIMIT, "requests worked on at a time; more are refused")
    accuracy: float = _setting(0.85, SHARE, "right categories over the 250 example tickets")
    models: Mapping[str, float] | None = _setting(None, ACCURACIES, "another accuracy for some models")
    malformed_rate: float = _setting(
        0.0,
        SHARE,
        "answers that are paid for and cannot be read: broken JSON, prose, an unknown label, or cut off",
    )
    error_rate: float = _setting(0.0, SHARE, "requests that get a 500; not billed")
    missing_usage_rate: float = _setting(0.0, SHARE, "answers that come without their token counts")
    cost: bool = _setting(False, SWITCH, "whether the usage has a `cost` in US dollars, as OpenRouter's has")
    fault: str | None = _setting(None, FAULT, "a fault of real providers that requests meet instead of an answer")
    fault_after: int = _setting(0, COUNT, "requests that are answered before the fault begins")
    fault_s: float | None = _setting(None, DURATION, "from the first request that meets the fault until it is over")
    batch_s: float = _setting(2.0, PERIOD, "from the creation of a batch to its end, a day at a real provider")
    batch_lines: int = _setting(50_000, COUNT, "the most requests in a batch")
    enqueued_tokens: int | None = _setting(None, LIMIT, "tokens that may wait in the batches of a model, per API key")
    batch_faults: Sequence[str] = _setting((), BATCH_FAULTS, "what the first, second, … batch meets")
    seed: int = _setting(
        0, SEED, "of every draw but the order of the two jitters: the same requests get the same answers"
    )

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if not kind_of(one).fits(value):
                raise InputError(f"{one.name}={value!r}: it must be {kind_of(one).range}.")
        for minute, other in (("requests_per_minute", "limit"), ("tokens_per_minute", "tokens")):
            if getattr(self, minute) is not None and (getattr(self, other) is not None or self.period_s != 60):
                raise InputError(f"{minute} is {other} with period_s=60; give one of them.")

    @property
    def window(self) -> tuple[int | None, int | None, float]:
        """Requests and tokens accepted in any period, and the period in seconds."""
        return self.requests_per_minute or self.limit, self.tokens_per_minute or self.tokens, self.period_s


def kind_of(one: Field[Any]) -> Kind:
    """What a field of `Settings` may be."""
    return one.metadata["kind"]


def meaning_of(one: Field[Any]) -> str:
    """What a field of `Settings` does, and the values it may have."""
    meaning = one.metadata["meaning"]
    return f"{meaning[0].upper()}{meaning[1:]} ({kind_of(one).range})"


def parameters() -> str:
    """The settings as a "Parameters" section in NumPy's form."""
    lines = ["Parameters", "----------"]
    for one in fields(Settings):
        lines += [f"{one.name} : {one.type}, default {one.default!r}"]
        lines += textwrap.wrap(f"{meaning_of(one)}.", 112, initial_indent="    ", subsequent_indent="    ")
    return "\n".join(lines)


def documented(text: str | None) -> str | None:
    """A docstring with its line "{parameters}" filled in; `None` where Python runs without docstrings."""
    return None if text is None else inspect.cleandoc(text).replace("{parameters}", parameters())
