"""The tally adds up, its ETA knows the limit and pauses, every view shows it; none is a reason to lose a result."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest

import llmlab as ll
from llmlab.display import progress, widget
from llmlab.display.progress import Silent, Text, describe, make_view
from llmlab.display.tally import Tally, duration, money
from llmlab.display.widget import MOST_SAMPLES, History, live_html, snapshot
from llmlab.records import TokenUsageAttempt, Trial, Usage


@pytest.fixture
def clock(monkeypatch):
    """Seconds that stand still until a test moves them."""
    now = SimpleNamespace(s=1000.0)
    time = SimpleNamespace(monotonic=lambda: now.s)
    monkeypatch.setattr("llmlab.display.tally.time", time)
    monkeypatch.setattr("llmlab.display.widget.time", time)
    monkeypatch.setattr("llmlab.display.progress.time", time)
    return now


def attempt(**changes) -> TokenUsageAttempt:
    values = {
        "trial": Trial(0, "u", "m", 1), "attempt": 1, "status": "ok", "error_type": None, "error": None,
        "started_at": 0.0, "queue_s": 0.0, "wait_s": 0.0, "latency_s": 0.1, "retry_in_s": None, "throttled": False,
        "usage": Usage(10, 5, None, None, 15), "cost_usd": 0.5, "finish_reason": "stop", "model_returned": "m",
        "request_id": None, "http_status": 200, "content": "x",
    }  # fmt: skip
    return TokenUsageAttempt(**values | changes)


def answered(tally: Tally, count: int, **changes) -> Tally:
    for _ in range(count):
        tally.record(attempt(**changes))
        tally.finish(ok=True)
    return tally


def failing(**changes) -> dict:
    return {"status": "call_error", "error_type": "TimeoutError", "error": "silence", "usage": Usage()} | changes


class TestTally:
    def test_counts_tokens_costs_and_retries_of_every_attempt(self):
        tally = Tally(2)
        tally.record(attempt(**failing(retry_in_s=20.0, usage=Usage(10, None, None, None, 10), cost_usd=0.25)))
        tally.record(attempt(attempt=2))
        tally.finish(ok=True)
        assert (tally.attempts, tally.retries, tally.done) == (2, 1, 1)
        assert (tally.prompt_tokens, tally.completion_tokens, tally.cost_usd) == (20, 5, 0.75)
        assert tally.last_error == "TimeoutError: silence"
        assert tally.errors == {"TimeoutError": 1}

    def test_throttle_rate_and_wait_are_of_the_last_ten_seconds(self, clock):
        tally = Tally(10)
        tally.record(attempt(throttled=True, wait_s=9.0))
        clock.s += 6
        tally.record(attempt(throttled=False, wait_s=1.0))
        assert (tally.throttle_rate, tally.recent_wait_s) == (0.5, 5.0)
        clock.s += 6
        assert (tally.throttle_rate, tally.recent_wait_s) == (0.0, 1.0)
        clock.s += 6
        assert (tally.throttle_rate, tally.recent_wait_s, tally.avg_wait_s) == (0.0, 0.0, 5.0)

    def test_a_price_that_is_unknown_is_named_and_not_added_as_nothing(self):
        tally = Tally(10)
        assert money(tally) == "$0.0000"
        tally.record(attempt(cost_usd=None))
        assert money(tally) == "cost unknown"
        tally.record(attempt())
        assert money(tally) == "$0.5000 + 1 of unknown price"
        # Nothing was billed, so nothing is unknown.
        assert money(answered(Tally(10), 1, usage=Usage(), cost_usd=None)) == "$0.0000"

    def test_projects_the_cost_once_a_few_trials_ended(self):
        assert answered(Tally(100), 4).projected_usd is None
        assert answered(Tally(100), 10).projected_usd == pytest.approx(50.0)
        assert answered(Tally(100), 10, cost_usd=None).projected_usd is None


class TestEta:
    def test_nothing_is_left(self):
        assert answered(Tally(3), 3).eta_s == 0.0
        assert Tally(0).eta_s == 0.0

    def test_no_telling_before_a_few_answers_without_a_limit(self):
        assert answered(Tally(100), 2).eta_s is None

    def test_follows_the_limit_from_the_start(self):
        tally = Tally(120)
        tally.limits(rate=1.0, paused_s=0.0)
        assert tally.eta_s == pytest.approx(120.0)

    def test_follows_the_pace_without_a_limit(self, clock):
        tally = Tally(110, started=clock.s)
        clock.s += 20
        assert answered(tally, 10).eta_s == pytest.approx(200.0)

    def test_follows_the_pace_where_it_is_slower_than_the_limit(self, clock):
        tally = Tally(110, started=clock.s)
        clock.s += 20
        tally.limits(rate=10.0, paused_s=0.0)
        assert answered(tally, 10).eta_s == pytest.approx(200.0)

    def test_repeated_attempts_take_grants_too(self, clock):
        tally = Tally(110, started=clock.s)
        clock.s += 20
        for _ in range(10):
            tally.record(attempt(**failing()))
        answered(tally, 10)
        tally.limits(rate=1.0, paused_s=0.0)
        assert tally.eta_s == pytest.approx(200.0)

    def test_slow_answers_behind_a_limit_do_not_stretch_it(self, clock):
        # One request a second, answers after 15 s: 25 are sent, 10 are back.
        tally = Tally(110, started=clock.s)
        clock.s += 25
        tally.in_flight, tally.waiting = 15, 85
        tally.limits(rate=1.0, paused_s=0.0)
        assert answered(tally, 10).eta_s == pytest.approx(100.0, rel=0.01)

    def test_a_pause_is_added_and_does_not_count_as_pace(self, clock):
        tally = Tally(110, started=clock.s)
        clock.s += 10
        answered(tally, 10)
        tally.limits(rate=None, paused_s=42.0)
        assert tally.eta_s == pytest.approx(142.0)
        for _ in range(4):
            clock.s += 10.5
            tally.limits(rate=None, paused_s=max(0.0, tally.paused_s - 10.5))
        assert tally.paused_before_s == pytest.approx(42.0)
        assert tally.eta_s == pytest.approx(100.0)


class TestText:
    def test_one_line_says_where_it_stands(self):
        tally = answered(Tally(10), 6, wait_s=1.0, throttled=True)
        tally.in_flight, tally.retrying, tally.paused_s = 2, 1, 41.7
        line = describe(tally)
        for part in ("in flight 2", "throttled 100%", "to retry 1", "90", "paused by the provider, 42 s", "ETA"):
            assert part in line

    def test_a_file_gets_a_line_every_ten_seconds_and_at_the_end(self, clock):
        out, tally = io.StringIO(), Tally(2)
        view = Text(tally, out)
        for _ in range(40):
            clock.s += 0.26
            view.show(tally)
        assert len(out.getvalue().splitlines()) == 1
        view.show(answered(tally, 2), last=True, stopped="interrupted")
        assert out.getvalue().splitlines()[1].startswith("2/2 ")
        assert out.getvalue().splitlines()[2] == "interrupted"

    def test_a_terminal_gets_a_bar(self):
        out, tally = io.StringIO(), Tally(4)
        out.isatty = lambda: True
        view = Text(tally, out)
        view.show(answered(tally, 2))
        view.show(tally, last=True)
        assert "50%" in out.getvalue()
        assert "2/4" in out.getvalue()

    @pytest.mark.parametrize(
        ("seconds", "text"), [(0, "0 s"), (42.4, "42 s"), (99.4, "99 s"), (750, "12:30"), (3723, "1:02:03")]
    )
    def test_durations(self, seconds, text):
        assert duration(seconds) == text


class TestHtml:
    def test_says_everything_while_it_runs(self):
        tally = answered(Tally(100), 9, throttled=True, wait_s=2.0)
        tally.record(attempt(**failing(retry_in_s=20.0)))
        tally.finish(ok=False)
        tally.in_flight, tally.waiting, tally.retrying = 3, 80, 7
        tally.limits(rate=1.0, paused_s=42.0)
        page = live_html(tally, History())
        for part in (
            "9 answered", "1 failed", "3 in flight", "87 not run", "90%", "1 repeated", "90</div>", "45 out",
            "$5.0000", "$50.0000 projected", "paused by the provider, 42 s", "ETA", "last error: TimeoutError: silence",
        ):  # fmt: skip
            assert part in page

    def test_what_a_model_or_provider_wrote_is_escaped_and_short(self):
        tally = Tally(10)
        tally.record(attempt(**failing(error="<script>alert(1)</script>\n" + "'x\" " * 5000)))
        page = live_html(tally, History(), "because <b>")
        assert "<script" not in page
        assert "&lt;script&gt;" in page
        assert len(page) < 6000
        assert "<b>" not in snapshot(tally, History(), "because <b>")["text/html"].replace("<b>0</b>", "")

    def test_stopping_waits_for_what_is_in_flight(self):
        tally = Tally(10)
        tally.in_flight = 3
        assert "stopping… 3 in flight" in live_html(tally, History(), "interrupted")

    def test_empty_experiments_draw(self):
        assert "0</b> of 0 trials" in live_html(Tally(0), History())
        assert snapshot(Tally(0), History())["text/plain"].startswith("llmlab: 0 of 0 trials answered")

    def test_the_snapshot_is_static_html_and_one_line_of_text(self):
        tally = answered(Tally(10), 4)
        bundle = snapshot(tally, History(), "interrupted;\n6 of 10 trials are not answered")
        assert set(bundle) == {"text/html", "text/plain"}
        assert len(bundle["text/plain"].splitlines()) == 1
        assert "4 of 10 trials answered" in bundle["text/plain"]
        assert "interrupted; 6 of 10" in bundle["text/html"]
        assert "<script" not in bundle["text/html"]

    def test_the_sparkline_keeps_the_whole_run_in_few_points(self, clock):
        history, tally = History(), Tally(10)
        for second in range(10_000):
            clock.s = 1000.0 + second
            tally.recent.append((clock.s, True, float(second)))
            history.sample(tally)
        assert MOST_SAMPLES / 2 <= len(history.wait_s) <= MOST_SAMPLES
        assert len(history.throttle_rate) == len(history.wait_s)
        assert history.wait_s[0] < 10
        assert history.wait_s[-1] > 9800


class Broken:
    def __init__(self, *_):
        self.shown = 0

    def show(self, tally, *, last=False, stopped=None):
        self.shown += 1
        raise RuntimeError("no front end")


class TestMakeView:
    def test_what_progress_means_outside_a_notebook(self):
        assert isinstance(make_view(False, Tally(1)), Silent)
        assert isinstance(make_view(True, Tally(1)), Text)
        assert isinstance(make_view("text", Tally(1)), Text)

    def test_a_widget_where_there_is_no_notebook_becomes_text(self, capsys):
        assert isinstance(make_view("widget", Tally(1)), Text)

    def test_a_widget_without_ipywidgets_becomes_text(self, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "ipywidgets", None)
        assert isinstance(make_view("widget", Tally(1)), Text)

    def test_a_widget_that_breaks_goes_on_as_text(self, monkeypatch, capsys):
        monkeypatch.setattr(progress, "Widget", Broken)
        view = make_view("widget", tally := Tally(1))
        view.show(tally)
        view.show(tally, last=True)
        assert capsys.readouterr().err.startswith("0/1 ")

    def test_a_click_counts_only_where_it_is_handled_at_once(self, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "ipykernel", SimpleNamespace(version_info=(6, 31, 0)))
        assert widget._clicks_wait()
        monkeypatch.setitem(__import__("sys").modules, "ipykernel", SimpleNamespace(version_info=(7, 4, 0)))
        assert not widget._clicks_wait()


@pytest.mark.parametrize("times", [0, 1])
async def test_a_view_that_raises_loses_no_result(monkeypatch, times):
    """Neither at once nor half-way."""

    class Later(Broken):
        def show(self, tally, *, last=False, stopped=None):
            if self.shown >= times:
                raise RuntimeError("no front end")
            self.shown += 1

    monkeypatch.setattr("llmlab.engine.run.make_view", Later)
    with ll.simulate.client(latency_s=0.3) as provider:
        results = await ll.run_experiment(
            ["a refund", "a crash"], "{text}", model="m", categories=["billing", "bug"], client=provider,
            requests_per_minute=None,
        )  # fmt: skip
    assert (results.predictions["status"] == "ok").all()
