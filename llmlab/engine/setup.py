"""The arguments of an experiment, checked, and what is made of them before the first request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from llmlab.client import Endpoint, checked_request, resolve, without
from llmlab.engine import checks
from llmlab.engine.description import describe
from llmlab.engine.examples import Examples
from llmlab.engine.pricing import PriceList, Prices, tier_asked
from llmlab.engine.retry import RetryPolicy
from llmlab.errors import InputError
from llmlab.limits import Limiters, RateLimiter, RequestLimits, TokenLimits
from llmlab.parsing import Parser, make_parser
from llmlab.prompts import Messages, Prompt, Prompts
from llmlab.records import Trial
from llmlab.results import PREDICTION_COLUMNS, SIMULATED, Asks, Found, Journal, NoJournal, identity
from llmlab.units import Plan, Units, read_units

TIMEOUT_S, FLEX_TIMEOUT_S = 120.0, 900.0
_PARTS = ("parser", "plan", "messages", "policy", "body", "endpoint", "price_list", "limiters")


@dataclass(frozen=True, eq=False, kw_only=True)
class Setup:
    """An experiment as the user described it; making one checks it, and nothing is sent.

    The fields are the parameters of `llmlab.run_experiment`, where they are explained and have their defaults;
    `request` holds the further parameters of the API. What is made of them has names of its own: `parser`, `plan`,
    `messages`, `policy`, `body`, `endpoint`, `price_list`, `limiters`.

    Raises
    ------
    InputError
        Something cannot work as written.
    """

    units: object = field(repr=False)
    prompt: Prompts = field(repr=False)
    model: str | Sequence[str]
    categories: object
    response_model: type | None
    parse: Callable[[str], Any] | None
    examples: object = field(repr=False)
    runs: int
    requests_per_minute: RequestLimits
    tokens_per_minute: TokenLimits
    max_concurrent: int
    max_retries: int
    retry: RetryPolicy | None
    reask_with_error: bool
    reasoning_effort: str | None
    timeout: float | None
    # The next three may hold a key.
    base_url: str | None = field(repr=False)
    api_key: str | None = field(repr=False)
    client: object = field(repr=False)
    limiter: RateLimiter | None
    journal: str | Path | None
    max_cost_usd: float | None
    prices: Prices | None
    keep_reasoning: bool
    batch: bool | Literal["again"]
    cluster: Any
    grace_s: float
    on_stop: Literal["return", "raise"]
    progress: bool | str
    request: Mapping[str, Any] = field(repr=False)

    def __post_init__(self) -> None:
        checks.numbers(self)
        checks.choices(self)
        checks.names(self.request, [name for name in self.__dataclass_fields__ if name != "request"])
        # Each of them is made once, and says here what is wrong with its part.
        for part in _PARTS:
            getattr(self, part)
        checks.prices(self)
        checks.cluster(self)

    @property
    def models(self) -> tuple[str, ...]:
        """The models that are asked."""
        return (self.model,) if isinstance(self.model, str) else tuple(self.model)

    @cached_property
    def prompts(self) -> dict[str | None, Prompt]:
        """The prompts by name; a single one has none."""
        prompt = self.prompt
        if not isinstance(prompt, Mapping):
            return {None: prompt}
        if {"role", "content"} <= prompt.keys():
            raise InputError("A single message must stand in a list: [{'role': 'user', 'content': '…'}].")
        if not prompt or not all(isinstance(name, str) and name.strip() for name in prompt):
            raise InputError(f"Prompts need names that are text: {{'short': '…', 'long': '…'}}, not {prompt!r:.80}.")
        return {**prompt}

    @cached_property
    def parser(self) -> Parser:
        """Reads the answers."""
        return make_parser(categories=self.categories, response_model=self.response_model, parse=self.parse)

    @cached_property
    def plan(self) -> Plan:
        """All trials."""
        return read_units(
            self.units,
            runs=self.runs,
            models=self.models,
            prompts=tuple(self.prompts),
            result_columns=(*PREDICTION_COLUMNS, *self.parser.columns),
        )

    @cached_property
    def messages(self) -> dict[str | None, Messages]:
        """What is sent about a unit, by the prompt's name."""
        return self.messages_about(self.plan.units)

    def messages_about(self, units: Units) -> dict[str | None, Messages]:
        """What is sent about each of these units, by the prompt's name."""
        instruction, shown = self.parser.instruction, self.few_shot
        return {
            name: Messages(prompt, units, instruction, shown.turns(prompt, instruction))
            for name, prompt in self.prompts.items()
        }

    @cached_property
    def few_shot(self) -> Examples:
        """The examples that stand before each question."""
        return Examples.read(self.examples, self.plan, self.parser)

    @cached_property
    def policy(self) -> RetryPolicy:
        """What follows a failed attempt."""
        return self.retry or RetryPolicy(max_retries=self.max_retries)

    @cached_property
    def body(self) -> dict[str, Any]:
        """What all requests have in common; `extra_headers` in it may hold a key."""
        return checked_request({**self.request, "reasoning_effort": self.reasoning_effort})

    def body_of(self, trial: Trial) -> dict[str, Any]:
        """What a trial's request holds beside its messages and the form of the answer.

        With a seed, each run sends one of its own: the same seed would make the runs agree by construction.
        """
        seed = self.body.get("seed")
        own = {"seed": seed + trial.run - 1} if isinstance(seed, int) and not isinstance(seed, bool) else {}
        return self.body | {"model": trial.model} | own

    @property
    def timeout_s(self) -> float:
        """Deadline of one attempt in seconds."""
        if self.timeout is not None:
            return self.timeout
        return FLEX_TIMEOUT_S if tier_asked(self.body) == "flex" else TIMEOUT_S

    @cached_property
    def endpoint(self) -> Endpoint:
        """Where the requests go, and with which key."""
        return resolve(self.base_url, self.api_key, self.client)

    @cached_property
    def price_list(self) -> PriceList:
        """What calls cost there."""
        return PriceList(self.endpoint.base_url, self.prices, simulated=self.endpoint.simulated)

    @cached_property
    def limiters(self) -> Limiters:
        """The limiter given, else those of the key; limits that were left out stay what they are there."""
        if self.limiter is not None:
            return Limiters(self.limiter)
        return Limiters.of_key(
            self.endpoint.account,
            self.models,
            self.requests_per_minute,
            base_url=self.endpoint.base_url,
            tokens_per_minute=... if self.tokens_per_minute is None else self.tokens_per_minute,
        )

    @cached_property
    def asks(self) -> Asks:
        """What is asked, as far as answers depend on it."""
        same = {
            "endpoint": SIMULATED if self.endpoint.simulated else self.endpoint.base_url,
            "request": self.told,
            "schema": self.parser.schema,
        }
        return Asks(
            plan=self.plan,
            messages=self.messages,
            parameters={model: {"model": model, **same} for model in self.models},
            description=self.description,
            identity=lambda: identity(self.prompt, self.parse),
        )

    @cached_property
    def told(self) -> dict[str, Any]:
        """The parameters that may be told and kept: headers and queries may hold keys."""
        told = {name: value for name, value in self.body.items() if name not in ("extra_headers", "extra_query")}
        return _without(self.endpoint.secrets, told)

    @cached_property
    def description(self) -> dict[str, Any]:
        """The experiment for a reader, as results and saved files keep it."""
        return describe(self)

    def open_journal(self, found: Found | None, session: int) -> Journal | NoJournal:
        """The journal, open for writing, with a new session of this experiment.

        Parameters
        ----------
        found : Found or None
            Which trials in the file are this experiment's, if that is known.
        session : int
            The session's number, if there is no higher one in the file.

        Raises
        ------
        JournalError
            In use, damaged, or not writable.
        """
        return NoJournal(session) if self.journal is None else Journal.open(self.journal, self.asks, found, session)


def _without(secrets: tuple[str, ...], value: Any) -> Any:
    """A parameter without the key, wherever in it that stands."""
    if isinstance(value, str):
        return without(secrets, value)
    if isinstance(value, Mapping):
        return {name: _without(secrets, one) for name, one in value.items()}
    return [_without(secrets, one) for one in value] if isinstance(value, (list, tuple)) else value
