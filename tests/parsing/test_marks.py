"""What a model thinks is no answer, in whatever marks it stands; the answer after it is read."""

import pytest

from llmlab.errors import EmptyAnswerError, ParseError, TruncatedError
from llmlab.parsing import make_parser
from llmlab.parsing.marks import answer_in, thinking_in, without_thinking

DRAFT = 'Maybe {"label": "billing"}? The payment went through, it is the app that crashes.'
LABELS = make_parser(["bug", "billing", "other"])
# Marks of Qwen and DeepSeek, Magistral, Kimi, Seed-OSS, Command, gpt-oss, Hunyuan, Olmo, Apriel, Gemma, MedGemma, Apertus,
# Open WebUI, Grok's system prompts, and some that nobody uses.
MARKS = {
    "<think>": "</think>",
    "<THINKING>": "</THINKING>",
    "<thinking effort='high'>": "</thinking>",
    "<thought>": "</thought>",
    "[THINK]": "[/THINK]",
    "[begin_of_thought]": "[/begin_of_thought]",
    "◁think▷": "◁/think▷",
    "<seed:think>": "</seed:think>",
    "<|START_THINKING|>": "<|END_THINKING|>",
    "<|begin_of_thought|>": "<|end_of_thought|>",
    "<|thinking|>": "<|/thinking|>",
    "<|think_start|>": "<|think_end|>",
    "<|channel|>analysis<|message|>": "<|end|><|start|>assistant<|channel|>final<|message|>",
    "<｜channel｜>analysis<｜message｜>": "<｜end｜>",
    "<scratchpad>": "</scratchpad>",
    "<inner_monologue>": "</inner_monologue>",
    "<chain-of-deliberation>": "</chain-of-deliberation>",
    "<zorp>": "</zorp>",
    "【思】【zorp】": "【/zorp】",
    "⟨gedanken⟩": "⟨/gedanken⟩",
    "⟦think⟧": "⟦/think⟧",
    "[[think]]": "[[/think]]",
    "&lt;think&gt;": "&lt;/think&gt;",
    "<|channel>thought\n": "<channel|>",
    "<unused94>thought\n": "<unused95>",
    "<ctrl94>reasoning\n": "<ctrl95>",
    "<|inner_prefix|>": "<|inner_suffix|>",
    "<details type='reasoning' done='true'>": "</details>",
}
ANSWERS = [
    "bug",
    "\n\nbug",
    '{"label": "bug"}',
    '\n```json\n{"label": "bug"}\n```',
    "<answer>bug</answer>",
    "<|START_RESPONSE|>bug<|END_RESPONSE|>",
    "bug<|return|>",
    "bug</s>",
    "<answer>\n<label>bug</label>\n</answer><|im_end|>",
]


@pytest.mark.parametrize(("begin", "end"), MARKS.items(), ids=MARKS)
@pytest.mark.parametrize("answer", ANSWERS)
def test_the_answer_is_what_follows_the_thinking(begin, end, answer):
    assert LABELS.parse(f"{begin}{DRAFT}{end}{answer}").value == "bug"
    assert LABELS.parse(f"{DRAFT}{end}{answer}").value == "bug"  # the beginning stood in the prompt


@pytest.mark.parametrize(("begin", "end"), MARKS.items(), ids=MARKS)
@pytest.mark.parametrize("thinking", [DRAFT, '{"label": "billing"}', "billing", '\n{"label": "billing"}\n'])
def test_thinking_alone_is_no_answer(begin, end, thinking):
    for text in (f"{begin}{thinking}{end}", f"{begin}{thinking}{end}\n", f"{begin}{thinking}"):
        with pytest.raises(ParseError):
            LABELS.parse(text)


@pytest.mark.parametrize(
    "mark", ["<think>", "[THINK]", "◁think▷", "<|START_THINKING|>", "<|channel|>analysis<|message|>", "analysis"]
)
def test_thinking_that_never_ends_says_so(mark):
    with pytest.raises(TruncatedError, match="never ends"):
        LABELS.parse(f"{mark}{DRAFT}")
    with pytest.raises(TruncatedError, match="never ends"):
        make_parser().parse(f"{mark}{DRAFT}")


def test_a_server_may_take_the_tokens_and_leave_their_names():
    assert LABELS.parse(f"analysis{DRAFT}assistantfinalbug").value == "bug"
    assert LABELS.parse(f'analysis{DRAFT}assistantfinal{{"label": "bug"}}').value == "bug"
    assert make_parser(["analysis", "analysis of data"]).parse("analysis").value == "analysis"


@pytest.mark.parametrize("thinking", [DRAFT, '{"label": "billing"}', "billing"])
@pytest.mark.parametrize("begin", ["```thinking\n", "~~~ reasoning\n", "````thoughts of mine\n"])
def test_a_fence_may_say_that_it_holds_thinking(begin, thinking):
    end = f"\n{begin.partition(' ')[0][:4].rstrip('th')}\n"
    assert LABELS.parse(f"{begin}{thinking}{end}bug").value == "bug"
    assert make_parser().parse(f"{begin}{thinking}{end}A bug.").value == "A bug."
    for text in (f"{begin}{thinking}{end}", f"{begin}{thinking}"):
        for parser in (LABELS, make_parser()):
            with pytest.raises(ParseError):
                parser.parse(text)


def test_thinking_twice_is_thinking():
    assert LABELS.parse(f"<think>{DRAFT}</think>Wait.<think>{DRAFT}</think>bug").value == "bug"
    with pytest.raises(TruncatedError):
        LABELS.parse(f"<think>{DRAFT}</think>billing<think>{DRAFT}")


@pytest.mark.parametrize(
    "text",
    [
        "<label>bug</label><label>billing</label>",
        "<answer>bug</answer> or <answer>billing</answer>",
        "<draft>bug</draft>",
        "bug<|endoftext|>billing",
        "bug<|eot_id|>\nbilling",
        "bug<｜end▁of▁sentence｜>billing",
        "bug</s>billing",
        "<unclear>bug</unclear>",
        "<label>bug",
        "[note]bug",
    ],
)
def test_marks_that_leave_it_open_are_refused(text):
    with pytest.raises(ParseError):
        LABELS.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"label": "bug", "why": "it says <think>no</think> and [THINK] and <b>"}',
        '```json\n{"label": "bug", "why": "</think>"}\n```',
        'It says <b>crash</b>.\n{"label": "bug"}',
        'See [1] and [2]: {"label": "bug"}',
        "</think>bug",
    ],
)
def test_marks_that_are_the_texts_own_do_no_harm(text):
    assert LABELS.parse(text).value == "bug"


@pytest.mark.parametrize("label", ["<18", "[A]", "<unk>", "a<b", "[/INST]", "analysis"])
def test_a_category_may_look_like_a_mark(label):
    assert make_parser([label, "other"]).parse(label).value == label


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>hm</think>\n\nHello <b>you</b>", "Hello <b>you</b>"),
        ("hm</think>Hello", "Hello"),
        ("[THINK]hm[/THINK]Hello", "Hello"),
        ("<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Hello", "Hello"),
        ("analysisHm.assistantfinalHello", "Hello"),
        ("<|assistant|><think>hm</think>Hello", "Hello"),
        ("<think>hm</think>\n<think>\n</think>\nHello", "Hello"),
        ("<think>hm</think>Hello </think>", "Hello </think>"),
        ("<|Thought|>hm<|Answer|>Hello", "Hello"),
        ("<unused94>thought\nhm<unused95>Hello", "Hello"),
        ('<details type="reasoning"><summary>Thought</summary>hm</details>Hello', "Hello"),
        (
            "<details><summary>More</summary>is</details> the text's own",
            "<details><summary>More</summary>is</details> the text's own",
        ),
        ("```python\nprint()\n```\nis the text's own", "```python\nprint()\n```\nis the text's own"),
        ("Put it between <think> and </think>.", "Put it between <think> and </think>."),
        ("<zorp>is</zorp> the text's own", "<zorp>is</zorp> the text's own"),
        ("analysis of the text", "analysis of the text"),
        ("Hello", "Hello"),
    ],
)
def test_free_text_is_freed_from_the_thinking_before_it(text, answer):
    assert without_thinking(text) == answer
    parsed = make_parser().parse(text)
    assert parsed.value == answer
    assert parsed.notes == ("thinking left out",) * (text != answer)


def test_free_text_that_is_thinking_only_is_none():
    for text in ("<think>hm</think>", "[THINK]hm[/THINK] \n"):
        with pytest.raises(EmptyAnswerError):
            make_parser().parse(text)


def test_the_users_own_function_gets_the_text_as_it_is():
    assert make_parser(parse=lambda text: text).parse("<think>a</think>b").value == "<think>a</think>b"


def test_many_marks_take_no_time():
    for text in ("<a>" * 100_000, "</a>" * 100_000, "<|x|>" * 100_000, "<a></a>" * 50_000, "[/x]bug" * 50_000):
        try:
            assert isinstance(answer_in(text), str)
        except ParseError:
            continue


@pytest.mark.parametrize(("text", "thinking"), [
    ("<think>because</think>bug", "<think>because</think>"),
    ("bug", None),
    ("<think>never ends", "<think>never ends"),
    ("", None),
    (None, None),
])  # fmt: skip
def test_the_thinking_before_an_answer(text, thinking):
    assert thinking_in(text) == thinking
