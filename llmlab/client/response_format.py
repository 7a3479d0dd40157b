"""How an answer's form is asked for: by JSON schema, by JSON mode, or in words only; found out once per model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from llmlab.errors import AttemptError, ConfigError, RequestError

_PARAMETER = re.compile(r"response.?format|json.?schema|json.?object|json.?mode|structured.?output", re.IGNORECASE)
_REFUSED = re.compile(
    r"not.{0,20}support|unsupport|unknown|unrecogni|not.{0,10}(allow|permit|available|implemented)|extra inputs|"
    r"invalid (value|type|parameter)|must be",
    re.IGNORECASE,
)
_WRONG_SCHEMA = re.compile(r"invalid (json )?schema", re.IGNORECASE)


class AnswerForms:
    """The `response_format` of each model's requests.

    Parameters
    ----------
    schema : mapping or None
        `name`, `strict` and `schema` of the answer; `None` asks for no form.
    """

    def __init__(self, schema: Mapping[str, Any] | None) -> None:
        self._forms: list[dict[str, Any]] = [{}]
        if schema is not None:
            self._forms = [
                {"response_format": {"type": "json_schema", "json_schema": dict(schema)}},
                {"response_format": {"type": "json_object"}},
                {},
            ]
        self._level: dict[str, int] = {}

    def of(self, model: str) -> dict[str, Any]:
        """What a request to this model carries at present."""
        return self._forms[self._level.get(model, 0)]

    def refused(self, model: str, sent: dict[str, Any], error: AttemptError) -> bool:
        """Whether the provider refused the form that was sent, so that a simpler one is worth asking with."""
        level = self._forms.index(sent)
        if level + 1 >= len(self._forms) or not isinstance(error, (ConfigError, RequestError)):
            return False
        said = f"{error} {error.param or ''}"
        if _WRONG_SCHEMA.search(said) or not (_PARAMETER.search(said) and _REFUSED.search(said)):
            return False
        # Others in flight are refused for the same reason: one step down for all of them.
        self._level[model] = max(self._level.get(model, 0), level + 1)
        return True
