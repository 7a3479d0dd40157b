"""No key leaves in a text, and every text becomes one short line."""

import pytest

from llmlab.client.redact import looks_secret, one_line, without

KEY = "abcd-5ecre7/key+with=odd"
PAGE = "<!DOCTYPE html>\n<html><head><title>502 Bad <b>Gateway</b></title></head><body>" + "x" * 5000 + "</body></html>"


@pytest.mark.parametrize(
    "text",
    [
        f"Incorrect API key provided: {KEY}.",
        "Incorrect API key provided: sk-abcde*************wxyz.",
        "sk-proj-abcdef123456 and sk-or-v1-abcdef123456",
        "Authorization: Bearer abcdef123456",
        "gsk_abcdefgh12345678, xai-abcdefgh12345678, hf_abcdefgh12345678, AIzaSyAbcdefgh12345678",
        "Illegal header value b'Bearer abcdef123456\\n'",
    ],
)
def test_no_key_is_in_a_line(text):
    shown = one_line(text, KEY)
    assert "[key]" in shown
    assert not any(part in shown for part in (KEY, "abcde", "wxyz", "123456"))


def test_ordinary_words_are_no_keys():
    text = "task-oriented risk-averse key-value pairs in a disk-encryption desk_job; the bearer bonds"
    assert one_line(text, "short") == text
    assert one_line("a short key is no secret", "short") == "a short key is no secret"


def test_a_line_is_short():
    assert len(one_line("word " * 1000)) == 300


def test_a_web_page_is_its_title():
    assert one_line(PAGE) == "a web page: 502 Bad Gateway"
    assert one_line("<html></html>") == "a web page"


@pytest.mark.parametrize(
    "word",
    ["test", "anything", "not-needed", "sk-no-key-required", "lm-studio", "ollama", "placeholder", "EMPTY", "dummy_key",
     "simulated", "Anything", "your-api-key-here", "12345678"],
)  # fmt: skip
def test_a_key_that_is_a_word_spoils_no_answer(word):
    text = f"There is not {word} wrong with {word}s."
    assert without(word, text) == text
    assert not looks_secret(word)


@pytest.mark.parametrize(
    "secret",
    [
        KEY,
        "sk-local-0123456789",
        "sk-12345",
        "k" * 20,
        "hunter2hunter2",
        "AbCdEfGhIj",
        "0f8fad5bd9cb469fa16570867728950e",
    ],
)
def test_a_key_that_looks_like_one_is_in_no_answer(secret):
    assert without(secret, f"you sent {secret}.") == "you sent [key]."
    assert without(("other-secret-1", secret), secret) == "[key]"


def test_in_messages_every_key_is_blotted_out():
    assert one_line("Incorrect key correct-horse-battery", "correct-horse-battery") == "Incorrect key [key]"
