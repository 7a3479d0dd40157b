"""Keys out of texts, and any text as one short line.

Everything that a provider, the SDK or the transport says passes through here before it reaches an error, a log, a frame
or the journal, because providers and exceptions repeat the key that they were sent.
"""

from __future__ import annotations

import re

MESSAGE_LENGTH = 300
SHORTEST_KEY = 8
_SECRET = re.compile(r"\b(?:(?:sk|xai)-|(?:gsk|hf)_|AIza|key-(?=\S*\d)|Bearer\s+)[\w\-*.]{5,}[\w*]")
_TITLE = re.compile(r"<(?:title|h1)[^>]*>(.*?)</(?:title|h1)>", re.IGNORECASE | re.DOTALL)


def without(key: str | tuple[str, ...], text: str) -> str:
    """`text` without the key or keys; one as short as an ordinary word is no secret."""
    for secret in (key,) if isinstance(key, str) else key:
        if len(secret) >= SHORTEST_KEY:
            text = text.replace(secret, "[key]")
    return text


def one_line(text: str, key: str | tuple[str, ...] = "") -> str:
    """`text` as one short line without the key, anything shaped like a key, or a web page."""
    if "<" in text and re.match(r"\s*(<!doctype|<html|<\?xml|<head|<body)", text, re.IGNORECASE):
        title = _TITLE.search(text)
        text = "a web page" + (f": {re.sub('<[^>]*>', '', title[1])}" if title else "")
    text = " ".join(_SECRET.sub("[key]", without(key, text)).split())
    return text if len(text) <= MESSAGE_LENGTH else text[: MESSAGE_LENGTH - 1] + "…"
