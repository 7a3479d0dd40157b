"""Everything an experiment has answered: the frames, the findings, the summary, and how to go on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from llmlab import analysis
from llmlab.display import Summary, summary_html
from llmlab.errors import EmptyInputError, InputError
from llmlab.pandas_versions import own_copy
from llmlab.parsing import make_parser
from llmlab.records import STATUSES, PredictionCategoryTokens, Trial
from llmlab.results import book, frames
from llmlab.results.columns import ATTEMPT_COLUMNS, PREDICTION_COLUMNS, documented
from llmlab.results.findings import Findings
from llmlab.results.folder import save
from llmlab.results.reading import reread
from llmlab.results.sent import Nothing, Sent
from llmlab.results.store import Store


def trials_of(keys: pd.DataFrame) -> Iterator[Trial]:
    """The trials behind their key columns, by position."""
    prompts = keys["prompt"] if "prompt" in keys else [None] * len(keys)
    rows = zip(keys["unit_id"], keys["model"], keys["run"], prompts, strict=True)
    return (Trial(position, *row) for position, row in enumerate(rows))


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
        again: Callable[[Results, pd.DataFrame], Awaitable[Results]] | None = None,
        sent: Sent | None = None,
        frames: Mapping[str, pd.DataFrame] | None = None,
    ) -> None:
        self._keys = keys
        self._units = units
        self._store = store
        self.stopped, self.running = stopped, running
        self._description = dict(description or {})
        self.categories: list[Any] | None = self._description.get("categories")
        self._fields = analysis.known_fields(self._description.get("fields"))
        self._again = again
        self._sent = sent or Nothing(keys, units, self._description)
        self._frames = dict(frames or {})

    def __getstate__(self) -> dict[str, Any]:
        # What is pickled or copied can be read, not asked again: limiters, keys and functions do not travel.
        return vars(self) | {"_again": None, "_sent": self._sent.portable()}

    def __iter__(self) -> Iterator[pd.DataFrame]:
        return iter((self.predictions, self.attempts))

    @property
    def _key(self) -> list[str]:
        """The columns that tell trials apart."""
        return [name for name in self._keys.columns if name != "unit"]

    def __len__(self) -> int:
        """Trials."""
        return len(self._keys)

    @property
    @documented(ATTEMPT_COLUMNS)
    def attempts(self) -> pd.DataFrame:
        """One row per HTTP attempt, failed ones too."""
        if "attempts" not in self._frames:
            self._frames["attempts"] = frames.attempts_frame(self._store, self._keys)
        return own_copy(self._frames["attempts"])

    @property
    @documented(PREDICTION_COLUMNS)
    def predictions(self) -> pd.DataFrame:
        """One row per unit × model × run in input order.

        The answer's fields and the unit's own columns stand after `prediction`. If several prompts were given, their
        names are the column `prompt` (str) after `model`, in both frames.
        """
        if "predictions" not in self._frames:
            self._frames["predictions"] = frames.predictions_frame(
                self._store,
                self._keys,
                self._units,
                categories=self.categories,
                fields=list(self._fields),
                names=self._own_names,
            )
        return own_copy(self._frames["predictions"])

    @property
    def description(self) -> dict[str, Any]:
        """What was asked, for a methods section.

        Prompts, categories or schema, parameters, endpoint, models, versions of llmlab, openai, pandas and Python, and
        the dates of the first and the last attempt (UTC).
        """
        sent = self.attempts["started_at"]
        dates = {
            name: None if pd.isna(at) else at.isoformat() for name, at in (("first", sent.min()), ("last", sent.max()))
        }
        return self._description | dates

    def messages(
        self, unit_id: Hashable, *, model: str | None = None, prompt: str | None = None, run: int = 1
    ) -> list[dict[str, Any]]:
        """Exactly what was sent about a unit.

        Parameters
        ----------
        unit_id
        model, prompt : str, optional
            Needed if there are several.
        run : int
            Which repeat, from 1.

        Returns
        -------
        list of dict
            The messages, each with `role` and `content`. A repeated request may have added to them why the first answer
            could not be read (`reask_with_error`).

        Raises
        ------
        InputError
            No such trial, or several; nothing was sent, or these results do not know what.
        """
        wanted = {"unit_id": unit_id, "model": model, "prompt": prompt, "run": run}
        match = np.ones(len(self), bool)
        for name in self._key:
            if wanted[name] is not None:
                match &= (self._keys[name] == wanted[name]).to_numpy(bool)
        at = np.flatnonzero(match)
        if len(at) != 1:
            arms = ", ".join(f"{name}=" for name in self._key[1:-1])
            raise InputError(
                f"{'No trial' if not len(at) else f'{len(at)} trials'} of unit {unit_id!r} in run {run}: say {arms}."
            )
        row = self._keys.iloc[int(at[0])]
        prompt = row["prompt"] if "prompt" in self._key else None
        try:
            return self._sent.messages(Trial(int(at[0]), row["unit_id"], row["model"], run, prompt))
        except EmptyInputError as error:
            raise InputError(f"Nothing was sent about unit {unit_id!r}: {error}") from None

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

    @property
    def failed(self) -> pd.DataFrame:
        """The rows of `predictions` with status `failed`."""
        return self.predictions[self.predictions["status"] == "failed"]

    @property
    def units(self) -> pd.DataFrame:
        """The units' own columns, indexed by `unit_id`."""
        return own_copy(self._units)

    def outcomes(self) -> Iterator[PredictionCategoryTokens]:
        """Each trial with its prediction and all its attempts, as records."""
        table, trials = self._store.table, len(self)
        rows: dict[int, list[int]] = {}
        for at in table.order().tolist():
            rows.setdefault(table.position[at], []).append(at)
        statuses = self._store.statuses(trials)
        for trial, value in zip(trials_of(self._keys), self._store.values(trials), strict=True):
            attempts = tuple(table.row(at, trial) for at in rows.get(trial.position, ()))
            yield PredictionCategoryTokens(trial, value, attempts, STATUSES[statuses[trial.position]])

    @property
    def fields(self) -> dict[str, dict[str, Any]]:
        """What `of` can be asked for: the fields of the answers, with their `kind` and, where known, their `labels`."""
        return dict(self._fields)

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

    @property
    def _own_names(self) -> dict[str, str]:
        return frames.own_names(self._store, self._keys, self._units, list(self._fields))

    def copy_store(self) -> Store:
        """An independent copy of the attempts and outcomes behind the frames."""
        return self._store.copy()

    def positions_of(self, rows: pd.DataFrame) -> list[int]:
        """Where the trials in `rows` stand in `predictions`.

        Raises
        ------
        InputError
            Columns are missing, or a trial is not of this experiment.
        """
        wanted = self._key
        if not isinstance(rows, pd.DataFrame) or not set(wanted) <= set(rows.columns):
            raise InputError(
                f"rerun takes rows of predictions: a DataFrame with the columns {', '.join(wanted[:-1])} and run."
            )
        known = pd.MultiIndex.from_frame(self._keys[wanted])
        at = known.get_indexer(pd.MultiIndex.from_frame(rows[wanted]))
        if (at < 0).any():
            raise InputError(f"This experiment has no trial {rows[wanted].iloc[int((at < 0).argmax())].to_dict()}.")
        return sorted(set(at.tolist()))

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

    async def rerun_failed(self) -> Results:
        """Ask every trial again that failed or was not run.

        Returns
        -------
        Results
            One row per trial as before, with all attempts ever made.
        """
        return await self.rerun(self.predictions[self.predictions["status"] != "ok"])

    async def rerun(self, rows: pd.DataFrame) -> Results:
        """Ask these trials again, whatever became of them.

        Parameters
        ----------
        rows : DataFrame
            Rows of `predictions`; only the columns `unit_id`, `model` and `run` count.

        Returns
        -------
        Results
            All trials of the experiment: the asked ones with their new outcome, and all attempts ever made.
        """
        if self.running:
            raise InputError(
                "The experiment was still running when these results were taken: its trials would be asked, and paid, "
                "twice. Wait for it first: results = await experiment."
            )
        if self._again is None:
            raise TypeError(
                "These results were loaded from a file, or copied, and know no prompt: "
                "pass the rows to run_experiment(rows, prompt, ...), or use journal= there to go on."
            )
        return await self._again(self, rows)

    def __repr__(self) -> str:
        return self._numbers.text()

    def _repr_html_(self) -> str:
        return summary_html(self, self._numbers)

    def summary(self) -> dict[str, Any]:
        """The main numbers, to compute with; what they mean is the results' own summary.

        Returns
        -------
        dict
            `trials`, `answered`, `failed`, `not_run`; `attempts`, `unusable_attempts` (without a prediction),
            `refused_attempts` (429); the tokens and `cost_usd` over all attempts (`None` where all is unknown) and
            `unknown_cost` (attempts that are in no cost); `units_compared` (with two answers or more; for each model
            and prompt) and `units_agreeing`; `waited_share` (of the attempts, 0 to 1), `mean_wait_s` (for the limit),
            `duration_s` (over all sessions).
        """
        return self._numbers.numbers()

    @property
    def _numbers(self) -> Summary:
        renamed = {name: new for name, new in self._own_names.items() if name != new}
        return Summary.of(self, renamed=renamed, can_rerun=self._again is not None)
