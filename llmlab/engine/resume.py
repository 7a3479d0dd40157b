"""Where a run begins: what earlier runs and the journal already have of its trials."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from llmlab.engine.setup import Setup
from llmlab.errors import ParseError
from llmlab.records import TokenUsageAttempt, Trial
from llmlab.results import Journal, NoJournal, Results, Store


@dataclass(frozen=True, slots=True)
class Start:
    """What a run begins with.

    Attributes
    ----------
    store : Store
        What the trials have so far.
    journal : Journal or NoJournal
        Open for writing.
    positions : sequence of int
        The trials to be asked.
    unsaved : tuple of (TokenUsageAttempt, prediction)
        Attempts in `store` that are not in the journal yet, as when the disk was full.
    """

    store: Store
    journal: Journal | NoJournal
    positions: Sequence[int]
    unsaved: tuple[tuple[TokenUsageAttempt, object], ...] = ()


def begin(setup: Setup, positions: Sequence[int] | None = None, before: Results | None = None) -> Start:
    """Open the journal, and take in what is known.

    Parameters
    ----------
    positions : sequence of int, optional
        The trials to be asked; all that have no prediction if left out.
    before : Results, optional
        What an earlier run of this experiment gave.

    Raises
    ------
    JournalError
        The journal cannot be used.
    """
    journal = setup.open_journal()
    try:
        if setup.journal is None:
            store, unsaved = Store() if before is None else before.copy_store(), ()
        else:
            # The file knows best: another cell may have gone on with it since `before`.
            store = Store()
            _recall(setup, journal, store)
            unsaved = () if before is None else tuple(_not_in(store, before))
            for attempt, value in unsaved:
                store.record(attempt, value)
    except BaseException:
        journal.release()
        raise
    if positions is None:
        every = range(len(setup.plan))
        positions = [at for at in every if at not in store.answered] if store.answered else every
    return Start(store, journal, positions, unsaved)


def _recall(setup: Setup, journal: Journal | NoJournal, store: Store) -> None:
    """Take in what the journal has of the plan's trials."""
    trials: dict[object, Trial] = {trial.key: trial for trial in setup.plan.trials()}
    for failure in journal.read_failures():
        if failure.trial.key in trials:
            store.fail_as(trials[failure.trial.key].position, failure.error_type, failure.error)
    for entry in journal.read():
        trial = trials.get(entry.attempt.trial.key)
        if trial is not None:
            store.record(*_read_anew(setup, replace(entry.attempt, trial=trial)))


def _read_anew(setup: Setup, attempt: TokenUsageAttempt) -> tuple[TokenUsageAttempt, object]:
    """The attempt and its prediction: the journal keeps texts, of which the parser makes the values."""
    if attempt.status != "ok":
        return attempt, None
    try:
        return attempt, setup.parser.parse(attempt.content, attempt.finish_reason).value
    except ParseError as unread:
        text = f"it was read when it came, and is not readable now: {unread}"
        return replace(attempt, status="parse_error", error_type=type(unread).__name__, error=text), None


def _not_in(store: Store, before: Results) -> Iterator[tuple[TokenUsageAttempt, object]]:
    """The attempts of `before` that `store` lacks, with their predictions."""
    known = set(zip(store.table.position, store.table.numbers("attempt").tolist(), strict=True))
    had = before.copy_store().table
    if known.issuperset(zip(had.position, had.numbers("attempt").tolist(), strict=True)):
        return
    for outcome in before.outcomes():
        for attempt in outcome.attempts:
            if (attempt.trial.position, attempt.attempt) not in known:
                yield attempt, outcome.prediction
