"""What refusals (429) say about a key: how long to pause, and which share of the configured rate the provider takes.

A provider that refuses 2 % of the requests at random, or everything for five seconds, would refuse the same share at
any rate: sending more slowly gains nothing. So what slows down is not a refusal but the *share* of requests lost among
those sent lately. Refusals with no success between them are one *series*: it counts as the requests that could have
been sent while it lasted.

After a cut the factor is held for one period and then doubles in less than half of one, so that a limit which has been
raised is found again within two periods. If requests are lost while it grows, it falls back to its mean over the last
period, which is what a provider with a sliding window has just proved to take.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

FLOOR = 0.02
DEEPEST_CUT = 0.5
TOLERATED_SHARE = 0.04
TOLERATED_AT_FULL_RATE, TOLERATED_AFTER_CUT = 2.0, 1.0
BELOW_MEAN = 0.95
LEAST_ACCEPTED = 4.0

HOLD_PERIODS, ECHO_PERIODS = 1.0, 0.5
DOUBLING_PERIODS, GROWING_PERIODS = 0.4, 0.9

PAUSE_INTERVALS = 4.0
SHORTEST_PAUSE_S, LONGEST_FIRST_PAUSE_S = 0.1, 1.0
PAUSE_GROWTH = 1.5
LONGEST_PAUSE_PERIODS = 1 / 6
HINTS_BELIEVED = 2


@dataclass(slots=True)
class Refusals:
    """The rate factor of one key and the evidence for it, as plain numbers.

    Attributes
    ----------
    level : float
        The factor set by the last cut; it grows from there.
    grows_at : float
        When it begins to grow.
    since : float
        Only requests sent from here on are evidence: what was sent at another rate says nothing about this one.
    accepted, lost : float
        How many of them got through, and how many were lost in series that are over.
    series : float
        How many series of refusals there were among them, the present one included.
    series_at : float
        When the first request of the present series was sent; infinite if there is none.
    series_refused, series_lost : float
        How many requests were refused in it, and how many it has cost.
    cut_from : float
        The factor that the present series may cut: the one at its beginning, or its mean if it was growing.
    growing, cut : bool
        Whether the factor was growing when the series began, and whether the series has cut it.
    in_a_row : float
        Pauses since the last success.
    resumes_at : float
        When the last pause ends.
    probe_s : float
        The first request after the pause goes alone for so many seconds: what a refusal takes to come back.
    """

    level: float = 1.0
    grows_at: float = -math.inf
    since: float = -math.inf
    accepted: float = 0.0
    lost: float = 0.0
    series: float = 0.0
    series_at: float = math.inf
    series_refused: float = 0.0
    series_lost: float = 0.0
    cut_from: float = 1.0
    growing: bool = False
    cut: bool = False
    in_a_row: float = 0.0
    resumes_at: float = -math.inf
    probe_s: float = 0.0

    def factor(self, now: float, period_s: float) -> float:
        """Share of the configured rate at present, from `FLOOR` to 1."""
        if self.level >= 1.0:
            return 1.0
        grown = (now - self.grows_at) / period_s
        if grown <= 0:
            return self.level
        growth = self._growth()
        return self.level * math.exp(growth * grown) if growth * grown < -math.log(self.level) else 1.0

    def start_anew(self, now: float) -> None:
        """The limit is another one: what was refused under the old one says nothing about it."""
        self.level = 1.0
        self._forget(now)
        self._no_series()

    def answered(self, sent_at: float, period_s: float, per_period: float) -> None:
        """A request got through; `per_period` is how many may be sent at the full rate."""
        if sent_at >= self.resumes_at:
            self.in_a_row = 0.0
            if self.series_at < math.inf:
                self._end_series(period_s)
        if self.level < 1.0 and self.factor(sent_at - period_s, period_s) >= 1.0:
            # The full rate has held for a whole period.
            self.level = 1.0
            self._forget(sent_at)
        self._forget_before_growth(sent_at)
        if sent_at >= self.since:
            self.accepted += 1
            if self.accepted > per_period:
                self.accepted, self.lost, self.series = self.accepted / 2, self.lost / 2, self.series / 2

    def refused(self, sent_at: float, hint_s: float | None, now: float, period_s: float, per_period: float) -> float:
        """A request was refused; returns how many seconds to pause from now, 0 if nothing is new.

        Parameters
        ----------
        sent_at, now : float
            When it was sent, and when the refusal came.
        hint_s : float, optional
            The provider's own wait in seconds.
        period_s : float
            Length of the window.
        per_period : float
            Requests that may be sent in it at the full rate; infinite if there is no limit, and so no rate to cut.
        """
        # What was sent before the last pause ended met the same trouble as the refusal that began it.
        begins = sent_at >= self.resumes_at
        self._forget_before_growth(sent_at)
        if sent_at >= self.since and per_period < math.inf:
            self._count(sent_at, now, period_s, per_period)
            self._judge(now, period_s, per_period)
        if not begins:
            pause_s = hint_s or 0.0
        else:
            pause_s = self._pause_s(hint_s, period_s, per_period)
            self.probe_s = now - sent_at if self.in_a_row else 0.0
            self.in_a_row += 1
        if pause_s:
            self.resumes_at = max(self.resumes_at, now + pause_s)
        return pause_s

    def _pause_s(self, hint_s: float | None, period_s: float, per_period: float) -> float:
        """The provider's hint; without one, or if following it does not help, a pause that grows."""
        first = min(max(SHORTEST_PAUSE_S, PAUSE_INTERVALS * period_s / per_period), LONGEST_FIRST_PAUSE_S)
        own = min(LONGEST_PAUSE_PERIODS * period_s, first * PAUSE_GROWTH ** min(self.in_a_row, 30.0))
        if hint_s is None:
            return own
        return hint_s if self.in_a_row < HINTS_BELIEVED else max(hint_s, own)

    def _count(self, sent_at: float, now: float, period_s: float, per_period: float) -> None:
        if self.series_at == math.inf:
            factor = self.factor(now, period_s)
            self.growing = factor > self.level
            self.series_at, self.cut_from = sent_at, min(factor, self._mean(now, period_s))
            self.series += 1
        self.series_refused += 1
        blocked = min(1.0, max(0.0, sent_at - self.series_at) / period_s) * per_period * self.cut_from
        self.series_lost = max(self.series_refused, blocked)

    def _judge(self, now: float, period_s: float, per_period: float) -> None:
        """Cut if more is lost than weather explains; the longer a series lasts, the deeper."""
        lost = self.lost + self.series_lost
        tolerated = TOLERATED_AT_FULL_RATE if self.cut_from >= 1.0 else TOLERATED_AFTER_CUT
        if lost <= tolerated + TOLERATED_SHARE * (self.accepted + lost):
            return
        if self.growing:
            taken = self.cut_from * per_period
            kept = BELOW_MEAN * taken / (taken + self.series_lost)
        else:
            # A single series may be an outage, or the echo of what was sent before the cut, so it is held against half
            # a period's worth of requests; the more series with successes between them, the more it is the rate.
            enough = self.cut_from * per_period / 2 / 4.0 ** (self.series - 1)
            accepted = max(self.accepted, enough, LEAST_ACCEPTED)
            kept = accepted / (accepted + lost)
        self.level = max(FLOOR, self.cut_from * max(DEEPEST_CUT, kept))
        self.grows_at = now + HOLD_PERIODS * period_s
        self.cut = True

    def _mean(self, now: float, period_s: float) -> float:
        """The mean factor over the last period."""
        if self.level >= 1.0:
            return 1.0
        grown = min(1.0, max(0.0, (now - self.grows_at) / period_s))
        growth = self._growth()
        rising = min(grown, -math.log(self.level) / growth)
        return self.level * (1 - grown + (math.exp(growth * rising) - 1) / growth) + (grown - rising)

    def _growth(self) -> float:
        """The exponent per period, so that also from the floor the full rate is reached in time."""
        return max(math.log(2) / DOUBLING_PERIODS, -math.log(self.level) / GROWING_PERIODS)

    def _forget_before_growth(self, sent_at: float) -> None:
        """What was sent while the factor was held says nothing about the rate to which it grows."""
        if self.level < 1.0 and self.since < self.grows_at <= sent_at and self.series_at == math.inf:
            self._forget(self.grows_at)

    def _end_series(self, period_s: float) -> None:
        if self.cut:
            # After growing, a window is still full of what was sent too fast.
            self._forget(self.resumes_at + (ECHO_PERIODS * period_s if self.growing else 0.0))
        else:
            self.lost += self.series_lost
        self._no_series()

    def _no_series(self) -> None:
        self.series_at, self.series_refused, self.series_lost, self.cut = math.inf, 0.0, 0.0, False

    def _forget(self, since: float) -> None:
        self.since, self.accepted, self.lost, self.series = since, 0.0, 0.0, 0.0
