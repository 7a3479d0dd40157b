"""Which part of a text is the answer, where the model's thinking and special tokens stand in the text too.

Marks are recognised by their form, not by a list of names: `<think>…</think>`, `[THINK]…[/THINK]`, `◁think▷…◁/think▷`,
`<|START_THINKING|>…<|END_THINKING|>`, `<|channel|>analysis<|message|>…`. The answer is what follows the last closing
mark; names only tell a wrapped answer (`<answer>…</answer>`) from thinking that nothing follows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from llmlab.errors import EmptyAnswerError, ParseError, TruncatedError
from llmlab.json_text import BLANK, is_json, short, unfenced

_MARK = re.compile(
    r"<[|｜]\s*(?P<token>[^|｜<>\n]{1,40}?)\s*[|｜]>"
    r"|[<\[◁⟨〈【«]\s*(?P<slash>/?)\s*(?P<name>[^\W\d][\w:.\-]{0,39})(?:\s[^<>\[\]\n]{0,80})?\s*[>\]▷⟩〉】»]"
)
# HTML within an answer's own words.
_HTML = re.compile(
    r"[abiupq]|br|em|strong|code|pre|span|div|li|[uo]l|h[1-6]|t[dhr]|table|su[bp]|kbd|mark", re.IGNORECASE
)
_THINKING = re.compile(
    r"think|thought|reason|analy|scratch|reflect|plan|ponder|monolog|deliberat|cot\b|comment|draft|internal",
    re.IGNORECASE,
)
_ANSWER = re.compile(r"label|categor|class|answer|result|output|response|final|json|solution|text", re.IGNORECASE)
_TOKEN_OPENS = re.compile(r"(?:start|begin)[_▁ ](?:of[_▁ ])?(.+)", re.IGNORECASE)
_TOKEN_CLOSES = re.compile(r"(?:/|end[_▁ ](?:of[_▁ ])?)(.+)|(.+)[_▁ ]end", re.IGNORECASE)
_NEVER_ENDS = "The thinking never ends, so there is no answer."
_NOTHING_FOLLOWS = "Nothing follows the thinking."
# gpt-oss behind a server that takes the special tokens out and leaves the names of the channels.
_FINAL = "assistantfinal"
_UNFINISHED = re.compile(r"analysis(?=[A-Z{\"'\[])")


@dataclass(frozen=True, slots=True)
class _Mark:
    """One mark in a text; `opens` and `closes` are both false for tokens between parts, such as `<|message|>`."""

    start: int
    end: int
    name: str
    opens: bool
    closes: bool

    @property
    def is_thinking(self) -> bool:
        return _THINKING.search(self.name) is not None

    @property
    def is_answer(self) -> bool:
        return not self.is_thinking and _ANSWER.search(self.name) is not None


def answer_in(text: str) -> str:
    """The part of a text that is the answer; the text itself if it has no marks or is JSON as a whole.

    Raises
    ------
    TruncatedError
        The thinking never ends.
    EmptyAnswerError
        Nothing follows the thinking.
    ParseError
        The text is wrapped in marks of unknown meaning.
    """
    text = unfenced(text.strip(BLANK))
    if is_json(text):
        return text
    text = _after_channels(text)
    marks = _marks(text)
    # Each step takes away the last mark, so that the text ends before `end`.
    end = len(text)
    while marks:
        mark = marks.pop()
        tail = text[mark.end : end].strip(BLANK)
        if mark.opens:
            if mark.is_thinking:
                raise TruncatedError(_NEVER_ENDS)
            if not mark.start:
                raise ParseError(f"The answer begins with {text[: mark.end]}, which never ends.")
        elif tail:
            if not mark.closes and _is_in_channel_of_thinking(text, mark, marks):
                raise TruncatedError(_NEVER_ENDS)
            return tail
        elif mark.closes:
            opening = _opening(marks, mark)
            if opening is not None:
                if any(other.closes and other.is_answer and other.end <= opening.start for other in marks):
                    raise ParseError(f"There is more than one answer: {short(text)}.")
                return answer_in(_content(text, opening, mark))
            if mark.is_thinking:
                raise EmptyAnswerError(_NOTHING_FOLLOWS)
            end = mark.start
        else:
            end = mark.start
    return text[:end].strip(BLANK)


def without_thinking(text: str) -> str:
    """The text without the thinking before it; marks that stand within the text are the text's own.

    Raises
    ------
    TruncatedError
        The thinking never ends.
    EmptyAnswerError
        Nothing follows the thinking.
    """
    text = _after_channels(text.strip(BLANK))
    marks = [mark for mark in _marks(text) if mark.is_thinking or _channel(text, mark)]
    if not marks or (marks[0].opens and marks[0].start):
        return text
    closing = next((mark for mark in marks if mark.closes), None)
    if _channel(text, marks[0]):
        return answer_in(text)
    if closing is None:
        raise TruncatedError(_NEVER_ENDS)
    answer = text[closing.end :].strip(BLANK)
    if not answer:
        raise EmptyAnswerError(_NOTHING_FOLLOWS)
    return answer


def thinking_in(text: str | None) -> str | None:
    """The thinking before the answer, with its marks; `None` if there is none."""
    if not text:
        return None
    try:
        answer = without_thinking(text)
    except ParseError:
        # All of it is thinking.
        return text.strip(BLANK)
    whole = text.strip(BLANK)
    return None if answer == whole else whole.removesuffix(answer).strip(BLANK) or None


def _marks(text: str) -> list[_Mark]:
    found = []
    for match in _MARK.finditer(text):
        token, name = match["token"], match["name"]
        if token is None:
            if not _HTML.fullmatch(name):
                found.append(_Mark(match.start(), match.end(), name, not match["slash"], bool(match["slash"])))
            continue
        opens, closes = _TOKEN_OPENS.fullmatch(token), _TOKEN_CLOSES.fullmatch(token)
        about = (opens or closes or [token, token])[1] or token
        # A token whose name speaks of thinking begins it, though it does not say so: <|thinking|>.
        begins = bool(opens) or (not closes and _THINKING.search(token) is not None)
        found.append(_Mark(match.start(), match.end(), about, begins, bool(closes)))
    return found


def _after_channels(text: str) -> str:
    if _UNFINISHED.match(text):
        if _FINAL not in text:
            raise TruncatedError(_NEVER_ENDS)
        return text.rpartition(_FINAL)[2].strip(BLANK)
    return text


def _channel(text: str, mark: _Mark) -> bool:
    return mark.name == "channel" and text[mark.start + 1] in "|｜"


def _is_in_channel_of_thinking(text: str, mark: _Mark, before: list[_Mark]) -> bool:
    """Whether this token begins what is said in a channel such as `analysis`."""
    named = text[before[-1].end : mark.start] if before and _channel(text, before[-1]) else ""
    return _THINKING.search(named) is not None


def _opening(marks: list[_Mark], closing: _Mark) -> _Mark | None:
    """The opening mark of the part that ends with `closing`."""
    return next(
        (mark for mark in reversed(marks) if mark.opens and mark.name.casefold() == closing.name.casefold()), None
    )


def _content(text: str, opening: _Mark, closing: _Mark) -> str:
    """What stands between two marks, if it is the answer."""
    if opening.is_thinking:
        raise EmptyAnswerError(_NOTHING_FOLLOWS)
    if not opening.is_answer:
        marks = f"{text[opening.start : opening.end]}…{text[closing.start : closing.end]}"
        raise ParseError(f"The answer ends within {short(marks)}, which may be thinking.")
    return text[opening.end : closing.start]
