"""An amount is said the same way everywhere, and what is unknown is never nothing."""

from datetime import datetime

import pytest

from llmlab.analysis import Total
from llmlab.display import QueuedBatch, words


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
        (Total(0.0002, 16, 20), "≥ $0.0002 (16 unknown)"),
        (Total(0, 3), "unknown"),
        (Total(0.0, 3, 4), "≥ $0 (3 unknown)"),
    ],
)
def test_a_cost_says_how_many_are_unknown(total, text):
    assert words.cost(total) == text


@pytest.mark.parametrize(
    ("total", "text"), [(Total(62_414), "62,414"), (Total(10, 1, 2), "≥ 10"), (Total(0, 2), "unknown"), (Total(), "0")]
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


def queued(number=1, **changes):
    at = datetime(2026, 3, 4, 14, 2).timestamp()
    return QueuedBatch(**{"number": number, "of": 3, "done": 31_204, "total": 50_000, "submitted_at": at,
                          "ends_by": at + 86_400} | changes)  # fmt: skip


def test_a_batch_says_where_it_is_and_that_nobody_has_to_wait():
    now = datetime(2026, 3, 4, 15, 0).timestamp()
    assert words.batches([queued(2)], now) == [
        "batch 2 of 3: 31,204 of 50,000 done · submitted 14:02 · ends by 14:02 tomorrow · closing the notebook is fine"
    ]
    assert words.batches([], now) == []
    assert words.batches([queued(submitted_at=None, done=0)], now)[0].startswith(
        "batch 1 of 3: 0 of 50,000 done · to be submitted"
    )
    later = words.batches([queued()], now + 2 * 86_400)[0]
    assert "submitted 14:02 on 4 Mar · was to end by 14:02 yesterday" in later


def test_many_batches_are_three_lines_and_the_rest():
    lines = words.batches([queued(number) for number in range(1, 8)], 0.0)
    assert len(lines) == 4
    assert lines[-1] == "4 more: 124,816 of 200,000 done · closing the notebook is fine"
