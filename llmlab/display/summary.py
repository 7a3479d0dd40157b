"""The summary of results: its numbers, and the numbers as lines of text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from llmlab import analysis
from llmlab.analysis import Total
from llmlab.display import words
from llmlab.display.frames import labelled
from llmlab.display.hints import how_to_go_on


@dataclass(frozen=True, slots=True)
class Summary:
    """What the summary of results says, as numbers.

    Attributes
    ----------
    trials, answered, failed, not_run : int
        Trials, and how many of them ended how.
    failures : mapping of str to int
        Failed trials by the type of the error that ended them.
    renamed : mapping of str to str
        The units' own columns whose name is taken in `predictions`, and what they are called there.
    stopped : str
        Why the run ended early; empty if it did not.
    go_on : str
        How to ask what has no answer; empty if nothing is left.
    attempts : int
        HTTP attempts, failed ones too.
    unsuccessful : mapping of str to int
        Attempts without a prediction, by the type of their error.
    prompt_tokens, completion_tokens, reasoning_tokens, cached_tokens, total_tokens, cost_usd : Total
    unpriced : tuple of str
        Models with attempts of unknown cost.
    agreeing, several : int
        Of the units (× model × prompt) with two answered runs or more, those whose runs all agree, and all of them.
    throttled : float
        Share of the attempts that waited for the limiter, 0 to 1.
    mean_wait_s : float
        What the attempts waited for the limiter, on average.
    refused : int
        Attempts that the provider refused with a 429.
    duration_s : float
        From the first sending to the last answer.
    """

    trials: int
    answered: int
    failed: int
    not_run: int
    failures: Mapping[str, int]
    renamed: Mapping[str, str]
    stopped: str
    go_on: str
    attempts: int
    unsuccessful: Mapping[str, int]
    prompt_tokens: Total
    completion_tokens: Total
    reasoning_tokens: Total
    cached_tokens: Total
    total_tokens: Total
    cost_usd: Total
    unpriced: tuple[str, ...]
    agreeing: int
    several: int
    throttled: float
    mean_wait_s: float
    refused: int
    duration_s: float
    served_by: Mapping[str, list[str]]

    @classmethod
    def of(cls, results: Any, *, renamed: Mapping[str, str], can_rerun: bool) -> Summary:
        """The numbers of `Results`, which know whether they can ask again."""
        predictions, attempts = results.predictions, results.attempts
        counts = predictions["status"].value_counts()
        agree = analysis.majorities(labelled(results)[1])["agree"].dropna()
        unpriced = attempts[analysis.unknown(attempts, "cost_usd")]["model"]
        amounts = (
            "prompt_tokens",
            "completion_tokens",
            "reasoning_tokens",
            "cached_tokens",
            "total_tokens",
            "cost_usd",
        )
        return cls(
            trials=len(predictions),
            answered=int(counts.get("ok", 0)),
            failed=int(counts.get("failed", 0)),
            not_run=int(counts.get("not_run", 0)),
            failures=_kinds(predictions[predictions["status"] == "failed"]),
            renamed=renamed,
            stopped=results.stopped or "",
            go_on=how_to_go_on(can_rerun) if counts.get("ok", 0) < len(predictions) else "",
            attempts=len(attempts),
            unsuccessful=_kinds(attempts[attempts["status"] != "ok"]),
            **{name: Total.of(attempts, name) for name in amounts},
            unpriced=tuple(sorted(set(unpriced))),
            agreeing=int(agree.sum()),
            several=len(agree),
            throttled=_mean(attempts["throttled"]),
            mean_wait_s=_mean(attempts["wait_s"]),
            refused=int(attempts["http_status"].eq(429).sum()),
            duration_s=_duration_s(attempts),
            served_by=_served_by(attempts),
        )

    def lines(self) -> dict[str, str]:
        """The main numbers in words, in reading order."""
        lines = {"answered": f"{self.answered:,} of {self.trials:,}"}
        if self.failed:
            lines["failed"] = f"{self.failed:,} ({_listed(self.failures)})"
        if self.not_run:
            lines["not run"] = f"{self.not_run:,}"
        if self.stopped:
            lines["stopped"] = self.stopped
        lines["attempts"] = f"{self.attempts:,}"
        if self.unsuccessful:
            lines["attempts"] += f", unsuccessful: {_listed(self.unsuccessful)}"
        lines["tokens"] = (
            f"{words.tokens(self.total_tokens)} ({words.tokens(self.prompt_tokens)} in, "
            f"{words.tokens(self.completion_tokens)} out)"
        )
        if self.total_tokens.unknown:
            lines["tokens"] += f"; {words.count(self.total_tokens.unknown, 'attempt')} did not report theirs"
        lines["cost"] = words.cost(self.cost_usd)
        if self.cost_usd.unknown and not self.total_tokens.unknown:
            lines["cost"] += f"; no price for {', '.join(self.unpriced)}"
        if self.attempts:
            lines["throttled"] = f"{self.throttled:.1%} of attempts, waited {self.mean_wait_s:.1f} s on average"
            if self.refused:
                lines["refused"] = f"{self.refused:,} (429)"
            lines["duration"] = f"{self.duration_s:,.1f} s"
        for model, names in self.served_by.items():
            pin = f"extra_body={{'provider': {{'only': [{names[0]!r}]}}}}"
            lines["served by"] = f"{', '.join(names)} for {model}; to pin it: {pin}"
        if self.renamed:
            names = ", ".join(f"{name} is {new}" for name, new in self.renamed.items())
            lines["your columns"] = f"{names} in predictions, where the name is taken"
        if self.go_on:
            lines["go on"] = self.go_on
        return lines

    def text(self) -> str:
        """The summary as lines of text."""
        return "\n".join(f"{name:<12} {text}" for name, text in self.lines().items())


def _kinds(rows: pd.DataFrame) -> dict[str, int]:
    return {str(kind): int(times) for kind, times in rows["error_type"].value_counts().items()}


def _listed(kinds: Mapping[str, int]) -> str:
    return ", ".join(f"{times:,} {kind}" for kind, times in kinds.items())


def _mean(column: pd.Series) -> float:
    return float(column.mean()) if len(column) else 0.0


def _duration_s(attempts: pd.DataFrame) -> float:
    if not len(attempts):
        return 0.0
    ended = attempts["started_at"] + pd.to_timedelta(attempts["latency_s"], unit="s")
    # The time between the sessions belongs to none of them.
    session = attempts["session"].to_numpy()
    took = ended.groupby(session).max() - attempts["started_at"].groupby(session).min()
    return float(took.dt.total_seconds().sum())


def _served_by(attempts: pd.DataFrame) -> dict[str, list[str]]:
    """The providers of each model that several of them served, the most frequent first."""
    counts = attempts.groupby(["model", "provider"], sort=False)["attempt"].size().sort_values(ascending=False)
    found: dict[str, list[str]] = {}
    for model, provider in counts.index:
        found.setdefault(str(model), []).append(str(provider))
    return {model: names for model, names in found.items() if len(names) > 1}
