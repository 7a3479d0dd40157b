"""Results as a user holds them: how they are shown, saved, read anew, and asked again."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pandas as pd

from llmlab import analysis
from llmlab.analysis import Total
from llmlab.display import RERUN, Origin, Summary, summary_html
from llmlab.errors import InputError
from llmlab.parsing import make_parser
from llmlab.results import book
from llmlab.results.findings import Findings
from llmlab.results.folder import save
from llmlab.results.pending import Pending
from llmlab.results.reading import reread
from llmlab.results.sent import Sent
from llmlab.results.store import Store

Again: TypeAlias = Callable[["Results", pd.DataFrame], Coroutine[Any, Any, "Results"]]
"""Asks these rows of predictions again."""


class Results(Findings):
    """Everything an experiment has answered so far.

    Unpacks as ``predictions, attempts = results``.

    Attributes
    ----------
    stopped : str or None
        Why the run ended early; `None` if every trial had its turn.
    running : bool
        Whether the experiment still ran when these were taken: more answers come, and nothing can be asked again.
    categories : list or None
        The categories in the given order.
    """

    def __init__(
        self,
        *,
        keys: pd.DataFrame,
        units: pd.DataFrame,
        store: Store,
        stopped: str | None = None,
        running: bool = False,
        description: Mapping[str, Any] | None = None,
        again: Again | None = None,
        sent: Sent | None = None,
        frames: Mapping[str, pd.DataFrame] | None = None,
    ) -> None:
        super().__init__(keys=keys, units=units, store=store, description=description, sent=sent, frames=frames)
        self.stopped, self.running = stopped, running
        self._again = again

    def __getstate__(self) -> dict[str, Any]:
        # What is pickled or copied can be read, not asked again: limiters, keys and functions do not travel.
        return vars(self) | {"_again": None, "_sent": self._sent.portable()}

    def reparse(
        self,
        *,
        categories: object = None,
        response_model: type | None = None,
        parse: Callable[[str], Any] | None = None,
    ) -> Results:
        """Read the kept texts anew, for free: nothing is sent, tokens and costs stay.

        Parameters
        ----------
        categories, response_model, parse
            One of them, as for `run_experiment`.

        Returns
        -------
        Results
            What cannot be read now is `failed`; what could not be read when it came and can be now is `ok`.

        Raises
        ------
        InputError
            None of the three, or more than one.
        """
        if categories is None and response_model is None and parse is None:
            raise InputError("reparse needs categories=, response_model= or parse=: how the texts are to be read.")
        parser = make_parser(categories=categories, response_model=response_model, parse=parse)
        labels = None if parser.categories is None else list(parser.categories)
        told = {name: value for name, value in self._description.items() if name != "field"}
        return Results(
            keys=self._keys,
            units=self._units,
            store=reread(self._store, parser),
            stopped=self.stopped,
            description=told
            | {
                "categories": labels,
                "fields": dict(parser.fields),
                "schema": parser.schema,
                "definitions": dict(parser.definitions),
            },
            sent=self._sent,
        )

    def of(self, field: str) -> Results:
        """The same results with one field of the answers as the prediction.

        Parameters
        ----------
        field : str
            One of `fields`. A list of labels becomes one row for each unit × label, with True or False, and the column
            `label` as a further arm.

        Returns
        -------
        Results

        Raises
        ------
        InputError
            There is no such field.
        """
        predictions, labels = analysis.one_field(self.predictions, field, self._fields)
        return Results(
            keys=self._keys,
            units=self._units,
            store=self._store,
            stopped=self.stopped,
            running=self.running,
            description=self._description | {"categories": labels, "fields": {}, "field": field},
            again=self._again,
            sent=self._sent,
            frames={"predictions": predictions, "attempts": self.attempts},
        )

    def save(self, folder: str | Path, *, format: Literal["parquet", "csv"] | None = None) -> Path:
        """Write these results to a folder, for `load_results`, and both frames as files for other programs.

        Parameters
        ----------
        folder : path
            Made if it does not exist. Results saved there before are replaced, other files in it are kept.
        format : {"parquet", "csv"}, optional
            Of the frames; default: Parquet if pyarrow is installed.

        Returns
        -------
        Path
            The folder: with `results.sqlite`, which may also be given as `journal=`, and both frames.

        Raises
        ------
        InputError
            The folder is a file, or holds something else than results; these are one field of other results.
        """
        if "field" in self._description:
            raise InputError("These results are one field of others: save those, and ask what is loaded for the field.")
        asks, frames = self._sent.asks(), {"predictions": self.predictions, "attempts": self.attempts}
        asks = replace(asks, description=self._description)
        return save(folder, lambda path: book.write(path, asks, self._store, self.stopped), frames, format)

    def rerun_failed(self) -> Pending[Results]:
        """Ask every trial again that failed or was not run.

        Returns
        -------
        Results
            When awaited: one row per trial as before, with all attempts ever made.

        Raises
        ------
        InputError
            As for `rerun`.
        """
        return _ask_again(self, self._again, lambda: self.predictions[self.predictions["status"] != "ok"], RERUN)

    def rerun(self, rows: pd.DataFrame) -> Pending[Results]:
        """Ask these trials again, whatever became of them.

        Parameters
        ----------
        rows : DataFrame
            Rows of `predictions`; only the columns `unit_id`, `model`, `run` and, with several prompts, `prompt` count.

        Returns
        -------
        Results
            When awaited: all trials of the experiment, these with their new outcome, and all attempts ever made.

        Raises
        ------
        InputError
            These results cannot ask, as they were loaded or copied, or their experiment still runs.
        """
        return _ask_again(self, self._again, lambda: rows, "results = await results.rerun(rows)")

    def __repr__(self) -> str:
        return self._numbers.text()

    def _repr_html_(self) -> str:
        return summary_html(self, self._numbers)

    def summary(self) -> dict[str, Any]:
        """The main numbers, to compute with; what they mean is the results' own summary.

        Returns
        -------
        dict
            `trials`, `answered`, `failed`, `not_run`; `asked` (by this call) and `answered_before` (it); `attempts`,
            `unusable_attempts` (without a prediction), `refused_attempts` (429); the tokens and `cost_usd` over all
            attempts (`None` where all is unknown) and `unknown_cost` (attempts that are in no cost); `units_compared`
            (with two answers or more; for each model and prompt) and `units_agreeing`; `waited_share` (of the
            attempts, 0 to 1), `mean_wait_s` (for the limit), `duration_s` (over all sessions).
        """
        return self._numbers.numbers()

    @property
    def _numbers(self) -> Summary:
        renamed = {name: new for name, new in self._own_names.items() if name != new}
        origin = _origin(self._store, self.attempts)
        return Summary.of(self, renamed=renamed, can_rerun=self._again is not None, origin=origin)


def _origin(store: Store, attempts: pd.DataFrame) -> Origin:
    """What the call asked and paid, and what was answered before it."""
    if not store.call.session:
        return Origin()
    mine = store.table.numbers("session") == store.call.session
    asked = set(np.array(store.table.position, "int64")[mine].tolist())
    cost = Total.of(attempts[attempts["session"] == store.call.session], "cost_usd")
    return Origin(len(asked), len(store.answered - asked), store.call.from_book, cost)


def _ask_again(results: Results, again: Again | None, rows: Callable[[], pd.DataFrame], line: str) -> Pending[Results]:
    if results.running:
        raise InputError(
            "The experiment was still running when these results were taken: its trials would be asked, and paid, "
            "twice. Wait for it first: results = await experiment."
        )
    if again is None:
        raise InputError(
            "These results were loaded from a file, copied or combined, and know no prompt: "
            "pass the rows to run_experiment(rows, prompt, ...), or use journal= there to go on."
        )
    return Pending(lambda: again(results, rows()), line)
