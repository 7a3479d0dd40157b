"""Whether JSON that stands in prose is the answer, or only weighed, quoted or taken back.

    Sure! Here it is: {"label": "bug"}          the answer
    Maybe {"label": "bug"}? He mentions a bill. weighed
    {"label": "bug"} Wait, that is wrong.        taken back

It counts if it stands as a sentence of its own and nothing after it says otherwise. What is refused by mistake is asked
again; what is accepted by mistake is a wrong value that nobody sees.
"""

from __future__ import annotations

import re

from llmlab.errors import ParseError
from llmlab.json_text import BLANK, Found, short
from llmlab.parsing.marks import THINKING

# What may stand before it: nothing, the end of a line or sentence, a colon or arrow, "is"; with marks of emphasis.
_INTRODUCED = re.compile(
    r"(?:^|[\n.!?…。！？:：=>→–—|-]|\b(?:is|answer|label|category|json|output|result))[ \t]*[*_`]*$", re.IGNORECASE
)
# A heading of one word, as in "### Reasoning" or "Thinking...".
_HEADING = re.compile(r"(?:^|\n)[ \t#*_>(]*(\w+)[*_]*[ \t]*(?:[:：]|\.{3}|…|(?=\n))[*_]*\s*$")
_QUOTED_LINE = re.compile(r"(?:^|\n)[ \t]*>[^\n]*$")
# What may follow: nothing, a new line, the end of the sentence, a new sentence.
_CLOSED = re.compile(r"[*_`]*[ \t]*(?:$|\n|[.!;。！](?!\w)|(?<=[ \t])(?=[^\W\d_])(?![a-zà-öø-ÿ]))")
# Words of doubt in what follows. They can only make an answer unreadable, so the list need not be complete.
_DOUBT = re.compile(
    r"\b(?:not|\w+n['’]t|cannot|wrong|incorrect|mistaken?|wait|actually|instead|rather|however|but|correction|corrected|"
    r"reconsider\w*|second thought|on reflection|scratch that|hmm+|unclear|unsure|sorry|should be|would be|"
    r"nicht|falsch|doch|moment|sondern|aber|pas|faux|mais|pero|incorrecto)\b",
    re.IGNORECASE,
)


def check_stands_alone(found: Found, others: re.Pattern[str] | None = None) -> None:
    """See that JSON in prose is what the text answers.

    Parameters
    ----------
    others : pattern, optional
        Finds the other values that an answer could have; named after it they make the answer unclear.

    Raises
    ------
    ParseError
        It is part of a sentence, or what follows says otherwise.
    """
    # Doubled braces, as in templates, belong to the JSON.
    before, after = found.before.rstrip("{"), found.after.lstrip("}").rstrip(BLANK)
    if not _INTRODUCED.search(before[-200:]) or _QUOTED_LINE.search(before[-2000:]) or not _CLOSED.match(after):
        raise ParseError(f"The answer {short(found.value)} stands within a sentence, so it may only be considered.")
    heading = _HEADING.search(before[-200:])
    if heading is not None and THINKING.match(heading[1]):
        raise ParseError(
            f"The answer {short(found.value)} stands under {short(heading[0].strip())}: it may be a thought."
        )
    named = others.search(after) if others is not None else None
    doubt = named or _DOUBT.search(after)
    if doubt is not None:
        raise ParseError(
            f"The answer {short(found.value)} is followed by {short(doubt[0])}, so it may not be the last word."
        )
