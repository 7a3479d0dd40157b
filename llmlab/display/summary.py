"""The summary of results: its numbers, and the numbers as lines of text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from llmlab import analysis
from llmlab.analysis import Total
from llmlab.display import words
from llmlab.display.frames import labelled
from llmlab.display.hints import WAIT, how_to_go_on
from llmlab.records import arm_columns

# A smaller share of the time is not worth a word.
MENTIONED = 0.05
MOST_NAMES = 4
NOTHING = Total()
AMOUNTS = ("prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens", "total_tokens", "cost_usd")
WAITS = {
    "outage": "without an answer from the provider",
    "provider's pause": "paused by the provider",
    "rate limit": "waiting for the rate limit",
    "free slots": "waiting for a free slot",
    "batch queue": "in the provider's batch queue",
    "answers": "waiting for answers",
    "retries": "waiting to ask again",
}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the answers come from.

    Attributes
    ----------
    asked, before : int
        Trials that this call of `run_experiment` asked, and those that were answered before it and not asked again.
    from_book : bool
        Whether a journal told what was answered before.
    cost_usd : Total
        What the attempts of this call cost.
    """

    asked: int = 0
    before: int = 0
    from_book: bool = False
    cost_usd: Total = NOTHING

    def __str__(self) -> str:
        """In words; empty if the call asked everything."""
        if not self.before:
            return ""
        cost = f" for {words.cost(self.cost_usd)}" if self.asked and self.cost_usd.amount is not None else ""
        return f"{words.before(self.before, self.from_book)}, {self.asked:,} asked{cost}"


ALL_ASKED = Origin()


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
    origin : Origin
        What this call asked, and what was answered before.
    attempts : int
        HTTP attempts, failed ones too.
    unsuccessful : mapping of str to int
        Attempts without a prediction, by the type of their error.
    prompt_tokens, completion_tokens, reasoning_tokens, cached_tokens, total_tokens, cost_usd : Total
    unpriced : tuple of str
        Models with attempts of unknown cost.
    agreeing, several : int
        Of the units (× model × prompt) with two answered runs or more, those whose runs all agree, and all of them.
    several_arms : bool
        Whether there are several models or prompts, each compared for itself.
    throttled : float
        Share of the attempts that waited for the limiter, 0 to 1.
    mean_wait_s : float
        What the attempts waited for the limiter, on average.
    refused : int
        Attempts that the provider refused with a 429.
    requests_per_minute : float or None
        The limit; `None` if there is none.
    bottleneck : DataFrame
        What took the time, as `Results.bottleneck` says.
    duration_s : float
        Seconds in which the experiment waited or worked, over all its sessions.
    served : tuple of str
        For each model that several providers or configurations served, who they are and what pins one of them.
    """

    trials: int
    answered: int
    failed: int
    not_run: int
    failures: Mapping[str, int]
    renamed: Mapping[str, str]
    stopped: str
    go_on: str
    origin: Origin
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
    several_arms: bool
    throttled: float
    mean_wait_s: float
    refused: int
    requests_per_minute: float | None
    bottleneck: pd.DataFrame
    duration_s: float
    served: tuple[str, ...]

    @classmethod
    def of(cls, results: Any, *, renamed: Mapping[str, str], can_rerun: bool, origin: Origin = ALL_ASKED) -> Summary:
        """The numbers of `Results`, which know whether they can ask again, and where their answers come from."""
        predictions, attempts = results.predictions, results.attempts
        counts = predictions["status"].value_counts()
        agree = analysis.majorities(labelled(results)[1])["agree"].dropna()
        bottleneck = analysis.bottleneck(attempts)
        left = predictions.loc[predictions["status"] != "ok", "error_type"].fillna("")
        unsuccessful = _kinds(attempts[attempts["status"] != "ok"])
        unpriced = attempts[analysis.unknown(attempts, "cost_usd")]["model"]
        return cls(
            trials=len(predictions),
            answered=int(counts.get("ok", 0)),
            failed=int(counts.get("failed", 0)),
            not_run=int(counts.get("not_run", 0)),
            failures=_kinds(predictions[predictions["status"] == "failed"]),
            renamed=renamed,
            stopped=results.stopped or "",
            go_on=WAIT
            if results.running
            else how_to_go_on(set(left), results.stopped or "", unsuccessful, can_rerun=can_rerun),
            origin=origin,
            attempts=len(attempts),
            unsuccessful=unsuccessful,
            **{name: Total.of(attempts, name) for name in AMOUNTS},
            unpriced=tuple(sorted(set(unpriced))),
            agreeing=int(agree.sum()),
            several=len(agree),
            several_arms=len(predictions[arm_columns(predictions.columns)].drop_duplicates()) > 1,
            throttled=_mean(attempts["throttled"]),
            mean_wait_s=_mean(attempts["wait_s"]),
            refused=int(attempts["http_status"].eq(429).sum()),
            requests_per_minute=results.description.get("requests_per_minute"),
            bottleneck=bottleneck,
            duration_s=float(bottleneck["seconds"].sum()),
            served=tuple(_served(attempts)),
        )

    @property
    def waited(self) -> str:
        """How many attempts waited for the limit, and how long."""
        if not self.throttled:
            return "no attempt"
        normal = f" (normal at {self.requests_per_minute:,.0f} a minute)" if self.requests_per_minute else ""
        attempts = words.share(self.throttled * self.attempts, self.attempts)
        return f"{attempts} of attempts, {self.mean_wait_s:.1f} s on average{normal}"

    @property
    def waits(self) -> str:
        """What the time went for, the most of it first."""
        most = self.bottleneck.head(2)
        shares = zip(most["waited_for"], most["share"].astype(float), strict=True)
        return ", ".join(f"{words.share(share, 1)} {WAITS[what]}" for what, share in shares if share >= MENTIONED)

    @property
    def change(self) -> str:
        """What would make the run shorter."""
        return str(self.bottleneck["change"].iloc[0]) if len(self.bottleneck) else ""

    def numbers(self) -> dict[str, Any]:
        """The numbers alone; `None` where one is unknown."""
        return {
            "trials": self.trials,
            "answered": self.answered,
            "failed": self.failed,
            "not_run": self.not_run,
            "asked": self.origin.asked,
            "answered_before": self.origin.before,
            "attempts": self.attempts,
            "unusable_attempts": sum(self.unsuccessful.values()),
            "refused_attempts": self.refused,
            **{name: getattr(self, name).amount for name in AMOUNTS},
            "unknown_cost": self.cost_usd.unknown,
            "units_compared": self.several,
            "units_agreeing": self.agreeing,
            "waited_share": self.throttled,
            "mean_wait_s": self.mean_wait_s,
            "duration_s": self.duration_s,
        }

    def lines(self) -> dict[str, str]:
        """The main numbers in words, in reading order."""
        came_from = str(self.origin)
        lines = {"answered": f"{self.answered:,} of {self.trials:,}{came_from and f': {came_from}'}"}
        if self.failed:
            lines["failed"] = f"{self.failed:,} ({_listed(self.failures)})"
        if self.not_run:
            lines["not run"] = f"{self.not_run:,}"
        if self.stopped:
            lines["stopped"] = self.stopped
        lines["attempts"] = f"{self.attempts:,}"
        if self.unsuccessful:
            lines["attempts"] += f", without a usable answer: {_listed(self.unsuccessful)}"
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
            lines["waited"] = f"for the limit: {self.waited}"
            if self.refused:
                lines["refused"] = f"{self.refused:,} (429)"
            lines["took"] = f"{words.span(self.duration_s)}: {self.waits}; to be faster: {self.change}"
        if self.served:
            lines["served by"] = "; ".join(self.served)
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


def _served(attempts: pd.DataFrame) -> Iterator[str]:
    """For each model with several providers or configurations: who, the most frequent first, and what pins it."""
    for model, rows in attempts.groupby("model", sort=False):
        providers, configurations = (_most_frequent(rows[name]) for name in ("provider", "system_fingerprint"))
        if len(providers) > 1:
            pin = f"extra_body={{'provider': {{'only': [{providers[0]!r}]}}}}"
            yield f"{_some(providers)} for {model}; to pin it: {pin}"
        elif len(configurations) > 1:
            dated = [name for name in _most_frequent(rows["model_returned"]) if name != model]
            pin = f"model={dated[0]!r}" if len(dated) == 1 else "seed= in each request, as far as the provider keeps it"
            yield f"{_some(configurations)} (system_fingerprint) for {model}; what pins most of it: {pin}"


def _most_frequent(column: pd.Series) -> list[str]:
    return [str(name) for name in column.value_counts().index]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more
