"""What was asked of whom and what became of it, in sentences for a paper."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from llmlab import analysis
from llmlab.analysis import Total
from llmlab.display import words
from llmlab.display.hints import RERUN
from llmlab.records import arm_columns

DATED = re.compile(r"\d{4}-?\d{2}-?\d{2}|-\d{4}\b|@")
"""What a name of a model has that is fixed to one version."""
Item = tuple[str, bool, str, str]
"""A line of the checklist: what, whether it is there, what is there, and what mends it."""


class Asked:
    """What was asked of whom, and what became of it.

    Parameters
    ----------
    results : Results
    """

    def __init__(self, results: Any) -> None:
        self._results = results
        predictions, self._attempts = results.predictions, results.attempts
        # Of lists of labels there is a row for each label, and still one trial.
        self._arms = [name for name in arm_columns(predictions.columns) if name != "label"]
        self._predictions = predictions.drop_duplicates(["unit_id", *self._arms, "run"])
        self._told: Mapping[str, Any] = results.description
        self._counts = self._predictions["status"].value_counts()

    def sentences(self) -> Iterator[str]:
        """From the models to what could not be used."""
        predictions, attempts, told = self._predictions, self._attempts, self._told
        models = [str(one) for one in predictions["model"].unique()]
        units, runs = predictions["unit_id"].nunique(), predictions["run"].nunique()
        prompts = predictions["prompt"].nunique() if "prompt" in self._arms else 1
        with_prompts = f" with each of {prompts} prompts" if prompts > 1 else ""
        times = "once" if runs == 1 else f"{runs} times"
        yield (
            f"Each of {words.count(units, 'unit')} was labelled {times}{with_prompts} by {words.listed(models)} "
            f"({words.count(len(predictions), 'trial')}) through {told.get('endpoint', 'an unknown endpoint')}"
            f"{self._when()}."
        )
        for model, rows in attempts.groupby("model", sort=False):
            names, hosts, setups = (_named(rows[name]) for name in ("model_returned", "provider", "system_fingerprint"))
            served = f", served by {words.listed(hosts)}" if hosts else ""
            setup = f" in {words.count(len(setups), 'configuration')} ({words.listed(setups)})" if setups else ""
            yield f"{model} answered as {words.listed(names) or 'an unnamed model'}{served}{setup}."
        said = [f"{name} = {json.dumps(one, default=str)}" for name, one in (told.get("parameters") or {}).items()]
        yield (
            f"Parameters were {words.listed(said)}, all others the provider's defaults."
            if said
            else "All parameters were the provider's defaults."
        )
        yield from self._instructions()
        sent = attempts[["unit_id", *arm_columns(attempts.columns), "run"]].drop_duplicates()
        failed = attempts[attempts["status"] != "ok"]
        unusable = f", of which {len(failed):,} gave no usable answer ({_kinds(failed)})" if len(failed) else ""
        yield (
            f"{words.count(len(attempts), 'request')} were sent{unusable}; {len(attempts) - len(sent):,} were repeats "
            "of a trial."
        )
        lost = predictions[predictions["status"] == "failed"]
        why = f" ({_kinds(lost)})" if len(lost) else ""
        yield (
            f"{self._count('ok'):,} trials were answered, {len(lost):,} failed{why} and {self._count('not_run'):,} "
            "were not asked."
        )
        yield from self._excluded()

    def _when(self) -> str:
        sent = self._attempts["started_at"]
        if not len(sent):
            return ""
        first, last = (f"{at:%Y-%m-%d}" for at in (sent.min(), sent.max()))
        days = f"on {first}" if first == last else f"from {first} to {last}"
        return f" {days} (UTC) in {words.count(self._attempts['session'].nunique(), 'session')}"

    def _instructions(self) -> Iterator[str]:
        told = self._told
        named = told.get("prompts") or {None: told.get("prompt")}
        yield " ".join(
            f"The prompt{f' {name}' if name else ''} was {_quoted(prompt)}." for name, prompt in named.items()
        )
        labels, meant = told.get("categories"), told.get("definitions") or {}
        if labels is not None and "field" not in told:
            defined = f", {len(meant)} of them defined in the prompt" if meant else ""
            yield f"The {len(labels)} categories were {words.listed([str(one) for one in labels])}{defined}."
        if "field" in told:
            of_labels = f", with the labels {words.listed([str(one) for one in labels])}" if labels else ""
            yield f"This is about the field {told['field']} of the answers{of_labels}."
        if told.get("examples"):
            yield f"{words.count(told['examples'], 'example')} with its answer stood before each question."

    def _excluded(self) -> Iterator[str]:
        columns = self._arms
        answered = self._predictions["status"].eq("ok")
        for name, rows in answered.groupby([self._predictions[one] for one in columns], sort=False, observed=True):
            by_unit = rows.groupby(self._predictions.loc[rows.index, "unit_id"], sort=False).any()
            if not by_unit.all():
                yield f"{words.count((~by_unit).sum(), 'unit')} had no answer of {' · '.join(map(str, name))}."
        examples = len(self._told.get("example_units") or ())
        if examples:
            yield f"{words.count(examples, 'unit')} of the prompt's examples are left out of the validation."

    def spent(self) -> Iterator[str]:
        """Tokens, costs and software."""
        tokens, cost = (Total.of(self._attempts, name) for name in ("total_tokens", "cost_usd"))
        yield f"All requests together used {words.tokens(tokens)} tokens; their cost: {words.cost(cost)}."
        versions = self._told.get("versions") or {}
        if versions:
            yield f"Software: {', '.join(f'{name} {one}' for name, one in versions.items())}."

    def items(self) -> Iterator[Item]:
        """What a reader needs to know of what was asked."""
        told, attempts = self._told, self._attempts
        prompts = list((told.get("prompts") or {None: told.get("prompt")}).values())
        opaque = [str(one) for one in prompts if one is None or str(one).startswith("a function: ")]
        yield (
            "prompt",
            not opaque,
            words.listed(opaque) or "in words",
            "publish what was sent: results.messages(unit_id)",
        )
        labels, meant = told.get("categories"), told.get("definitions") or {}
        if labels is not None and "field" not in told:
            says = f"{len(meant)} of {len(labels)} categories defined"
            yield "codebook", len(meant) == len(labels), says, f"categories={{{labels[0]!r}: 'what belongs to it', …}}"
        for model, rows in attempts.groupby("model", sort=False):
            names, hosts = _named(rows["model_returned"]), _named(rows["provider"])
            dated, says = len(names) == 1 and bool(DATED.search(names[0])), words.listed(names) or "not told"
            yield f"snapshot of {model}", dated, says, "model= with the dated name, as the provider lists it"
            pin = f"extra_body={{'provider': {{'only': [{hosts[0]!r}]}}}}" if hosts else ""
            yield f"provider of {model}", len(hosts) <= 1, words.listed(hosts) or "not told", pin
        given = told.get("parameters") or {}
        fixed = words.listed([name for name in ("temperature", "reasoning_effort", "seed") if name in given])
        yield "parameters", bool(fixed), fixed or "the provider's defaults", "temperature=0, where the model takes it"
        runs = self._predictions["run"].nunique()
        yield "repeats", runs > 1, words.count(runs, "run"), "runs=3"
        left = len(self._predictions) - self._count("ok")
        yield "answers", not left, f"{words.count(left, 'trial')} without one", RERUN
        lacks = attempts.loc[analysis.unknown(attempts, "cost_usd"), "model"]
        prices = ", ".join(f"{model!r}: (0.15, 0.60)" for model in lacks.unique())
        says = f"unknown for {words.count(len(lacks), 'request')}"
        yield "cost", not len(lacks), says, f"prices={{{prices}}}, US dollars per million tokens in and out"

    def _count(self, status: str) -> int:
        return int(self._counts.get(status, 0))


def _named(column: pd.Series) -> list[str]:
    return [str(name) for name in column.value_counts().index]


def _kinds(rows: pd.DataFrame) -> str:
    return ", ".join(f"{times:,} {kind}" for kind, times in rows["error_type"].value_counts().items())


def _quoted(prompt: Any) -> str:
    """A prompt as it is; of messages each with its role."""
    if isinstance(prompt, str):
        return prompt if prompt.startswith("a function: ") else f"“{prompt}”"
    if prompt is None:
        return "not kept"
    return json.dumps(prompt, ensure_ascii=False, default=str)
