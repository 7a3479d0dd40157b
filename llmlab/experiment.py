"""What a user types: `run_experiment` and its kin, and the `Experiment` that they start."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Generator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from llmlab import engine
from llmlab.engine import Estimate, PendingResults, RetryPolicy, Setup
from llmlab.errors import ExperimentStopped, InputError
from llmlab.limits import RateLimiter, RequestLimits, TokenLimits
from llmlab.results import Found, InMemory, Pending, Results
from llmlab.signatures import readable, takes_what

_last: list[Results] = []


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
        found: Found | None = None,
        live: bool = False,
    ) -> None:
        self._setup = setup
        start = engine.begin(setup, positions, before, found, live=live)
        self._found = start.journal.found
        try:
            self._run = engine.Run(setup, start)
        except BaseException:
            start.journal.release()
            raise
        self._task = asyncio.get_running_loop().create_task(self._go())
        # Also if the task is cancelled before its first step.
        self._task.add_done_callback(lambda _: start.journal.release())

    def __repr__(self) -> str:
        tally = self._run.tally
        state = self._run.stopped or ("running" if self._run.running else "done")
        return f"<Experiment: {tally.done:,} of {tally.trials:,} trials ended, {tally.failed:,} failed; {state}>"

    def __await__(self) -> Generator[Any, None, Results]:
        # Shielded: cancelling the cell that looks on is not cancelling the experiment.
        return self._watched(asyncio.shield(self._task)).__await__()

    async def _in_foreground(self) -> Results:
        """Its results; cancelling this cancels the experiment."""
        return await self._watched(self._task)

    async def _watched(self, done: Awaitable[Results]) -> Results:
        with engine.stopped_by_interrupt(self):
            results = await done
        if self._setup.on_stop == "raise" and results.stopped:
            raise ExperimentStopped(results.stopped, results)
        return results

    @cached_property
    def _keys(self) -> pd.DataFrame:
        return self._setup.plan.keys()

    @property
    def results(self) -> Results:
        """What is answered so far, as a snapshot."""
        return Results(
            keys=self._keys,
            units=self._setup.plan.units.frame,
            store=self._run.store.copy() if self._run.running else self._run.store,
            stopped=self._run.stopped,
            running=self._run.running,
            description=self._setup.asks.description,
            again=self._again,
            sent=InMemory(self._setup.asks),
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

    async def cancel_batch(self) -> None:
        """Have the provider cancel the batches, also after a stop; what is done by then is charged, and read.

        Raises
        ------
        InputError, AttemptError
            The experiment was not started with `batch`; the provider does not answer, or refuses.
        """
        await self._run.cancel_batch()

    @cached_property
    def _final(self) -> Results:
        return self.results

    async def _go(self) -> Results:
        try:
            await self._run.go()
        except Exception as bug:
            bug.add_note("The answers so far: llmlab.last_results()")
            with contextlib.suppress(AttributeError):  # its class has slots
                setattr(bug, "results", self._final)  # noqa: B010
            raise
        finally:
            _last[:] = [self._final]
        return self._final

    def _again(self, results: Results, rows: pd.DataFrame) -> Coroutine[Any, Any, Results]:
        positions = results.positions_of(rows)
        return Experiment(self._setup, positions=positions, before=results, found=self._found)._in_foreground()


async def _asked(setup: Setup) -> Results:
    return await Experiment(setup)._in_foreground()


@readable
def run_experiment(
    units: object,
    prompt: str | Sequence | Callable | Mapping,
    *,
    model: str | Sequence[str],
    categories: object = None,
    response_model: type | None = None,
    parse: Callable[[str], Any] | None = None,
    examples: pd.DataFrame | None = None,
    runs: int = 1,
    requests_per_minute: RequestLimits = ...,
    tokens_per_minute: TokenLimits = None,
    max_concurrent: int = 1000,
    max_retries: int = 3,
    retry: RetryPolicy | None = None,
    reask_with_error: bool = False,
    reasoning_effort: str | None = None,
    timeout: float | None = None,
    base_url: str | None = None,
    api_key: str | None = None,
    client: object = None,
    limiter: RateLimiter | None = None,
    journal: str | Path | None = None,
    max_cost_usd: float | None = None,
    prices: Mapping[str, Sequence[float]] | None = None,
    keep_reasoning: bool = False,
    batch: bool | Literal["again"] = False,
    cluster: object = None,
    grace_s: float = 5.0,
    on_stop: Literal["return", "raise"] = "return",
    progress: bool | str = True,
    **request: Any,
) -> PendingResults:
    """Ask a model about every unit, `runs` times each, as fast as the limits allow: ``await run_experiment(...)``.

    Parameters
    ----------
    units : DataFrame, Series, list of str or list of mappings
        What is asked about; tables of polars, Arrow, dask and others are converted by their own methods. Ids are the
        column `unit_id` if there is one, else the index. Rows of `predictions` (with its columns `unit_id`, `run`,
        `prediction` and `status`) are asked again as exactly those runs.
    prompt : str, list of messages, or callable; or a mapping of these by name
        A template over the units' columns such as ``"Which category fits?\\n\\n{text}"``, messages with such contents,
        or a callable from a unit (mapping) to text or messages. Other braces are left alone. With ``{"short": "…",
        "long": "…"}`` each is asked, and its name is the column `prompt`.
    model : str or list of str
        One or several models; each is asked about every unit.
    categories : list of str or numbers, mapping, or Enum class, optional
        The labels an answer may have; `prediction` is one of them. Numbers stand in their order. A mapping of labels to
        their definitions, a codebook, puts the definitions into every message. The form is asked for by JSON schema
        where the model takes it, else by JSON mode, else in words, which is found out once per model. At most one of
        `categories`, `response_model` and `parse`; without any the prediction is the text.
    response_model : type, optional
        A pydantic model; its fields become columns of `predictions`.
    parse : callable, optional
        Text → prediction. A `ValueError` from it means that the answer is not readable: it is asked for again.
    examples : DataFrame, optional
        Rows with the units' columns and the right answer in `prediction`: they stand before each question, asked by
        the same prompt and answered in the same form. A unit that is an example is asked like the others, and is left
        out of `score`, `compare`, `sheet` and `shares`.
    runs : int
        How often each unit is asked, at least 1.
    requests_per_minute : float, "auto" or None; or a mapping of models to these
        The key's limit, shared by all experiments of this process that use it (and of others: `share_limits`). Left
        out: the limit that the key has already, else 60. `None` is unlimited; "auto" starts at 60 and follows the
        provider's headers. With ``{"small": 5000, "large": 500}`` each model has a limit of its own, and none waits
        for another's.
    tokens_per_minute : float, or a mapping of models to these; optional
        The key's limit on tokens; left out, it stays what it is.
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
    timeout : float, optional
        Deadline of one attempt in seconds; default: 120, and 900 with ``service_tier="flex"``.
    base_url, api_key : str, optional
        Default: OpenRouter with `OPENROUTER_API_KEY`, else `OPENAI_BASE_URL` or OpenAI with `OPENAI_API_KEY`.
    client : AsyncOpenAI, optional
        Your own client, or ``llmlab.simulate.client(...)``.
    limiter : RateLimiter, optional
        Replaces the key's own limiter.
    journal : path, optional
        The lab book: an SQLite file for any number of experiments. It keeps every attempt, and knows an answer by what
        was sent: the same cell run again asks only what has no answer yet, an edited one only what is new.
    max_cost_usd : float, optional
        The run stops before the experiment's cost could exceed this: earlier results and the journal's count, too, and
        what is in flight or of unknown cost at its worst case.
    prices : mapping, optional
        Your own prices: ``{"my-model": (0.20, 0.80)}`` in US dollars per million tokens in and out, third for cached
        ones in; the batch queue counts at half of them. Else the provider's own count, else the list's, at the tier
        that was served. A server on this machine or in a private network has no price unless it is given here.
    keep_reasoning : bool
        Whether the model's thinking is kept, as the column `reasoning` of `attempts`.
    batch : bool or "again"
        Whether the provider's batch queue is used: half the price, within 24 hours. It needs a `journal`, in which the
        same cell finds the batches again, also another day. The first trial of each model and prompt is asked live, and
        finds what is wrong before it is paid for thousands of times. What the queue leaves (unreadable answers, lines
        that are missing or expired) is asked live in the end, or with "again" as a further batch. A stop leaves the
        batches at the provider. `latency_s` is the time from submission to the batch's end.
    cluster : dask.distributed.Client, optional
        Have its workers ask, where one process has not enough CPU (needs `llmlab[cluster]`, and `share_limits` before).
        All else stays here. A worker reads pictures itself: give addresses, or paths that it has.
    grace_s : float
        Seconds that calls in flight are given after a stop or an interrupt.
    on_stop : {"return", "raise"}
        After an early end, return the partial results or raise `ExperimentStopped` with them.
    progress : bool, "text" or "widget"
        A live widget in notebooks and a line elsewhere, one of them, or nothing.
    **request
        Goes to the API as it is: temperature, max_tokens, extra_body … With ``seed=s`` run k sends s + k - 1, as one
        seed for all would make the runs agree by construction. A name that is nearly one of the above, or of the API's,
        is refused; anything at all can stand in `extra_body`.

    Returns
    -------
    Results
        When awaited: with `predictions`, `attempts`, `rerun_failed()` and a summary.

    Raises
    ------
    InputError
        Something cannot work as written. Nothing was sent.
    JournalError
        The journal is in use, damaged, somebody else's file, or cannot be written.
    ExperimentStopped
        Only with ``on_stop="raise"``.
    Exception
        What your own `prompt` or `parse` raises; the answers so far are in ``llmlab.last_results()``.
    """
    return PendingResults(run=_asked, setup=Setup(
        units=units, prompt=prompt, model=model, categories=categories, response_model=response_model, parse=parse,
        examples=examples,
        runs=runs, requests_per_minute=requests_per_minute, tokens_per_minute=tokens_per_minute,
        max_concurrent=max_concurrent, max_retries=max_retries, retry=retry, reask_with_error=reask_with_error,
        reasoning_effort=reasoning_effort, timeout=timeout, base_url=base_url, api_key=api_key, client=client,
        limiter=limiter, journal=journal, max_cost_usd=max_cost_usd, prices=prices, keep_reasoning=keep_reasoning,
        batch=batch, cluster=cluster, grace_s=grace_s, on_stop=on_stop, progress=progress, request=request,
    ))  # fmt: skip


@takes_what(run_experiment)
def start_experiment(*arguments: Any, **settings: Any) -> Experiment:
    """Start an experiment in the background of the running loop and return at once.

    Takes what `run_experiment` takes.

    Returns
    -------
    Experiment
        ``await experiment`` gives the results; `experiment.predictions` those so far; `experiment.stop()` ends it.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        raise InputError(
            "start_experiment needs a running event loop, as in a notebook; in a script use run_experiment_sync."
        ) from None
    return Experiment(run_experiment(*arguments, **settings).setup)


@takes_what(run_experiment)
def estimate(*arguments: Any, pilot: int = 0, **settings: Any) -> Pending[Estimate]:
    """What an experiment will take, before it is run: calls, tokens, dollars, minutes; with `batch` dollars both ways.

    Takes what `run_experiment` takes, and:

    Parameters
    ----------
    pilot : int
        Ask that many units now, live (run 1, of every model and prompt), and reckon from them. The answers count:
        ``results = await estimate.pilot.rerun_failed()`` asks the rest. With 0 nothing is sent, and the tokens are
        reckoned from the characters of a sample of prompts.

    Returns
    -------
    Estimate
        When awaited.

    Raises
    ------
    InputError
        As for `run_experiment`.
    """
    setup = run_experiment(*arguments, **settings).setup
    return Pending(lambda: _estimate(setup, engine.pilot_positions(setup, pilot)), "plan = await estimate(...)")


async def _estimate(setup: Setup, positions: Sequence[int]) -> Estimate:
    pilot = await Experiment(setup, positions=positions, live=True)._in_foreground() if positions else None
    return engine.forecast(setup, pilot)


@takes_what(run_experiment)
def run_experiment_sync(*arguments: Any, **settings: Any) -> Results:
    """`run_experiment` for plain scripts and threads, and inside a running loop such as a notebook cell's.

    In a notebook's cell it runs in a thread while the cell waits. In any other running loop, and only there,
    nest_asyncio is applied; it stays applied for the whole process. A loop that it cannot patch (uvloop) is left alone,
    and the experiment runs in a thread.
    """
    return engine.run_blocking(run_experiment(*arguments, **settings))


def last_results() -> Results | None:
    """What the last experiment of this process had answered, also after an interrupt or an error."""
    return _last[0] if _last else None
