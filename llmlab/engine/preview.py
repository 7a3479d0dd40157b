"""Before anything is paid: messages exactly as they will be sent, and what looks wrong with the units."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from llmlab.client import prompt_tokens
from llmlab.engine.setup import Setup
from llmlab.errors import EmptyInputError
from llmlab.units import listed

MOST_RENDERED = 20_000


def preview(setup: Setup, n: int) -> pd.DataFrame:
    """What is sent about some units: the first, the longest, and others drawn at random.

    Parameters
    ----------
    n : int
        How many units.

    Returns
    -------
    DataFrame
        One row per unit × prompt: `unit_id`, `prompt` (if there are several), `chosen` ("first", "longest", "random"),
        `tokens` (reckoned from its characters), `messages`.
    """
    lengths = _lengths(setup)
    if not len(lengths):
        return pd.DataFrame(columns=["unit_id", "chosen", "tokens", "messages"])
    chosen = {0: "first"}
    chosen.setdefault(int(lengths.index.to_numpy()[lengths.to_numpy().argmax()]), "longest")
    for at in np.random.default_rng(0).permutation(len(setup.plan.units)):
        if len(chosen) >= n:
            break
        chosen.setdefault(int(at), "random")
    rows = []
    for at, why in list(chosen.items())[: max(0, n)]:
        for name, messages in setup.messages.items():
            try:
                sent = messages.render(at)
            except EmptyInputError:
                sent = []
            prompt = {} if name is None else {"prompt": name}
            tokens = round(prompt_tokens({"messages": sent}))
            unit = {"unit_id": setup.plan.units.frame.index[at]}
            rows.append(unit | prompt | {"chosen": why, "tokens": tokens, "messages": sent})
    return pd.DataFrame(rows)


def warnings(setup: Setup) -> tuple[str, ...]:
    """What looks wrong: texts longer than a model's context, empty cells, equal texts."""
    return (*_too_long(setup, _lengths(setup)), *_empty(setup), *_equal(setup))


def _lengths(setup: Setup) -> pd.Series:
    """Tokens of each unit's longest prompt by row; of very many units, of an even sample and the first."""
    units = len(setup.plan.units)
    rows = np.unique(np.linspace(0, units - 1, min(units, MOST_RENDERED)).astype(int)) if units else []
    found = {}
    for at in rows:
        longest = 0.0
        for messages in setup.messages.values():
            try:
                longest = max(longest, prompt_tokens({"messages": messages.render(int(at))}))
            except EmptyInputError:
                continue
        found[int(at)] = longest
    return pd.Series(found, dtype=float)


def _too_long(setup: Setup, lengths: pd.Series) -> Iterator[str]:
    for model in setup.models:
        most = setup.price_list.context_tokens(model)
        long = lengths.index[lengths > most] if most is not None else []
        if len(long):
            ids = listed(setup.plan.units.frame.index[long])
            yield f"{_count(len(long), 'text')} longer than the {most:,} tokens that {model} reads: {ids}"


def _empty(setup: Setup) -> Iterator[str]:
    frame = setup.plan.units.frame
    for name in _used(setup):
        empty = frame[name].map(lambda cell: isinstance(cell, str) and not cell.strip())
        if empty.any():
            yield f"{name} is empty in {_count(int(empty.sum()), 'unit')}: {listed(frame.index[empty.to_numpy(bool)])}"


def _equal(setup: Setup) -> Iterator[str]:
    frame, used = setup.plan.units.frame, _used(setup)
    if used:
        said = pd.Series(
            list(map(repr, frame[used].itertuples(index=False, name=None))), index=frame.index, dtype=object
        )
        again = said.duplicated().to_numpy(bool)
        if again.any():
            yield (
                f"{_count(int(again.sum()), 'unit')} asked the same as an earlier one: {listed(frame.index[again])}; "
                "each is asked and paid"
            )


def _used(setup: Setup) -> list[str]:
    return list(dict.fromkeys(name for one in setup.messages.values() for name in one.used))


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"
