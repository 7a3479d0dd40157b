"""Several experiments as one: the same units, and the column `experiment` as a further arm."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from llmlab.errors import InputError
from llmlab.pandas_versions import text_array
from llmlab.records import Trial
from llmlab.results.book import Asks
from llmlab.results.results import Results
from llmlab.results.sent import Sent
from llmlab.results.store import Store

ONLY_PROMPT = "(the only prompt)"


def combine(**experiments: Results) -> Results:
    """Put the results of several experiments together: ``combine(march=a, now=b)``.

    Parameters
    ----------
    **experiments : Results
        By the name that they get in the column `experiment`.

    Returns
    -------
    Results
        With the trials and attempts of all, and the column `experiment`, by which every finding and chart tells them
        apart. They can be read, not asked again. `description` has that of each under `experiments`.

    Raises
    ------
    InputError
        Fewer than two, or not results; the same id means different units in two of them; their answers have different
        fields.
    """
    for name, one in experiments.items():
        _check(name, one)
    if len(experiments) < 2:
        raise InputError("combine takes two results or more, by name: combine(march=a, now=b).")
    _check_fields(experiments)
    units = _units({name: one.units for name, one in experiments.items()})
    prompts = any("prompt" in one._keys for one in experiments.values())
    store, keys, parts = Store(), [], []
    for name, one in experiments.items():
        parts.append(Part(sum(map(len, keys)), one._sent, "prompt" in one._keys))
        store.take_in(one._store, parts[-1].start)
        keys.append(_keys(one, name, units, prompts))
    return Results(
        keys=pd.concat(keys, ignore_index=True),
        units=units,
        store=store,
        stopped="; ".join(f"{name}: {one.stopped}" for name, one in experiments.items() if one.stopped) or None,
        running=any(one.running for one in experiments.values()),
        description=_description(experiments, units),
        sent=Several(tuple(parts)),
    )


@dataclass(frozen=True, slots=True)
class Part:
    """One of the experiments that were combined.

    Attributes
    ----------
    start : int
        The position of its first trial.
    sent : Sent
        What it sent.
    named : bool
        Whether its prompts have names.
    """

    start: int
    sent: Sent
    named: bool


@dataclass(frozen=True, slots=True)
class Several:
    """What several experiments sent."""

    parts: tuple[Part, ...]

    def messages(self, trial: Trial) -> list[dict[str, Any]]:
        """What was sent for one trial, by the experiment that it belongs to."""
        part = max((one for one in self.parts if one.start <= trial.position), key=lambda one: one.start)
        prompt = trial.prompt if part.named else None
        return part.sent.messages(replace(trial, position=trial.position - part.start, prompt=prompt))

    def asks(self) -> Asks:
        """They are asked each by itself."""
        raise InputError("These results are combined of several: save each of them, and combine what is loaded.")

    def portable(self) -> Several:
        """What can be pickled of each."""
        return Several(tuple(replace(one, sent=one.sent.portable()) for one in self.parts))


def _check(name: str, one: object) -> None:
    if not isinstance(one, Results):
        raise InputError(f"combine takes results by name, combine(march=a, now=b), and {name} is {type(one).__name__}.")
    if "experiment" in one._keys:
        raise InputError(f"{name} is combined already: pass the results that it was made of.")
    if "field" in one.description:
        raise InputError(f"{name} is one field of other results: combine those, and ask what comes out for the field.")


def _check_fields(experiments: Mapping[str, Results]) -> None:
    (first, one), *others = experiments.items()
    for name, other in others:
        if list(one.fields) != list(other.fields):
            had = " and ".join(
                f"{said} has {', '.join(of.fields) or 'none'}" for said, of in ((first, one), (name, other))
            )
            raise InputError(
                f"The answers have different fields: {had}. Read one of them anew first, as in "
                f"{name}.reparse(response_model=...)."
            )


def _units(frames: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """All units once, with all their columns; what one experiment does not know comes from another."""
    for (first, one), (second, other) in itertools.combinations(frames.items(), 2):
        _check_units(first, one, second, other)
    index = pd.Index(dict.fromkeys(itertools.chain(*(frame.index for frame in frames.values()))), name="unit_id")
    found = {}
    for column in dict.fromkeys(itertools.chain(*(frame.columns for frame in frames.values()))):
        every = [frame[column] for frame in frames.values() if column in frame]
        known = pd.concat([one.dropna() for one in every if one.notna().any()] or every[:1])
        found[column] = known[~known.index.duplicated()].reindex(index)
    return pd.DataFrame(found, index=index)


def _check_units(first: str, one: pd.DataFrame, second: str, other: pd.DataFrame) -> None:
    """The same id must mean the same unit.

    Raises
    ------
    InputError
        It does not.
    """
    shared = [unit for unit in one.index if unit in set(other.index)]
    for column in (name for name in one.columns if name in other):
        pairs = zip(shared, one.loc[shared, column], other.loc[shared, column], strict=True)
        for unit, ours, theirs in pairs:
            if not _is_unknown(ours) and not _is_unknown(theirs) and not _is_equal(ours, theirs):
                raise InputError(
                    f"The unit {unit!r} is not the same in {first} and {second}: its {column} is {ours!r:.80} and "
                    f"{theirs!r:.80}. Ids must mean the same units: name them in a column unit_id. If the column was "
                    "corrected since, run the earlier experiment again with the corrected units and its journal: its "
                    "answers come from there."
                )


def _is_unknown(cell: Any) -> bool:
    return cell is None or (pd.api.types.is_scalar(cell) and bool(pd.isna(cell)))


def _is_equal(a: Any, b: Any) -> bool:
    return bool(np.array_equal(a, b)) if isinstance(a, np.ndarray) or isinstance(b, np.ndarray) else bool(a == b)


def _keys(one: Results, name: str, units: pd.DataFrame, prompts: bool) -> pd.DataFrame:
    keys = one._keys
    place = {unit: at for at, unit in enumerate(units.index)}
    made: dict[str, Any] = {"unit": np.array([place[unit] for unit in keys["unit_id"]], "int64")}
    made |= {column: keys[column].array for column in ("unit_id", "model")}
    if prompts:
        made["prompt"] = keys["prompt"].array if "prompt" in keys else text_array([ONLY_PROMPT] * len(keys))
    return pd.DataFrame(made | {"experiment": text_array([name] * len(keys)), "run": keys["run"].array})


def _description(experiments: Mapping[str, Results], units: pd.DataFrame) -> dict[str, Any]:
    """What they have in common, and each one's own under `experiments`."""
    told = {name: one.description for name, one in experiments.items()}
    labels = [one.get("categories") for one in told.values()]
    # A unit that is an example for one of them is judged in none: the others would be asked about more units.
    examples = {
        unit
        for name, one in experiments.items()
        for unit in one.units.index[list(told[name].get("example_units") or [])]
    }
    return {
        "endpoint": " and ".join(dict.fromkeys(str(one.get("endpoint", "")) for one in told.values())),
        "models": _all(one.get("models") or () for one in told.values()),
        "categories": None if None in labels else _all(some or () for some in labels),
        "fields": next(iter(told.values())).get("fields") or {},
        "example_units": [at for at, unit in enumerate(units.index) if unit in examples],
        "experiments": told,
    }


def _all(lists: Any) -> list[Any]:
    """What stands in any of them, once, in order of appearance."""
    return list(dict.fromkeys(itertools.chain(*lists)))
