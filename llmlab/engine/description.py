"""An experiment in words and numbers, for a reader, as results and saved files keep it."""

from __future__ import annotations

import platform
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from llmlab.prompts import Prompt

if TYPE_CHECKING:
    from llmlab.engine.setup import Setup


TITLE = 40


def title_of(setup: Setup) -> str:
    """What is asked, in a few words that tell two experiments in one notebook apart: the models and the prompt."""
    named = [name for name in setup.prompts if name is not None]
    whole = ", ".join(named) or " ".join(str(_in_words(setup.prompts[None])).split())
    return f"{', '.join(setup.models)} · {whole if len(whole) <= TITLE else whole[: TITLE - 1] + '…'}"


def describe(setup: Setup) -> dict[str, Any]:
    """What is asked of whom, and with which versions."""
    parser = setup.parser
    named = {name: _in_words(prompt) for name, prompt in setup.prompts.items()}
    return {
        "endpoint": setup.endpoint.base_url + (" (simulated, no real model)" if setup.endpoint.simulated else ""),
        "models": list(setup.models),
        "prompt": named.get(None),
        "prompts": None if None in named else named,
        "categories": None if parser.categories is None else list(parser.categories),
        "definitions": dict(parser.definitions),
        "fields": dict(parser.fields),
        "examples": len(setup.few_shot.answers),
        "example_units": setup.few_shot.among(setup.plan.units, setup.messages),
        "schema": parser.schema,
        "parameters": setup.told,
        "requests_per_minute": setup.limiters.per_minute(setup.models),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("llmlab", "openai", "pandas")},
    }


def _in_words(prompt: Prompt) -> Any:
    """A prompt for a reader: a function by its name, all else as it is."""
    if not callable(prompt):
        return prompt
    return f"a function: {getattr(prompt, '__qualname__', type(prompt).__name__)}"
