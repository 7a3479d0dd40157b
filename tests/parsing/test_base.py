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
    for text in (
        '{"label": "yes"}',
        '{"label": "yes"}\n\n\n',
        '<think>no</think>{"label": "yes"}',
        '```json\n{"label": "yes"}\n```',
    ):
        assert YES_NO.parse(text, finish_reason) == Parsed("yes", (f"finish_reason {finish_reason}",))
    refused = ["yes", '"yes"', '{"label": "yes",}', '{"label": "yes"} Wait', '```json\n{"label": "yes"}', None, ""]
    for text in [*refused, '{"label": "maybe"}', "<think>ye", '{"label": "yes"']:
        with pytest.raises(TruncatedError):
            YES_NO.parse(text, finish_reason)
    with pytest.raises(TruncatedError):
        make_parser(response_model=pydantic.RootModel[int]).parse("12", finish_reason)


UNKNOWN = ["abort", "network_error", "model_context_window_exceeded", "timeout", "OTHER", "MALFORMED_FUNCTION_CALL"]


@pytest.mark.parametrize("finish_reason", UNKNOWN)
def test_after_an_unknown_end_labels_are_flagged_and_free_text_is_none(finish_reason):
    for text, notes in (('{"label": "yes"}', ()), ("yes", ("bare",))):
        assert YES_NO.parse(text, finish_reason) == Parsed("yes", (*notes, f"finish_reason {finish_reason}"))
    for parser, text in (
        (YES_NO, "I think it is"),
        (YES_NO, 'Sure: {"label": "yes"} W'),
        (make_parser(["no", "no idea"]), "no"),
        (make_parser(), "The lamp is"),
        (make_parser(parse=str), "The lamp is"),
    ):
        with pytest.raises(TruncatedError):
            parser.parse(text, finish_reason)


@pytest.mark.parametrize("finish_reason", ["length", None, "eos_token"])
def test_free_text_up_to_the_users_own_limit_is_what_was_asked_for(finish_reason):
    assert make_parser().parse("The lamp is", finish_reason).value == "The lamp is"
    assert make_parser().parse("The lamp is", finish_reason).notes


@pytest.mark.parametrize("finish_reason", ["content_filter", "SAFETY", "RECITATION"])
def test_a_filtered_answer_is_none(finish_reason):
    with pytest.raises(RefusalError):
        YES_NO.parse('{"label": "yes"}', finish_reason)
