"""Where a run begins: what earlier runs and the journal already have of its trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llmlab.engine.setup import Setup
from llmlab.errors import JournalError
from llmlab.results import Found, Journal, NoJournal, Results, Store


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
    live : bool
        Whether all trials are asked live, also with `batch`.
    """

    store: Store
    journal: Journal | NoJournal
    positions: Sequence[int]
    live: bool = False


def begin(
    setup: Setup,
    positions: Sequence[int] | None = None,
    before: Results | None = None,
    found: Found | None = None,
    *,
    live: bool = False,
) -> Start:
    """Open the journal, and take in what is known.

    Parameters
    ----------
    positions : sequence of int, optional
        The trials to be asked; all that have no prediction if left out.
    before : Results, optional
        What an earlier run of this experiment gave.
    found : Found, optional
        Which trials of the journal those of the experiment are, if an earlier run has found them.
    live : bool
        Whether all trials are asked live, also with `batch`.

    Raises
    ------
    JournalError
        The journal cannot be used.
    """
    known = Store() if before is None else before.copy_store()
    journal = setup.open_journal(found, known.sessions + 1)
    try:
        # A file knows best: another cell may have gone on with it since `before`.
        store = journal.recall(setup.parser, known)
    except BaseException:
        journal.release()
        raise
    if positions is None:
        every = range(len(setup.plan))
        positions = [at for at in every if at not in store.answered] if store.answered else every
    submitted = {line.position for batch in journal.batches for line in batch.lines}.intersection(positions)
    if submitted and (live or not setup.batch):
        journal.release()
        raise JournalError(
            f"{len(submitted):,} trials are in the provider's batch queue and would be paid twice: go on with "
            "batch=True, which reads them, or choose another journal."
        )
    return Start(store, journal, positions, live)
