"""What a running experiment waits for, in a sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass

from llmlab.display import words
from llmlab.display.tally import Tally

# A pause between two requests that is worth a word: the pace alone explains a shorter one.
WINDOW_S = 2.0
UNREACHED = 3


@dataclass(frozen=True, slots=True)
class Waiting:
    """What it waits for.

    Attributes
    ----------
    text : str
        A sentence; empty if it waits for nothing worth a word.
    normal : bool
        Whether that is as it should be.
    """

    text: str = ""
    normal: bool = True


def waiting_for(tally: Tally, stopped: str | None = None) -> Waiting:
    """The one thing that holds the experiment up most."""
    if stopped:
        flight = f" for {words.count(tally.in_flight, 'answer')}" if tally.in_flight else ""
        return Waiting(f"stopping, waits{flight}" if flight else "stopping")
    return _trouble(tally) or _usual(tally)


def _trouble(tally: Tally) -> Waiting | None:
    ahead = tally.outlook
    if ahead.next_probe_s < math.inf:
        when = f"next try in {words.duration(ahead.next_probe_s)}" if ahead.next_probe_s >= 1 else "trying now"
        return Waiting(f"the provider does not answer; {when}", normal=False)
    if not tally.reached and tally.unusable >= UNREACHED:
        kind = tally.errors.most_common(1)[0][0]
        what = "could not connect" if kind == "ConnectionError" else f"failed ({kind})"
        return Waiting(
            f"no answer yet: {tally.unusable:,} of {words.count(tally.attempts, 'attempt')} {what}", normal=False
        )
    if ahead.paused_s > 0:
        left = words.duration(max(1.0, ahead.paused_s))
        return Waiting(f"paused by the provider for {left} (429: too many requests)", normal=False)
    return None


def _usual(tally: Tally) -> Waiting:
    ahead = tally.outlook
    later = (
        f"{tally.retrying:,} wait for a retry, next in {words.duration(ahead.next_retry_s)}" if tally.retrying else ""
    )
    if tally.waiting:
        if ahead.next_grant_s >= max(WINDOW_S, 2 / ahead.rate):
            mine = tally.attempts or tally.in_flight
            by = "" if mine else " by earlier calls"
            return Waiting(f"the key's minute is used up{by}: next request in {words.duration(ahead.next_grant_s)}")
        rate = "" if ahead.rate == math.inf else f" of {60 * ahead.rate:,.0f} requests a minute"
        return Waiting(f"sending at the limit{rate} (normal)")
    fresh = tally.trials - tally.done - tally.in_flight - tally.retrying
    if tally.in_flight and fresh > 0 and tally.in_flight >= ahead.slots:
        busy = "the only slot is" if ahead.slots <= 1 else f"all {ahead.slots:,.0f} slots are"
        return Waiting(f"{busy} busy: waits for answers")
    if tally.in_flight:
        mean_s = tally.latency_s / tally.attempts if tally.attempts else 0.0
        pace = f" ({mean_s:.1f} s each on average)" if mean_s >= 1 else ""
        return Waiting(f"waits for {words.count(tally.in_flight, 'answer')}{pace}" + (f"; {later}" if later else ""))
    return Waiting(later)
