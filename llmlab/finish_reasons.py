"""What a finish reason means for the answer it came with.

Providers have dozens of names for it and add new ones; those that are not known here are no sign of a whole answer.
"""

from __future__ import annotations

import re
from enum import Enum
from functools import lru_cache

# A whole answer, in the words of OpenAI, Anthropic, Google, Cohere, Hugging Face, vLLM, llama.cpp and others; many
# servers say nothing at all.
_WHOLE = re.compile(
    r"stop|stopped|stop_(sequence|token|word|limit|str|id)|end|end_turn|end_of_\w+|(im_)?end|eot|eos|eos_(token|found)|"
    r"complete|completed|done|finish|finished|success|normal|natural|none|null|"
)
_FILTERED = re.compile(
    r"filter|safe|sensitive|prohibit|block|recit|spii|moderat|policy|guardrail|censor|violat|harm|refus|toxic|csam|armor"
)
_CUT = re.compile(r"length|max\w*tokens?|token_limit|trunc|too_long|incomplete")
_FAILED = re.compile(r"error|insufficient_system_resource")


class Ended(Enum):
    """How an answer ended."""

    WHOLE = "the model came to its end"
    CUT = "the limit on its length was reached"
    FILTERED = "a filter withheld it"
    FAILED = "the provider failed while it was written"
    UNKNOWN = "nobody knows whether it is whole"


@lru_cache(maxsize=256)
def ended(finish_reason: str | None) -> Ended:
    """What this finish reason means, in whatever case and with whatever prefix it is written."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", finish_reason or "")
    reason = re.sub(r"[^a-z]+", "_", words.casefold()).strip("_").removeprefix("finish_reason_")
    if _WHOLE.fullmatch(reason):
        return Ended.WHOLE
    if _FILTERED.search(reason):
        return Ended.FILTERED
    if _CUT.search(reason):
        return Ended.CUT
    return Ended.FAILED if _FAILED.fullmatch(reason) else Ended.UNKNOWN
