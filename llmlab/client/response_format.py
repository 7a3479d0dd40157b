"""How the form of an answer is asked for: by JSON schema, by JSON mode, or only in words.

Providers differ in which answer form a model takes. Each model begins with the strictest one; when the provider rejects
it, that model's further requests carry the next simpler one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from llmlab.errors import AttemptError, ConfigError, RequestError

_PARAMETER = re.compile(r"response.?format|json.?schema|json.?object|json.?mode|structured.?output", re.IGNORECASE)
_REJECTED = re.compile(
    r"not.{0,20}support|unsupport|unknown|unrecogni|not.{0,10}(allow|permit|available|implemented)|extra inputs|"
    r"invalid (value|type|parameter)|must be",
    re.IGNORECASE,
)
_WRONG_SCHEMA = re.compile(r"invalid (json )?schema", re.IGNORECASE)


class AnswerForms:
    """Which answer form each model's requests carry.

    Parameters
    ----------
    schema : mapping or None
        `name`, `strict` and `schema` of the answer; with `None` no answer form is ever sent.
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
        """The answer form of this model's next request, as a part of its body."""
        return self._forms[self._level.get(model, 0)]

    def rejected(self, model: str, sent: dict[str, Any], error: AttemptError) -> bool:
        """Whether `error` means that the provider rejects the answer form `sent`, and a simpler one is left.

        If so, the model's further requests carry the simpler one.
        """
        level = self._forms.index(sent)
        if level + 1 >= len(self._forms) or not isinstance(error, (ConfigError, RequestError)):
            return False
        said = f"{error} {error.param or ''}"
        if _WRONG_SCHEMA.search(said) or not (_PARAMETER.search(said) and _REJECTED.search(said)):
            return False
        # Requests that were in flight with the same form are rejected too: all of them together step down once.
        self._level[model] = max(self._level.get(model, 0), level + 1)
        return True
