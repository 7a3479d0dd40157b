"""What the fields of a response model can hold, read from its JSON schema."""

from __future__ import annotations

from typing import Any

MOST_NUMBERS = 101


def fields_of(schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Each field of a model's JSON schema, in order.

    Returns
    -------
    dict
        Field → `kind`, and `labels` where they are known. Kinds: "label" (one of the labels), "ordered" (one of the
        labels, which are numbers in order), "labels" (any number of the labels), "number", "text", "other".
    """
    definitions = schema.get("$defs", {})
    return {name: _kind(part, definitions) for name, part in schema.get("properties", {}).items()}


def _kind(part: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    part = _resolved(part, definitions)
    labels = part["enum"] if "enum" in part else [part["const"]] if "const" in part else _numbers(part)
    if labels:
        numbers = all(isinstance(one, int | float) and not isinstance(one, bool) for one in labels)
        return {"kind": "ordered" if numbers else "label", "labels": list(labels)}
    if part.get("type") == "boolean":
        return {"kind": "label", "labels": [False, True]}
    if part.get("type") == "array" and isinstance(part.get("items"), dict):
        items = _kind(part["items"], definitions)
        return {"kind": "labels", "labels": items["labels"]} if "labels" in items else {"kind": "other"}
    return {"kind": {"integer": "number", "number": "number", "string": "text"}.get(str(part.get("type")), "other")}


def _resolved(part: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """The schema behind references, and behind "or null"."""
    for _ in range(8):
        options = [one for one in part.get("anyOf", part.get("allOf", ())) if one.get("type") != "null"]
        if "$ref" in part:
            part = definitions.get(part["$ref"].rpartition("/")[2], {})
        elif len(options) == 1:
            part = options[0]
        else:
            break
    return part


def _numbers(part: dict[str, Any]) -> list[int]:
    """All numbers that a bounded integer can be, if they are few enough to be labels."""
    if part.get("type") != "integer":
        return []
    low = part["minimum"] if "minimum" in part else part.get("exclusiveMinimum", float("nan")) + 1
    high = part["maximum"] if "maximum" in part else part.get("exclusiveMaximum", float("nan")) - 1
    return list(range(int(low), int(high) + 1)) if 0 <= high - low < MOST_NUMBERS else []
