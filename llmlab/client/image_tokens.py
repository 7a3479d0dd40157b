"""How many tokens a picture takes, by the formulas that the providers publish.

Estimates for limits and budgets; what a call really used is known from its answer.

References
----------
OpenAI, "Images and vision", section "Calculating costs": tiles of 512 pixels, or patches of 32 pixels.
Anthropic, "Vision": width × height / 750, at most 1568 pixels a side.
Google, "Understand and count tokens": 258 tokens for each tile of 768 pixels; Gemini 3 about 1,100 for a picture.
Qwen-VL and its kin: patches of 28 pixels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from llmlab.client.images import Image, from_data_url, size_of
from llmlab.errors import EmptyInputError

# A picture of unknown size, as one on the web, is taken for a square of 1024 pixels.
_USUAL_SIZE = (1024, 1024)
_HEADER_BYTES = 65_536
# Of OpenAI's models: tokens of a picture and of each of its tiles. The longest name that a model's name holds counts.
_TILED = {
    "gpt-4o": (85, 170),
    "gpt-4o-mini": (2833, 5667),
    "gpt-4.1": (85, 170),
    "gpt-4.5": (85, 170),
    "gpt-4-turbo": (85, 170),
    "gpt-4-vision": (85, 170),
    "gpt-5": (70, 140),
    "o1": (75, 150),
    "o3": (75, 150),
}
# And tokens of each patch.
_PATCHED = {
    "gpt-4.1-mini": 1.62,
    "gpt-4.1-nano": 2.46,
    "gpt-5-mini": 1.62,
    "gpt-5-nano": 2.46,
    "o4-mini": 1.72,
    "gpt-6": 1.2,
}
_MOST_PATCHES = 1536


def image_tokens(part: Mapping[str, Any], model: str) -> float:
    """Tokens that a picture takes in the prompt of a model.

    Parameters
    ----------
    part : mapping
        A message part of type `image_url`, whether its data is in it or not.
    """
    holder = part.get("image_url")
    url, detail = (holder.get("url"), holder.get("detail")) if isinstance(holder, Mapping) else (holder, None)
    size = part.size() if isinstance(part, Image) else _size_in(url)
    width, height = (max(1, side) for side in size or _USUAL_SIZE)
    name = model.lower()
    known = max((one for one in {**_TILED, **_PATCHED} if re.search(rf"(?<![a-z\d]){one}", name)), key=len, default="")
    if known in _PATCHED:
        return min(_patches(width, height, 32), _MOST_PATCHES) * _PATCHED[known]
    if known in _TILED:
        base, each = _TILED[known]
        return base if detail == "low" else base + each * _tiles(width, height)
    if "gemini" in name:
        if "gemini-1" in name or "gemini-2" in name:
            return 258 if max(width, height) <= 384 else 258 * _patches(width, height, 768)
        return 1100
    if "claude" in name:
        shrunk = min(1.0, 1568 / max(width, height))
        return width * height * shrunk**2 / 750
    return min(_patches(width, height, 28), 4096)


def _size_in(url: object) -> tuple[int, int] | None:
    if not isinstance(url, str) or not url.startswith("data:"):
        return None
    try:
        return size_of(from_data_url(url, _HEADER_BYTES))
    except EmptyInputError:
        return None


def _patches(width: float, height: float, side: int) -> int:
    return math.ceil(width / side) * math.ceil(height / side)


def _tiles(width: float, height: float) -> int:
    """Tiles of 512 pixels, after the picture is fit into 2048 pixels and its shorter side made 768."""
    shrunk = min(1.0, 2048 / max(width, height))
    shrunk *= min(1.0, 768 / (min(width, height) * shrunk))
    return _patches(width * shrunk, height * shrunk, 512)
