"""A prompt and a unit → the messages that are sent."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from llmlab.client import Image
from llmlab.errors import EmptyInputError, InputError
from llmlab.units import Units, listed, plain, text_of

Prompt = str | Sequence[Mapping[str, Any]] | Callable[[Mapping[str, Any]], Any]
Prompts = Prompt | Mapping[str, Prompt]

# {{word}} stands for a literal {word}; {column} is a placeholder.
_NAMED = r"(?<!\{)\{\{(?P<literal>\w+)\}\}(?!\})|\{(?P<field>%s)\}"
_IDENTIFIER = r"[A-Za-z_]\w*"
# Placeholders as other tools write them; here double braces stand for literal ones.
_DOUBLED = re.compile(r"\{{1,2}\s*(.+?)\s*\}{1,2}")
_TO_SYSTEM = ("system", "developer")
_FROM_USER = ("user", *_TO_SYSTEM)
# How arrays of any library become lists: numpy and pandas, Arrow, polars, a scalar of Arrow.
_LISTS = ("tolist", "to_pylist", "to_list", "as_py")
_BLOCK = 64
_BLANK = re.compile(r"[\s\u200b-\u200f\u2060\ufeff\u00ad]*")


class Messages:
    """A unit's messages, made when they are needed.

    Parameters
    ----------
    prompt : str, list of messages, or callable
        A template over the unit's columns (`{text}`), messages with such contents, or unit → text or messages.
    units : Units
    instruction : str, optional
        Appended to the last message that is not the model's own: before the beginning of an answer (prefill).
    examples : list of messages
        Questions with their answers, which stand before the unit's own question, after what is said to the system.

    Attributes
    ----------
    used : list of str
        Columns that the messages depend on.
    placeholders : tuple of str
        Where units put texts, if their messages differ in nothing else; empty if they may.

    Raises
    ------
    InputError
        No column or an unknown one, a missing value in a column that the prompt uses, a cell that cannot be sent as
        text, a prompt of the wrong kind.
    """

    def __init__(
        self,
        prompt: Prompt,
        units: Units,
        instruction: str | None = None,
        examples: Sequence[dict[str, Any]] = (),
    ) -> None:
        self._instruction = instruction or ""
        self._examples = list(examples)
        self._source = _Callable(prompt, units) if callable(prompt) else _Template(prompt, units)
        self.used = self._source.used
        self.placeholders = self._source.placeholders

    def texts(self, unit: int) -> list[str] | None:
        """The unit's texts for the placeholders; `None` if one is blank, which may change more than this place."""
        return self._source.texts(unit)

    def with_texts(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Messages with these texts at the placeholders."""
        return self._whole(self._source.filled(dict(zip(self.placeholders, texts, strict=True)), {}))

    def render(self, unit: int) -> list[dict[str, Any]]:
        """Messages of the unit in row `unit`.

        Raises
        ------
        EmptyInputError
            The texts it would ask about are blank.
        Exception
            Whatever the user's own callable raises.
        """
        return self._whole(self._source.messages(unit))

    def _whole(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The messages with all that is sent beside them."""
        for part in itertools.chain.from_iterable(_parts(message) for message in messages):
            if isinstance(part, Image):
                part.check()
        if self._instruction:
            messages = _with_instruction(messages, self._instruction)
        first = next((at for at, message in enumerate(messages) if message["role"] not in _TO_SYSTEM), len(messages))
        return [*messages[:first], *self._examples, *messages[first:]] if self._examples else messages


def _with_instruction(messages: list[dict[str, Any]], instruction: str) -> list[dict[str, Any]]:
    """The messages with the instruction at the end of the last one that is the user's."""
    for at in reversed(range(len(messages))):
        message = messages[at]
        if message["role"] in _FROM_USER and message["content"]:
            content = message["content"]
            if isinstance(content, str):
                content = f"{content}\n\n{instruction}"
            else:
                content = [*content, {"type": "text", "text": instruction}]
            return [*messages[:at], message | {"content": content}, *messages[at + 1 :]]
    return [{"role": "system", "content": instruction}, *messages]


class _Callable:
    """Messages that the user's own function makes of a unit."""

    placeholders: tuple[str, ...] = ()

    def __init__(self, prompt: Callable[[Mapping[str, Any]], Any], units: Units) -> None:
        self._prompt = prompt
        self._ids = units.frame.index
        self._columns = _columns(units)
        self.used = list(units.frame.columns)

    def messages(self, unit: int) -> list[dict[str, Any]]:
        row = {"unit_id": self._ids[unit]} | {name: column[unit] for name, column in self._columns.items()}
        messages = _as_messages(self._prompt(row))
        if all(_is_blank(message["content"]) for message in messages if message.get("role") != "system"):
            raise EmptyInputError("the prompt made for this unit is blank")
        return messages

    def texts(self, unit: int) -> None:
        return None

    def filled(self, values: Mapping[str, str], row: Mapping[str, Any]) -> list[dict[str, Any]]:
        raise NotImplementedError("only the user's function knows what is sent")


class _Template:
    """Messages with placeholders, filled with a unit's values."""

    def __init__(self, prompt: object, units: Units) -> None:
        self._ids = units.frame.index
        self._columns = _columns(units)
        by_length = sorted(self._columns, key=len, reverse=True)
        self._pattern = re.compile(_NAMED % "|".join([_IDENTIFIER, *map(re.escape, by_length)]))
        self._templates = _as_messages(prompt)
        contents = [message["content"] for message in self._templates]
        if all(_is_blank(content) for content in contents):
            raise InputError("The prompt is blank.")
        texts = list(_strings_in(contents))
        # Pictures whose path is nothing but a placeholder: the column may hold bytes as well.
        alone = {part.source for message in self._templates for part in _parts(message) if isinstance(part, Image)}
        self._pictures = {name for name in self._columns if f"{{{name}}}" in alone}
        self._fields = self._named_in(texts)
        self._in_texts = set(
            self._named_in(text for text in texts if text not in alone or text[1:-1] not in self._pictures)
        )
        self.used = [name for name in self._fields if name in self._columns]
        are_texts = all(content is None or isinstance(content, str) for content in contents)
        self.placeholders = tuple(self._fields) if are_texts else ()
        if len(units):
            self._check(units.frame, texts)

    def _named_in(self, texts: Iterable[str]) -> list[str]:
        found = (match["field"] for text in texts for match in self._pattern.finditer(text))
        return list(dict.fromkeys(name for name in found if name))

    def _check(self, frame: pd.DataFrame, texts: list[str]) -> None:
        unknown = [name for name in self._fields if name != "unit_id" and name not in self._columns]
        if unknown:
            columns = ", ".join(["unit_id", *frame.columns])
            raise InputError(
                f"The prompt asks for {{{unknown[0]}}}, but units have: {columns}. "
                f"(For a literal {{{unknown[0]}}} write {{{{{unknown[0]}}}}}.)"
            )
        if not self._fields:
            doubled = next((match[0] for text in texts for match in _DOUBLED.finditer(text) if match[1] in frame), None)
            if doubled is not None:
                raise InputError(
                    f"The prompt holds {doubled}, which stands for these characters themselves and not for the column: "
                    f"write {{{doubled.strip('{} ')}}}."
                )
            columns = ", ".join(f"{{{name}}}" for name in ["unit_id", *frame.columns])
            raise InputError(
                "The prompt names no column, so every unit would be asked the same. It can name: "
                f"{columns}. (If that is what you want, pass a function: prompt=lambda unit: '…'.)"
            )
        for name in self.used:
            missing = frame[name].isna().to_numpy()
            if missing.any():
                ids = frame.index[missing]
                raise InputError(
                    f"{name} is missing (None or NaN) in {len(ids)} of {len(frame)} units: {listed(ids)}. "
                    f"Drop them (units.dropna(subset=[{name!r}])) or fill them first."
                )
            if name in self._in_texts and not pd.api.types.is_string_dtype(frame[name]):
                for value in frame[name]:
                    text_of(value, name)

    def messages(self, unit: int) -> list[dict[str, Any]]:
        row = {name: self._columns[name][unit] for name in self.used}
        values = {name: text_of(row[name], name) for name in self.used if name in self._in_texts}
        if self.used and all(_is_blank(values.get(name, row[name])) for name in self.used):
            raise EmptyInputError(f"{', '.join(self.used)} is blank")
        if "unit_id" in self._fields:
            values.setdefault("unit_id", text_of(self._ids[unit], "unit_id"))
        return self.filled(values, row)

    def texts(self, unit: int) -> list[str] | None:
        texts = [
            text_of(self._columns[name][unit] if name in self._columns else self._ids[unit], name)
            for name in self.placeholders
        ]
        return None if any(map(_is_blank, texts)) else texts

    def filled(self, values: Mapping[str, str], row: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [message | {"content": self._fill(message["content"], values, row)} for message in self._templates]

    def _fill(self, template: Any, values: Mapping[str, str], row: Mapping[str, Any]) -> Any:
        """The template with its fields replaced, in one pass: braces within a unit's texts are never placeholders."""

        def fill(text: str) -> str:
            return self._pattern.sub(lambda m: f"{{{m['literal']}}}" if m["literal"] else values[m["field"]], text)

        if isinstance(template, Image):
            # A column may hold the picture itself.
            return template.filled(lambda path: row[path[1:-1]] if path[1:-1] in self._pictures else fill(path))
        if isinstance(template, str):
            return fill(template)
        if isinstance(template, Mapping):
            return {name: self._fill(part, values, row) for name, part in template.items()}
        return [self._fill(part, values, row) for part in template] if isinstance(template, list) else template


def _columns(units: Units) -> dict[str, Any]:
    """Columns by name: of these a single value is read a hundred times faster than from a frame."""
    return {name: _Cells(units.frame[name].array) for name in units.frame.columns}


class _Cells:
    """A column read cell by cell: pandas hands over some dozens of them nearly as quickly as one."""

    def __init__(self, array: Any) -> None:
        self._array = array
        self._at, self._block = -1, []

    def __getitem__(self, unit: int) -> Any:
        at, place = divmod(unit, _BLOCK)
        if at != self._at:
            self._at, self._block = at, list(self._array[at * _BLOCK : (at + 1) * _BLOCK])
        return self._block[place]


def _as_messages(prompt: object) -> list[dict[str, Any]]:
    """Text or messages of any kind of list (arrays too, as Parquet gives them) as messages that can be sent."""
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    messages = None if isinstance(prompt, (bytes, Mapping)) else _as_list(prompt)
    if not messages:
        raise InputError(f"prompt must be a template, a list of messages, or a callable, not {prompt!r:.80}.")
    return [_as_message(message) for message in messages]


def _as_message(given: object) -> dict[str, Any]:
    """One message; what is `None` in it is left out, as Parquet fills up what other messages have."""
    if not isinstance(given, (Mapping, str)):
        given = _plain(given)
    if not isinstance(given, Mapping) or "role" not in given or not given.keys() & {"content", "tool_calls"}:
        raise InputError(
            f'A message needs a role and a content: {{"role": "user", "content": "…"}}, not {given!r:.80}.'
        )
    others = {name: _plain(value) for name, value in given.items() if name != "content" and value is not None}
    return {"role": others.pop("role"), "content": _as_content(given.get("content"), given["role"])} | others


def _as_content(content: object, role: object) -> str | list[Any] | None:
    if isinstance(content, str) or (content is None and role in ("assistant", "tool", "function")):
        return content
    parts = None if isinstance(content, (bytes, Mapping)) else _as_list(content)
    if not parts or not all(isinstance(part, Mapping) for part in parts):
        raise InputError(f"A message's content must be text or a list of parts, not {content!r:.80}.")
    return [
        part if isinstance(part, Image) else {name: value for name, value in _plain(part).items() if value is not None}
        for part in parts
    ]


def _as_list(value: object) -> list[Any] | None:
    if isinstance(value, (list, tuple)):
        return list(value)
    made = next((getattr(value, name)() for name in _LISTS if callable(getattr(value, name, None))), None)
    return made if isinstance(made, list) else None


def _plain(value: object) -> Any:
    try:
        return plain(value)
    except TypeError as error:
        raise InputError(f"A message holds {error}, which cannot be sent.") from None


def _parts(message: Mapping[str, Any]) -> list[Any]:
    return message["content"] if isinstance(message["content"], list) else []


def _strings_in(content: object) -> Iterator[str]:
    """Every text in which a placeholder may stand."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, Image):
        yield content.source if isinstance(content.source, str) else ""
    elif isinstance(content, (list, Mapping)):
        for part in content.values() if isinstance(content, Mapping) else content:
            yield from _strings_in(part)


def _is_blank(content: object) -> bool:
    # Most texts begin with a letter, which is quicker to see than a pattern is matched.
    if isinstance(content, str):
        return not content[:1].isalnum() and _BLANK.fullmatch(content) is not None
    return content is None
