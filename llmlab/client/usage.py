"""The tokens and the cost of one answer, as far as the provider reported them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from llmlab.client.image_tokens import image_tokens
from llmlab.records import UNKNOWN_USAGE, Usage

MOST_TOKENS = 1e12
# A second of compressed speech is about 20 kB of base64 and 10 to 30 tokens.
_CHARACTERS_OF_DATA_PER_TOKEN = 1000


def read_usage(raw: object) -> tuple[Usage, tuple[str, ...]]:
    """The `usage` object of an answer; what is missing, negative or no number becomes `None` and a note. Never raises.

    Parameters
    ----------
    raw : object
        The parsed JSON, of whatever type it is.

    Returns
    -------
    Usage
    tuple of str
        What was odd.
    """
    if not isinstance(raw, dict):
        return UNKNOWN_USAGE, ("no usage",)
    notes: list[str] = []

    def count(source: dict[str, Any], name: str) -> int | None:
        value = source.get(name)
        if value is None or (type(value) is int and 0 <= value < MOST_TOKENS):
            return value
        try:
            number = float(value) if isinstance(value, (str, float)) else math.nan
        except ValueError:
            number = math.nan
        notes.append(f"odd {name}")
        return int(number) if 0 <= number < MOST_TOKENS and number == math.floor(number) else None

    prompt, completion, total = count(raw, "prompt_tokens"), count(raw, "completion_tokens"), count(raw, "total_tokens")
    if prompt == 0:
        # Every prompt has tokens: a 0 means that the provider did not count.
        notes.append("zero usage")
        prompt, completion, total = None, completion or None, total or None
    if total is None and prompt is not None and completion is not None:
        total = prompt + completion
    elif None not in (prompt, completion, total) and total != prompt + completion:  # type: ignore[operator]
        notes.append("total_tokens is not the sum")
    prompt_details, completion_details = raw.get("prompt_tokens_details"), raw.get("completion_tokens_details")
    cached = count(prompt_details, "cached_tokens") if isinstance(prompt_details, dict) else None
    written = _cache_writes(raw, prompt_details if isinstance(prompt_details, dict) else {}, count)
    reasoning = count(completion_details, "reasoning_tokens") if isinstance(completion_details, dict) else None
    if (cached or 0) > (prompt or math.inf) or (reasoning or 0) > (completion or math.inf):
        notes.append("odd token details")
    usage = Usage(prompt, completion, reasoning, cached, total, _cost(raw, notes), written)
    if usage == UNKNOWN_USAGE:
        notes.append("no usage")
    elif prompt is None or completion is None:
        notes.append("partial usage")
    return usage, tuple(notes)


def _cache_writes(
    raw: dict[str, Any], details: dict[str, Any], count: Callable[[dict[str, Any], str], int | None]
) -> int | None:
    """Tokens that were written to the provider's cache, under the name that it gives them."""
    for source, name in (
        (details, "cache_write_tokens"),  # OpenRouter
        (details, "cache_creation_tokens"),
        (raw, "cache_creation_input_tokens"),  # Anthropic
        (raw, "cache_write_tokens"),
    ):
        if source.get(name) is not None:
            return count(source, name)
    return None


def prompt_tokens(body: Mapping[str, Any]) -> float:
    """Estimated tokens of a request's messages: characters / 4, which needs no tokenizer, and its pictures."""
    parts = [part for message in body["messages"] for part in _parts(message)]
    media = (_media_tokens(part, body.get("model", "")) for part in parts if part.get("type") != "text")
    return text_tokens(body) + sum(media)


def text_tokens(body: Mapping[str, Any]) -> float:
    """Estimated tokens of the texts in a request's messages."""
    characters = 0
    for message in body["messages"]:
        content, calls = message.get("content"), message.get("tool_calls")
        characters += len(content) if isinstance(content, str) else 0
        characters += sum(len(str(part.get("text") or "")) for part in _parts(message))
        characters += len(str(calls)) if calls else 0
    return characters / 4


def _parts(message: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    content = message.get("content")
    return [part for part in content if isinstance(part, Mapping)] if isinstance(content, list) else []


def _media_tokens(part: Mapping[str, Any], model: str) -> float:
    if part.get("type") == "image_url":
        return image_tokens(part, model)
    # Sound and files, whose base64 is no text either.
    return len(str(part)) / _CHARACTERS_OF_DATA_PER_TOKEN


def _cost(raw: dict[str, Any], notes: list[str]) -> float | None:
    """The cost in US dollars that OpenRouter reports; adds to `notes` what is odd about it."""

    def dollars(value: object) -> float | None:
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            return None
        try:
            number = float(value)
        except (ValueError, OverflowError):
            return None
        return number if 0 <= number < math.inf else None

    if raw.get("cost") is None:
        return None
    cost = dollars(raw["cost"])
    if cost is None or isinstance(raw["cost"], str):
        notes.append("odd cost")
    details = raw.get("cost_details")
    upstream = dollars(details.get("upstream_inference_cost")) if isinstance(details, dict) else None
    if raw.get("is_byok") and upstream is not None:
        # OpenRouter with the user's own provider key: `cost` is its fee, the provider charges the rest.
        notes.append("own key: upstream cost added")
        return (cost or 0.0) + upstream
    return cost
