"""One run of an experiment: every trial waits for a slot and a grant and is asked, until all have ended.

    Trial ─slot, limiter→ Grant ─send→ Reply ─tokens→ ─parse→ value ─record→ TokenUsageAttempt → journal, tally, table

A slot is a task: at most `max_concurrent` live at a time, each for one attempt. A trial that waits for its next attempt
stands in a heap and holds none.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import itertools
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from llmlab.client import AnswerForms, ChatClient, Endpoint
from llmlab.display import Silent, Tally, View, make_view
from llmlab.engine.pricing import Budget, PriceList, TokenEstimate
from llmlab.engine.retry import SAME_ERRORS_STOP, RetryPolicy
from llmlab.errors import (
    AttemptError,
    CancelledError,
    InputError,
    JournalError,
    OverloadedError,
    ParseError,
    RateLimitError,
    RequestError,
    TrialError,
)
from llmlab.limits import Grant, RateLimiter
from llmlab.parsing import Parser
from llmlab.prompts import Messages
from llmlab.records import Reply, TokenUsageAttempt, Trial
from llmlab.results import Journal, NoJournal, Store
from llmlab.units import Plan

FIRST_CONNECTIONS = 8
RAMP_S = 0.05
STARTS_PER_TURN = 2
CROWDED_PAUSE_S = 0.25
NARROWING = 0.5
WIDENING = 1 / 8
SHOW_EVERY_S = 0.25


@dataclass(frozen=True, slots=True)
class Setup:
    """Everything decided before the first request."""

    plan: Plan
    messages: Mapping[str | None, Messages]
    parser: Parser
    endpoint: Endpoint
    limiter: RateLimiter
    policy: RetryPolicy
    prices: PriceList
    # May hold headers.
    body: dict[str, Any] = field(repr=False)
    reask_with_error: bool
    max_concurrent: int
    max_cost_usd: float | None
    timeout_s: float
    grace_s: float
    progress: bool | str
    description: dict[str, Any]


@dataclass(slots=True, eq=False)
class _Asked:
    """One trial on its way, and what its attempts in this run have come to."""

    trial: Trial
    before: int
    since: float
    tried: int = 0
    unpaid: int = 0
    billed: int = 0
    unread: int = 0
    correction: list[dict[str, Any]] = field(default_factory=list)
    queue_s: float = 0.0
    started_at: float = 0.0
    latency_s: float = 0.0


class Run:
    """Asks the trials at `positions` once through; what is already in `store` stays.

    Attributes
    ----------
    store : Store
        Every attempt so far, and what became of the trials.
    tally : Tally
        Where it stands.
    running : bool
        Whether `store` still grows.
    stopped : str or None
        Why it ended early.
    bug : Exception or None
        What the user's own code raised.
    """

    def __init__(
        self,
        setup: Setup,
        positions: Iterable[int] | None,
        trials: int,
        store: Store,
        journal: Journal | NoJournal,
        unsaved: Iterable[tuple[TokenUsageAttempt, object]] = (),
    ) -> None:
        self._setup = setup
        self._fresh: Iterator[Trial] = setup.plan.trials(positions)
        self._journal = journal
        self._unsaved = unsaved
        self.store = store
        self.tally = Tally(trials)
        self.running = False
        self.stopped: str | None = None
        self.bug: Exception | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._in_line: set[asyncio.Task[None]] = set()
        self._ready: deque[_Asked] = deque()
        self._later: list[tuple[float, int, _Asked]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._order = itertools.count()
        self._fill_is_due = False
        self._allowed: float = min(FIRST_CONNECTIONS, setup.max_concurrent)
        self._narrowed_at: float | None = None
        self._answered = 0
        self._reached = False
        self._same = ("", 0)
        self._forms = AnswerForms(None if "response_format" in setup.body else setup.parser.schema)
        self._estimate = TokenEstimate()
        self._budget = Budget(setup.max_cost_usd)

    def stop(self, reason: str = "stopped") -> None:
        """Send nothing more, give what is in flight `grace_s`, and end. From any thread."""
        loop = self._loop
        if loop is None:
            self.stopped = self.stopped or reason
        elif self.running and not loop.is_closed():
            loop.call_soon_threadsafe(self._stop, reason, self._setup.grace_s)

    async def go(self) -> None:
        """Ask every trial; returns when all have ended or the run is stopped."""
        try:
            await self._ask_all()
        finally:
            await self._journal.close()

    async def _ask_all(self) -> None:
        setup = self._setup
        loop = self._loop = asyncio.get_running_loop()
        self.running = True
        self._over = loop.create_future()
        self._client = ChatClient(
            setup.endpoint, timeout_s=setup.timeout_s, connections=setup.max_concurrent, learn=setup.limiter.auto
        )
        self._view: View = make_view(setup.progress, self.tally, self.stop)
        self._began = self.tally.started = time.monotonic()
        for attempt, value in self._unsaved:
            self._journal.put(attempt, value)
        ticker = loop.create_task(self._show_now_and_then())
        # What the kernel holds already needs no walking through by the garbage collector, which halts the loop.
        gc.freeze()
        try:
            self._widen()
            await self._over
        except asyncio.CancelledError:
            self.stopped = self.stopped or "cancelled"
            raise
        finally:
            self.stopped = self.stopped or (None if self._over.done() else "ended early")
            gc.unfreeze()
            ticker.cancel()
            self._leave()
            if self._timer is not None:
                self._timer.cancel()
            try:
                await asyncio.gather(ticker, *self._tasks, return_exceptions=True)
            finally:
                await self._client.close()
            if self.stopped is not None:
                self.stopped = self._with_what_is_left(self.stopped)
            self.running = False
            self._show(last=True)

    # slots

    def _widen(self) -> None:
        """Let more requests out, doubling: a thousand connections at once would storm the server and the loop."""
        self._fill()
        if self._allowed < self._setup.max_concurrent and self._narrowed_at is None and not self._over.done():
            self._allowed = min(2 * self._allowed, self._setup.max_concurrent)
            self._loop.call_later(RAMP_S, self._widen)  # type: ignore[union-attr]

    def _narrow(self, sent_at: float) -> None:
        """Where no rate is set, only fewer requests at a time help; cut once for all that were in flight together."""
        if self._narrowed_at is None or sent_at >= self._narrowed_at:
            self._narrowed_at = time.monotonic()
            self._allowed = max(1.0, NARROWING * min(self._allowed, self.tally.in_flight + 1))

    def _fill(self) -> None:
        """Give free slots to the trials that wait, retries first; a few each turn of the loop, which stays smooth."""
        self._fill_is_due = False
        for _ in range(STARTS_PER_TURN):
            if self.stopped is not None or len(self._tasks) + 1 > self._allowed:
                break
            asked = self._ready.popleft() if self._ready else self._next_fresh()
            if asked is None:
                break
            task = self._loop.create_task(self._attempt(asked))  # type: ignore[union-attr]
            self._tasks.add(task)
            task.add_done_callback(self._slot_is_free)
        else:
            self._fill_soon()
        idle = self.stopped is not None or not (self._later or self._ready)
        if not self._tasks and idle and not self._over.done():
            self._over.set_result(None)

    def _fill_soon(self) -> None:
        if not self._fill_is_due:
            self._fill_is_due = True
            self._loop.call_soon(self._fill)  # type: ignore[union-attr]

    def _next_fresh(self) -> _Asked | None:
        trial = next(self._fresh, None)
        return None if trial is None else _Asked(trial, self.store.attempts_before(trial.position), self._began)

    def _slot_is_free(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        bug = None if task.cancelled() else task.exception()
        if bug is not None:
            self.bug = self.bug or (bug if isinstance(bug, Exception) else RuntimeError(repr(bug)))
            self._stop(f"an error in your code: {type(bug).__name__}: {bug}", self._setup.grace_s)
        self._fill_soon()

    # one attempt

    async def _attempt(self, asked: _Asked) -> None:
        """Grant, call, tokens, parse, record; and what follows."""
        if self.stopped is not None:
            return
        setup, tally, trial = self._setup, self.tally, asked.trial
        asked.queue_s = time.monotonic() - asked.since
        asked.tried += 1
        answered_before = self._answered
        try:
            messages = setup.messages[trial.prompt].render(setup.plan.unit_of(trial.position)) + asked.correction
            form = self._forms.of(trial.model)
            body = setup.body | {"model": trial.model, "messages": messages} | form
            worst_usd = await self._put_aside(trial.model, body)
            grant = await self._wait_in_line(trial.model, body, worst_usd)
        except TrialError as error:
            self.store.fail(trial, error)
            self._journal.put_failure(trial, error)
            tally.finish(ok=False)
            return
        reply = await self._call(asked, body, grant)
        self._reached = self._reached or reply.http_status is not None
        error, value, bug = reply.error, None, None
        if error is None:
            self._answered += 1
            try:
                parsed = setup.parser.parse(reply.content, reply.finish_reason)
                value = parsed.value
                if parsed.notes:
                    reply = replace(reply, notes=reply.notes + parsed.notes)
            except ParseError as unread:
                error = unread
            except Exception as raised:
                bug, error = raised, ParseError(f"{type(raised).__name__}: {raised}")
        self._tell_limiter(asked, reply, error, grant, answered_before)
        retry_in_s = None
        if error is not None and bug is None:
            try:
                retry_in_s = self._what_follows(asked, error, reply, form)
            except Exception as raised:
                # The wait may be the user's own; the attempt is booked all the same.
                bug = raised
        attempt = self._record(asked, reply, error, retry_in_s, grant)
        self._settle(attempt, worst_usd)
        try:
            await self._keep(attempt, value)
        finally:
            # Also when cancelled: what is queued is written before the journal closes.
            self.store.record(attempt, value)
            if retry_in_s is None:
                tally.finish(ok=error is None)
            elif self.stopped is None:
                self._ask_again(asked, retry_in_s)
        if bug is not None:
            raise bug

    async def _put_aside(self, model: str, body: dict[str, Any]) -> float:
        """US dollars reserved for the worst case; stops the run if the cap leaves no room."""
        setup = self._setup
        if setup.max_cost_usd is None:
            return 0.0
        worst_usd = setup.prices.estimate_usd(model, *self._estimate.worst(model, body)) or 0.0
        if not await self._budget.reserve(worst_usd):
            self._stop(
                f"max_cost_usd={setup.max_cost_usd:g} allows no further call: ${self._budget.spent_usd:,.4f} spent, "
                f"and one more may cost ${worst_usd:,.4f}",
                None,
            )
            raise asyncio.CancelledError
        if self.stopped is not None:
            self._budget.settle(worst_usd, 0.0)
            raise asyncio.CancelledError
        return worst_usd

    async def _wait_in_line(self, model: str, body: dict[str, Any], worst_usd: float) -> Grant:
        limiter, task = self._setup.limiter, asyncio.current_task()
        assert task is not None
        self.tally.waiting += 1
        self._in_line.add(task)
        try:
            most = limiter.tokens
            return await limiter.acquire(0 if most is None else self._estimate.reserve(model, body, most))
        except BaseException:
            self._budget.settle(worst_usd, 0.0)
            raise
        finally:
            self.tally.waiting -= 1
            self._in_line.discard(task)

    async def _call(self, asked: _Asked, body: dict[str, Any], grant: Grant) -> Reply:
        asked.started_at, start = time.time(), time.perf_counter()
        self.tally.in_flight += 1
        try:
            return await self._client.send(body)
        except asyncio.CancelledError:
            asked.latency_s = time.perf_counter() - start
            error = CancelledError("the run ended before the answer came; it may be billed")
            attempt = self._record(asked, Reply(error=error), error, None, grant)
            self._journal.put(attempt, None)
            self.store.record(attempt)
            self.tally.finish(ok=False)
            raise
        except InputError:
            grant.cancel()
            raise
        finally:
            asked.latency_s = time.perf_counter() - start
            self.tally.in_flight -= 1

    def _tell_limiter(
        self, asked: _Asked, reply: Reply, error: AttemptError | None, grant: Grant, answered_before: int
    ) -> None:
        """Settle the grant; a wait that the provider asks for holds for the whole key, unless it ends the run."""
        limiter, hint_s = self._setup.limiter, error and error.retry_after_s
        if hint_s is not None and hint_s > self._setup.policy.max_wait_s:
            hint_s = None
        if isinstance(error, RateLimitError):
            # Others are worked on: the provider has not shut, there were too many at a time.
            crowded = limiter.limit is None and self.tally.in_flight > 0
            grant.refused(CROWDED_PAUSE_S if crowded and hint_s is None else hint_s)
            if limiter.limit is None:
                self._narrow(time.monotonic() - asked.latency_s)
            asked.unpaid += crowded or self._answered > answered_before
            return
        grant.answered(reply.usage.total_tokens)
        if self._narrowed_at is not None:
            self._allowed = min(self._allowed + WIDENING, self._setup.max_concurrent)
        limiter.learn(reply.feedback)
        if isinstance(error, OverloadedError) and hint_s is not None:
            limiter.pause(hint_s)

    def _what_follows(self, asked: _Asked, error: AttemptError, reply: Reply, form: dict[str, Any]) -> float | None:
        """Seconds until this trial is asked again, or `None`; may stop the run."""
        if self._forms.rejected(asked.trial.model, form, error):
            # Found out once per model; the trial itself is none the worse for it.
            asked.unpaid += 1
            return 0.0
        if self._setup.reask_with_error and isinstance(error, ParseError) and reply.content:
            asked.correction = _correction(reply.content, error)
        asked.billed += error.may_be_billed
        asked.unread += isinstance(error, ParseError)
        decision = self._setup.policy.decide(
            error, asked.tried, unpaid=asked.unpaid, billed=asked.billed, unread=asked.unread
        )
        if decision.stop is not None or (error.fatal_at_first and not self._reached):
            self._stop(str(decision.stop or error), None)
            return None
        if decision.retry_in_s is None:
            self._watch_for_the_same(error)
        return decision.retry_in_s

    def _record(
        self,
        asked: _Asked,
        reply: Reply,
        error: AttemptError | None,
        retry_in_s: float | None,
        grant: Grant,
    ) -> TokenUsageAttempt:
        attempt = TokenUsageAttempt(
            trial=asked.trial,
            attempt=asked.before + asked.tried,
            status="ok" if error is None else "parse_error" if isinstance(error, ParseError) else "call_error",
            error_type=None if error is None else type(error).__name__,
            error=None if error is None else str(error),
            started_at=asked.started_at,
            queue_s=asked.queue_s,
            wait_s=grant.waited_s,
            latency_s=asked.latency_s,
            retry_in_s=retry_in_s,
            throttled=grant.throttled,
            usage=reply.usage,
            cost_usd=self._setup.prices.cost_usd(asked.trial.model, reply.usage),
            may_be_billed=reply.may_be_billed,
            finish_reason=reply.finish_reason,
            model_returned=reply.model_returned,
            request_id=reply.request_id,
            http_status=reply.http_status,
            content=reply.content,
            notes=reply.notes,
        )
        self.tally.record(attempt)
        return attempt

    def _settle(self, attempt: TokenUsageAttempt, worst_usd: float) -> None:
        self._estimate.learn(attempt.trial.model, attempt.usage)
        if self._setup.max_cost_usd is not None:
            billed = attempt.http_status is None or attempt.http_status == 200
            cost = attempt.cost_usd if attempt.cost_usd is not None else worst_usd * billed
            self._budget.settle(worst_usd, cost)

    async def _keep(self, attempt: TokenUsageAttempt, value: object) -> None:
        try:
            await self._journal.put(attempt, value)
        except JournalError as error:
            self._stop(f"{error}; what was answered is here in memory", None)

    # again, or not

    def _ask_again(self, asked: _Asked, in_s: float) -> None:
        """Queue the trial anew; while it waits it holds no slot."""
        asked.since = time.monotonic() + in_s
        if in_s <= 0:
            self._ready.append(asked)
            return
        self.tally.retrying += 1
        heapq.heappush(self._later, (asked.since, next(self._order), asked))
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._later:
            wait = max(0.0, self._later[0][0] - time.monotonic())
            self._timer = self._loop.call_later(wait, self._retries_are_due)  # type: ignore[union-attr]

    def _retries_are_due(self) -> None:
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            self.tally.retrying -= 1
            self._ready.append(heapq.heappop(self._later)[2])
        self._set_timer()
        self._fill()

    def _watch_for_the_same(self, error: AttemptError) -> None:
        """The same refusal of the first requests will meet all; a long or offensive text says nothing of the others."""
        if self._answered or not isinstance(error, RequestError):
            return
        what, times = self._same
        now = f"{type(error).__name__}: {error}"
        self._same = (now, times + 1 if what == now else 1)
        if self._same[1] >= SAME_ERRORS_STOP:
            self._stop(f"the first {SAME_ERRORS_STOP} trials failed the same way: {error}", None)

    # the end

    def _stop(self, reason: str, grace_s: float | None) -> None:
        """Send nothing more; what is in flight ends, within `grace_s` if given."""
        loop = self._loop
        assert loop is not None
        if self.stopped is None:
            self.stopped = reason
            for task in self._in_line:
                task.cancel()
            # Trials between two attempts count as not run; they keep the error of their last one.
            self.tally.retrying = 0
            self._later.clear()
            self._ready.clear()
            self._set_timer()
        if grace_s is not None:
            loop.call_later(grace_s, self._leave)
        self._fill_soon()

    def _leave(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _with_what_is_left(self, reason: str) -> str:
        left = self.tally.trials - self.tally.ok
        if not left:
            return f"{reason}; all trials were answered"
        return f"{reason}; {left:,} of {self.tally.trials:,} trials are not answered"

    # the view

    async def _show_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(SHOW_EVERY_S)
            self._show()

    def _show(self, *, last: bool = False) -> None:
        try:
            limiter = self._setup.limiter
            metrics = limiter.get_metrics()
            rate = limiter.limit and limiter.limit / limiter.period_s * (metrics["rate_factor"] or 1.0)
            # Experiments on one key stand in one line: each gets its share of it.
            if rate and self.tally.waiting:
                rate *= self.tally.waiting / max(metrics["waiting"] or 0, self.tally.waiting)
            self.tally.limits(rate=rate, paused_s=metrics["paused_s"] or 0.0)
            self._view.show(self.tally, last=last, stopped=self.stopped)
        except Exception:
            # A view is never the reason to lose an experiment.
            self._view = Silent()


def _correction(content: str, error: ParseError) -> list[dict[str, Any]]:
    """What a re-ask adds: the answer that could not be read, and why."""
    return [
        {"role": "assistant", "content": content},
        {"role": "user", "content": f"That answer cannot be used: {error} Answer again, in the form asked for."},
    ]
