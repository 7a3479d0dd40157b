"""How an answer ended counts before what it says."""

import pydantic
import pytest

from llmlab.errors import RefusalError, TruncatedError
from llmlab.parsing import Parsed, make_parser

YES_NO = make_parser(categories=["yes", "no"])


@pytest.mark.parametrize(
    ("finish_reason", "notes"),
    [("stop", ()), ("STOP", ()), (None, ("no finish_reason",)), ("eos_token", ("finish_reason eos_token",))],
)
def test_an_odd_finish_reason_is_noted(finish_reason, notes):
    assert YES_NO.parse('{"label": "yes"}', finish_reason) == Parsed("yes", notes)


@pytest.mark.parametrize("finish_reason", ["length", "LENGTH", "MAX_TOKENS", "error", "insufficient_system_resource"])
def test_after_a_cut_only_complete_strict_json_counts(finish_reason):
    for text in ('{"label": "yes"}', '{"label": "yes"}\n\n\n', '<think>no</think>{"label": "yes"}'):
        assert YES_NO.parse(text, finish_reason) == Parsed("yes", (f"finish_reason {finish_reason}",))
    refused = ["yes", '"yes"', '{"label": "yes",}', '{"label": "yes"} Wait', '```json\n{"label": "yes"}\n```', None, ""]
    for text in [*refused, '{"label": "maybe"}', "<think>ye", '{"label": "yes"']:
        with pytest.raises(TruncatedError):
            YES_NO.parse(text, finish_reason)
    with pytest.raises(TruncatedError):
        make_parser(response_model=pydantic.RootModel[int]).parse("12", finish_reason)


@pytest.mark.parametrize("finish_reason", ["content_filter", "SAFETY", "RECITATION"])
def test_a_filtered_answer_is_none(finish_reason):
    with pytest.raises(RefusalError):
        YES_NO.parse('{"label": "yes"}', finish_reason)
