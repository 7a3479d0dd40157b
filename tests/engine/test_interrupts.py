"""The first interrupt stops what is watched, the second is the usual one; the old handler comes back."""

import signal
import threading

import pytest

from llmlab.engine.interrupts import interrupts_stop, stopped_by_interrupt


class Work:
    """Something that can be stopped."""

    def __init__(self):
        self.reasons = []

    def stop(self, reason):
        self.reasons.append(reason)


@pytest.fixture(autouse=True)
def usual():
    """Pytest's own handler, which has to be there again afterwards."""
    before = signal.getsignal(signal.SIGINT)
    yield before
    assert signal.getsignal(signal.SIGINT) is before


def test_the_first_interrupt_stops_and_the_second_is_the_usual_one():
    one = Work()
    with stopped_by_interrupt(one):
        signal.raise_signal(signal.SIGINT)
        assert one.reasons == ["interrupted"]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert one.reasons == ["interrupted"]


def test_all_that_run_side_by_side_are_stopped_in_whatever_order_they_end():
    one, other = Work(), Work()
    first, second = stopped_by_interrupt(one), stopped_by_interrupt(other)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    signal.raise_signal(signal.SIGINT)
    second.__exit__(None, None, None)
    assert (one.reasons, other.reasons) == ([], ["interrupted"])


def test_what_is_watched_in_a_thread_is_stopped_by_the_main_threads_interrupt():
    one, begun, over = Work(), threading.Event(), threading.Event()

    def work():
        with stopped_by_interrupt(one):
            begun.set()
            over.wait(10)

    thread = threading.Thread(target=work)
    with interrupts_stop():
        thread.start()
        begun.wait(10)
        signal.raise_signal(signal.SIGINT)
        over.set()
        thread.join()
    assert one.reasons == ["interrupted"]


def test_a_thread_alone_changes_no_handler(usual):
    seen = []

    def work():
        with stopped_by_interrupt(Work()):
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [usual]


def test_an_interrupt_works_again_the_next_time():
    for _ in range(2):
        one = Work()
        with stopped_by_interrupt(one):
            signal.raise_signal(signal.SIGINT)
        assert one.reasons == ["interrupted"]
