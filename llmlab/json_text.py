"""Text of an answer → the JSON value it holds, from certain to lenient; never a guess."""

import json
import math
import re
import reprlib
from typing import NamedTuple

from llmlab.errors import ParseError, TruncatedError

ZERO_WIDTH = "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u00ad\x00"
BLANK = "".join(char for char in map(chr, range(0x3001)) if char.isspace()) + ZERO_WIDTH
_MAX_REPAIR_CHARS = 8_000  # json_repair is quadratic on some inputs: 0.8 s at this length

_FENCE_TAG = re.compile(r"(?:[\w+-]*[ \t]*\n|json\b)?", re.IGNORECASE)
_BRACKET = re.compile(r"\{|\}+|\[(?=\s*\{)")
_PROSE_BRACES = re.compile(  # no colon outside of strings, so never an object that says something
    r"""(?s)\{(?:[^{}:=："'“]|(?<=\w)'|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|“[^”]*”)*+\}|\{(?=\{)"""
)
_TOKEN = re.compile(
    r""""(?:[^"\\]|\\.)*?(?:"(?=\s*[,:}\]])|\Z)"""  # a quote ends a string only where JSON could go on
    r"""|(?<=[\s{\[,:])'(?:[^'\\]|\\.)*?(?:'(?=\s*[,:}\]])|\Z)"""
    r"""|“[^”]*(?:”|\Z)|-?\b(?:nan|infinity|inf)\b|[{}\[\]]""",
    re.IGNORECASE | re.DOTALL,
)
_ESCAPES = {"\\": "\0", "/": "/"} | dict.fromkeys("\"'bfnrt", "")
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80


class Found(NamedTuple):
    """What JSON a text holds.

    Attributes
    ----------
    value : object
        The JSON value, or the text itself if it holds none.
    is_json : bool
    notes : tuple of str
        `repaired`, if it was not valid as it stood.
    before, after : str
        The words around it, if it stood in prose.
    """

    value: object
    is_json: bool
    notes: tuple[str, ...] = ()
    before: str = ""
    after: str = ""


def read_json(text: str, cut: bool) -> Found:
    """The JSON value in a text, from certain to lenient: the whole text, its only fence, the one object in it.

    Parameters
    ----------
    cut : bool
        Whether the text may have been cut off; then only a whole object or list counts.

    Raises
    ------
    ParseError
        There are several different values, or the one cannot be repaired without a guess.
    TruncatedError
        It breaks off.
    """
    answer = text.strip(BLANK)
    whole = _decode_whole(answer)
    if cut and not (whole and isinstance(whole[0], dict | list)):
        raise TruncatedError("It is not complete JSON.")
    before = after = ""
    if whole is None:
        answer, before, after = _fenced(answer)
        whole = _decode_whole(answer)
    if whole is None:
        return _object_in_prose(f"{before}{answer}{after}") or Found(answer, False)
    inner = _decode_whole(whole[0].strip(BLANK)) if isinstance(whole[0], str) else None
    if inner and isinstance(inner[0], dict | list):  # JSON within a JSON string
        return Found(inner[0], True, ("repaired",), before, after)
    return Found(whole[0], True, (), before, after)


def is_json(text: str) -> bool:
    """Whether the text as a whole is strict JSON."""
    return _decode_whole(text.strip(BLANK)) is not None


def unfenced(text: str) -> str:
    """The inside of a code fence, if the text is nothing else."""
    inner, before, after = _fenced(text)
    return text if (before + after).strip(BLANK) else inner


def _fenced(text: str) -> tuple[str, str, str]:
    """The inside of the text's only code fence and the words before and after it; else the text itself.

    With words around it the inside must begin like JSON, and there must be no further braces.
    """
    before, *fenced = text.split("```")
    if len(fenced) == 2:
        around = before + fenced[1]
        inner = _FENCE_TAG.sub("", fenced[0], count=1).strip(BLANK)
        if "{" not in around and (not around.strip(BLANK) or inner[:1] in ("{", "[", '"')):
            return inner, before, fenced[1]
    return text, "", ""


def _object_in_prose(text: str) -> Found | None:
    """The one complete object, strict or repaired; if it is there twice the last."""
    found: tuple[object, tuple[str, ...]] | None = None
    position = repaired_chars = 0
    last = (0, 0)
    while bracket := _BRACKET.search(text, position):
        start, position = bracket.span()
        if bracket[0][0] == "}":
            if found and found[1]:
                raise ParseError(f"The answer is not valid JSON, and where it ends is unclear: {short(text)}.")
            continue
        if prose := _PROSE_BRACES.match(text, start):
            position = prose.end()
            continue
        notes: tuple[str, ...] = ()
        read = _decode(_STRICT, text, start)
        if read is None:
            notes = ("repaired",)
            if repaired_chars >= _MAX_REPAIR_CHARS:
                raise ParseError(f"The answer has too much to repair: {short(text)}.")
            read = _decode(_LENIENT, text, start) or _repair(text, start, _MAX_REPAIR_CHARS - repaired_chars)
            repaired_chars += max(read[1] - start, 1000)  # each failure costs a scan of the text before it
        value, position = read
        if found and value and value != found[0]:
            raise ParseError(f"There are two answers: {short(found[0])} and {short(value)}.")
        if value:
            found = found or (value, notes)
            last = start, position
    return found and Found(found[0], True, found[1], text[: last[0]], text[last[1] :])


def _repair(text: str, start: int, max_chars: int) -> tuple[object, int]:
    """Repair one complete object; a repair may move punctuation, never content."""
    import json_repair

    depth, span = 0, text[start : start + max_chars]
    for token in _TOKEN.finditer(span):
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(token[0], 0)
        if depth == 0:
            break
    else:
        if start + len(span) < len(text):
            raise ParseError(f"The answer is not valid JSON and too long to repair: {short(span)}.")
        raise TruncatedError(f"The answer breaks off: {short(span)}.")
    end = start + token.end()
    span = _TOKEN.sub(lambda token: token[0] if token[0][0] in "\"'“{}[]" else "null", span[: token.end()])
    try:
        value = json_repair.loads(span, skip_json_loads=True, strict=True)
        same = isinstance(value, dict | list) and _content(json.dumps(value, ensure_ascii=False)) == _content(span)
    except Exception as error:  # whatever a heuristic stumbles over, this is not JSON
        raise ParseError(f"The answer is not valid JSON ({error}): {short(span)}."[:500]) from error
    if not same:
        raise ParseError(f"The answer is not valid JSON, and no repair keeps all that it says: {short(span)}.")
    return value, end


def _content(text: str) -> str:
    """Return what a repair must keep: everything but JSON's own punctuation, escapes and spellings."""
    text = re.sub(r"(?s)\\(u[0-9a-fA-F]{4}|.)", _unescaped, text)
    text = re.sub(r"[\s\"'“”‘’{}\[\],:]", "", text).casefold()
    return re.sub(r"(\.\d*?)0+(?!\d)", r"\1", text).replace("none", "null")


def _unescaped(match: re.Match[str]) -> str:
    code = match[1]
    return chr(int(code[1:], 16)) if len(code) > 1 else _ESCAPES.get(code, "\0" + code)


def _decode_whole(text: str) -> tuple[object] | None:
    read = _decode(_STRICT, text, 0)
    return (read[0],) if read and read[1] == len(text) else None


def _decode(decoder: json.JSONDecoder, text: str, start: int) -> tuple[object, int] | None:
    try:
        return decoder.raw_decode(text, start)
    except RecursionError:
        raise ParseError(f"The answer is nested too deeply: {short(text)}.") from None
    except ValueError:
        return None


def dumped(value: object) -> str:
    try:
        return json.dumps(value)
    except RecursionError:
        raise ParseError("The answer is nested too deeply.") from None


def _pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) < len(pairs):
        for key, value in pairs:
            if value != result[key]:
                raise ParseError(f"The key {short(key)} has two values: {short(value)} and {short(result[key])}.")
    return result


def _finite(text: str) -> float:
    if math.isfinite(number := float(text)):
        return number
    raise ValueError(text)


def _finite_or_null(text: str) -> float | None:
    return number if math.isfinite(number := float(text)) else None


_STRICT = json.JSONDecoder(object_pairs_hook=_pairs, parse_float=_finite, parse_constant=_finite)
_LENIENT = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_float=_finite_or_null, parse_constant=_finite_or_null, strict=False
)


def short(value: object) -> str:
    return _SHORT.repr(value)[:90]
