"""How the form of an answer is asked for: by JSON schema, by JSON mode, or only in words.

Providers differ in which answer form a model takes, and in how they say that it does not. Each model begins with the
strictest one. A refusal that names the form leads to the next simpler one at once; one in words that nobody knows leads
to a probe: the same trial is asked with the simpler form, and if that is answered, the form was the reason. If it is
refused without any form, too, the form was not, and no further trial of the model is probed. Other trials that are
refused meanwhile wait for what becomes of the probe.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from enum import Enum
from typing import Any

from llmlab.errors import (
    AttemptError,
    AuthenticationError,
    BadResponseError,
    ConfigError,
    ModelNotFoundError,
    OverloadedError,
    RequestError,
)

# How servers let a request constrain the answer beside `response_format`: vLLM, SGLang, llama.cpp, Ollama, Gemini. They
# take one constraint at a time.
_CONSTRAINTS = re.compile(
    r"response_format|response_schema|guided_\w+|structured_outputs?|grammar|json_schema|regex|ebnf|format"
)
_NAMES_FORM = re.compile(
    r"response.?(format|schema|mime)|json.?(schema|object|mode)|structured.?output|guided|grammar|generation.?config|"
    r"additional.?properties|\$defs|output.?(format|config)|(^|[\s.])(format|schema)$|requested parameters",
    re.IGNORECASE,
)
# The user's own model is at fault, and a simpler form would only hide it.
_WRONG_SCHEMA = re.compile(r"invalid (json )?schema", re.IGNORECASE)
# How often a server must fail before the form may be the reason.
_FAILURES_BEFORE_PROBE = 2
_SERVER_FAILED = re.compile(r"50[01]: ")


class Again(Enum):
    """Whether a trial is asked again because of the form of its answer."""

    NO = "the form was not the reason, as far as anybody knows"
    NOW = "with a simpler form"
    AFTER_PROBE = "when it is known what becomes of the trial that tries a simpler form"


class AnswerForms:
    """Which answer form each model's requests carry.

    Parameters
    ----------
    schema : mapping or None
        `name`, `strict` and `schema` of the answer; with `None` no answer form is ever sent.
    parameters : collection of str
        The user's own parameters of the request; if one of them constrains the answer, no answer form is ever sent.
    """

    def __init__(self, schema: Mapping[str, Any] | None, parameters: Collection[str] = ()) -> None:
        self._forms: list[dict[str, Any]] = [{}]
        if schema is not None and not any(_CONSTRAINTS.fullmatch(name) for name in parameters):
            self._forms = [
                {"response_format": {"type": "json_schema", "json_schema": dict(schema)}},
                {"response_format": {"type": "json_object"}},
                {},
            ]
        self._level: Counter[str] = Counter()
        # The trials that try a simpler form, and which.
        self._probes: dict[tuple[str, int], int] = {}
        self._settled: set[str] = set()
        self._answered: set[tuple[str, int]] = set()
        self._failures: Counter[str] = Counter()

    def of(self, model: str, position: int = 0) -> dict[str, Any]:
        """The answer form of the next request of a trial, as a part of its body.

        Parameters
        ----------
        position : int
            Of the trial.
        """
        return self._forms[max(self._level[model], self._probes.get((model, position), 0))]

    def named(self, kind: str | None) -> dict[str, Any]:
        """The answer form of a request that was sent with this type of `response_format`; the strictest if unknown."""
        if kind is None:
            return self._forms[0]
        typed = (form for form in self._forms if form.get("response_format", {}).get("type") == kind)
        return next(typed, self._forms[-1])

    def is_probed(self, model: str) -> bool:
        """Whether a trial of this model tries a simpler form at present."""
        return any(probed == model for probed, _ in self._probes)

    def is_probe(self, model: str, position: int) -> bool:
        """Whether this trial does."""
        return (model, position) in self._probes

    def give_up(self, model: str, position: int) -> None:
        """To be told if a trial has ended: if it was a probe, it tells nothing."""
        self._probes.pop((model, position), None)

    def answered(self, model: str, sent: Mapping[str, Any]) -> None:
        """To be told of every answer: the model takes the form `sent`."""
        level = self._forms.index(dict(sent))
        self._answered.add((model, level))
        # A form that others were answered with meanwhile was not the reason.
        if level > self._level[model] and (model, self._level[model]) not in self._answered:
            self._level[model] = level
        if level >= self._level[model]:
            self._forget_probes(model)

    def rejected(
        self, model: str, sent: Mapping[str, Any], error: AttemptError, position: int = 0, *, together: bool = False
    ) -> Again:
        """Whether the trial is to be asked again, because `error` may mean that `sent` is rejected.

        Parameters
        ----------
        position : int
            Of the trial.
        together : bool
            Whether many trials come back at the same time, so that none can wait for another's probe.
        """
        level = self._forms.index(dict(sent))
        if not isinstance(error, _MAY_BE_THE_FORM) or error.ends == "run" or error.away:
            return Again.NO
        if level + 1 == len(self._forms):
            if self.is_probe(model, position):
                # Refused without any form, too: the form was not the reason.
                self._settled.add(model)
                self._forget_probes(model)
            return Again.NO
        if level < self._level[model]:
            # It was in flight when another was rejected.
            return Again.NOW
        said = f"{error} {error.param or ''}"
        if _WRONG_SCHEMA.search(said):
            return Again.NO
        if _NAMES_FORM.search(said):
            self._level[model] = max(self._level[model], level + 1)
            self._forget_probes(model)
            return Again.NOW
        if not self._may_be_unknown(model, level, error):
            return Again.NO
        if self.is_probed(model) and not self.is_probe(model, position) and not together:
            return Again.AFTER_PROBE
        if isinstance(error, OverloadedError) and not self.is_probe(model, position):
            # A server that fails may do better next time.
            self._failures[model] += 1
            if self._failures[model] < _FAILURES_BEFORE_PROBE:
                return Again.NO
        self._probes[model, position] = level + 1
        return Again.NOW

    def _forget_probes(self, model: str) -> None:
        self._probes = {trial: level for trial, level in self._probes.items() if trial[0] != model}

    def _may_be_unknown(self, model: str, level: int, error: AttemptError) -> bool:
        """Whether nobody knows if the form is the reason."""
        if isinstance(error, OverloadedError) and not _SERVER_FAILED.match(str(error)):
            return False
        missing = isinstance(error, ModelNotFoundError) and error.ends != "trial"
        known = missing or isinstance(error, BadResponseError) or error.param is not None
        return not known and model not in self._settled and (model, level) not in self._answered


_MAY_BE_THE_FORM = (
    RequestError,
    ConfigError,
    ModelNotFoundError,
    AuthenticationError,
    OverloadedError,
    BadResponseError,
)
