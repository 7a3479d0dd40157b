"""What an answer tells beside its text and tokens: who served it, the thinking before it, how sure each token was."""

from __future__ import annotations

import math

from llmlab.client.redact import without
from llmlab.records import NOT_TOLD, SaidToken, Served

# OpenRouter, vLLM and DeepSeek name the model's thinking differently.
_THINKING = ("reasoning", "reasoning_content", "thinking")


def read_served(data: object, key: str | tuple[str, ...] = "") -> Served:
    """The further facts of an answer's JSON; what is missing or odd is left out. Never raises.

    Parameters
    ----------
    data : object
        The parsed body, of whatever type it is.
    key : str or tuple of str
        The API key or keys; removed wherever the provider echoes them.
    """
    if not isinstance(data, dict):
        return NOT_TOLD
    choices = data.get("choices")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message = first.get("message")
    message = message if isinstance(message, dict) else {}
    thinking = next((text for name in _THINKING if (text := _text(message.get(name)))), None)
    return Served(
        provider=_clean(data.get("provider"), key),
        system_fingerprint=_clean(data.get("system_fingerprint"), key),
        service_tier=_clean(data.get("service_tier"), key),
        reasoning=thinking and without(key, thinking),
        tokens=_tokens(first.get("logprobs")),
        completion_id=_clean(data.get("id"), key),
    )


def _clean(value: object, key: str | tuple[str, ...]) -> str | None:
    return without(key, value[:200]) if isinstance(value, str) and value else None


def _text(value: object) -> str | None:
    """Text, also if it comes in parts."""
    if isinstance(value, list):
        parts = (part.get("text") for part in value if isinstance(part, dict))
        value = "".join(part for part in parts if isinstance(part, str))
    return value if isinstance(value, str) and value.strip() else None


def _tokens(raw: object) -> tuple[SaidToken, ...]:
    content = raw.get("content") if isinstance(raw, dict) else None
    if not isinstance(content, list):
        return ()
    tokens = []
    for one in content:
        said = _token(one)
        if said is None:
            # With a hole in it nothing can be said of the whole.
            return ()
        others = one.get("top_logprobs")
        listed = (_token(other) for other in others) if isinstance(others, list) else ()
        tokens.append(SaidToken(*said, tuple(other for other in listed if other is not None)))
    return tuple(tokens)


def _token(raw: object) -> tuple[str, float] | None:
    if not isinstance(raw, dict):
        return None
    token, logprob = raw.get("token"), raw.get("logprob")
    if not isinstance(token, str) or isinstance(logprob, bool) or not isinstance(logprob, (int, float)):
        return None
    return None if math.isnan(logprob) else (token, min(0.0, float(logprob)))
