"""Which view is shown, what a line of text says, and that no view is a reason to lose a result."""

import fcntl
import io
import os
import pty
import select
import struct
import sys
import termios

import pytest

import llmlab as ll
from llmlab.display.progress import OrText, Silent, Text, describe, make_view
from llmlab.display.tally import Outlook, Tally
from tests.helpers import Clock, attempt


def answered(tally: Tally, count: int, **changes) -> Tally:
    for _ in range(count):
        tally.record(attempt(**changes))
        tally.finish(ok=True)
    return tally


class TestText:
    def test_one_line_says_where_it_stands(self):
        tally = answered(Tally(10), 6, wait_s=1.0, throttled=True)
        tally.look(Outlook(rate=1.0, paused_s=41.7))
        assert describe(tally) == "ETA 46 s · $3.00 · paused by the provider for 42 s (429: too many requests)"

    def test_a_file_gets_a_line_every_ten_seconds_and_at_the_end(self):
        clock, out = Clock(), io.StringIO()
        tally = Tally(2, clock)
        view = Text(tally, out)
        for _ in range(40):
            clock.now += 0.26
            view.show(tally)
        assert len(out.getvalue().splitlines()) == 1
        view.show(answered(tally, 2), last=True, stopped="interrupted")
        assert out.getvalue().splitlines()[0].startswith("0/2 ETA: no telling yet · $0")
        assert out.getvalue().splitlines()[1].startswith("interrupted · 2 of 2 answered")

    def test_a_terminal_gets_a_bar(self):
        out, tally = io.StringIO(), Tally(4)
        out.isatty = lambda: True
        view = Text(tally, out)
        view.show(answered(tally, 2))
        view.show(tally, last=True)
        assert "2/4 ETA" in out.getvalue()
        assert out.getvalue().splitlines()[-1].startswith("2 of 4 answered")

    def test_a_narrow_terminal_shows_the_eta(self):
        terminal, end = pty.openpty()
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        tally = answered(Tally(1000), 500, wait_s=1.0, throttled=True)
        tally.waiting = 300
        tally.look(Outlook(rate=1.0))
        with os.fdopen(end, "w", encoding="utf-8") as out:
            Text(tally, out).show(tally)
            written = b""
            while select.select([terminal], [], [], 0.05)[0]:
                written += os.read(terminal, 10_000)
        os.close(terminal)
        line = next(line for line in written.decode().split("\r") if "500/1000" in line)
        assert "ETA 8:20" in line
        assert len(line.rstrip("\n")) <= 80


class Broken:
    def show(self, tally, *, last=False, stopped=None):
        raise RuntimeError("no front end")


class TestMakeView:
    def test_what_progress_means_outside_a_notebook(self):
        assert isinstance(make_view(False, Tally(1)), Silent)
        assert isinstance(make_view(True, Tally(1)), Text)
        assert isinstance(make_view("text", Tally(1)), Text)

    def test_a_widget_where_there_is_no_notebook_becomes_text(self):
        assert isinstance(make_view("widget", Tally(1)), Text)

    def test_a_widget_without_ipywidgets_becomes_text(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "ipywidgets", None)
        assert isinstance(make_view("widget", Tally(1)), Text)

    def test_a_widget_that_breaks_goes_on_as_text(self, capsys):
        view = OrText(Broken())
        view.show(tally := Tally(1))
        view.show(tally, last=True)
        assert capsys.readouterr().err.startswith("0 of 1 answered")


class Closing(io.StringIO):
    """A stream that takes so many lines and then is closed, like the pipe to a program that has ended."""

    def __init__(self, lines: int) -> None:
        super().__init__()
        self.lines = lines

    def write(self, text: str) -> int:
        self.lines -= text.count("\n")
        if self.lines < 0:
            raise BrokenPipeError("the reader is gone")
        return super().write(text)


@pytest.mark.parametrize("lines", [0, 1])
async def test_a_view_that_fails_loses_no_result(monkeypatch, provider, lines):
    monkeypatch.setattr(sys, "stderr", Closing(lines))
    results = await ll.run_experiment(
        ["a refund", "a crash"], "{text}", model="m", categories=["billing", "bug"], client=provider(),
        requests_per_minute=None, progress="text",
    )  # fmt: skip
    assert (results.predictions["status"] == "ok").all()
