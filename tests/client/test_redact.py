"""No key leaves in a text, and every text becomes one short line."""

import pytest

from llmlab.client.redact import one_line, without

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


def test_a_key_as_short_as_a_word_spoils_no_text():
    assert without("test", "the best test") == "the best test"
    assert without(KEY, f"the best {KEY}") == "the best [key]"
