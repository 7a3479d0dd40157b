"""A category is read from certain to lenient, and whatever is cut, double or a guess is refused."""

import contextlib
import enum
import json

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.errors import EmptyAnswerError, InputError, InvalidLabelError, ParseError, TruncatedError
from llmlab.parsing import Parsed, make_parser

YES_NO = make_parser(categories=["yes", "no"])
quick = settings(max_examples=150, deadline=None, database=None)

FAULTS = {  # id: (text, notes or the error's class)
    "j-fence": ('```json\n{"label": "yes"}\n```', ()),
    "j-fence, one line": ('```json {"label": "yes"} ```', ()),
    "j-fence, in prose": ('Sure:\n```json\n{"label": "yes"}\n```\nAnything else?', ()),
    "j-fence, bare": ("```\nyes\n```", ("bare",)),
    "j-prose": ('Sure! Here is the JSON you asked for:\n\n{"label": "yes"}\n\nLet me know if you need more.', ()),
    "j-prose, twice the same": ('{"label": "yes"}\nOnce more:\n{"label":  "yes"}', ()),
    "j-two": ('{"label": "yes"} Wait, on reflection: {"label": "no"}', ParseError),
    "j-two, one broken": ("{\"label\": \"yes\"} Wait, on reflection: {'label': 'no'}", ParseError),
    "j-two, fenced": ('{"label": "yes"} Wait:\n```json\n{"label": "no"}\n```', ParseError),
    "j-braces-prose": ('Using the set {yes, no}: {"label": "yes"}', ()),
    "j-braces-prose, quotes": ('Of {"yes", "no"} or {don\'t know}, \\frac{1}{2}: {"label": "yes"}', ()),
    "j-braces-prose, key": ('Here: {"}": 1, "\\"}": {"label": "no"}, "label": "yes"}', ()),
    "j-braces-prose, doubled": ('{{"label": "yes"}}', ()),
    "j-think": ('<think>Maybe {"label": "no"}? Hmm.</think>\n\n{"label": "yes"}', ()),
    "j-think-end": ('Let me see...</think>{"label": "yes"}', ()),
    "j-think-inside": ('{"label": "yes", "why": "it says <think>no</think> and ```json {} ```"}', ()),
    "j-think-open": ('<think>Maybe {"label": "no"}', TruncatedError),
    "j-think, then nothing": ('<think>Maybe {"label": "no"}</think>\n', EmptyAnswerError),
    "j-trailing-comma": ('{"label": "yes",}', ("repaired",)),
    "j-single": ("{'label': 'yes'}", ("repaired",)),
    "j-single, apostrophe": ("{'why': 'it's fine', 'label': 'yes'}", ("repaired",)),
    "j-python": ("{'label': 'yes', 'sure': True, 'why': None}", ("repaired",)),
    "j-single, end unclear": ("{'label': 'yes', 'why': 'a '} and', 'label': 'no'}", ParseError),
    "j-smart": ("{“label”: “yes”}", ("repaired",)),
    "j-nan": ('{"label": "yes", "score": NaN}', ("repaired",)),
    "j-infinity": ('{"label": "yes", "score": -Infinity}', ("repaired",)),
    "j-infinity, as a number": ('{"label": "yes", "score": 1e999}', ("repaired",)),
    "j-newline": ('{"label": "yes", "why": "a\nb"}', ("repaired",)),
    "j-backslash": ('{"label": "yes", "why": "\\alpha"}', ("repaired",)),
    "j-quotes": ('{"why": "he said "no" loudly", "label": "yes"}', ("repaired",)),
    "j-dup": ('{"label": "yes", "label": "no"}', ParseError),
    "j-dup, single quotes": ("{'label': 'yes', 'label': 'no'}", ParseError),
    "j-dup, the same": ('{"label": "yes", "label": "yes"}', ()),
    "j-dup, no comma": ('{"label": "no" "yes"}', ParseError),
    "j-cut": ('{"label": "yes", "why": "beca', TruncatedError),
    "j-cut, in the label": ('{"label": "ye', TruncatedError),
    "j-cut, inner object whole": ('{"draft": {"label": "no"}, "label": "ye', TruncatedError),
    "j-cut, list": ('[{"label": "yes"}, {"lab', TruncatedError),
    "j-zero-width": ('{"label": "\u200byes\u00a0"}', ("normalised",)),
    "j-bom": ('\ufeff{"label": "yes"}', ()),
    "j-escaped": ('"{\\"label\\": \\"yes\\"}"', ("repaired",)),
    "j-scalar": ('"yes"', ("bare",)),
    "j-bare": ("yes", ("bare",)),
    "j-bare, dressed": (" **“Yes”**.\n", ("normalised", "bare")),
    "j-number": ('{"label": 1}', InvalidLabelError),
    "j-number-text": ('{"label": "yes", "score": "0,9"}', ()),
    "j-bool": ('{"label": true}', InvalidLabelError),
    "j-empty": ("{}", InvalidLabelError),
    "j-null": ("null", InvalidLabelError),
    "j-key-case": ('{"Label": "yes"}', ("normalised",)),
    "j-key-category": ('{"category": "yes"}', ()),
    "j-key-only": ('{"answer": "yes"}', ()),
    "j-key-other": ('{"answer": "yes", "why": "no"}', InvalidLabelError),
    "j-keys-disagree": ('{"label": "yes", "Category": "no"}', InvalidLabelError),
    "j-unknown": ('{"label": "maybe"}', InvalidLabelError),
    "j-multi": ('{"label": "yes, no"}', InvalidLabelError),
    "j-label-list": ('{"label": ["yes", "no"]}', InvalidLabelError),
    "j-list": ('[{"label": "yes"}]', InvalidLabelError),
    "j-extra": ('{"label": "yes", "confidence": 0.9, "notes": "x"}', ()),
    "j-nested": ('{"result": {"label": "yes"}}', ("nested",)),
    "j-nested, twice": ('{"a": {"b": {"label": "yes"}}}', InvalidLabelError),
    "j-schema": ('{"type": "object", "properties": {"label": {"type": "string"}}}', InvalidLabelError),
    "j-schema, of the label": ('{"label": {"type": "string", "enum": ["yes"]}}', InvalidLabelError),
    "j-refuse": ("I'm sorry, but I can't help with that.", ParseError),
    "j-sentence": ("The answer is yes.", ParseError),
    "j-flood": ('{"label":' + " " * 5000, TruncatedError),
    "j-loop": ('{"why": "' + "and so on " * 500, TruncatedError),
    "j-xml": ("<label>yes</label>", ("bare",)),
    "j-xml, object": ('<answer>{"label": "yes"}</answer>', ()),
    "j-xml, cut": ("<label>yes</la", ParseError),
    "j-xml, two": ("<label>yes</label><label>no</label>", ParseError),
    "c-content-null": (None, EmptyAnswerError),
    "c-content-empty": ("", EmptyAnswerError),
    "c-content-space": (" \n\t\u00a0\u200b\ufeff", EmptyAnswerError),
    "nul": ("\x00" * 9, EmptyAnswerError),
    "lone surrogate": ('{"label": "\\ud800"}', InvalidLabelError),
}


@pytest.mark.parametrize(("text", "expected"), FAULTS.values(), ids=FAULTS.keys())
def test_every_fault_gives_yes_or_its_error(text, expected):
    if isinstance(expected, tuple):
        assert YES_NO.parse(text) == Parsed("yes", expected)
    else:
        with pytest.raises(ParseError) as caught:
            YES_NO.parse(text)
        assert type(caught.value) is expected
        assert len(str(caught.value)) < 1000
        str(caught.value).encode()


def test_an_unknown_label_is_named_with_the_choices():
    with pytest.raises(
        InvalidLabelError, match=r"'maybe' is not one of the categories. Choose one of: \"yes\", \"no\""
    ):
        YES_NO.parse('{"label": "maybe"}')
    with pytest.raises(InvalidLabelError) as caught:
        YES_NO.parse(json.dumps({"label": "long " * 1000}))
    assert len(str(caught.value)) < 200


class Mood(enum.Enum):
    GOOD = "good mood"
    BAD = "bad_mood"


class Stars(enum.IntEnum):
    ONE = 1
    TWO = 2


class Plain(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "categories",
    [
        ["a b", "C"],
        ("a b", "C"),
        {"C", "a b"},
        pd.Series(["a b", "C"]),
        pd.Index(["a b", "C"]),
        pd.CategoricalDtype(["a b", "C"]),
        pd.Categorical(["C", "a b", "C"]),
        pd.Series(["C", "a b", "C"], dtype="category"),
        pd.Series(["a b", "C"]).to_numpy(),
        [Plain("a b"), Plain("C")],
    ],
    ids=lambda item: type(item).__name__,
)
def test_categories_come_in_many_containers(categories):
    parser = make_parser(categories)
    assert parser.parse('{"label": "A_B."}') == Parsed("a b", ("normalised",))
    assert parser.columns == ()
    assert set(parser.categories or ()) == {"a b", "C"}


def test_what_the_prompt_shows_is_an_answer():
    """Small models copy the first JSON that they see."""
    instruction = make_parser(["billing", "bug"]).instruction or ""
    copied = json.JSONDecoder().raw_decode(instruction[instruction.index("{") :])[0]
    assert make_parser(["billing", "bug"]).parse(json.dumps(copied)) == Parsed("billing")


def test_the_prompt_and_the_schema_list_the_categories():
    parser = make_parser(["billing", "bug", 'the "other"'])
    assert parser.instruction == (
        'Answer with JSON only: {"label": "billing"}, {"label": "bug"} or {"label": "the \\"other\\""}.'
    )
    assert make_parser(["only"]).instruction == 'Answer with JSON only: {"label": "only"}.'
    assert parser.schema is not None
    assert parser.schema["name"] == "category"
    assert parser.schema["schema"]["properties"]["label"]["enum"] == ["billing", "bug", 'the "other"']
    assert make_parser({"b", "a"}).instruction == make_parser({"a", "b"}).instruction


def test_an_enum_delivers_its_values_and_a_str_subclass_itself():
    assert make_parser(Mood).parse('{"label": "Bad mood"}').value == "bad_mood"
    assert make_parser(Stars).parse('{"label": "TWO"}').value == 2
    label = Plain("yes")
    assert make_parser([label]).parse("YES").value is label


def test_a_scale_may_be_answered_with_numbers():
    scale = make_parser(["1", "2", "10", "true"])
    assert scale.parse('{"label": 2}') == Parsed("2", ("normalised",))
    assert scale.parse("10") == Parsed("10", ("normalised", "bare"))
    assert scale.parse('{"label": true}') == Parsed("true", ("normalised",))
    for label in ("1.0", "false", "null", "3", "[1]"):
        with pytest.raises(InvalidLabelError):
            scale.parse(f'{{"label": {label}}}')


@pytest.mark.parametrize(
    "label", ["C++", "A-", "-1", "<18", "18-25", "_", "...", "ß", "是", "👨‍👩‍👧", "N/A", "  padded "]
)
def test_awkward_categories_are_told_apart(label):
    parser = make_parser([label, "C", "A", "1", "18", "25"])
    assert parser.parse(json.dumps({"label": label})) == Parsed(label)
    assert parser.parse(label).value == label
    assert parser.parse('{"label": "1."}').value == "1"


HUGE = {
    "brackets": "[" * 1_000_000,
    "objects": '{"a":' * 200_000,
    "deep and closed": '{"label": "yes", "x": ' + "[" * 970 + "]" * 970 + "}",
    "prose braces": "{yes} " * 170_000,
    "broken objects": '{"a": "\n"} ' * 80_000,
    "not finite": '{"a": NaN} ' * 90_000,
    "empty objects": "{}" * 500_000,
    "quotes": '"' * 1_000_000,
    "digits": "1" * 1_000_000,
    "ticks": "```" * 330_000,
    "thinking": "<think>" * 140_000,
    "label": json.dumps({"label": "x" * 1_000_000}),
    "combining marks": json.dumps({"label": "a" + "\u0301\u0316" * 200_000}, ensure_ascii=False),
    "keys": json.dumps(dict.fromkeys(map(str, range(80_000)), "yes")),
    "worst repair": '{"a": ' + "(" * 7_900 + "}",
    "long repair": "{'why': '" + "so " * 300_000 + "', 'label': 'yes'}",
}


@pytest.mark.parametrize("text", HUGE.values(), ids=HUGE.keys())
def test_huge_and_deep_answers_are_read_or_refused(text):
    """Without care some of these take minutes, or exhaust the stack."""
    with contextlib.suppress(ParseError):
        assert YES_NO.parse(text).value == "yes"


PREFIXES = ["spam", "spam other", "no", "not", "not sure", "a"]
FORMS = [
    lambda label, why: json.dumps({"label": label, "why": why}),
    lambda label, why: json.dumps({"why": why, "label": label}, ensure_ascii=False, indent=1),
    lambda label, why: json.dumps({"draft": {"label": "no"}, "why": [why], "Category": label}),
    lambda label, why: json.dumps({"result": {"label": label}}),
    lambda label, why: json.dumps({"label": label}) + "\n" * 3,
    lambda label, why: "Sure!\n```json\n" + json.dumps({"label": label, "why": why}) + "\n```\nMore?",
    lambda label, why: 'Of {no, a}: {"label": ' + json.dumps(label) + ',}. It "is" so.',
    lambda label, why: "<think>{'label': 'no'}</think>" + json.dumps({"why": why, "label": label}),
    lambda label, why: f"{{'why': 'it\\'s', 'label': '{label}'}}",
    lambda label, why: f"{{“label”: “{label}”}}",
    lambda label, why: json.dumps(json.dumps({"label": label})),
    lambda label, why: f"<label>{label}</label>",
    lambda label, why: f'"{label}"',
    lambda label, why: f"```\n{label}\n```",
]


@quick
@given(st.sampled_from(PREFIXES), st.sampled_from(FORMS), st.text(max_size=20), st.data())
def test_no_truncation_becomes_another_label(label, form, why, data):
    parser = make_parser(PREFIXES)
    answer = form(label, why)
    assert parser.parse(answer).value == label
    cut = answer[: data.draw(st.integers(0, len(answer)))]
    for finish_reason in ("stop", "length"):
        with contextlib.suppress(ParseError):
            assert parser.parse(cut, finish_reason).value == label


def test_definitions_stand_in_the_message_and_in_the_schema():
    book = {"billing": "Invoices,\n refunds.", "bug": 'It does "not" work.'}
    parser = make_parser(book)
    assert parser.categories == ("billing", "bug")
    assert parser.definitions == {"billing": "Invoices, refunds.", "bug": 'It does "not" work.'}
    for text in parser.definitions.values():
        assert text in parser.instruction
        assert text in parser.schema["schema"]["properties"]["label"]["description"]
    assert parser.instruction.startswith("The categories:\n- billing: Invoices, refunds.\n- bug: ")
    assert parser.parse('{"label": "bug"}') == Parsed("bug")
    for wrong in ({"a": ""}, {"a": None}, {"a": 1}, {}):
        with pytest.raises(InputError):
            make_parser(wrong)


@pytest.mark.parametrize("categories", [[3, 1, 2], [1.0, 2.0, 3.0], {1: "low", 3: "high", 2: "middle"}])
def test_numbers_are_labels_in_order(categories):
    parser = make_parser(categories)
    assert parser.categories == (1, 2, 3)
    assert parser.schema["schema"]["properties"]["label"]["enum"] == [1, 2, 3]
    assert parser.schema["schema"]["properties"]["label"]["type"] == "integer"
    assert '{"label": 1}, {"label": 2} or {"label": 3}' in parser.instruction
    for text, notes in (('{"label": 2}', ()), ('{"label": 2.0}', ()), ('{"label": "2"}', ())):
        assert parser.parse(text) == Parsed(2, notes)
    assert parser.parse("2").value == 2
    for label in ("4", "true", "1.5", "null"):
        with pytest.raises(InvalidLabelError):
            parser.parse(f'{{"label": {label}}}')
    assert parser.written(2) == '{"label": 2}'


def test_halves_are_numbers_too_and_what_is_no_number_is_refused():
    assert make_parser([0.5, 1]).schema["schema"]["properties"]["label"] == {"type": "number", "enum": [0.5, 1]}
    for wrong in ([1, "a"], [1, float("nan")], [1, float("inf")], [1, 1.0]):
        with pytest.raises(InputError):
            make_parser(wrong)
