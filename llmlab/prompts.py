"""A prompt and a unit → the messages that are sent."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from llmlab.errors import EmptyInputError, InputError
from llmlab.units import Units, listed

Prompt = str | Sequence[Mapping[str, Any]] | Callable[[Mapping[str, Any]], Any]
Prompts = Prompt | Mapping[str, Prompt]

# {{word}} stands for a literal {word}; {column} is a placeholder.
_NAMED = r"(?<!\{)\{\{(?P<literal>\w+)\}\}(?!\})|\{(?P<field>%s)\}"
_IDENTIFIER = r"[A-Za-z_]\w*"
_BLANK = re.compile(r"[\s\u200b-\u200f\u2060\ufeff\u00ad]*")


class Messages:
    """A unit's messages, made when they are needed.

    Parameters
    ----------
    prompt : str, list of messages, or callable
        A template over the unit's columns (`{text}`), messages with such contents, or unit → text or messages.
    units : Units
    instruction : str, optional
        Appended to the last message.

    Attributes
    ----------
    used : list of str
        Columns that the messages depend on.

    Raises
    ------
    InputError
        An unknown column, a missing value in a column that the prompt uses, a prompt of the wrong kind.
    """

    def __init__(self, prompt: Prompt, units: Units, instruction: str | None = None) -> None:
        self._instruction = instruction or ""
        self._source = _Callable(prompt, units) if callable(prompt) else _Template(prompt, units)
        self.used = self._source.used

    def render(self, unit: int) -> list[dict[str, Any]]:
        """Messages of the unit in row `unit`.

        Raises
        ------
        EmptyInputError
            The texts it would ask about are blank.
        Exception
            Whatever the user's own callable raises.
        """
        messages = self._source.messages(unit)
        if self._instruction:
            content = messages[-1]["content"]
            if isinstance(content, str):
                messages[-1]["content"] = f"{content}\n\n{self._instruction}"
            else:
                messages[-1]["content"] = [*content, {"type": "text", "text": self._instruction}]
        return messages


class _Callable:
    """Messages that the user's own function makes of a unit."""

    def __init__(self, prompt: Callable[[Mapping[str, Any]], Any], units: Units) -> None:
        self._prompt = prompt
        self._ids = units.frame.index
        self._columns = _columns(units)
        self.used = list(units.frame.columns)

    def messages(self, unit: int) -> list[dict[str, Any]]:
        row = {"unit_id": self._ids[unit]} | {name: column[unit] for name, column in self._columns.items()}
        messages = [dict(message) for message in _as_messages(self._prompt(row))]
        if all(_is_blank(message["content"]) for message in messages if message.get("role") != "system"):
            raise EmptyInputError("the prompt made for this unit is blank")
        return messages


class _Template:
    """Messages with placeholders, filled with a unit's values."""

    def __init__(self, prompt: object, units: Units) -> None:
        self._ids = units.frame.index
        self._columns = _columns(units)
        by_length = sorted(self._columns, key=len, reverse=True)
        self._pattern = re.compile(_NAMED % "|".join([_IDENTIFIER, *map(re.escape, by_length)]))
        self._templates = _as_messages(prompt)
        if all(_is_blank(message["content"]) for message in self._templates):
            raise InputError("The prompt is blank.")
        texts = itertools.chain.from_iterable(_texts(message["content"]) for message in self._templates)
        found = [match["field"] for text in texts for match in self._pattern.finditer(text)]
        self._fields = list(dict.fromkeys(field for field in found if field))
        self.used = [name for name in self._fields if name in self._columns]
        self._check(units.frame)

    def _check(self, frame: pd.DataFrame) -> None:
        unknown = [name for name in self._fields if name != "unit_id" and name not in self._columns]
        if unknown and len(frame):
            columns = ", ".join(["unit_id", *frame.columns])
            raise InputError(
                f"The prompt asks for {{{unknown[0]}}}, but units have: {columns}. "
                f"(For a literal {{{unknown[0]}}} write {{{{{unknown[0]}}}}}.)"
            )
        for name in self.used:
            missing = frame[name].isna().to_numpy()
            if missing.any():
                ids = frame.index[missing]
                raise InputError(
                    f"{name} is missing (None or NaN) in {len(ids)} of {len(frame)} units: {listed(ids)}. "
                    f"Drop them (units.dropna(subset=[{name!r}])) or fill them first."
                )

    def messages(self, unit: int) -> list[dict[str, Any]]:
        values = {name: str(self._columns[name][unit]) for name in self.used}
        if values and all(_is_blank(value) for value in values.values()):
            raise EmptyInputError(f"{', '.join(values)} is blank")
        if "unit_id" in self._fields:
            values.setdefault("unit_id", str(self._ids[unit]))
        return [{**message, "content": self._fill(message["content"], values)} for message in self._templates]

    def _fill(self, template: Any, values: Mapping[str, str]) -> Any:
        """The template with its fields replaced, in one pass: braces within a unit's texts are never placeholders."""
        if isinstance(template, str):
            return self._pattern.sub(lambda m: f"{{{m['literal']}}}" if m["literal"] else values[m["field"]], template)
        if isinstance(template, Mapping):
            return {name: self._fill(part, values) for name, part in template.items()}
        return [self._fill(part, values) for part in template] if isinstance(template, list) else template


def _columns(units: Units) -> dict[str, Any]:
    """Arrays by name: of these a single value is read a hundred times faster than from a frame."""
    return {name: units.frame[name].array for name in units.frame.columns}


def _as_messages(prompt: object) -> list[Mapping[str, Any]]:
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    if not isinstance(prompt, Sequence) or isinstance(prompt, bytes) or not prompt:
        raise InputError(f"prompt must be a template, a list of messages, or a callable, not {prompt!r:.80}.")
    for message in prompt:
        if not isinstance(message, Mapping) or "role" not in message or "content" not in message:
            raise InputError(
                f'A message needs a role and a content: {{"role": "user", "content": "…"}}, not {message!r:.80}.'
            )
    return list(prompt)


def _texts(content: object) -> list[str]:
    if isinstance(content, str):
        return [content]
    if not isinstance(content, list) or not content or not all(isinstance(part, Mapping) for part in content):
        raise InputError(f"A message's content must be text or a list of parts, not {content!r:.80}.")
    return list(_strings_in(content))


def _strings_in(content: object) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, (list, Mapping)):
        for part in content.values() if isinstance(content, Mapping) else content:
            yield from _strings_in(part)


def _is_blank(content: object) -> bool:
    return isinstance(content, str) and _BLANK.fullmatch(content) is not None
