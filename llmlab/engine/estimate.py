"""What will be used: the tokens of a call before it is sent, and what a whole experiment will take.

An experiment's calls, tokens, dollars and minutes are reckoned from a count of characters, or better from a pilot.
"""

from __future__ import annotations

import functools
import html
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from llmlab.client import prompt_tokens
from llmlab.engine.preview import preview, warnings
from llmlab.engine.pricing import tier_asked
from llmlab.engine.setup import Setup
from llmlab.errors import EmptyInputError, InputError
from llmlab.records import BATCH, Usage

SAMPLE = 200
SPREAD = 1.3
LABEL_TOKENS, TEXT_TOKENS, THINKING_TOKENS = (4, 60), (20, 1000), 4096
UNKNOWN_COMPLETION = 4096
_DOLLARS = ("usd_low", "usd_high", "batch_usd_low", "batch_usd_high")
HEADROOM = 1.3


class TokenEstimate:
    """The tokens that a call will use, reckoned before it is sent from what calls to the same model used."""

    def __init__(self) -> None:
        # Per model: calls, tokens of all of them, most completion tokens of one.
        self._seen: dict[str, tuple[int, int, int]] = {}

    def learn(self, model: str, usage: Usage) -> None:
        """Take in what a call really used."""
        if usage.total_tokens is not None:
            calls, total, most = self._seen.get(model, (0, 0, 0))
            self._seen[model] = (calls + 1, total + usage.total_tokens, max(most, usage.completion_tokens or 0))

    def reserve(self, model: str, body: Mapping[str, Any], most: float) -> float:
        """Tokens to book for a call: at most `most`, a whole period's limit, unless the prompt alone is longer."""
        calls, total, _ = self._seen.get(model, (0, 0, 0))
        prompt = prompt_tokens(body)
        if prompt > most:
            return prompt
        return min(most, HEADROOM * total / calls if calls else prompt + (completion_limit(body) or 0))

    def worst(self, model: str, body: Mapping[str, Any]) -> tuple[int, int]:
        """Tokens in and out that a call may use at most, as far as one can tell."""
        _, _, most = self._seen.get(model, (0, 0, 0))
        limit = completion_limit(body)
        # The limit holds for each of the n answers; what was seen is the sum of all n.
        completion = max(2 * most, UNKNOWN_COMPLETION) if limit is None else limit * (body.get("n") or 1)
        return math.ceil(prompt_tokens(body) * HEADROOM), completion


def completion_limit(body: Mapping[str, Any]) -> int | None:
    """The request's own limit on the answer, if it has one."""
    return body.get("max_completion_tokens") or body.get("max_tokens")


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an experiment will take.

    Attributes
    ----------
    calls : int
        Trials; with a pilot the attempts they will need.
    prompt_tokens, completion_tokens : tuple of int
        Low and high.
    usd : tuple of float, or None
        Low and high in US dollars, all asked live; `None` if the price of a model is unknown.
    batch_usd : tuple of float, or None
        The same through the provider's batch queue, but for one live trial of each model and prompt.
    minutes : float or None
        At the limits given; `None` if there are none and no pilot told the latency.
    unpriced : tuple of str
        Models without a known price.
    pilot : llmlab.Results or None
        The pilot's answers. They count: ``results = await estimate.pilot.rerun_failed()`` asks the rest.
    warnings : tuple of str
        What looks wrong: texts longer than the model reads, empty cells, equal texts.
    by_model : DataFrame
        `model`, `calls`, `prompt_tokens_low`, `prompt_tokens_high`, `completion_tokens_low`, `completion_tokens_high`,
        `usd_low`, `usd_high`, `batch_usd_low`, `batch_usd_high`.
    """

    calls: int
    prompt_tokens: tuple[int, int]
    completion_tokens: tuple[int, int]
    usd: tuple[float, float] | None
    batch_usd: tuple[float, float] | None
    minutes: float | None
    unpriced: tuple[str, ...]
    pilot: Any
    by_model: pd.DataFrame
    warnings: tuple[str, ...]
    setup: Setup

    def messages(self, n: int = 3) -> pd.DataFrame:
        """What is sent, exactly: about the first unit, the longest one, and others drawn at random.

        Returns
        -------
        DataFrame
            One row per unit × prompt: `unit_id`, `prompt` (if there are several), `chosen`, `tokens` (reckoned from its
            characters), `messages`.
        """
        return preview(self.setup, n)

    def __repr__(self) -> str:
        return "\n".join(f"{name:<12} {text}" for name, text in self._lines())

    def _repr_html_(self) -> str:
        rows = (f"<tr><th>{name}</th><td>{html.escape(text)}</td></tr>" for name, text in self._lines())
        # Without the classes JupyterLab sets two dollar signs as mathematics.
        table = f"<table>{''.join(rows)}</table>"
        return f"<div class='mathjax_ignore tex2jax_ignore'>{table}{self._as_sent()}</div>"

    def _as_sent(self) -> str:
        """The messages of three units, to be unfolded."""
        parts = []
        for row in self.messages().to_dict("records"):
            texts = [f"{one['role']}: {one['content']}" for one in row["messages"]]
            head = html.escape(f"{row['chosen']}: {row['unit_id']}")
            text = html.escape("\n\n".join(texts)[:4000])
            parts.append(f"<b>{head}</b><pre style='white-space:pre-wrap;margin:2px 0 10px'>{text}</pre>")
        return f"<details><summary>messages as they are sent</summary>{''.join(parts)}</details>" if parts else ""

    def _money(self, usd: tuple[float, float] | None) -> str:
        if usd is None:
            return f"unknown (no price for {', '.join(self.unpriced)})"
        return f"${usd[0]:,.4f} to ${usd[1]:,.4f}"

    def _lines(self) -> list[tuple[str, str]]:
        time = "unknown: no limit is set" if self.minutes is None else f"about {self.minutes:,.1f} min at the limits"
        queued = [("batch", f"{self._money(self.batch_usd)}, within 24 h")] if self.setup.batch else []
        source = "the count of characters" if self.pilot is None else f"a pilot of {_piloted(self.pilot):,} trials"
        return [
            ("calls", f"{self.calls:,}"),
            ("tokens in", f"{self.prompt_tokens[0]:,} to {self.prompt_tokens[1]:,}"),
            ("tokens out", f"{self.completion_tokens[0]:,} to {self.completion_tokens[1]:,}"),
            ("live" if queued else "cost", self._money(self.usd)),
            ("time", time),
            *queued,
            ("from", source),
            *[("warning", text) for text in self.warnings],
            ("as sent", "plan.messages(3), if this is plan"),
        ]


def pilot_positions(setup: Setup, pilot: int) -> list[int]:
    """The trials of a pilot: run 1 of so many units, spread over all of them, of every model and prompt.

    Raises
    ------
    InputError
        `pilot` is no number of units.
    """
    if isinstance(pilot, bool) or not isinstance(pilot, int) or pilot < 0:
        raise InputError(f"pilot must be a whole number of units, 0 or more, not {pilot!r}.")
    units = len(setup.plan.units)
    if not pilot or not units:
        return []
    keys = setup.plan.keys()
    picked = set(range(0, units, max(1, units // pilot))[:pilot])
    first = keys["unit"].isin(picked) & (keys["run"] == keys.groupby("unit")["run"].transform("min"))
    return [int(at) for at in keys.index[first]]


def forecast(setup: Setup, pilot: Any = None) -> Estimate:
    """Count what an experiment will take.

    Parameters
    ----------
    setup : Setup
    pilot : llmlab.Results, optional
        Answers to some of the trials; then the numbers come from them.
    """
    keys = setup.plan.keys()
    rows = []
    for model, trials in keys.groupby("model", sort=False).size().items():
        if pilot is not None:
            calls, prompt, completion = _from_pilot(pilot, str(model), int(trials))
        else:
            calls, prompt, completion = int(trials), *_from_characters(setup, int(trials))
        dollars = functools.partial(setup.price_list.estimate_usd, str(model))
        tokens = [(round(p), round(c)) for p, c in zip(prompt, completion, strict=True)]
        usd = [dollars(*both, tier=tier_asked(setup.body)) for both in tokens]
        queued = [dollars(*both, tier=BATCH) for both in tokens]
        live = min(1.0, len(setup.prompts) / trials)
        mixed = [
            None if u is None or q is None else live * u + (1 - live) * q for u, q in zip(usd, queued, strict=True)
        ]
        rows.append([str(model), calls, *map(round, prompt), *map(round, completion), *usd, *mixed])
    names = ["prompt_tokens_low", "prompt_tokens_high", "completion_tokens_low", "completion_tokens_high"]
    table = pd.DataFrame(rows, columns=["model", "calls", *names, *_DOLLARS]).astype(dict.fromkeys(_DOLLARS, "Float64"))
    calls, *tokens = table[["calls", *names]].sum().astype(int).tolist()
    unpriced = tuple(table.loc[table["usd_low"].isna(), "model"])
    return Estimate(
        calls=calls,
        prompt_tokens=(tokens[0], tokens[1]),
        completion_tokens=(tokens[2], tokens[3]),
        usd=_sums(table, *_DOLLARS[:2]),
        batch_usd=_sums(table, *_DOLLARS[2:]),
        minutes=_minutes(setup, calls, sum(tokens) / 2, pilot),
        unpriced=unpriced,
        pilot=pilot,
        by_model=table,
        warnings=warnings(setup),
        setup=setup,
    )


def _sums(table: pd.DataFrame, *names: str) -> tuple[float, float] | None:
    """The sums of two columns; `None` if an amount in them is unknown."""
    low, high = (table[name].sum(skipna=False) for name in names)
    return None if pd.isna(low) or pd.isna(high) else (float(low), float(high))


def _from_characters(setup: Setup, trials: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """(low, high) tokens in and out of one model's trials, from a sample of rendered prompts."""
    units = len(setup.plan.units)
    sample = np.unique(np.linspace(0, units - 1, SAMPLE).astype(int)) if units else []
    seen = []
    for messages in setup.messages.values():
        for unit in sample:
            try:
                seen.append(prompt_tokens({"messages": messages.render(int(unit))}))
            except EmptyInputError:
                seen.append(0.0)
    mean = float(np.mean(seen)) if seen else 0.0
    short = setup.parser.categories is not None
    low, high = LABEL_TOKENS if short else TEXT_TOKENS
    if setup.body.get("reasoning_effort"):
        high = THINKING_TOKENS
    limit = completion_limit(setup.body)
    if limit:
        low, high = min(low, limit), min(high, limit) if short else limit
    return (trials * mean / SPREAD, trials * mean * SPREAD), (trials * low, trials * high)


def _from_pilot(pilot: Any, model: str, trials: int) -> tuple[int, tuple[float, float], tuple[float, float]]:
    asked = pilot.predictions.query("model == @model and attempts > 0")
    found = []
    for name in ("prompt_tokens", "completion_tokens"):
        values = asked[name].dropna().to_numpy(float)
        mean = float(values.mean()) if len(values) else 0.0
        # Two standard errors of the mean; at least a tenth, as few units tell little about the longest ones.
        error = max(2 * float(values.std(ddof=1)) / math.sqrt(len(values)), mean / 10) if len(values) > 1 else mean / 2
        found.append((trials * max(0.0, mean - error), trials * (mean + error)))
    per_trial = float(asked["attempts"].mean()) if len(asked) else 1.0
    return math.ceil(trials * per_trial), found[0], found[1]


def _minutes(setup: Setup, calls: int, tokens: float, pilot: Any) -> float | None:
    seconds = []
    for group in setup.limiters.groups(setup.models):
        limiter, part = setup.limiters.of(min(group)), len(group) / len(set(setup.models))
        if limiter.limit:
            seconds.append(max(0.0, part * calls - 1) * limiter.period_s / limiter.limit)
        if limiter.tokens:
            seconds.append(part * tokens * limiter.period_s / limiter.tokens)
    if pilot is not None and len(pilot.attempts):
        at_once = min(setup.max_concurrent, max(1, calls))
        seconds.append(calls * float(pilot.attempts["latency_s"].mean()) / at_once)
    return max(seconds) / 60 if seconds else None


def _piloted(pilot: Any) -> int:
    return int((pilot.predictions["attempts"] > 0).sum())
