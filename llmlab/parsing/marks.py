"""Which part of a text is the answer, where the model's thinking and special tokens stand in the text too.

Marks are recognised by their form, not by a list of names: `<think>…</think>`, `[THINK]…[/THINK]`, `◁think▷…◁/think▷`,
`<|START_THINKING|>…<|END_THINKING|>`, `<|channel|>analysis<|message|>…`, `<|channel>thought … <channel|>`,
`<unused94>thought … <unused95>` (a tokenizer's spare tokens), a fence that says ```thinking. The answer is what follows
the last closing mark; names only tell a wrapped answer (`<answer>…</answer>`) from thinking that nothing follows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from llmlab.errors import EmptyAnswerError, ParseError, TruncatedError
from llmlab.json_text import BLANK, is_json, short, unfenced

_MARK = re.compile(
    r"<[|｜]\s*(?P<token>[^|｜<>\n]{1,40}?)\s*[|｜]>"
    r"|<[|｜]\s*(?P<begins>[^|｜<>\n]{1,40}?)\s*>|<\s*(?P<ends>[^|｜<>\n]{1,40}?)\s*[|｜]>"
    r"|(?:[<◁⟨〈【«⟦]|\[{1,2}|&lt;)\s*(?P<slash>/?)\s*(?P<name>[^\W\d][\w:.\-]{0,39})"
    r"(?P<more>\s[^<>\[\]\n]{0,80})?\s*(?:[>▷⟩〉】»⟧]|\]{1,2}|&gt;)"
)
# A tokenizer's spare tokens, which some models were given for their thinking.
_SPARE = re.compile(r"[^\W\d]+\d{2,}")
# HTML within an answer's own words.
_HTML = re.compile(
    r"[abiupq]|br|em|strong|code|pre|span|div|li|[uo]l|h[1-6]|t[dhr]|table|su[bp]|kbd|mark", re.IGNORECASE
)
THINKING = re.compile(
    r"think|thought|reason|analy|scratch|reflect|plan|ponder|monolog|deliberat|cot\b|comment|draft|internal|inner|思|推理",
    re.IGNORECASE,
)
_KIND = re.compile(r"(?:type|class|kind|role|channel)\s*=\s*(\S+)", re.IGNORECASE)
_WORD_ALONE = re.compile(r"\s*(\w+)[ \t]*\n")
_FENCE = re.compile(
    r"\s*(`{3,}|~{3,})[ \t]*(?P<info>\w+)[^\n`]*\n(?P<inner>.*?)(?P<end>(?:^|\n)[ \t]*\1[ \t]*(?:\n|\Z)|\Z)", re.DOTALL
)
_ANSWER = re.compile(r"label|categor|class|answer|result|output|response|final|json|solution|text", re.IGNORECASE)
_TOKEN_OPENS = re.compile(r"(?:start|begin)[_▁ ](?:of[_▁ ])?(.+)|(.+)[_▁ ](?:start|begin|prefix)", re.IGNORECASE)
_TOKEN_CLOSES = re.compile(r"(?:/|end[_▁ ](?:of[_▁ ])?)(.+)|(.+)[_▁ ](?:end|suffix)", re.IGNORECASE)
# Tokens after which a model was to say nothing more; some servers let it run on.
_OVER = re.compile(
    r"<?[|｜]?(?:end[_▁ ]?of[_▁ ]?(?:text|turn|sentence|sequence|message)|eo[tsm](?:_id)?|im_end|/s)[|｜]?>",
    re.IGNORECASE,
)
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
    is_thinking: bool
    is_token: bool = False

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
    text = _after_fences(text.strip(BLANK))
    text = unfenced(text)
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
            if not marks and text[: mark.start].strip(BLANK) and _OVER.fullmatch(text[mark.start : mark.end]):
                raise ParseError(f"The answer goes on after its end: {short(text)}.")
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
    text, closed = _after_channels(_after_fences(text.strip(BLANK))), False
    while True:
        marks = _marks(text)
        at = next((at for at, mark in enumerate(marks) if mark.is_thinking or _channel(text, mark)), None)
        if at is None:
            return text
        first = marks[at]
        if first.opens and not _only_tokens(text, marks[:at], first.start):
            return text
        if _channel(text, first):
            return answer_in(text)
        if not first.opens and closed:
            return text
        closing = next((mark for mark in marks[at:] if _ends(first, mark)), None)
        if closing is None:
            raise TruncatedError(_NEVER_ENDS)
        text, closed = text[closing.end :].strip(BLANK), True
        if not text:
            raise EmptyAnswerError(_NOTHING_FOLLOWS)


def _only_tokens(text: str, marks: list[_Mark], until: int) -> bool:
    """Whether there is nothing before this place but tokens."""
    last = 0
    for mark in marks:
        if not mark.is_token or text[last : mark.start].strip(BLANK):
            return False
        last = mark.end
    return not text[last:until].strip(BLANK)


def _ends(opening: _Mark, mark: _Mark) -> bool:
    """Whether this mark ends the thinking; of tokens the next one does, which need not say so."""
    if mark.closes:
        return mark.is_thinking
    return opening.is_token and mark.is_token and not mark.is_thinking and mark.start > opening.start


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
    found: list[_Mark] = []
    # Of the marks that are open: whether they begin thinking.
    thinking: dict[str, bool] = {}
    for match in _MARK.finditer(text):
        token, name = match["token"] or match["begins"] or match["ends"], match["name"]
        if token is None and _HTML.fullmatch(name):
            continue
        is_token = token is not None or _SPARE.fullmatch(name) is not None
        opens, closes, name = _of_token(match) if is_token else (not match["slash"], bool(match["slash"]), name)
        kind = _KIND.search(match["more"] or "")
        word = _WORD_ALONE.match(text[match.end() : match.end() + 40]) if is_token and not closes else None
        speaks = [name, *(kind.groups() if kind else ()), *(word.groups() if word else ())]
        is_thinking = any(THINKING.search(one) for one in speaks)
        if closes:
            is_thinking = thinking.pop(name.casefold(), False) or is_thinking
        elif word and is_thinking:
            # <unused94>thought
            opens = True
        if opens:
            thinking[name.casefold()] = is_thinking
        found.append(_Mark(match.start(), match.end(), name, opens, closes, is_thinking, is_token))
    return found


def _of_token(match: re.Match[str]) -> tuple[bool, bool, str]:
    """Whether a token opens, whether it closes, and what it is about."""
    token = match["token"]
    if token is None:
        return bool(match["begins"]), bool(match["ends"]), match["begins"] or match["ends"] or match["name"]
    opens, closes = _TOKEN_OPENS.fullmatch(token), _TOKEN_CLOSES.fullmatch(token)
    said = opens or closes
    about = next(one for one in (*(said.groups() if said else ()), token) if one)
    # A token whose name speaks of thinking begins it, though it does not say so: <|thinking|>.
    return bool(opens) or (not closes and THINKING.search(token) is not None), bool(closes), about


def _after_fences(text: str) -> str:
    """The text without fenced thinking before it.

    Raises
    ------
    TruncatedError
        The fence never ends.
    EmptyAnswerError
        Nothing follows it.
    """
    while (fence := _FENCE.match(text)) and THINKING.search(fence["info"]):
        if not fence["end"]:
            raise TruncatedError(_NEVER_ENDS)
        text = text[fence.end() :].strip(BLANK)
        if not text:
            raise EmptyAnswerError(_NOTHING_FOLLOWS)
    return text


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
    return THINKING.search(named) is not None


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
