"""The models that an endpoint has, to name those that may have been meant."""

from __future__ import annotations

import asyncio
import contextlib
import difflib

from llmlab.client.endpoint import Endpoint
from llmlab.client.sdk import is_plain, sdk_of

MOST_NAMES, LIST_S = 3, 5.0


async def similar_models(endpoint: Endpoint, missing: list[str]) -> dict[str, list[str]]:
    """The names of the endpoint's models that resemble those it does not have, the nearest first.

    It asks the endpoint once, for at most five seconds; of an endpoint that tells no names, there are none.
    """
    import openai

    names: list[str] = []
    # Connections belong to one event loop; the user's client may be used in several.
    async with openai.DefaultAsyncHttpxClient() as connections:
        # Whatever goes wrong here, the missing model has been told already.
        with contextlib.suppress(Exception):
            client = sdk_of(endpoint, connections if endpoint.client is None or is_plain(endpoint.client) else None)
            async with asyncio.timeout(LIST_S):
                names = [str(one.id) async for one in client.models.list()]
    return {model: nearest(model, names) for model in missing}


def nearest(model: str, names: list[str]) -> list[str]:
    """The names that resemble a model's: with or without the maker before it, or misspelt.

    >>> nearest("gpt-4o-mni", ["openai/gpt-4o-mini", "openai/gpt-4o", "qwen/qwen3-8b"])
    ['openai/gpt-4o-mini', 'openai/gpt-4o']
    """
    plain = {name: name.rpartition("/")[2].casefold() for name in names}
    wanted = model.rpartition("/")[2].casefold()
    likely = difflib.get_close_matches(wanted, plain.values(), n=MOST_NAMES, cutoff=0.7)
    within = [one for one in sorted(plain.values(), key=len) if wanted in one and wanted]
    found = [name for one in dict.fromkeys([*likely, *within]) for name in names if plain[name] == one]
    return [name for name in dict.fromkeys(found) if name != model][:MOST_NAMES]
