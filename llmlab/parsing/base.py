"""What every kind of parser has in common: the answer that did not end as it should, and the one that is blank."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from llmlab.errors import EmptyAnswerError, ParseError, RefusalError, TruncatedError
from llmlab.json_text import BLANK

_CUT = {"length", "max_tokens", "max_output_tokens", "model_length", "error", "insufficient_system_resource"}
_FILTERED = {"content_filter", "safety", "recitation", "prohibited_content", "blocklist", "spii"}

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

    @abstractmethod
    def _read(self, text: str, cut: bool) -> Read:
        """The value and its notes; after a `cut` only an answer that is surely whole counts."""
