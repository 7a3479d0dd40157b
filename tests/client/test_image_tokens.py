"""Tokens of pictures by the formulas of their providers, and of unknown ones within an order of magnitude."""

import base64
import io

import PIL.Image
import pytest

from llmlab.client.image_tokens import image_tokens
from llmlab.client.images import image
from llmlab.client.usage import prompt_tokens, text_tokens


def picture(width, height, **settings):
    written = io.BytesIO()
    PIL.Image.new("L", (width, height)).save(written, "png")
    return image(written.getvalue(), **settings)


@pytest.mark.parametrize(
    ("model", "size", "tokens"),
    [
        ("gpt-4o", (1024, 1024), 765),  # the examples of OpenAI's page
        ("gpt-4o", (2048, 4096), 1105),
        ("openai/gpt-4o-2024-08-06", (1024, 1024), 765),
        ("gpt-4o-mini", (1024, 1024), 2833 + 4 * 5667),
        ("o3", (1024, 1024), 75 + 4 * 150),
        ("gpt-4.1-mini", (1024, 1024), 1024 * 1.62),
        ("gpt-5-nano", (4000, 4000), 1536 * 2.46),
        ("anthropic/claude-haiku-4.5", (1000, 1000), 1000 * 1000 / 750),
        ("claude-sonnet-4", (6000, 3000), 1568 * 784 / 750),
        ("gemini-2.0-flash", (384, 384), 258),
        ("gemini-2.5-pro", (1000, 1000), 4 * 258),
        ("gemini-3-flash", (1000, 1000), 1100),
        ("qwen2.5-vl-72b", (280, 280), 100),
    ],
)
def test_known_models_count_as_their_providers_say(model, size, tokens):
    assert image_tokens(picture(*size), model) == pytest.approx(tokens)


def test_low_detail_is_the_base_alone():
    assert image_tokens(picture(1024, 1024, detail="low"), "gpt-4o") == 85


def test_what_will_be_sent_counts_and_not_what_lies_on_the_disk():
    assert image_tokens(picture(4000, 4000, longest=280), "llava") == 100


@pytest.mark.parametrize("url", ["https://example.org/a.png", "data:image/png;base64,????", None, 5])
def test_one_of_unknown_size_is_taken_for_a_usual_one(url):
    assert 500 < image_tokens({"type": "image_url", "image_url": {"url": url}}, "m") < 3000
    assert 500 < image_tokens({"type": "image_url", "image_url": url}, "m") < 3000


def test_base64_is_no_text():
    data = base64.b64encode(bytes(600_000)).decode()
    parts = [
        {"type": "text", "text": "What is it?" * 4},
        {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{data}"}},
        {"type": "input_audio", "input_audio": {"data": data, "format": "mp3"}},
        {"type": "file", "file": {"file_data": data}},
    ]
    body = {"model": "m", "messages": [{"role": "user", "content": parts}]}
    assert text_tokens(body) == 11
    assert 1000 < prompt_tokens(body) < 5000


def test_calls_of_tools_count_and_missing_content_does_not():
    call = {"id": "c", "function": {"name": "f", "arguments": "x" * 400}}
    body = {"model": "m", "messages": [{"role": "assistant", "content": None, "tool_calls": [call]}]}
    assert 100 < prompt_tokens(body) < 150
