"""Pictures as parts of messages: given as a file or as bytes, read only when the request is sent."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llmlab.errors import EmptyInputError, InputError

# What every provider takes as it is; other kinds of pictures are sent as PNG.
_KINDS = {b"\x89PNG\r\n\x1a\n": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif"}
_DATA_URL = re.compile(r"data:(?P<type>[\w/+.-]*)(?:;[\w=-]+)*;base64,", re.IGNORECASE)
_ON_THE_WEB = re.compile(r"https?://|gs://", re.IGNORECASE)
# Enough for the header of a picture, behind the thumbnails and colour profiles that cameras put before its size.
_HEADER_BYTES = 65_536
_JPEG_QUALITY = 90


class Image(dict[str, Any]):
    """A message part that stands for a picture until it is sent; made by `image`.

    As a mapping it is the part in the form that the API takes, with the picture's name in place of its data.

    Attributes
    ----------
    source : str or bytes
        A path, which may hold placeholders, an address on the web, a `data:` URL, or the picture's bytes.
    longest : int or None
        Longest side in pixels.
    """

    def __init__(self, source: str | bytes, longest: int | None, detail: str | None) -> None:
        name = source if isinstance(source, str) and not source.startswith("data:") else f"{len(source):,} bytes"
        shown: dict[str, Any] = {"url": name} if detail is None else {"url": name, "detail": detail}
        super().__init__(type="image_url", image_url=shown)
        self.source, self.longest, self.detail = source, longest, detail

    def filled(self, fill: Callable[[str], object]) -> Image:
        """The picture of one unit: `fill` replaces the placeholders of the path."""
        return image(fill(self.source), self.longest, self.detail) if isinstance(self.source, str) else self

    def check(self) -> None:
        """See that the file is there, without reading it.

        Raises
        ------
        EmptyInputError
        """
        if self._is_file() and not os.path.isfile(self.source):
            raise EmptyInputError(f"the picture {self.source} is not there (looked for it from {Path.cwd()})")

    def read(self) -> dict[str, Any]:
        """The part with the picture's data, no side longer than `longest`.

        Raises
        ------
        EmptyInputError
            The file cannot be read or is no picture.
        """
        if isinstance(self.source, str) and _ON_THE_WEB.match(self.source):
            url = self.source
        else:
            data = self._bytes()
            kind = kind_of(data)
            size = size_of(data)
            if kind is None or (self.longest is not None and (size is None or max(size) > self.longest)):
                kind, data = self._redrawn(data)
            url = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
        return {"type": "image_url", "image_url": {**self["image_url"], "url": url}}

    def identified(self) -> dict[str, Any]:
        """The part with a digest in place of the picture's data: what tells it from every other picture.

        Raises
        ------
        EmptyInputError
            The file cannot be read.
        """
        if isinstance(self.source, str) and _ON_THE_WEB.match(self.source):
            return dict(self)
        picture = {"blake2b": hashlib.blake2b(self._bytes(), digest_size=16).hexdigest(), "longest": self.longest}
        return {**self, "picture": picture}

    def size(self) -> tuple[int, int] | None:
        """Width and height in pixels as it will be sent; `None` if its header does not tell."""
        try:
            size = size_of(self._bytes(_HEADER_BYTES))
        except EmptyInputError:
            return None
        if size is None or self.longest is None or max(size) <= self.longest:
            return size
        width, height = (max(1, round(side * self.longest / max(size))) for side in size)
        return width, height

    def _is_file(self) -> bool:
        return isinstance(self.source, str) and not (_ON_THE_WEB.match(self.source) or _DATA_URL.match(self.source))

    def _bytes(self, most: int = -1) -> bytes:
        if isinstance(self.source, bytes):
            return self.source
        if _ON_THE_WEB.match(self.source):
            raise EmptyInputError(f"the picture {self.source} is on the web")
        if _DATA_URL.match(self.source):
            return from_data_url(self.source, most)
        try:
            with open(self.source, "rb") as file:
                return file.read(most)
        except OSError as error:
            raise EmptyInputError(f"the picture {self.source} cannot be read: {error.strerror or error}") from error

    def _redrawn(self, data: bytes) -> tuple[str, bytes]:
        """The picture's kind and bytes, smaller or as PNG, turned as the camera says."""
        name = self["image_url"]["url"]
        try:
            from PIL import Image as Pillow
            from PIL import ImageOps
        except ImportError:
            raise EmptyInputError(
                f"the picture {name} needs Pillow to be made smaller or PNG: pip install pillow"
            ) from None
        try:
            picture = Pillow.open(io.BytesIO(data))
            kind = "jpeg" if picture.format in ("JPEG", "MPO") else "png"
            picture = ImageOps.exif_transpose(picture)
            if self.longest is not None:
                picture.thumbnail((self.longest, self.longest))
            if kind == "jpeg" or picture.mode in ("CMYK", "YCbCr", "HSV", "LAB"):
                picture = picture.convert("RGB")
            written = io.BytesIO()
            picture.save(written, kind.upper(), **({"quality": _JPEG_QUALITY} if kind == "jpeg" else {}))
        except Exception as error:
            # Pillow raises errors of many kinds for a broken file; each means that this unit's picture cannot be sent.
            raise EmptyInputError(f"the picture {name} cannot be read as one: {error}") from error
        return kind, written.getvalue()


def image(source: object, longest: int | None = None, detail: str | None = None) -> Image:
    """A picture as a part of a message, read when the message is sent.

    Parameters
    ----------
    source : path, bytes or mapping
        A file, whose path may hold placeholders (``llmlab.image("photos/{unit_id}.jpg")``, ``llmlab.image("{path}")``);
        bytes of a picture; a mapping with `bytes` or `path`, as data sets keep pictures in Parquet; an address on the
        web or a `data:` URL, which are sent as they are.
    longest : int, optional
        Longest side in pixels; a larger picture is made smaller, which costs fewer tokens. Needs Pillow.
    detail : {"low", "high", "auto"}, optional
        Passed on, for providers that know it.

    Returns
    -------
    Image
        Stands in the list of a message's parts.

    Raises
    ------
    InputError
        It is no picture, or `longest` is no number of pixels.

    Examples
    --------
    >>> prompt = [{"role": "user", "content": [
    ...     {"type": "text", "text": "What is in this picture?"}, image("photos/{file}", longest=1024),
    ... ]}]  # doctest: +SKIP
    """
    if longest is not None and (isinstance(longest, bool) or not isinstance(longest, int) or longest < 1):
        raise InputError(f"longest must be a whole number of pixels, not {longest!r}.")
    if isinstance(source, Mapping):
        source = source.get("bytes") or source.get("path")
    if isinstance(source, os.PathLike):
        source = os.fspath(source)
    if isinstance(source, (bytearray, memoryview)):
        source = bytes(source)
    if not isinstance(source, (str, bytes)) or not source:
        raise InputError(
            "image() takes a path, the bytes of a picture, or a mapping with one of them under 'path' or 'bytes', "
            f"not {source!r:.80}."
        )
    return Image(source, longest, detail)


def with_images_read(messages: Any) -> Any:
    """The messages with every picture's data in its place; what is no list of messages is given back as it is.

    Raises
    ------
    EmptyInputError
        A picture cannot be read.
    """
    if not has_images(messages):
        return messages
    return [
        {**message, "content": [part.read() if isinstance(part, Image) else part for part in message["content"]]}
        if _parts(message)
        else message
        for message in messages
    ]


def has_images(messages: Any) -> bool:
    """Whether a picture is still to be read."""
    return isinstance(messages, list) and any(
        isinstance(part, Image) for message in messages for part in _parts(message)
    )


def _parts(message: Any) -> list[Any]:
    content = message.get("content") if isinstance(message, Mapping) else None
    return content if isinstance(content, list) else []


def from_data_url(url: str, most: int = -1) -> bytes:
    """The bytes of a `data:` URL, or the first `most` of them.

    Raises
    ------
    EmptyInputError
        They are no base64.
    """
    found = _DATA_URL.match(url)
    start = found.end() if found else 0
    text = url[start : start + (most // 3 * 4 if most >= 0 else len(url))]
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError) as error:
        raise EmptyInputError(f"a data: URL of a picture is no base64: {error}") from error


def kind_of(data: bytes) -> str | None:
    """`png`, `jpeg`, `gif` or `webp`, by the first bytes; `None` if it is something else."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((kind for begin, kind in _KINDS.items() if data.startswith(begin)), None)


def size_of(data: bytes) -> tuple[int, int] | None:
    """Width and height in pixels, from the header of a PNG, JPEG, GIF or WebP; `None` if it does not tell."""
    kind = kind_of(data)
    if kind == "png" and len(data) >= 24:
        return _number(data, 16, 4), _number(data, 20, 4)
    if kind == "gif" and len(data) >= 10:
        return _number(data, 6, 2, "little"), _number(data, 8, 2, "little")
    if kind == "webp" and len(data) >= 30:
        return _webp_size(data)
    return _jpeg_size(data) if kind == "jpeg" else None


def _number(data: bytes, at: int, length: int, order: Any = "big") -> int:
    return int.from_bytes(data[at : at + length], order)


def _webp_size(data: bytes) -> tuple[int, int]:
    if data[12:16] == b"VP8X":
        return _number(data, 24, 3, "little") + 1, _number(data, 27, 3, "little") + 1
    if data[12:16] == b"VP8L":
        bits = _number(data, 21, 4, "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return _number(data, 26, 2, "little") & 0x3FFF, _number(data, 28, 2, "little") & 0x3FFF


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """From the first frame header; the segments before it say how long they are."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return _number(data, at + 7, 2), _number(data, at + 5, 2)
        # A marker may be filled up with FF bytes.
        at += 1 if marker == 0xFF else 2 + _number(data, at + 2, 2)
    return None
