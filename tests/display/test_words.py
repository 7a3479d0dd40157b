"""An amount is said the same way everywhere, and what is unknown is never nothing."""

import pytest

from llmlab.analysis import Total
from llmlab.display import words


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "$0"), (0.0113, "$0.0113"), (0.5, "$0.5000"), (0.0002, "$0.0002"), (0.000127, "$0.00013"),
        (0.00000123, "$0.0000012"), (1, "$1.00"), (1234.5, "$1,234.50"),
    ],
)  # fmt: skip
def test_dollars(amount, text):
    assert words.usd(amount) == text


@pytest.mark.parametrize(
    ("total", "text"),
    [
        (Total(), "$0"),
        (Total(0.0002), "$0.0002"),
        (Total(0.0002, 16), "≥ $0.0002 (16 unknown)"),
        (Total(0, 3), "unknown"),
    ],
)
def test_a_cost_says_how_many_are_unknown(total, text):
    assert words.cost(total) == text


@pytest.mark.parametrize(
    ("total", "text"), [(Total(62_414), "62,414"), (Total(10, 1), "≥ 10"), (Total(0, 2), "unknown"), (Total(), "0")]
)
def test_tokens(total, text):
    assert words.tokens(total) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (42.4, "42 s"), (99.4, "99 s"), (750, "12:30"), (3723, "1:02:03")]
)
def test_durations(seconds, text):
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"), [(1, 3, "33 %"), (0, 5, "0 %"), (1, 1000, "0.1 %"), (999, 1000, "99.9 %"), (0, 0, "0 %")]
)
def test_none_and_all_are_never_rounded_to(part, whole, text):
    assert words.share(part, whole) == text
