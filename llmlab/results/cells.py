"""Cells of any kind as text, and back: a column's type and its values survive JSON.

What JSON does not know (dates, tuples, mappings with keys that are no text, NA) stands under a tag.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import decimal
import json
import uuid
import zlib
from collections.abc import Hashable, Mapping, Sequence
from enum import Enum
from typing import Any

import numpy as np
import pandas as pd

from llmlab.pandas_versions import TEXT, text_array

_TAG = "$"
# A Timestamp is a datetime, and a datetime is a date: the narrowest first.
_TIMES: dict[str, Any] = {"timestamp": pd.Timestamp, "datetime": datetime.datetime, "date": datetime.date}
_BY_TEXT: dict[str, Any] = {"uuid": uuid.UUID, "decimal": decimal.Decimal}
PIECE = 10_000


def is_text(text: str) -> bool:
    """Whether UTF-8 can hold it: not half a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def whole(text: str) -> str:
    """The text as UTF-8 can hold it: half a surrogate pair becomes a question mark."""
    return text.encode("utf-8", "replace").decode()


def is_native(column: pd.Series) -> bool:
    """Whether Parquet holds it as it is."""
    if isinstance(column.dtype, pd.StringDtype):
        return all(map(is_text, column.dropna()))
    return _is_plain(column.dtype) and column.dtype != "float16"


def _is_plain(dtype: Any) -> bool:
    """Whether it is a number, a truth value or a time, and its name says all about it."""
    odd = isinstance(dtype, (pd.CategoricalDtype, pd.ArrowDtype, pd.SparseDtype))
    with contextlib.suppress(TypeError):
        return not odd and dtype.kind in "biufM" and pd.api.types.pandas_dtype(str(dtype)) == dtype
    return False


def objects(column: pd.Series) -> list[Any]:
    """The cells as Python has them; missing ones are None, but in columns of objects as they are."""
    values = column.tolist()
    if column.dtype == object:
        return values
    return [None if missing else value for value, missing in zip(values, column.isna(), strict=True)]


def as_texts(column: pd.Series) -> tuple[list[str | None], Any]:
    """A column as texts, and how to read them: a dtype's name, or a mapping for categories and objects."""
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        cells, how = as_texts(pd.Series(dtype.categories))
        known = [*cells, None]
        return [known[code] for code in column.cat.codes], {"of": how, "categories": cells, "ordered": dtype.ordered}
    values = objects(column)
    if isinstance(dtype, pd.StringDtype) and all(is_text(value) for value in values if value is not None):
        return values, str(dtype)
    if not _is_plain(dtype):
        return [None if value is None else json.dumps(encode(value)) for value in values], {"json": str(dtype)}
    write = {"f": repr, "M": pd.Timestamp.isoformat}.get(dtype.kind, str)
    return [None if value is None else write(value) for value in values], str(dtype)


def from_texts(cells: list[str | None], how: Any) -> pd.Series:
    """The column behind `as_texts`."""
    if isinstance(how, dict) and "of" in how:
        categories = pd.Index(from_texts(how["categories"], how["of"]), tupleize_cols=False)
        place = {cell: at for at, cell in enumerate(how["categories"])}
        codes = [-1 if cell is None else place[cell] for cell in cells]
        return pd.Series(pd.Categorical.from_codes(codes, categories, ordered=how["ordered"]))
    if isinstance(how, dict):
        objects = np.empty(len(cells), object)
        objects[:] = [None if cell is None else decode(json.loads(cell)) for cell in cells]
        column = pd.Series(objects, dtype=object)
        with contextlib.suppress(ValueError, TypeError):
            return column.astype(TEXT if how["json"] == "str" else how["json"])
        return column
    if how == "str":
        return pd.Series(text_array(cells))
    dtype: Any = pd.api.types.pandas_dtype(how)
    if isinstance(dtype, pd.StringDtype):
        return pd.Series(cells, dtype=dtype)
    if dtype.kind == "M":
        times = pd.to_datetime(pd.Series(cells, dtype=object), utc=True, format="ISO8601")
        return (times if isinstance(dtype, pd.DatetimeTZDtype) else times.dt.tz_localize(None)).astype(dtype)
    read: Any = {"b": "True".__eq__, "f": float}.get(dtype.kind, int)
    missing = np.nan if isinstance(dtype, np.dtype) else pd.NA
    return pd.Series([missing if cell is None else read(cell) for cell in cells], dtype=dtype)


def encode(value: Any) -> Any:
    """A value as JSON has it, and what JSON does not know under a tag. The rest becomes text."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Enum):
        return encode(value.value)
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if value is pd.NA or value is pd.NaT:
        return {_TAG + "missing": "NA" if value is pd.NA else "NaT"}
    if isinstance(value, (list, tuple)):
        items = [encode(item) for item in value]
        return items if isinstance(value, list) else {_TAG + "tuple": items}
    if isinstance(value, Mapping):
        if all(isinstance(name, str) and not name.startswith(_TAG) for name in value):
            return {name: encode(item) for name, item in value.items()}
        return {_TAG + "pairs": [[encode(name), encode(item)] for name, item in value.items()]}
    for name, kind in _TIMES.items():
        if isinstance(value, kind):
            return {_TAG + name: value.isoformat()}
    for name, kind in _BY_TEXT.items():
        if isinstance(value, kind):
            return {_TAG + name: str(value)}
    if isinstance(value, bytes):
        return {_TAG + "bytes": base64.b64encode(value).decode()}
    with contextlib.suppress(Exception):
        return encode(value.model_dump(mode="json"))
    return str(value)


def decode(value: Any) -> Any:
    """The value behind `encode`."""
    name: str
    inner: Any
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    name, inner = next(iter(value.items())) if value else ("", None)
    if not name.startswith(_TAG):
        return {name: decode(item) for name, item in value.items()}
    name = name.removeprefix(_TAG)
    if name == "missing":
        return pd.NA if inner == "NA" else pd.NaT
    if name == "tuple":
        return tuple(decode(item) for item in inner)
    if name == "pairs":
        return {decode(key): decode(item) for key, item in inner}
    if name == "bytes":
        return base64.b64decode(inner)
    if name in _BY_TEXT:
        return _BY_TEXT[name](inner)
    kind = _TIMES[name]
    return pd.Timestamp(inner) if kind is pd.Timestamp else kind.fromisoformat(inner)


def encode_id(unit_id: Hashable) -> str:
    """A unit's id as text, by value and type: 1, 1.0 and numpy's 1 are one id, "1" is another."""
    if isinstance(unit_id, np.generic):
        unit_id = unit_id.item()
    if isinstance(unit_id, tuple):
        return json.dumps({_TAG + "tuple": [encode_id(part) for part in unit_id]})
    if isinstance(unit_id, (float, decimal.Decimal)) and unit_id == unit_id and unit_id == unit_id // 1:
        unit_id = int(unit_id) if abs(unit_id) < 2**63 else unit_id
    return json.dumps(encode(unit_id))


def pack(column: pd.Series) -> tuple[Any, list[bytes]]:
    """A column as compressed pieces of `PIECE` cells, and how to read them: a longer column begins with the same ones.

    Numbers are kept as they stand in memory, all else as JSON.
    """
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "biuf":
        raw = column.to_numpy().astype(column.dtype.newbyteorder("<"), copy=False)
        parts = [raw[at : at + PIECE].tobytes() for at in range(0, len(raw), PIECE)]
        return {"numbers": raw.dtype.str}, [zlib.compress(part, 1) for part in parts]
    texts, how = as_texts(column)
    parts = (json.dumps(texts[at : at + PIECE], ensure_ascii=False) for at in range(0, len(texts), PIECE))
    return how, [zlib.compress(part.encode(), 1) for part in parts]


def unpack(how: Any, pieces: Sequence[bytes]) -> pd.Series:
    """The column behind `pack`."""
    parts = [zlib.decompress(piece) for piece in pieces]
    if isinstance(how, dict) and "numbers" in how:
        dtype = np.dtype(how["numbers"])
        return pd.Series(np.frombuffer(b"".join(parts), dtype).astype(dtype.newbyteorder("=")))
    return from_texts([cell for part in parts for cell in json.loads(part)], how)


def in_json(value: object) -> str | None:
    """A prediction as JSON; `None` if it cannot be written, as it can be read again from the answer's text."""
    try:
        dump = getattr(value, "model_dump", None)
        return json.dumps(encode(dump(mode="json") if dump else value))
    except Exception:
        # Dumping may be the user's own code.
        return None


def storable(value: Any) -> Any:
    """Text that SQLite takes: half a surrogate pair, which no UTF-8 has, goes in as bytes."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-8", "surrogatepass")
    return value
