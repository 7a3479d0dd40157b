"""What a user types: everything is checked, the trials are laid out, and a `Run` asks them.

row ─expand→ Trial ─slot, limiter→ Grant ─send→ Reply ─tokens→ ─parse→ value ─record→ TokenUsageAttempt → results
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import json
import math
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from llmlab.client import checked_request, resolve
from llmlab.engine import Estimate, PriceList, RetryPolicy, Run, Setup, forecast
from llmlab.errors import ExperimentStopped, InputError, ParseError
from llmlab.limits import RateLimiter, RateLimiterRegistry
from llmlab.parsing import make_parser
from llmlab.prompts import Messages, Prompts
from llmlab.records import TokenUsageAttempt
from llmlab.results import (
    PREDICTION_COLUMNS,
    Journal,
    NoJournal,
    Results,
    Store,
    digest,
)
from llmlab.units import read_units

_last: Results | None = None


class Experiment:
    """An experiment on its way; made by `start_experiment`.

    ``await experiment`` gives its `Results`; `predictions`, `attempts` and `results` can be read while it runs.
    """

    def __init__(
        self,
        setup: Setup,
        *,
        positions: Sequence[int] | None = None,
        before: Results | None = None,
        open_journal: Callable[[], Journal] | None = None,
    ) -> None:
        self._setup = setup
        self._open_journal = open_journal
        self._keys: pd.DataFrame | None = None
        self._task: asyncio.Task[Results] | None = None
        store = before.copy_store() if before is not None else Store()
        journal, unsaved = NoJournal(), []
        if open_journal is not None:
            # The file knows best: another cell may have gone on with it since.
            store, journal = Store(), open_journal()
            try:
                self._recall(journal, store)
            except BaseException:
                journal.release()
                raise
            unsaved = _add_unsaved(before, store)
            if positions is None:
                positions = [at for at in range(len(setup.plan)) if at not in store.answered]
        trials = len(setup.plan) if positions is None else len(positions)
        self._run = Run(setup, positions, trials, store, journal, unsaved)

    def __repr__(self) -> str:
        tally = self._run.tally
        state = self._run.stopped or ("running" if tally.done < tally.trials else "done")
        return f"<Experiment: {tally.done:,} of {tally.trials:,} trials ended, {tally.failed:,} failed; {state}>"

    def __await__(self) -> Generator[Any, None, Results]:
        if self._task is None:
            raise InputError("This experiment was not started by start_experiment().")
        return self._watched(self._task).__await__()

    async def _watched(self, task: asyncio.Task[Results]) -> Results:
        with _stopped_by_interrupt(self):
            # Shielded: cancelling the cell that looks on is not cancelling the experiment.
            return await asyncio.shield(task)

    @property
    def results(self) -> Results:
        """What is answered so far, as a snapshot."""
        if self._keys is None:
            self._keys = self._setup.plan.keys()
        return Results(
            keys=self._keys,
            units=self._setup.plan.units.frame,
            store=self._run.store.copy() if self._run.running else self._run.store,
            stopped=self._run.stopped,
            description=self._setup.description,
            again=self._again,
        )

    @property
    def predictions(self) -> pd.DataFrame:
        """One row per trial so far; see `Results.predictions`."""
        return self.results.predictions

    @property
    def attempts(self) -> pd.DataFrame:
        """One row per attempt so far; see `Results.attempts`."""
        return self.results.attempts

    def stop(self, reason: str = "stopped") -> None:
        """Send nothing more, give what is in flight a few seconds, and end with partial results. From any thread."""
        self._run.stop(reason)

    async def run(self) -> Results:
        """Ask every trial; returns when all have ended or the run is stopped."""
        global _last
        try:
            await self._run.go()
        finally:
            results = _last = self.results
        if self._run.bug is not None:
            self._run.bug.add_note("The answers so far: llmlab.last_results()")
            with contextlib.suppress(AttributeError):
                self._run.bug.results = results  # type: ignore[attr-defined]
            raise self._run.bug
        return results

    def _again(self, results: Results, rows: pd.DataFrame) -> Awaitable[Results]:
        positions = results.positions_of(rows)
        again = Experiment(self._setup, positions=positions, before=results, open_journal=self._open_journal)
        return _run_in_foreground(again)

    def _recall(self, journal: Journal, store: Store) -> None:
        """Take in what the journal has of these trials."""
        parser, trials = self._setup.parser, {trial.key: trial for trial in self._setup.plan.trials()}
        for failure in journal.read_failures():
            if failure.trial.key in trials:
                store.fail_as(trials[failure.trial.key].position, failure.error_type, failure.error)
        for entry in journal.read():
            trial = trials.get(entry.attempt.trial.key)
            if trial is None:
                continue
            attempt, value = replace(entry.attempt, trial=trial), None
            if attempt.status == "ok":
                try:
                    value = parser.parse(attempt.content, attempt.finish_reason).value
                except ParseError as unread:
                    text = f"it was read when it came, and is not readable now: {unread}"
                    attempt = replace(attempt, status="parse_error", error_type=type(unread).__name__, error=text)
            store.record(attempt, value)


def _add_unsaved(before: Results | None, store: Store) -> list[tuple[TokenUsageAttempt, object]]:
    """Attempts that did not get into the journal, as when the disk was full: taken in now, and to be written."""
    unsaved: list[tuple[TokenUsageAttempt, object]] = []
    if before is None:
        return unsaved
    for outcome in before.outcomes():
        for attempt in outcome.attempts[store.attempts_before(outcome.trial.position) :]:
            store.record(attempt, outcome.prediction)
            unsaved.append((attempt, outcome.prediction))
    return unsaved


_watched: list[Experiment] = []
_usual: Any = None
_depth = 0


@contextlib.contextmanager
def _stopped_by_interrupt(experiment: Experiment) -> Iterator[None]:
    """While this lasts, the first interrupt (■, Ctrl-C) stops the experiment gently; the second is the usual one."""
    _watched.append(experiment)
    try:
        with _interrupts_stop():
            yield
    finally:
        _watched.remove(experiment)


@contextlib.contextmanager
def _interrupts_stop() -> Iterator[None]:
    """Interrupts stop every experiment that is watched, in the main thread and in others."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    global _usual, _depth
    if signal.getsignal(signal.SIGINT) is not _interrupted:
        _usual = signal.signal(signal.SIGINT, _interrupted)
    _depth += 1
    try:
        yield
    finally:
        # Experiments side by side end in any order: the last one clears up.
        _depth -= 1
        if not _depth and signal.getsignal(signal.SIGINT) is _interrupted:
            signal.signal(signal.SIGINT, _usual)


def _interrupted(signum: int, frame: Any) -> None:
    signal.signal(signal.SIGINT, _usual)
    for one in _watched:
        one.stop("interrupted")


async def _run_in_foreground(experiment: Experiment) -> Results:
    with _stopped_by_interrupt(experiment):
        return await experiment.run()


def _prepare(
    units: object,
    prompt: Prompts,
    *,
    model: str | Sequence[str],
    categories: object,
    response_model: type | None,
    parse: Callable[[str], Any] | None,
    runs: int,
    requests_per_minute: float | Literal["auto"] | None,
    tokens_per_minute: float | None,
    max_concurrent: int,
    max_retries: int,
    retry: RetryPolicy | None,
    reask_with_error: bool,
    reasoning_effort: str | None,
    timeout: float,
    base_url: str | None,
    api_key: str | None,
    client: object,
    limiter: RateLimiter | None,
    journal: str | Path | None,
    max_cost_usd: float | None,
    grace_s: float,
    progress: bool | str,
    request: dict[str, Any],
) -> tuple[Setup, Callable[[], Journal] | None]:
    """Check everything, before anything is sent; tells also how to open the journal."""
    if isinstance(max_concurrent, bool) or not isinstance(max_concurrent, int) or max_concurrent < 1:
        raise InputError(f"max_concurrent must be a whole number of at least 1, not {max_concurrent!r}.")
    for name, value in (("timeout", timeout), ("max_cost_usd", max_cost_usd)):
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf
        if not number and not (name == "max_cost_usd" and value is None):
            raise InputError(f"{name} must be a positive number, not {value!r}.")
    if not isinstance(grace_s, (int, float)) or not grace_s >= 0:
        raise InputError(f"grace_s must be 0 or more seconds, not {grace_s!r}.")
    if progress not in (True, False, "text", "widget"):
        raise InputError(f'progress must be True, False, "text" or "widget", not {progress!r}.')
    for name, value, kind in (
        ("model", model, (str, Sequence)),
        ("retry", retry, RetryPolicy | None),
        ("limiter", limiter, RateLimiter | None),
        ("journal", journal, str | os.PathLike | None),
    ):
        if not isinstance(value, kind):
            raise InputError(f"{name} cannot be {value!r:.80}, a {type(value).__name__}.")
    models = (model,) if isinstance(model, str) else tuple(model)
    parser = make_parser(categories=categories, response_model=response_model, parse=parse)
    prompts = _named(prompt)
    plan = read_units(
        units,
        runs=runs,
        models=models,
        prompts=tuple(prompts),
        result_columns=(*PREDICTION_COLUMNS, *parser.columns),
    )
    messages = {name: Messages(one, plan.units, parser.instruction) for name, one in prompts.items()}
    policy = retry or RetryPolicy(max_retries=max_retries)
    body = checked_request(request | {"reasoning_effort": reasoning_effort})
    endpoint = resolve(base_url, api_key, client)
    prices = PriceList(endpoint.base_url)
    # Asked now, as it reads a file: nothing may fail or halt the loop once answers come.
    unpriced = [name for name in models if prices.estimate_usd(name, 1, 1) is None]
    if max_cost_usd is not None and unpriced:
        raise InputError(f"max_cost_usd cannot be kept: the price of {', '.join(unpriced)} is unknown.")
    if limiter is None:
        limiter = RateLimiterRegistry.get_limiter(
            endpoint.api_key, requests_per_minute, base_url=endpoint.base_url, tokens_per_minute=tokens_per_minute
        )
    description = {
        "endpoint": endpoint.base_url + (" (simulated, no real model)" if endpoint.simulated else ""),
        "requests_per_minute": None if limiter.limit is None else limiter.limit * 60 / limiter.period_s,
        "categories": None if parser.categories is None else list(parser.categories),
        "fields": list(parser.columns),
        "prompts": [name for name in prompts if name is not None] or None,
    }
    setup = Setup(
        plan=plan,
        messages=messages,
        parser=parser,
        endpoint=endpoint,
        limiter=limiter,
        policy=policy,
        prices=prices,
        body=body,
        reask_with_error=reask_with_error,
        max_concurrent=max_concurrent,
        max_cost_usd=max_cost_usd,
        timeout_s=timeout,
        grace_s=grace_s,
        progress=progress,
        description=description,
    )
    opener = None if journal is None else _journal_of(setup, journal, prompt, parse, models, runs)
    return setup, opener


def _experiment(units: object, prompt: Prompts, settings: dict[str, Any]) -> Experiment:
    setup, open_journal = _prepare(units, prompt, **_with_defaults(settings))
    return Experiment(setup, open_journal=open_journal)


def _with_defaults(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of `run_experiment`, complete: its signature is the only place of the defaults."""
    bound = inspect.signature(run_experiment).bind(None, None, **settings)
    bound.apply_defaults()
    return {name: value for name, value in bound.arguments.items() if name not in ("units", "prompt", "on_stop")}


def _journal_of(
    setup: Setup, path: str | Path, prompt: Prompts, parse: object, models: tuple[str, ...], runs: int
) -> Callable[[], Journal]:
    """How to open the journal of this experiment."""
    # Headers and queries may hold keys.
    request = {name: value for name, value in setup.body.items() if name not in ("extra_headers", "extra_query")}
    identity = {
        "prompt": _in_words(prompt),
        "answer": _in_words(parse) if parse is not None else _in_words(setup.parser.schema or "text"),
        "request": json.dumps(request, sort_keys=True, default=str),
    }
    if setup.endpoint.simulated:
        identity["model"] = "a simulated one"
    units, plan = setup.plan.units, setup.plan
    described = json.loads(json.dumps(setup.description, default=str))

    def opener() -> Journal:
        return Journal.open(
            path,
            identity=identity,
            units=units.frame,
            used=list(dict.fromkeys(name for one in setup.messages.values() for name in one.used)),
            prompts=list(setup.messages),
            keys=None if plan.is_grid else plan.keys,
            models=models,
            runs=runs,
            description=described,
        )

    return opener


def _named(prompt: Prompts) -> dict[str | None, Any]:
    """The prompts by name; a single one has none."""
    if not isinstance(prompt, Mapping):
        return {None: prompt}
    if {"role", "content"} <= prompt.keys():
        raise InputError("A single message must stand in a list: [{'role': 'user', 'content': '…'}].")
    if not prompt or not all(isinstance(name, str) and name.strip() for name in prompt):
        raise InputError(f"Prompts need names that are text: {{'short': '…', 'long': '…'}}, not {prompt!r:.80}.")
    return {**prompt}


def _in_words(thing: object) -> str:
    """A prompt, schema or callable as text that changes when it does."""
    if isinstance(thing, Mapping) and any(callable(one) or isinstance(one, (list, tuple)) for one in thing.values()):
        return json.dumps({name: _in_words(one) for name, one in thing.items()}, sort_keys=True)
    if callable(thing):
        try:
            source = inspect.getsource(thing)
        except (OSError, TypeError):
            source = repr(getattr(thing, "__code__", thing.__class__))
        return f"{getattr(thing, '__qualname__', 'callable')} {digest(source)}"
    return thing if isinstance(thing, str) else json.dumps(thing, sort_keys=True, default=str)


async def run_experiment(
    units: object,
    prompt: Prompts,
    *,
    model: str | Sequence[str],
    categories: object = None,
    response_model: type | None = None,
    parse: Callable[[str], Any] | None = None,
    runs: int = 1,
    requests_per_minute: float | Literal["auto"] | None = 60,
    tokens_per_minute: float | None = None,
    max_concurrent: int = 1000,
    max_retries: int = 3,
    retry: RetryPolicy | None = None,
    reask_with_error: bool = False,
    reasoning_effort: str | None = None,
    timeout: float = 120.0,
    base_url: str | None = None,
    api_key: str | None = None,
    client: object = None,
    limiter: RateLimiter | None = None,
    journal: str | Path | None = None,
    max_cost_usd: float | None = None,
    grace_s: float = 5.0,
    on_stop: Literal["return", "raise"] = "return",
    progress: bool | str = True,
    **request: Any,
) -> Results:
    """Ask a model about every unit, `runs` times each, as fast as the limits allow.

    Parameters
    ----------
    units : DataFrame, Series, list of str or list of mappings
        What is asked about. Ids are the column `unit_id` if there is one, else the index. Rows of `predictions`
        (columns `unit_id` and `run`) are asked again as exactly those runs.
    prompt : str, list of messages, or callable; or a mapping of these by name
        A template over the units' columns such as ``"Which category fits?\\n\\n{text}"``, messages with such contents,
        or a callable from a unit (mapping) to text or messages. Other braces are left alone. With ``{"short": "…",
        "long": "…"}`` each prompt is asked, and its name is the column `prompt`.
    model : str or list of str
        One or several models; each is asked about every unit.
    categories : list of str or Enum class, optional
        The labels an answer may have; `prediction` is one of them. The form is asked for by JSON schema where the model
        takes it, else by JSON mode, else in words, which is found out once per model. At most one of `categories`,
        `response_model` and `parse`; without any the prediction is the text.
    response_model : type, optional
        A pydantic model; its fields become columns of `predictions`.
    parse : callable, optional
        Text → prediction. A `ValueError` from it means that the answer is not readable: it is asked for again.
    runs : int
        How often each unit is asked, at least 1.
    requests_per_minute : float, "auto" or None
        The key's limit, shared by all experiments of this process that use it; `None` is unlimited; "auto" starts at 60
        and follows the provider's headers.
    tokens_per_minute : float, optional
        The key's limit on tokens.
    max_concurrent : int
        Most requests of this experiment in flight at a time.
    max_retries : int
        Most attempts per trial, waiting 0, 20, 40 … s between them.
    retry : RetryPolicy, optional
        Replaces `max_retries`.
    reask_with_error : bool
        Whether an unreadable answer is asked again together with what was wrong with it.
    reasoning_effort : str, optional
        Passed on, for example "low".
    timeout : float
        Deadline of one attempt in seconds.
    base_url, api_key : str, optional
        Default: OpenRouter with `OPENROUTER_API_KEY`, else `OPENAI_BASE_URL` or OpenAI with `OPENAI_API_KEY`.
    client : AsyncOpenAI, optional
        Your own client, or ``llmlab.simulate.client(...)``.
    limiter : RateLimiter, optional
        Replaces the key's own limiter.
    journal : path, optional
        An SQLite file that keeps every attempt; the same cell run again goes on where it ended.
    max_cost_usd : float, optional
        The run stops before its cost could exceed this, counting what is in flight at its worst case.
    grace_s : float
        Seconds that calls in flight are given after a stop or an interrupt.
    on_stop : {"return", "raise"}
        After an early end, return the partial results or raise `ExperimentStopped` with them.
    progress : bool, "text" or "widget"
        A live widget in notebooks and a line elsewhere, one of them, or nothing.
    **request
        Goes to the API as it is: temperature, seed, max_tokens, extra_body …

    Returns
    -------
    Results
        With `predictions`, `attempts`, `rerun_failed()` and a summary.

    Raises
    ------
    InputError
        Something cannot work as written. Nothing was sent.
    JournalError
        The journal belongs to another experiment, is in use, or cannot be written.
    ExperimentStopped
        Only with ``on_stop="raise"``.
    Exception
        What your own `prompt` or `parse` raises; the answers so far are in ``llmlab.last_results()``.
    """
    settings = {name: value for name, value in locals().items() if name not in ("units", "prompt", "request")} | request
    if on_stop not in ("return", "raise"):
        raise InputError(f'on_stop must be "return" or "raise", not {on_stop!r}.')
    results = await _run_in_foreground(_experiment(units, prompt, settings))
    if on_stop == "raise" and results.stopped:
        raise ExperimentStopped(results.stopped, results)
    return results


def run_experiment_sync(units: object, prompt: Prompts, **settings: Any) -> Results:
    """`run_experiment` for plain scripts and threads, and inside a running loop such as a notebook cell's.

    In a notebook's cell it runs in a thread while the cell waits. In any other running loop, and only there,
    nest_asyncio is applied; it stays applied for the whole process. A loop that it cannot patch (uvloop) is left alone,
    and the experiment runs in a thread.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(run_experiment(units, prompt, **settings))
    if "ipykernel" in sys.modules:
        # A nested loop would take the kernel's next messages and lose them: queued cells would never run.
        return _in_a_thread(run_experiment(units, prompt, **settings))
    import nest_asyncio

    try:
        nest_asyncio.apply(loop)
    except ValueError:
        return _in_a_thread(run_experiment(units, prompt, **settings))
    return loop.run_until_complete(run_experiment(units, prompt, **settings))


def _in_a_thread(work: Any) -> Results:
    outcome: list[Results | BaseException] = []

    def run() -> None:
        try:
            outcome.append(asyncio.run(work))
        except BaseException as error:
            outcome.append(error)

    # The context tells a kernel which cell the output belongs to.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), name="llmlab")
    with _interrupts_stop():
        thread.start()
        thread.join()
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return outcome[0]


def start_experiment(units: object, prompt: Prompts, **settings: Any) -> Experiment:
    """Start an experiment in the background of the running loop and return at once.

    Takes what `run_experiment` takes, but for `on_stop`.

    Returns
    -------
    Experiment
        ``await experiment`` gives the results; `experiment.predictions` those so far; `experiment.stop()` ends it.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        raise InputError(
            "start_experiment needs a running event loop, as in a notebook; in a script use run_experiment_sync."
        ) from None
    experiment = _experiment(units, prompt, settings)
    experiment._task = loop.create_task(experiment.run())
    return experiment


async def estimate(units: object, prompt: Prompts, *, pilot: int = 0, **settings: Any) -> Estimate:
    """What an experiment will take, before it is run: calls, tokens, dollars, minutes.

    Parameters
    ----------
    units, prompt, **settings
        As for `run_experiment`.
    pilot : int
        Ask that many units now (run 1, of every model and prompt) and reckon from them. The answers count:
        ``results = await estimate.pilot.rerun_failed()`` asks the rest. With 0 nothing is sent, and the tokens are
        reckoned from the characters of a sample of prompts.

    Returns
    -------
    Estimate

    Raises
    ------
    InputError
        As for `run_experiment`.
    """
    if isinstance(pilot, bool) or not isinstance(pilot, int) or pilot < 0:
        raise InputError(f"pilot must be a whole number of units, 0 or more, not {pilot!r}.")
    setup, open_journal = _prepare(units, prompt, **_with_defaults(settings))
    found = None
    if pilot and len(setup.plan):
        keys = setup.plan.keys()
        picked = set(range(0, len(setup.plan.units), max(1, len(setup.plan.units) // pilot))[:pilot])
        first = keys["unit"].isin(picked) & (keys["run"] == keys.groupby("unit")["run"].transform("min"))
        positions = [int(at) for at in keys.index[first]]
        found = await _run_in_foreground(Experiment(setup, positions=positions, open_journal=open_journal))
    limiter = setup.limiter
    return forecast(
        setup.plan,
        setup.messages,
        setup.prices,
        setup.body,
        short=setup.parser.categories is not None,
        requests_per_s=limiter.limit and limiter.limit / limiter.period_s,
        tokens_per_s=limiter.tokens and limiter.tokens / limiter.period_s,
        max_concurrent=setup.max_concurrent,
        pilot=found,
    )


for _same in (run_experiment_sync, start_experiment):
    _same.__signature__ = inspect.signature(run_experiment)  # type: ignore[attr-defined]


def last_results() -> Results | None:
    """What the last experiment of this process had answered, also after an interrupt or an error."""
    return _last
