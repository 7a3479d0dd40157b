"""What an experiment will take: calls, tokens, dollars, minutes; from a count of characters, better from a pilot."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from llmlab.client import prompt_tokens
from llmlab.engine.pricing import PriceList, completion_limit
from llmlab.errors import EmptyInputError
from llmlab.prompts import Messages
from llmlab.units import Plan

SAMPLE = 200
SPREAD = 1.3
LABEL_TOKENS, TEXT_TOKENS, THINKING_TOKENS = (5, 60), (20, 1000), 4096


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
        Low and high in US dollars; `None` if the price of a model is unknown.
    minutes : float or None
        At the limits given; `None` if there are none and no pilot told the latency.
    unpriced : tuple of str
        Models without a known price.
    pilot : llmlab.Results or None
        The pilot's answers. They count: ``results = await estimate.pilot.rerun_failed()`` asks the rest.
    by_model : DataFrame
        `model`, `calls`, `prompt_tokens_low`, `prompt_tokens_high`, `completion_tokens_low`, `completion_tokens_high`,
        `usd_low`, `usd_high`.
    """

    calls: int
    prompt_tokens: tuple[int, int]
    completion_tokens: tuple[int, int]
    usd: tuple[float, float] | None
    minutes: float | None
    unpriced: tuple[str, ...]
    pilot: Any
    by_model: pd.DataFrame

    def __repr__(self) -> str:
        return "\n".join(f"{name:<12} {text}" for name, text in self._lines())

    def _repr_html_(self) -> str:
        rows = (f"<tr><th>{name}</th><td>{html.escape(text)}</td></tr>" for name, text in self._lines())
        return f"<table>{''.join(rows)}</table>"

    def _lines(self) -> list[tuple[str, str]]:
        if self.usd is None:
            money = f"unknown (no price for {', '.join(self.unpriced)})"
        else:
            money = f"${self.usd[0]:,.4f} to ${self.usd[1]:,.4f}"
        time = "unknown: no limit is set" if self.minutes is None else f"about {self.minutes:,.1f} min at the limits"
        source = "the count of characters" if self.pilot is None else f"a pilot of {_piloted(self.pilot):,} trials"
        return [
            ("calls", f"{self.calls:,}"),
            ("tokens in", f"{self.prompt_tokens[0]:,} to {self.prompt_tokens[1]:,}"),
            ("tokens out", f"{self.completion_tokens[0]:,} to {self.completion_tokens[1]:,}"),
            ("cost", money),
            ("time", time),
            ("from", source),
        ]


def forecast(
    plan: Plan,
    messages: Mapping[str | None, Messages],
    prices: PriceList,
    body: Mapping[str, Any],
    *,
    short: bool,
    requests_per_s: float | None,
    tokens_per_s: float | None,
    max_concurrent: int,
    pilot: Any = None,
) -> Estimate:
    """Count what `plan` will take.

    Parameters
    ----------
    short : bool
        Whether answers are labels rather than text.
    requests_per_s, tokens_per_s : float or None
        The limits.
    pilot : llmlab.Results, optional
        Answers to some of the trials; then the numbers come from them.
    """
    keys = plan.keys()
    rows = []
    for model, trials in keys.groupby("model", sort=False).size().items():
        if pilot is not None:
            calls, prompt, completion = _from_pilot(pilot, str(model), int(trials))
        else:
            calls, prompt, completion = int(trials), *_from_characters(plan, messages, body, int(trials), short)
        usd = [prices.estimate_usd(str(model), round(p), round(c)) for p, c in zip(prompt, completion, strict=True)]
        rows.append([str(model), calls, *map(round, prompt), *map(round, completion), *usd])
    names = ["prompt_tokens_low", "prompt_tokens_high", "completion_tokens_low", "completion_tokens_high"]
    table = pd.DataFrame(rows, columns=["model", "calls", *names, "usd_low", "usd_high"])
    table = table.astype({"usd_low": "Float64", "usd_high": "Float64"})
    total = table[["calls", *names]].sum().astype(int)
    unpriced = tuple(table.loc[table["usd_low"].isna(), "model"])
    return Estimate(
        calls=int(total["calls"]),
        prompt_tokens=(int(total.iloc[1]), int(total.iloc[2])),
        completion_tokens=(int(total.iloc[3]), int(total.iloc[4])),
        usd=None if unpriced else (float(table["usd_low"].sum()), float(table["usd_high"].sum())),
        minutes=_minutes(int(total["calls"]), total, requests_per_s, tokens_per_s, max_concurrent, pilot),
        unpriced=unpriced,
        pilot=pilot,
        by_model=table,
    )


def _from_characters(
    plan: Plan, messages: Mapping[str | None, Messages], body: Mapping[str, Any], trials: int, short: bool
) -> tuple[tuple[float, float], tuple[float, float]]:
    """(low, high) tokens in and out of one model's trials, from a sample of rendered prompts."""
    units = np.unique(np.linspace(0, max(0, len(plan.units) - 1), SAMPLE).astype(int)) if len(plan.units) else []
    seen = []
    for one in messages.values():
        for unit in units:
            try:
                seen.append(prompt_tokens({"messages": one.render(int(unit))}))
            except EmptyInputError:
                seen.append(0.0)
    mean = float(np.mean(seen)) if seen else 0.0
    low, high = LABEL_TOKENS if short else TEXT_TOKENS
    if body.get("reasoning_effort"):
        high = THINKING_TOKENS
    limit = completion_limit(body)
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


def _minutes(
    calls: int, total: pd.Series, requests_per_s: float | None, tokens_per_s: float | None, concurrent: int, pilot: Any
) -> float | None:
    seconds = []
    if requests_per_s:
        seconds.append(max(0, calls - 1) / requests_per_s)
    if tokens_per_s:
        seconds.append(float(total.iloc[1:].mean() * 2) / tokens_per_s)
    if pilot is not None and len(pilot.attempts):
        seconds.append(calls * float(pilot.attempts["latency_s"].mean()) / min(concurrent, max(1, calls)))
    return max(seconds) / 60 if seconds else None


def _piloted(pilot: Any) -> int:
    return int((pilot.predictions["attempts"] > 0).sum())
