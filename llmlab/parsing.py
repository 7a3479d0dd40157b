"""Text of an answer → a category, a pydantic model or a value of the user's own; never a guess.

An answer is read in one order, from certain to lenient: the whole text as strict JSON, what follows the thinking,
what the only fence holds, complete JSON objects within prose, the same objects repaired. Whatever is cut, double or
would need a guess raises a `ParseError`: asking again costs less than a wrong value.
"""

import inspect
import json
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

from llmlab.errors import (
    EmptyAnswerError,
    InputError,
    InvalidLabelError,
    ParseError,
    RefusalError,
    TruncatedError,
    ValidationError,
)
from llmlab.json_text import BLANK, ZERO_WIDTH, dumped, read_json, short

_CUT = {"length", "max_tokens", "max_output_tokens", "model_length", "error", "insufficient_system_resource"}
_FILTERED = {"content_filter", "safety", "recitation", "prohibited_content", "blocklist", "spii"}
_LABEL_KEYS = ("label", "category")
# Terminal colours, control characters and halves of surrogate pairs: nobody meant them as part of a label.
_UNPRINTABLE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_WRAPS = {'"': '"', "'": "'", "`": "`", "*": "*", "_": "_", "“": "”", "‘": "’", "„": "“", "«": "»", "(": ")", "[": "]"}

_Read = tuple[object, tuple[str, ...]]  # a value and its notes


@dataclass(frozen=True, slots=True)
class Parsed:
    """What an answer says.

    Parameters
    ----------
    value
        The category as the caller gave it, the model instance, or what the callable returned.
    notes
        What was odd about the answer: `repaired`, `normalised`, `nested`, `bare` (no JSON object),
        `no finish_reason`, `finish_reason …`. Empty for an answer in the form that was asked for.
    """

    value: object
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Parser:
    """Reads answers; made by `make_parser`.

    Parameters
    ----------
    instruction
        What is appended to the prompt so that the model answers in this form.
    categories
        The values an answer can have, in the caller's order; `None` when they are open.
    schema
        `name`, `strict` and `schema`, as `response_format={"type": "json_schema", "json_schema": …}` takes them.
    columns
        Field names of the response model, which become columns of the frame.
    """

    instruction: str | None = None
    categories: tuple[object, ...] | None = None
    schema: dict[str, Any] | None = None
    columns: tuple[str, ...] = ()

    def parse(self, text: str | None, finish_reason: str | None = "stop") -> Parsed:
        """Read one answer.

        Parameters
        ----------
        text
            The answer's text, parts already joined.
        finish_reason
            As the provider sent it, in any case. After `length` and its kin only complete strict JSON is accepted.

        Raises
        ------
        ParseError
            Or a subclass: the answer could not be read. A bug in the user's callable or validator passes through.
        """
        reason = str(finish_reason).casefold()
        if reason in _FILTERED:
            raise RefusalError(f"The answer was withheld (finish_reason {finish_reason}).")
        try:
            if not text or not text.strip(BLANK):
                raise EmptyAnswerError("The answer has no text.")
            value, notes = self._read(text, reason in _CUT)
        except ParseError as error:
            if reason not in _CUT:
                raise
            raise TruncatedError(
                f"The answer was cut off (finish_reason {finish_reason}; is max_tokens too low?). {error}"
            ) from error
        if reason != "stop":
            notes += ("no finish_reason" if finish_reason is None else f"finish_reason {finish_reason}"[:60],)
        return Parsed(value, notes)

    def _read(self, text: str, cut: bool) -> _Read:
        raise NotImplementedError


def make_parser(
    categories: object = None, response_model: object = None, parse: Callable[[str], object] | None = None
) -> Parser:
    """Make the parser of an experiment from at most one of three; without any, the text itself is the value.

    Parameters
    ----------
    categories
        The labels, each a str: a list, tuple, set (then sorted), Series, Index, array, categorical or its dtype;
        or an Enum class, whose members' values are delivered.
    response_model
        A pydantic model class; answers are its instances.
    parse
        Takes the answer's text, returns the value. `ValueError`, `KeyError`, `IndexError` and `ParseError` mean
        "could not be parsed"; any other exception is a bug and passes through.

    Raises
    ------
    InputError
        More than one is given, or it cannot work.
    """
    given = {"categories": categories, "response_model": response_model, "parse": parse}
    names = [name for name, item in given.items() if item is not None]
    if len(names) > 1:
        raise InputError(f"{' and '.join(names)} are given, but an answer is read in one way: keep one of them.")
    if categories is not None:
        return _category_parser(_labels(categories))
    if response_model is not None:
        return _model_parser(response_model)
    return _callable_parser(_stripped if parse is None else parse)


@dataclass(frozen=True, slots=True)
class _CategoryParser(Parser):
    exact: dict[str, object] = None  # type: ignore[assignment]
    normalised: dict[str, object] = None  # type: ignore[assignment]
    choices: str = ""
    max_chars: int = 0

    def _read(self, text: str, cut: bool) -> _Read:
        answer, is_json, notes = read_json(text, cut)
        if not is_json and self._match(answer) is None:
            raise ParseError(f"The answer is neither JSON nor just a category: {short(answer)}.{self.choices}")
        value, more = self._category(answer)
        return value, tuple(dict.fromkeys(notes + more))

    def _category(self, answer: object, depth: int = 0) -> _Read:
        if not isinstance(answer, dict):
            match = self._match(answer)
            if match is None:
                raise InvalidLabelError(f"{short(answer)} is not one of the categories.{self.choices}")
            return match[0], match[1] if depth else (*match[1], "bare")
        named = {key: item for key, item in answer.items() if key.strip(BLANK).casefold() in _LABEL_KEYS}
        notes = ("normalised",) * any(key not in _LABEL_KEYS for key in named) + ("nested",) * depth
        if not named and depth == 0 and len(answer) == 1:
            named = answer
        found = [self._category(item, depth + 1) for item in named.values()] if depth < 2 else []
        if not found or any(value is not found[0][0] for value, _ in found):
            raise InvalidLabelError(f"The answer has {len(found) or 'no'} labels: {short(answer)}.{self.choices}")
        return found[0][0], notes + found[0][1]

    def _match(self, label: object) -> _Read | None:
        if isinstance(label, str) and label in self.exact:
            return self.exact[label], ()
        if isinstance(label, int | float):  # 4 and true are spelled like the categories "4" and "true"
            label = json.dumps(label)
        if not isinstance(label, str):
            return None
        label = label.strip(BLANK)
        key = _normal(label) if len(label) <= self.max_chars else None
        return (self.normalised[key], ("normalised",)) if key in self.normalised else None


def _category_parser(exact: dict[str, object]) -> Parser:
    seen: dict[str, str] = {}
    for label in exact:
        other = seen.setdefault(_normal(label), label)
        if other is not label:
            raise InputError(
                f"The categories {other!r} and {label!r} cannot be told apart in an answer: case, spaces, hyphens "
                "and punctuation around them do not count. Rename one."
            )
    listed = ", ".join(json.dumps(label, ensure_ascii=False) for label in exact)
    schema = {
        "type": "object",
        "properties": {"label": {"type": "string", "enum": list(exact)}},
        "required": ["label"],
        "additionalProperties": False,
    }
    return _CategoryParser(
        instruction=f'Answer with JSON only: {{"label": "<category>"}}, where <category> is one of: {listed}.',
        schema={"name": "category", "strict": True, "schema": schema},
        categories=tuple(exact.values()),
        exact=exact,
        normalised={key: exact[label] for key, label in seen.items()},
        choices=f" Choose one of: {listed if len(listed) <= 500 else listed[:500] + '…'}.",
        max_chars=100 + 2 * max(map(len, exact)),  # normalising a megabyte of combining marks takes minutes
    )


def _labels(categories: Any) -> dict[str, object]:
    """Label that the model sees → the caller's own object."""
    if isinstance(categories, type) and issubclass(categories, Enum):
        pairs = [(item.value if isinstance(item.value, str) else item.name, item.value) for item in categories]
    else:
        values = getattr(getattr(categories, "dtype", categories), "categories", categories)  # of a categorical
        if isinstance(values, set | frozenset):
            values = sorted(values, key=str)
        elif hasattr(values, "tolist") and getattr(values, "ndim", 0) == 1:  # Series, Index, array
            values = values.tolist()
        if not isinstance(values, list | tuple):
            raise InputError(f"categories is {short(values)}, but must be a list of str or an Enum class.")
        pairs: list[tuple[Any, Any]] = [(item, item) for item in values]
    if not pairs:
        raise InputError("categories is empty: give the labels that an answer may have.")
    for label, _ in pairs:
        if not isinstance(label, str) or not label.strip(BLANK):
            raise InputError(f"The category {label!r} ({type(label).__name__}) must be a str that is not blank.")
    labels = dict(pairs)
    if len(labels) < len(pairs):
        double = next(label for index, (label, _) in enumerate(pairs) if label in dict(pairs[:index]))
        raise InputError(f"The category {double!r} is given twice. Of a column of labels pass `column.unique()`.")
    return labels


def _normal(label: str) -> str:
    """Return the form in which labels are compared when they are not equal as they are."""
    text = (
        unicodedata.normalize("NFKC", _UNPRINTABLE.sub("", label))
        .casefold()
        .translate(dict.fromkeys(map(ord, ZERO_WIDTH)))
    )
    text = re.sub(r"(?<=[^\W_])[\s_\-‐‑–—]+(?=[^\W_])", " ", text).strip()
    while True:
        bare = text.rstrip(".,;:!。 ")
        if len(bare) > 1 and _WRAPS.get(bare[0]) == bare[-1]:  # in pairs only: a lone quote is the sign of a cut
            bare = bare[1:-1].strip()
        if not bare or bare == text:
            return text
        text = bare


@dataclass(frozen=True, slots=True)
class _ModelParser(Parser):
    model: Any = None

    def _read(self, text: str, cut: bool) -> _Read:
        import pydantic

        answer, is_json, notes = read_json(text, cut)
        if not is_json:
            raise ParseError(f"The answer holds no JSON: {short(answer)}.")
        try:  # in JSON mode a strict model still takes dates and enums from text
            return self.model.model_validate_json(dumped(answer)), notes
        except pydantic.ValidationError as error:
            faults = error.errors(include_url=False, include_context=False)
            lines = [f"{'.'.join(map(str, fault['loc']))[:80]}: {fault['msg'][:200]}" for fault in faults[:8]]
            lines += [f"and {len(faults) - 8} more"] * (len(faults) > 8)
            raise ValidationError(f"The JSON does not fit {self.model.__name__}: {'; '.join(lines)}.") from error


def _model_parser(model: Any) -> Parser:
    import pydantic

    if not (isinstance(model, type) and issubclass(model, pydantic.BaseModel) and model.model_fields):
        raise InputError(
            f"response_model is {short(model)}, but must be a pydantic BaseModel class with fields "
            "(for a list: pydantic.RootModel)."
        )
    try:
        schema = model.model_json_schema()
    except pydantic.errors.PydanticUserError as error:
        raise InputError(f"response_model {model.__name__} has no JSON schema: {error.message}") from error
    if "$ref" in schema:  # a model that contains itself; providers want the object at the top
        schema = {**schema["$defs"][schema["$ref"].rpartition("/")[2]], "$defs": schema["$defs"]}
    name = re.sub(r"[^\w-]", "_", model.__name__, flags=re.ASCII)[:64]
    strict = _close(schema)
    return _ModelParser(
        instruction=f"Answer with JSON only, matching this JSON schema: {json.dumps(schema, ensure_ascii=False)}",
        schema={"name": name, "strict": strict, "schema": schema} if schema.get("type") == "object" else None,
        columns=tuple(model.model_fields),
        model=model,
    )


def _close(schema: dict[str, Any]) -> bool:
    """Close every object and require all its fields, as strict mode demands; say whether that covers the schema."""
    parts = [part for key in ("properties", "$defs") for part in schema.get(key, {}).values()]
    parts += [part for key in ("anyOf", "allOf") for part in schema.get(key, [])]
    parts += [schema[key] for key in ("items", "additionalProperties") if isinstance(schema.get(key), dict)]
    closed = [_close(part) for part in parts]
    schema.pop("default", None)
    if "properties" in schema:
        schema |= {"additionalProperties": False, "required": list(schema["properties"])}
    elif schema.get("type") == "object":
        return False  # free keys cannot be listed
    return all(closed) and bool(schema.keys() & {"type", "$ref", "anyOf", "allOf", "enum", "const"})


@dataclass(frozen=True, slots=True)
class _CallableParser(Parser):
    function: Callable[[str], object] = str

    def _read(self, text: str, cut: bool) -> _Read:
        try:
            return self.function(text), ()
        except (ValueError, KeyError, IndexError) as error:
            raise ParseError(f"{type(error).__name__}: {error}"[:500]) from error


def _callable_parser(function: Any) -> Parser:
    if not callable(function):
        raise InputError(f"parse is {short(function)}, but must be a function that takes the answer's text.")
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
        raise InputError("parse is async, but must be a plain function: text in, value out.")
    return _CallableParser(function=function)


def _stripped(text: str) -> str:
    return text.strip(BLANK)
