"""Text of an answer → an instance of a pydantic model, and the JSON schema that asks for it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from llmlab.errors import InputError, ParseError, ValidationError
from llmlab.finish_reasons import Ended
from llmlab.json_text import dumped, read_json, short
from llmlab.parsing.alone import check_stands_alone
from llmlab.parsing.base import Parser, Read
from llmlab.parsing.fields import fields_of
from llmlab.parsing.marks import answer_in


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelParser(Parser):
    """Reads JSON that a pydantic model accepts."""

    model: Any

    def written(self, value: object) -> str:
        import pydantic

        try:
            made: Any = value if isinstance(value, self.model) else self.model.model_validate_json(_as_json(value))
        except (TypeError, ValueError, pydantic.ValidationError) as error:
            raise InputError(f"{short(value)} is no {self.model.__name__}: {error}") from error
        return made.model_dump_json(by_alias=True)

    def _read(self, text: str, how: Ended) -> Read:
        import pydantic

        found = read_json(answer_in(text), how is not Ended.WHOLE)
        if not found.is_json:
            raise ParseError(f"The answer holds no JSON: {short(found.value)}.")
        check_stands_alone(found)
        try:  # in JSON mode a strict model still takes dates and enums from text
            return self.model.model_validate_json(dumped(found.value)), found.notes
        except pydantic.ValidationError as error:
            faults = error.errors(include_url=False, include_context=False)
            lines = [f"{'.'.join(map(str, fault['loc']))[:80]}: {fault['msg'][:200]}" for fault in faults[:8]]
            lines += [f"and {len(faults) - 8} more"] * (len(faults) > 8)
            raise ValidationError(f"The JSON does not fit {self.model.__name__}: {'; '.join(lines)}.") from error


def model_parser(model: Any) -> Parser:
    """The parser of this pydantic model.

    Raises
    ------
    InputError
        It is no model class, has no fields, or has no JSON schema.
    """
    import pydantic

    if not (isinstance(model, type) and issubclass(model, pydantic.BaseModel) and model.model_fields):
        raise InputError(
            f"response_model is {short(model)}, but must be a pydantic BaseModel class with fields "
            "(for a list: pydantic.RootModel)."
        )
    try:
        schema = model.model_json_schema()
    except pydantic.errors.PydanticUserError as error:
        raise InputError(f"response_model {model.__name__} has no JSON schema: {error.message}") from error
    if "$ref" in schema:  # a model that contains itself; providers want the object at the top
        schema = {**schema["$defs"][schema["$ref"].rpartition("/")[2]], "$defs": schema["$defs"]}
    name = re.sub(r"[^\w-]", "_", model.__name__, flags=re.ASCII)[:64]
    strict = _close(schema)
    return ModelParser(
        instruction=f"Answer with JSON only, matching this JSON schema: {json.dumps(schema, ensure_ascii=False)}",
        schema={"name": name, "strict": strict, "schema": schema} if schema.get("type") == "object" else None,
        fields=_fields(model, schema),
        model=model,
    )


def _as_json(value: object) -> str:
    """A value as JSON; a text is JSON already."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _fields(model: Any, schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The fields by their names in Python; the schema names them as they stand in the answer."""
    found = fields_of(schema)
    names = {name: field.validation_alias or field.alias or name for name, field in model.model_fields.items()}
    return {name: found.get(str(written), {"kind": "other"}) for name, written in names.items()}


def _close(schema: dict[str, Any]) -> bool:
    """Close every object and require all its fields, as strict mode demands; say whether that covers the schema."""
    parts = [part for key in ("properties", "$defs") for part in schema.get(key, {}).values()]
    parts += [part for key in ("anyOf", "allOf") for part in schema.get(key, [])]
    parts += [schema[key] for key in ("items", "additionalProperties") if isinstance(schema.get(key), dict)]
    closed = [_close(part) for part in parts]
    schema.pop("default", None)
    if "properties" in schema:
        schema |= {"additionalProperties": False, "required": list(schema["properties"])}
    elif schema.get("type") == "object":
        return False  # free keys cannot be listed
    return all(closed) and bool(schema.keys() & {"type", "$ref", "anyOf", "allOf", "enum", "const"})
