"""A prompt and a unit → the messages that are sent."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from llmlab.errors import EmptyInputError, InputError
from llmlab.units import Units, listed

Prompt = str | Sequence[Mapping[str, Any]] | Callable[[Mapping[str, Any]], Any]
Prompts = Prompt | Mapping[str, Prompt]

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
        frame = units.frame
        self._columns = {name: frame[name].array for name in frame.columns}
        self._ids = frame.index
        self._instruction = f"\n\n{instruction}" if instruction else ""
        self._callable = prompt if callable(prompt) else None
        self._templates: list[tuple[dict[str, Any], Any]] = []
        names = "|".join([_IDENTIFIER, *(re.escape(name) for name in sorted(frame.columns, key=len, reverse=True))])
        self._pattern = re.compile(_NAMED % names)
        self.used = list(frame.columns)
        if self._callable is not None:
            return
        for message in _as_messages(prompt):
            self._templates.append(({k: v for k, v in message.items() if k != "content"}, message["content"]))
        if all(_is_blank(content) for _, content in self._templates):
            raise InputError("The prompt is blank.")
        known = {*self._columns, "unit_id"}
        self._fields = list(dict.fromkeys(
            match["field"]
            for _, content in self._templates
            for text in _texts(content)
            for match in self._pattern.finditer(text)
            if match["field"]
        ))  # fmt: skip
        self.used = [name for name in self._fields if name in self._columns]
        unknown = [name for name in self._fields if name not in known]
        if unknown and len(frame):
            columns = ", ".join(["unit_id", *frame.columns])
            raise InputError(
                f"The prompt asks for {{{unknown[0]}}}, but units have: {columns}. "
                f"(For a literal {{{unknown[0]}}} write {{{{{unknown[0]}}}}}.)"
            )
        for name in self._fields:
            missing = frame[name].isna().to_numpy() if name in self._columns else np.zeros(0, bool)
            if missing.any():
                ids = frame.index[missing]
                raise InputError(
                    f"{name} is missing (None or NaN) in {len(ids)} of {len(frame)} units: {listed(ids)}. "
                    f"Drop them (units.dropna(subset=[{name!r}])) or fill them first."
                )

    def render(self, unit: int) -> list[dict[str, Any]]:
        """Messages of the unit in row `unit`.

        Raises
        ------
        EmptyInputError
            The texts it would ask about are blank.
        Exception
            Whatever the user's own callable raises.
        """
        if self._callable is not None:
            row = {"unit_id": self._ids[unit]} | {name: column[unit] for name, column in self._columns.items()}
            made = self._callable(row)
            messages = [dict(message) for message in _as_messages(made)]
            if all(_is_blank(message["content"]) for message in messages if message.get("role") != "system"):
                raise EmptyInputError("the prompt made for this unit is blank")
        else:
            values = {name: str(self._columns[name][unit]) for name in self._fields if name in self._columns}
            if values and all(_is_blank(value) for value in values.values()):
                raise EmptyInputError(f"{', '.join(values)} is blank")
            if "unit_id" in self._fields:
                values.setdefault("unit_id", str(self._ids[unit]))
            messages = [head | {"content": self._fill(content, values)} for head, content in self._templates]
        if self._instruction:
            last = messages[-1]["content"]
            if isinstance(last, str):
                messages[-1]["content"] = last + self._instruction
            else:
                messages[-1]["content"] = [*last, {"type": "text", "text": self._instruction.strip()}]
        return messages

    def _fill(self, template: Any, values: Mapping[str, str]) -> Any:
        """One pass over named fields: braces in the texts are never templates."""
        if not isinstance(template, str):
            if isinstance(template, Mapping):
                return {name: self._fill(part, values) for name, part in template.items()}
            return [self._fill(part, values) for part in template] if isinstance(template, list) else template
        return self._pattern.sub(lambda m: f"{{{m['literal']}}}" if m["literal"] else values[m["field"]], template)


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
