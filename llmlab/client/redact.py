"""Keys out of texts, and any text as one short line.

Everything that a provider, the SDK or the transport says passes through here before it reaches an error, a log, a frame
or the journal, because providers and exceptions repeat the key that they were sent.
"""

from __future__ import annotations

import functools
import re

MESSAGE_LENGTH = 300
SHORTEST_KEY = 8
LONGEST_WORD = 20
_SECRET = re.compile(r"\b(?:(?:sk|xai)-|(?:gsk|hf)_|AIza|key-(?=\S*\d)|Bearer\s+)[\w\-*.]{5,}[\w*]")
_TITLE = re.compile(r"<(?:title|h1)[^>]*>(.*?)</(?:title|h1)>", re.IGNORECASE | re.DOTALL)


def without(key: str | tuple[str, ...], text: str) -> str:
    """An answer's text without the key or keys.

    A key that could be a word is left in: local servers take any, and their handbooks say "anything" or "not-needed".
    """
    for secret in (key,) if isinstance(key, str) else key:
        if looks_secret(secret):
            text = text.replace(secret, "[key]")
    return text


@functools.lru_cache(maxsize=64)
def looks_secret(key: str) -> bool:
    """Whether no text holds this by chance: digits among letters, capitals within a word, or a very long word."""
    if len(key) < SHORTEST_KEY:
        return False
    mixed = re.search(r"[A-Za-z]", key) and re.search(r"\d", key)
    odd = re.search(r"[a-z][A-Z]", key)
    return bool(mixed or odd) or max(map(len, re.split(r"[^A-Za-z]+", key))) >= LONGEST_WORD


def one_line(text: str, key: str | tuple[str, ...] = "") -> str:
    """`text` as one short line without the key, anything shaped like a key, or a web page."""
    if "<" in text and re.match(r"\s*(<!doctype|<html|<\?xml|<head|<body)", text, re.IGNORECASE):
        title = _TITLE.search(text)
        text = "a web page" + (f": {re.sub('<[^>]*>', '', title[1])}" if title else "")
    for secret in (key,) if isinstance(key, str) else key:
        # In a message a word too many costs nothing.
        if len(secret) >= SHORTEST_KEY:
            text = text.replace(secret, "[key]")
    text = " ".join(_SECRET.sub("[key]", text).split())
    return text if len(text) <= MESSAGE_LENGTH else text[: MESSAGE_LENGTH - 1] + "…"
