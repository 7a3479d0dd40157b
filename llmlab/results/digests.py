"""What is sent as bytes, by which it is found again, and the digest of these."""

from __future__ import annotations

import functools
import json
import re
import secrets
import zlib
from collections.abc import Callable
from hashlib import blake2b
from json.encoder import encode_basestring
from typing import Any, Protocol

from llmlab.client import Image
from llmlab.prompts import Messages

DIGEST = 16
# Made once: `json.dumps` would make an encoder for every call.
_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode


class Renders(Protocol):
    """Makes the messages that are sent about a unit."""

    def render(self, unit: int) -> list[dict[str, Any]]:
        """The messages of the unit in this row, or an `EmptyInputError` if nothing is sent."""
        ...


def in_bytes(messages: list[dict[str, Any]]) -> bytes:
    """Messages as the bytes that their digest is made of; of a picture a digest stands for its data.

    Raises
    ------
    EmptyInputError
        A picture cannot be read.
    """
    if any(isinstance(message["content"], list) for message in messages):
        messages = [message | {"content": _identified(message["content"])} for message in messages]
    return canonical(messages)


def _identified(content: Any) -> Any:
    if not isinstance(content, list):
        return content
    return [part.identified() if isinstance(part, Image) else part for part in content]


def said(messages: Renders, unit: int) -> bytes | None:
    """What is sent about a unit; `None` if nothing is, or the user's own function fails, which the run will tell."""
    try:
        return in_bytes(messages.render(unit))
    except Exception:
        return None


def said_of_many(messages: Renders) -> Callable[[int], bytes | None]:
    """As `said`, for many units, of whose messages it may be known beforehand what is the same."""
    if isinstance(messages, Messages) and messages.placeholders:
        return _Filled(messages).said
    return functools.partial(said, messages)


class _Filled:
    """What is sent about units that differ in texts alone: only these are written anew, in a fifth of the time."""

    def __init__(self, messages: Messages) -> None:
        self._messages = messages
        marks = [secrets.token_hex(16) for _ in messages.placeholders]
        # Every second part is the place of a text.
        self._parts = re.split(f"({'|'.join(marks)})", _encode(messages.with_texts(marks)))
        self._order = [marks.index(mark) for mark in self._parts[1::2]]

    def said(self, unit: int) -> bytes | None:
        try:
            texts = self._messages.texts(unit)
        except Exception:
            return None
        if texts is None:
            return said(self._messages, unit)
        parts = self._parts[:]
        # The text of a JSON string without its quotes.
        parts[1::2] = [encode_basestring(texts[at])[1:-1] for at in self._order]
        return _in_utf8("".join(parts))


def canonical(said: Any) -> bytes:
    """What was sent, as the bytes that its digest is made of."""
    return _in_utf8(_encode(said))


def _in_utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def digest(data: bytes) -> bytes:
    """Sixteen bytes that tell what was sent from everything else."""
    return blake2b(data, digest_size=DIGEST).digest()


def pack(data: bytes) -> bytes:
    """What was sent, as it is kept: compressed."""
    # What is short needs no large window; to make one takes longer than the compressing.
    small = (12, 5) if len(data) <= 4096 else (zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL)
    compress = zlib.compressobj(1, zlib.DEFLATED, *small)
    return compress.compress(data) + compress.flush()


def said_again(packed: bytes) -> Any:
    """What was sent, as it was kept."""
    return json.loads(zlib.decompress(packed).decode("utf-8", "surrogatepass"))
