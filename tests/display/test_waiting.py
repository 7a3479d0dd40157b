"""The one thing that an experiment waits for, in words that say whether it is normal."""

import pytest

from llmlab.display.tally import Outlook, Tally
from llmlab.display.waiting import waiting_for
from tests.helpers import attempt, failing


def standing(trials=100, *, ok=0, failed=(), outlook=None, **now) -> Tally:
    tally = Tally(trials)
    for _ in range(ok):
        tally.record(attempt(latency_s=4.2))
        tally.finish(ok=True)
    for changes in failed:
        tally.record(attempt(**failing(**changes)))
    for name, value in now.items():
        setattr(tally, name, value)
    tally.look(outlook or Outlook())
    return tally


UNREACHED = [{"error_type": "ConnectionError", "http_status": None}] * 20


@pytest.mark.parametrize(
    ("tally", "text", "normal"),
    [
        (
            standing(waiting=80, in_flight=3, outlook=Outlook(rate=5.0)),
            "sending at the limit of 300 requests a minute (normal)",
            True,
        ),
        (
            standing(waiting=80, outlook=Outlook(rate=1.0, next_grant_s=31.0)),
            "the key's minute is used up by earlier calls: next request in 31 s",
            True,
        ),
        (
            standing(ok=9, waiting=80, outlook=Outlook(rate=1.0, next_grant_s=5.0)),
            "the key's minute is used up: next request in 5 s",
            True,
        ),
        (
            standing(waiting=80, outlook=Outlook(rate=0.1, next_grant_s=9.0)),
            "sending at the limit of 6 requests a minute (normal)",
            True,
        ),
        (standing(ok=9, in_flight=50, outlook=Outlook(slots=50)), "all 50 slots are busy: waits for answers", True),
        (standing(ok=88, in_flight=12), "waits for 12 answers (4.2 s each on average)", True),
        (standing(ok=95, retrying=5, outlook=Outlook(next_retry_s=14.0)), "5 wait for a retry, next in 14 s", True),
        (
            standing(ok=94, in_flight=1, retrying=5, outlook=Outlook(next_retry_s=14.0)),
            "waits for 1 answer (4.2 s each on average); 5 wait for a retry, next in 14 s",
            True,
        ),
        (
            standing(ok=9, waiting=5, outlook=Outlook(rate=1.0, paused_s=41.7)),
            "paused by the provider for 42 s (429: too many requests)",
            False,
        ),
        (standing(ok=9, outlook=Outlook(next_probe_s=8.0)), "the provider does not answer; next try in 8 s", False),
        (standing(ok=9, outlook=Outlook(next_probe_s=0.0)), "the provider does not answer; trying now", False),
        (standing(failed=UNREACHED, retrying=20), "no answer yet: 20 of 20 attempts could not connect", False),
        (standing(), "", True),
    ],
)
def test_what_it_waits_for(tally, text, normal):
    waiting = waiting_for(tally)
    assert (waiting.text, waiting.normal) == (text, normal)


def test_a_stop_waits_for_what_is_in_flight():
    assert waiting_for(standing(in_flight=3), "interrupted").text == "stopping, waits for 3 answers"
    assert waiting_for(standing(), "interrupted").text == "stopping"
