"""What an experiment was asked and has answered, as frames and records: what everything else about results rests on."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from llmlab import analysis
from llmlab.errors import EmptyInputError, InputError
from llmlab.pandas_versions import own_copy
from llmlab.records import STATUSES, PredictionCategoryTokens, Trial
from llmlab.results import frames
from llmlab.results.columns import ATTEMPT_COLUMNS, PREDICTION_COLUMNS, documented
from llmlab.results.sent import Nothing, Sent
from llmlab.results.store import Store


def trials_of(keys: pd.DataFrame) -> Iterator[Trial]:
    """The trials behind their key columns, by position."""
    prompts = keys["prompt"] if "prompt" in keys else [None] * len(keys)
    rows = zip(keys["unit_id"], keys["model"], keys["run"], prompts, strict=True)
    return (Trial(position, *row) for position, row in enumerate(rows))


class Answers:
    """The trials of an experiment, what was sent about them and what came back.

    Attributes
    ----------
    categories : list or None
        The categories in the given order.
    """

    def __init__(
        self,
        *,
        keys: pd.DataFrame,
        units: pd.DataFrame,
        store: Store,
        description: Mapping[str, Any] | None = None,
        sent: Sent | None = None,
        frames: Mapping[str, pd.DataFrame] | None = None,
    ) -> None:
        self._keys = keys
        self._units = units
        self._store = store
        self._description = dict(description or {})
        self.categories: list[Any] | None = self._description.get("categories")
        self._fields = analysis.known_fields(self._description.get("fields"))
        self._sent = sent or Nothing(keys, units, self._description)
        self._frames = dict(frames or {})

    def __iter__(self) -> Iterator[pd.DataFrame]:
        return iter((self.predictions, self.attempts))

    def __dir__(self) -> list[str]:
        # What the Tab key offers is for users; these two are for an experiment that goes on.
        return [name for name in super().__dir__() if name not in ("copy_store", "positions_of")]

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
        self,
        unit_id: Hashable,
        *,
        model: str | None = None,
        prompt: str | None = None,
        experiment: str | None = None,
        run: int = 1,
    ) -> list[dict[str, Any]]:
        """Exactly what was sent about a unit.

        Parameters
        ----------
        unit_id
        model, prompt, experiment : str, optional
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
        wanted = {"unit_id": unit_id, "model": model, "prompt": prompt, "experiment": experiment, "run": run}
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
