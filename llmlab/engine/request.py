"""A trial → its request: body, the form of the answer that it asks for, and what it may cost at most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llmlab.client import AnswerForms
from llmlab.engine.budget import MakeBudget, budget_of
from llmlab.engine.estimate import TokenEstimate, completion_limit
from llmlab.engine.pricing import tier_asked
from llmlab.engine.queue import Asked
from llmlab.engine.setup import Setup
from llmlab.engine.verdict import Stop
from llmlab.results import Store


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent about a trial.

    Attributes
    ----------
    body : dict
    form : dict
        The part of it that asks for the answer's form.
    worst_usd : float
        US dollars that it may cost at most; 0 where no cap asks for it.
    tier : str or None
        The tier that it is to be served at, if it asks for one.
    """

    body: dict[str, Any]
    form: dict[str, Any]
    worst_usd: float
    tier: str | None

    @property
    def answer_form(self) -> str:
        """How the form of the answer is asked for."""
        form = self.body.get("response_format")
        return str(form.get("type")) if isinstance(form, Mapping) else "text"


class RequestWriter:
    """Writes the requests of one run, and keeps its budget.

    Parameters
    ----------
    setup : Setup
    store : Store
        What earlier runs gave, which counts for the budget.
    forms : AnswerForms
        The forms of answers that each model takes.
    make_budget : callable
        Makes what keeps the cap.

    Attributes
    ----------
    budget : Budget
    tokens : TokenEstimate
    """

    def __init__(self, setup: Setup, store: Store, forms: AnswerForms, make_budget: MakeBudget = budget_of) -> None:
        self._setup, self._forms = setup, forms
        self.tokens = TokenEstimate()
        self.budget = make_budget(setup, store, self._worst_usd)

    def write(self, asked: Asked, tier: str | None = None) -> Request:
        """The request for a trial.

        Parameters
        ----------
        tier : str, optional
            At which it is served, if the request itself does not say so.

        Raises
        ------
        TrialError
            There is nothing to ask.
        Exception
            What the user's own prompt raises.
        """
        trial = asked.trial
        asked.messages = self._setup.asks.messages_of(trial)
        form = self._forms.of(trial.model, trial.position)
        body = self._setup.body_of(trial) | {"messages": asked.messages + asked.correction} | form
        tier = tier or tier_asked(body)
        return Request(body, form, self._worst_usd(trial.model, body, tier), tier)

    def no_room(self, request: Request) -> Stop:
        """Why the cap allows this request no more."""
        is_limited = completion_limit(request.body) is not None
        return Stop(self.budget.refusal(request.worst_usd, is_limited=is_limited))

    def _worst_usd(self, model: str, body: dict[str, Any], tier: str | None = None) -> float:
        if self._setup.max_cost_usd is None:
            return 0.0
        tokens = self.tokens.worst(model, body)
        return self._setup.price_list.estimate_usd(model, *tokens, tier=tier or tier_asked(body)) or 0.0
