"""What every kind of parser has in common: the answer that did not end as it should, and the one that is blank."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llmlab.errors import EmptyAnswerError, ParseError, RefusalError, TruncatedError
from llmlab.finish_reasons import Ended, ended
from llmlab.json_text import BLANK

# A value and the notes about it.
Read = tuple[object, tuple[str, ...]]


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Parser(ABC):
    """Reads the answers of an experiment.

    Parameters
    ----------
    instruction
        What is appended to the prompt so that the model answers in this form.
    categories
        The values an answer can have, in the caller's order; `None` when they are open.
    definitions
        What each category means, by its label; empty if nobody said.
    schema
        `name`, `strict` and `schema`, as `response_format={"type": "json_schema", "json_schema": …}` takes them.
    fields
        The fields of the response model, which become columns of the frame: name → what it can hold; see `fields_of`.
    """

    instruction: str | None = None
    categories: tuple[object, ...] | None = None
    definitions: Mapping[str, str] = field(default_factory=dict)
    schema: dict[str, Any] | None = None
    fields: Mapping[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the fields."""
        return tuple(self.fields)

    def parse(self, text: str | None, finish_reason: str | None = "stop") -> Parsed:
        """Read one answer.

        Parameters
        ----------
        text
            The answer's text, parts already joined.
        finish_reason
            As the provider sent it, in any case. After `length` and its kin only complete strict JSON is accepted;
            after one that nobody knows also a bare label, but no free text.

        Raises
        ------
        ParseError
            Or a subclass: the answer could not be read. A bug in the user's callable or validator passes through.
        """
        how = ended(finish_reason)
        if how is Ended.FILTERED:
            raise RefusalError(f"The answer was withheld (finish_reason {finish_reason}).")
        cut = how in (Ended.CUT, Ended.FAILED)
        try:
            if not text or not text.strip(BLANK):
                raise EmptyAnswerError("The answer has no text.")
            value, notes = self._read(text, how)
        except ParseError as error:
            if not cut:
                raise
            raise TruncatedError(
                f"The answer was cut off (finish_reason {finish_reason}; is max_tokens too low?). {error}"
            ) from error
        if finish_reason is None or finish_reason.casefold() != "stop":
            notes += (f"finish_reason {finish_reason}"[:60] if finish_reason else "no finish_reason",)
        return Parsed(value, notes)

    @abstractmethod
    def written(self, value: object) -> str:
        """The answer that gives this value, as a model is to write it.

        Raises
        ------
        InputError
            No answer gives it.
        """

    @abstractmethod
    def _read(self, text: str, how: Ended) -> Read:
        """The value and its notes; of an answer that may be cut off only what is surely whole."""
