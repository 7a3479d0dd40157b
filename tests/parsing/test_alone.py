"""JSON in prose is an answer only where it stands as one: not weighed, not quoted, not taken back."""

import pydantic
import pytest

from llmlab.errors import ParseError
from llmlab.parsing import make_parser

LABELS = make_parser(["bug", "billing", "other"])
BUG = '{"label": "bug"}'


@pytest.mark.parametrize(
    "text",
    [
        f"Sure! Here is the JSON you asked for:\n\n{BUG}\n\nLet me know if you need more.",
        f"Sure! {BUG}",
        f"It could be billing or bug: {BUG}",
        f"The customer mentions a bill, but the app crashes.\n{BUG}",
        f"Answer: {BUG}",
        f"The answer is {BUG}.",
        f"**{BUG}**",
        f"### Analysis\nIt crashes.\n\n### Answer\n{BUG}",
        f"After my analysis: {BUG}",
        f"Final -> {BUG}",
        f"回答：{BUG}",
        f"答えはこれです。{BUG}。",
        f"{BUG}\nThe app crashes.",
        f"{BUG} The app crashes.",
        f"{BUG}. It is so.",
        f"{{{BUG}}}",
        f"Here:\n```json\n{BUG}\n```\nAnything more?",
        f"First {BUG}, and again:\n{BUG}",
        f"Step 1. It crashes.\nStep 2. So it is a bug.\n\n{BUG}\n",
    ],
)
def test_what_stands_alone_is_the_answer(text):
    assert LABELS.parse(text).value == "bug"


@pytest.mark.parametrize(
    "text",
    [
        # weighed
        f"Maybe {BUG}? The payment went through.",
        f"One could say {BUG}, as it crashes.",
        f"If the app crashed I would say {BUG} here.",
        f"It might be {BUG} or something else",
        f"Between {BUG} and billing I prefer the latter.",
        f"{BUG} is likely.",
        f"{BUG}? Hmm.",
        # a heading says that it is a thought
        f"### Reasoning\n{BUG}\n\n### Answer\n",
        f"Thinking...\n{BUG}\n...done thinking.\n",
        f"**Analysis:** {BUG}\n\n**Answer:**",
        # taken back
        f"{BUG} Wait, on reflection: billing.",
        f"{BUG}\n\nActually, that is wrong.",
        f"{BUG}\nCorrection: billing",
        f"{BUG}\n\nOn second thought, it's about the invoice.",
        f"{BUG}\nNo, this isn't right.",
        f"{BUG}\n\nMoment, das ist falsch.",
        f"{BUG}\n\nFinal answer: **billing**",
        f"{BUG}\n\nbilling",
        f"```json\n{BUG}\n```\nHowever, I should answer billing.",
        # quoted
        f'The ticket says "{BUG}" and nothing more.',
        f"> {BUG}\n\nThat is what they wrote.",
        f"The user wants {BUG} as the form.",
        f"They ask for a form like {BUG}",
        f"({BUG})",
    ],
)
def test_what_is_weighed_taken_back_or_quoted_is_none(text):
    with pytest.raises(ParseError):
        LABELS.parse(text)


def test_the_same_holds_for_models():
    class Review(pydantic.BaseModel):
        label: str

    parser = make_parser(response_model=Review)
    assert parser.parse(f"Here: {BUG}\nMore?").value.label == "bug"
    for text in (f"Maybe {BUG}?", f"{BUG}\nWait, that is wrong."):
        with pytest.raises(ParseError):
            parser.parse(text)


@pytest.mark.parametrize(
    "answer",
    ['{"label": "bug", "final_label": "billing"}', '{"label": "bug", "corrected category": "Billing"}'],
)
def test_an_object_that_names_two_labels_has_none(answer):
    with pytest.raises(ParseError, match="2 labels"):
        LABELS.parse(answer)


def test_other_fields_may_speak_of_other_labels():
    assert LABELS.parse('{"label": "bug", "why": "not billing", "alternatives": ["billing"]}').value == "bug"
