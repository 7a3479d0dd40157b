"""The panel says how far, how long still and what it waits for, escapes what others wrote, and ends as one line."""

import re

import pytest

from llmlab.display.panel import MOST_SAMPLES, History, final_line, live_html, snapshot
from llmlab.display.tally import Outlook, QueuedBatch, Tally
from tests.helpers import Clock, attempt, failing


def answered(tally: Tally, count: int, **changes) -> Tally:
    for _ in range(count):
        tally.record(attempt(**changes))
        tally.finish(ok=True)
    return tally


def words(page: str) -> str:
    return " ".join(re.sub("<[^>]*>", " ", page).split())


def test_says_everything_once_while_it_runs():
    tally = answered(Tally(100, title="openai/gpt-4o-mini"), 9, throttled=True, wait_s=2.0)
    tally.record(attempt(**failing(retry_in_s=20.0)))
    tally.finish(ok=False)
    tally.in_flight, tally.waiting, tally.retrying = 3, 80, 7
    tally.look(Outlook(rate=1.0, paused_s=42.0))
    text = words(live_html(tally, History()))
    for part in (
        "9 of 100 answered (9 %)", "9 answered", "1 failed", "3 in flight", "87 to come", "openai/gpt-4o-mini",
        "attempts 10 1 without a usable answer", "waited for the limit 1.8 s each 90 % of the last ones (normal)",
        "tokens in 90 45 out", "cost so far $4.50 $45.00 expected in all",
        "paused by the provider for 42 s (429: too many requests)", "last error: OverloadedError: no capacity",
    ):  # fmt: skip
        assert text.count(part) == 1, part
    assert re.search(r"ETA \d", text)


def test_what_was_found_counts_from_the_start():
    tally = answered(Tally(265, before=89, from_book=True), 18)
    page = live_html(tally, History())
    assert "107 of 354 answered (30 %) : 89 from the book, 265 to ask" in words(page)
    assert "aria-valuemax='354' aria-valuenow='107'" in page
    assert final_line(tally).startswith("107 of 354 answered: 89 from the book, 18 asked · 247 not run · 18 attempts")


def test_trouble_stands_out_and_what_is_normal_does_not():
    tally = answered(Tally(10), 5)
    tally.waiting = 5
    tally.look(Outlook(rate=5.0))
    assert "font-weight:600'>sending" not in live_html(tally, History())
    tally.look(Outlook(rate=5.0, paused_s=9.0))
    assert "font-weight:600'>paused by the provider" in live_html(tally, History())


def test_what_a_model_or_provider_wrote_is_escaped_and_short():
    tally = Tally(10, title="<i>")
    tally.record(attempt(**failing(error="<script>alert(1)</script>\n" + "'x\" " * 5000)))
    page = live_html(tally, History(), "because <b>")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "<i>" not in page
    assert len(page) < 7000
    assert "<b>" not in snapshot(tally, "because <b>")["text/html"]


def test_no_text_can_make_the_panel_wider_than_its_place():
    tally = Tally(10)
    tally.record(attempt(**failing(error="no-space-" * 300)))
    page = live_html(tally, History())
    where = page.index("last error")
    assert "overflow-wrap:anywhere" in page[page.rindex("<div", 0, where) : where]
    assert "nowrap" not in page[page.rindex("<div", 0, where) :]


def test_dollars_are_no_mathematics():
    assert "mathjax_ignore tex2jax_ignore" in live_html(answered(Tally(100), 9), History())


@pytest.mark.parametrize(
    ("tally", "stopped", "line"),
    [
        (answered(Tally(4, Clock()), 4), None, "4 of 4 answered · 4 attempts · 0 s · $2.00"),
        (
            answered(Tally(9, Clock()), 4),
            "interrupted",
            "interrupted · 4 of 9 answered · 5 not run · 4 attempts · 0 s · $2.00",
        ),
        (Tally(0, before=9), None, "nothing to ask: 9 from before"),
        (Tally(0, before=9, from_book=True), None, "nothing to ask: 9 from the book"),
        (Tally(0), None, "nothing to ask"),
    ],
)
def test_the_end_is_one_line(tally, stopped, line):
    bundle = snapshot(tally, stopped)
    assert set(bundle) == {"text/html", "text/plain"}
    assert bundle["text/plain"] == f"llmlab: {line}"
    assert line in words(bundle["text/html"])
    assert "ll.last_results()" in bundle["text/html"]
    assert "<script" not in bundle["text/html"]


def test_empty_experiments_draw():
    assert "0 of 0 answered" in words(live_html(Tally(0), History()))


def test_batches_in_the_queue_are_lines_of_their_own_while_they_run():
    tally = answered(Tally(100), 9)
    tally.batches = (QueuedBatch(1, 1, 40, 91, submitted_at=1e9, ends_by=1e9 + 86_400),)
    page = live_html(tally, History())
    assert "batch 1 of 1: 40 of 91 done · submitted" in page
    assert "closing the notebook is fine" in page
    assert "ETA: no telling yet" in page
    assert "batch" not in snapshot(tally)["text/html"]


def test_the_sparkline_keeps_the_whole_run_in_few_points():
    clock = Clock()
    history, tally = History(), Tally(10, clock)
    for second in range(10_000):
        clock.now = 1000.0 + second
        tally.recent.append((clock.now, True, float(second)))
        history.sample(tally)
    assert MOST_SAMPLES / 2 <= len(history.wait_s) <= MOST_SAMPLES
    assert history.wait_s[0] < 10
    assert history.wait_s[-1] > 9800
