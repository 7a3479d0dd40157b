"""The one loader: a journal, or a folder that was saved → the same results."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from llmlab.results import folder as folders
from llmlab.results import sqlite
from llmlab.results.results import Results, trials_of
from llmlab.results.store import Store


def load_results(path: str | Path) -> Results:
    """The results in a journal, or in a folder written by `Results.save`.

    Parameters
    ----------
    path : path
        The file given as `journal=`, or the folder.

    Returns
    -------
    Results
        The same frames as when it ran. To ask again, run the experiment with the same journal.

    Raises
    ------
    JournalError
        No such file, no journal, damaged, or in use.
    InputError
        The folder holds no results, or damaged ones.
    """
    if Path(path).is_dir():
        return _load_folder(path)
    stored = sqlite.read_journal(path)
    trials = {trial.key: trial for trial in trials_of(stored.keys)}
    store = Store()
    for failure in stored.failures:
        store.fail_as(trials[failure.trial.key].position, failure.error_type, failure.error)
    for entry in stored.entries:
        attempt = replace(entry.attempt, trial=trials[entry.attempt.trial.key])
        store.record(attempt, attempt.content if entry.value is None else json.loads(entry.value))
    return Results(keys=stored.keys, units=stored.units, store=store, description=stored.description)


def _load_folder(folder: str | Path) -> Results:
    saved = folders.load_folder(folder)
    store, values = Store(), saved.values()
    for position, error in saved.errors().items():
        store.fail_as(position, *error)
    for record in saved.records():
        store.record(record, values.get(record.trial.position))
    return Results(
        keys=saved.keys(),
        units=saved.units(),
        store=store,
        stopped=saved.stopped,
        description=saved.description,
        # Times are kept to the microsecond, so the frames made from the records could differ in the last digit.
        frames={"predictions": saved.predictions, "attempts": saved.attempts},
    )
