"""How the form of an answer is asked for: by JSON schema, by JSON mode, or only in words.

Providers differ in which answer form a model takes, and in how they say that it does not. Each model begins with the
strictest one. A refusal that names the form leads to the next simpler one at once; one in words that nobody knows leads
to a probe: the same trial is asked with the simpler form, and if that is answered, the form was the reason. If it is
refused without any form, too, the form was not, and no further trial of the model is probed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from llmlab.errors import (
    AttemptError,
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
    r"additional.?properties|\$defs|output.?(format|config)",
    re.IGNORECASE,
)
# The user's own model is at fault, and a simpler form would only hide it.
_WRONG_SCHEMA = re.compile(r"invalid (json )?schema", re.IGNORECASE)
# How often a server must fail with one trial before that trial has a simpler form.
_FAILURES_BEFORE_PROBE = 2
_SERVER_FAILED = re.compile(r"50[01]: ")


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
        self._probes: dict[tuple[str, int], int] = {}
        self._settled: set[str] = set()
        self._answered: set[tuple[str, int]] = set()
        self._failures: Counter[tuple[str, int]] = Counter()

    def of(self, model: str, position: int = 0) -> dict[str, Any]:
        """The answer form of the next request of a trial, as a part of its body.

        Parameters
        ----------
        position : int
            Of the trial.
        """
        return self._forms[max(self._level[model], self._probes.get((model, position), 0))]

    def answered(self, model: str, sent: Mapping[str, Any]) -> None:
        """To be told of every answer: the model takes the form `sent`."""
        level = self._forms.index(dict(sent))
        self._answered.add((model, level))
        if level > self._level[model]:
            self._step_down(model, level)

    def rejected(self, model: str, sent: Mapping[str, Any], error: AttemptError, position: int = 0) -> bool:
        """Whether the trial is to be asked again with a simpler form, because `error` may mean that `sent` is rejected.

        Parameters
        ----------
        position : int
            Of the trial.
        """
        level = self._forms.index(dict(sent))
        if not isinstance(error, _MAY_BE_THE_FORM) or error.ends == "run" or error.away:
            return False
        if level + 1 == len(self._forms):
            if (model, position) in self._probes:
                # Refused without any form, too: the form was not the reason.
                self._settled.add(model)
                self._forget_probes(model)
            return False
        if level < self._level[model]:
            # It was in flight when another was rejected.
            return True
        said = f"{error} {error.param or ''}"
        if _WRONG_SCHEMA.search(said):
            return False
        if _NAMES_FORM.search(said):
            self._step_down(model, level + 1)
            return True
        return self._may_probe(model, level, error, position)

    def _step_down(self, model: str, level: int) -> None:
        self._level[model] = max(self._level[model], level)
        self._forget_probes(model)

    def _forget_probes(self, model: str) -> None:
        self._probes = {trial: level for trial, level in self._probes.items() if trial[0] != model}

    def _may_probe(self, model: str, level: int, error: AttemptError, position: int) -> bool:
        """Whether this trial is asked again at once with a simpler form, to see if the form is the reason."""
        known = isinstance(error, (ModelNotFoundError, BadResponseError)) or error.param is not None
        if known or model in self._settled or (model, level) in self._answered:
            return False
        if isinstance(error, OverloadedError):
            # A server that fails may do better next time, so the trial has its usual retries; the last has the form.
            self._failures[model, position] += _SERVER_FAILED.match(str(error)) is not None
            if self._failures[model, position] >= _FAILURES_BEFORE_PROBE:
                self._probes[model, position] = level + 1
            return False
        self._probes[model, position] = level + 1
        return True


_MAY_BE_THE_FORM = (RequestError, ConfigError, ModelNotFoundError, OverloadedError, BadResponseError)
