"""What a stop says beside its reason: the models that may have been meant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from llmlab.client import Endpoint, similar_models
from llmlab.engine.verdict import Stop
from llmlab.errors import ModelNotFoundError


async def with_suggestions(ended: Mapping[str, Stop], endpoint: Endpoint) -> dict[str, Stop]:
    """Why models have ended; of those that the endpoint does not have, with similar names that it has."""
    missing = [model for model, stop in ended.items() if stop.error_type == ModelNotFoundError.__name__]
    similar = await similar_models(endpoint, missing) if missing else {}
    told = dict(ended)
    for model, names in similar.items():
        if names:
            reason = f"{ended[model].reason} Did you mean {' or '.join(map(repr, names))}?"
            told[model] = replace(ended[model], reason=reason)
    return told
