"""Attempts → frames. The columns of both frames are declared here, once."""

from __future__ import annotations

import math
from array import array
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from llmlab import analysis
from llmlab.display import summary_html
from llmlab.errors import AttemptError, InputError
from llmlab.records import (
    ATTEMPT_STATUSES,
    STATUSES,
    TOKENS,
    PredictionCategoryTokens,
    TokenUsageAttempt,
    Trial,
    Usage,
    notes_as_text,
    notes_from_text,
)
from llmlab.results import load as storage

PREDICTION_COLUMNS: dict[str, tuple[str, str]] = {
    "unit_id": ("as given", "the unit's id"),
    "model": ("str", "the model asked"),
    "run": ("int64", "which repeat, from 1"),
    "prediction": ("category, str or object", "the category, the text, or what parse made; NA unless ok"),
    "status": ("str", "ok, failed or not_run"),
    "error_type": ("str", "class of the error that ended the trial; NA unless failed"),
    "error": ("str", "what it says, in one line"),
    "attempts": ("int64", "HTTP attempts, failed ones too"),
    "prompt_tokens": ("Int64", "sum over all attempts that reported any; NA if none did"),
    "completion_tokens": ("Int64", "likewise; reasoning included"),
    "reasoning_tokens": ("Int64", "likewise; part of completion_tokens"),
    "cached_tokens": ("Int64", "likewise; part of prompt_tokens"),
    "total_tokens": ("Int64", "likewise"),
    "cost_usd": ("Float64", "likewise, US dollars"),
    "latency_s": ("Float64", "seconds from sending to the whole answer, sum over attempts; NA if none was sent"),
    "wait_s": ("Float64", "seconds waited for the rate limiter, sum over attempts"),
    "finished_at": ("datetime64[us, UTC]", "when the last attempt ended"),
}
ATTEMPT_COLUMNS: dict[str, tuple[str, str]] = {
    "unit_id": ("as given", "the unit's id"),
    "model": ("str", "the model asked"),
    "run": ("int64", "which repeat, from 1"),
    "attempt": ("int64", "from 1, over all attempts this trial ever had"),
    "status": ("str", "ok, parse_error or call_error"),
    "error_type": ("str", "class of the error; NA if ok"),
    "error": ("str", "what it says, in one line"),
    "started_at": ("datetime64[us, UTC]", "when it was sent"),
    "queue_s": ("float64", "seconds waited for a concurrency slot"),
    "wait_s": ("float64", "seconds waited for the rate limiter"),
    "latency_s": ("float64", "seconds from sending to the whole answer"),
    "retry_in_s": ("Float64", "seconds until the next attempt; NA if this was the last"),
    "throttled": ("bool", "whether the limiter made it wait"),
    "prompt_tokens": ("Int64", "as the provider reported it; NA if it did not"),
    "completion_tokens": ("Int64", "likewise; reasoning included"),
    "reasoning_tokens": ("Int64", "likewise; part of completion_tokens"),
    "cached_tokens": ("Int64", "likewise; part of prompt_tokens"),
    "total_tokens": ("Int64", "likewise"),
    "cost_usd": ("Float64", "the provider's own price, else the list price; NA if unknown"),
    "finish_reason": ("str", "why the model stopped"),
    "model_returned": ("str", "the model that answered"),
    "request_id": ("str", "the provider's id of this request"),
    "http_status": ("Int64", "NA if no HTTP answer came"),
    "content": ("str", "the raw text of the answer, also where it did not parse"),
    "notes": ("str", "what was odd or repaired, separated by '; '"),
}

_FLOATS = ("started_at", "queue_s", "wait_s", "latency_s", "retry_in_s", "cost_usd")
_INTS = ("http_status", *TOKENS)
_TEXTS = ("error_type", "error", "finish_reason", "model_returned", "request_id", "content", "notes")
_SHARED = ("error_type", "finish_reason", "model_returned", "notes")
_UNKNOWN = -1


class AttemptTable:
    """All attempts of an experiment, column by column: about 300 bytes each beside their text.

    Grows by `append`; nothing in it is ever changed.
    """

    def __init__(self) -> None:
        self.position, self.attempt = array("q"), array("i")
        self.status, self.throttled = bytearray(), bytearray()
        self.floats = {name: array("d") for name in _FLOATS}
        self.ints = {name: array("q") for name in _INTS}
        self.texts: dict[str, list[str | None]] = {name: [] for name in _TEXTS}
        self._shared: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self.position)

    def append(self, attempt: TokenUsageAttempt, trial: Trial | None = None) -> None:
        """Add one attempt, of `trial` if it is not its own."""
        self.position.append((trial or attempt.trial).position)
        self.attempt.append(attempt.attempt)
        self.status.append(ATTEMPT_STATUSES.index(attempt.status))
        self.throttled.append(attempt.throttled)
        for name, column in self.floats.items():
            value = getattr(attempt, name)
            column.append(math.nan if value is None else value)
        usage = attempt.usage
        for name, column in self.ints.items():
            value = attempt.http_status if name == "http_status" else getattr(usage, name)
            column.append(_UNKNOWN if value is None else value)
        for name, texts in self.texts.items():
            text = notes_as_text(attempt.notes) if name == "notes" else getattr(attempt, name)
            if text is not None and name in _SHARED:
                text = self._shared.setdefault(text, text)
            texts.append(text)

    def copy(self) -> AttemptTable:
        """An independent table with the same attempts."""
        other = AttemptTable()
        other.position, other.attempt = self.position[:], self.attempt[:]
        other.status, other.throttled = self.status[:], self.throttled[:]
        other.floats = {name: column[:] for name, column in self.floats.items()}
        other.ints = {name: column[:] for name, column in self.ints.items()}
        other.texts = {name: texts[:] for name, texts in self.texts.items()}
        return other

    def row(self, at: int, trial: Trial) -> TokenUsageAttempt:
        """The attempt in row `at` as a record."""

        def number(name: str) -> float | None:
            value = self.floats[name][at]
            return None if math.isnan(value) else value

        def whole(name: str) -> int | None:
            value = self.ints[name][at]
            return None if value == _UNKNOWN else value

        text = {name: texts[at] for name, texts in self.texts.items()}
        return TokenUsageAttempt(
            trial=trial,
            attempt=self.attempt[at],
            status=ATTEMPT_STATUSES[self.status[at]],
            error_type=text["error_type"],
            error=text["error"],
            started_at=self.floats["started_at"][at],
            queue_s=self.floats["queue_s"][at],
            wait_s=self.floats["wait_s"][at],
            latency_s=self.floats["latency_s"][at],
            retry_in_s=number("retry_in_s"),
            throttled=bool(self.throttled[at]),
            usage=Usage(**{name: whole(name) for name in TOKENS}),
            cost_usd=number("cost_usd"),
            finish_reason=text["finish_reason"],
            model_returned=text["model_returned"],
            request_id=text["request_id"],
            http_status=whole("http_status"),
            content=text["content"],
            notes=notes_from_text(text["notes"]),
        )

    def order(self) -> np.ndarray:
        """Row numbers in the order of trials and attempts."""
        return np.lexsort((np.frombuffer(self.attempt, "int32"), np.frombuffer(self.position, "int64")))

    def frame(self, keys: pd.DataFrame) -> pd.DataFrame:
        """The attempts as a frame with the columns of `ATTEMPT_COLUMNS`."""
        order = self.order()
        position = np.frombuffer(self.position, "int64")[order]
        key = [name for name in keys.columns if name != "unit"]
        columns: dict[str, Any] = {name: keys[name].array.take(position) for name in key}
        columns["attempt"] = np.frombuffer(self.attempt, "int32")[order].astype("int64")
        columns["status"] = _named(np.frombuffer(self.status, "uint8")[order], ATTEMPT_STATUSES)
        columns["throttled"] = np.frombuffer(self.throttled, "uint8")[order].astype(bool)
        for name in _FLOATS:
            values = np.frombuffer(self.floats[name], "float64")[order]
            if name == "started_at":
                columns[name] = _times(values)
            elif ATTEMPT_COLUMNS[name][0] == "Float64":
                columns[name] = analysis.nullable(values)
            else:
                columns[name] = values
        for name in _INTS:
            columns[name] = _counts(np.frombuffer(self.ints[name], "int64")[order])
        for name, texts in self.texts.items():
            columns[name] = _strings([texts[at] for at in order])
        return _frame({name: columns[name] for name in dict.fromkeys([*key, *ATTEMPT_COLUMNS])})

    def sums(self, trials: int) -> dict[str, Any]:
        """Per trial position: attempts, tokens, cost and times summed, and the row of the last attempt (-1: none)."""
        position = np.frombuffer(self.position, "int64")
        sums: dict[str, Any] = {"attempts": np.bincount(position, minlength=trials).astype("int64")}
        for name in TOKENS:
            values = np.frombuffer(self.ints[name], "int64")
            known = values != _UNKNOWN
            total = np.zeros(trials, "int64")
            np.add.at(total, position[known], values[known])
            total[np.bincount(position[known], minlength=trials) == 0] = _UNKNOWN
            sums[name] = _counts(total)
        for name in ("cost_usd", "latency_s", "wait_s"):
            values = np.frombuffer(self.floats[name], "float64")
            known = ~np.isnan(values)
            total = np.bincount(position[known], values[known], minlength=trials).astype("float64")
            total[np.bincount(position[known], minlength=trials) == 0] = math.nan
            sums[name] = analysis.nullable(total)
        last = np.full(trials, -1, "int64")
        order = self.order()
        last[position[order]] = order
        sums["last"] = last
        return sums


def trials_of(keys: pd.DataFrame) -> Iterator[Trial]:
    """The trials behind their key columns, by position."""
    prompts = keys["prompt"] if "prompt" in keys else [None] * len(keys)
    rows = zip(keys["unit_id"], keys["model"], keys["run"], prompts, strict=True)
    return (Trial(position, *row) for position, row in enumerate(rows))


def _named(codes: np.ndarray, names: tuple[str, ...]) -> Any:
    return pd.Categorical.from_codes(codes.astype("int8"), list(names)).astype("str")  # type: ignore[return-value]


def _counts(values: np.ndarray) -> Any:
    unknown = values == _UNKNOWN
    return pd.arrays.IntegerArray(np.where(unknown, 0, values), unknown)


def _times(seconds: np.ndarray) -> Any:
    known = np.nan_to_num(seconds * 1e6, nan=0.0).astype("int64").astype("datetime64[us]")
    known[np.isnan(seconds)] = np.datetime64("NaT")
    return pd.DatetimeIndex(known).tz_localize("UTC").array


def _strings(texts: list[str | None]) -> Any:
    try:
        return pd.array(texts, dtype="str")
    except UnicodeEncodeError:
        # Half a surrogate pair fits no column; the journal keeps it as it was.
        return pd.array([t if t is None else t.encode("utf-8", "replace").decode() for t in texts], dtype="str")


def _cells(values: list[Any]) -> np.ndarray:
    """One object per cell, also where the objects are lists."""
    cells = np.empty(len(values), object)
    cells[:] = values
    return cells


def _inferred(values: list[Any]) -> Any:
    """The nullable type that holds them, as whole numbers stay whole beside failed trials; else objects."""
    kinds = {type(value) for value in values if value is not None}
    return _strings(values) if kinds == {str} else pd.array(_cells(values))


def _frame(columns: Mapping[str, Any]) -> pd.DataFrame:
    """Columns as they are: pandas would guess what objects are, and fail over half a surrogate pair."""
    return pd.DataFrame(
        {
            name: pd.Series(column, dtype=object) if pd.api.types.is_object_dtype(column.dtype) else column
            for name, column in columns.items()
        },
        copy=False,
    )


@dataclass(slots=True)
class Outcomes:
    """What became of each trial, by position: its value, or the error that ended it without an attempt."""

    values: dict[int, Any]
    errors: dict[int, tuple[str, str]]

    def succeed(self, position: int, value: object) -> None:
        """The trial has a prediction."""
        self.values[position] = value
        self.errors.pop(position, None)

    def miss(self, position: int) -> None:
        """Its last attempt gave no prediction."""
        self.values.pop(position, None)
        self.errors.pop(position, None)

    def fail(self, position: int, error: AttemptError) -> None:
        """The trial ended without any attempt."""
        self.values.pop(position, None)
        self.errors[position] = (type(error).__name__, str(error))

    def copy(self) -> Outcomes:
        """An independent copy."""
        return Outcomes(dict(self.values), dict(self.errors))


class Results:
    """Everything an experiment has answered so far.

    Unpacks as ``predictions, attempts = results``.

    Attributes
    ----------
    stopped : str or None
        Why the run ended early and how to go on; `None` if every trial had its turn.
    categories : list or None
        The categories in the given order.
    """

    def __init__(
        self,
        *,
        keys: pd.DataFrame,
        units: pd.DataFrame,
        table: AttemptTable,
        outcomes: Outcomes,
        stopped: str | None = None,
        description: Mapping[str, Any] | None = None,
        again: Callable[[Results, pd.DataFrame], Awaitable[Results]] | None = None,
        frames: Mapping[str, pd.DataFrame] | None = None,
    ) -> None:
        self._keys = keys
        self._units = units
        self._table = table
        self._outcomes = outcomes
        self.stopped = stopped
        self.description = dict(description or {})
        self.categories: list[Any] | None = self.description.get("categories")
        self._fields: list[str] = self.description.get("fields") or []
        self._again = again
        self._frames = dict(frames or {})

    def __getstate__(self) -> dict[str, Any]:
        # What is pickled or copied can be read, not asked again: limiters and keys do not travel.
        return vars(self) | {"_again": None}

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
    def attempts(self) -> pd.DataFrame:
        """One row per HTTP attempt, failed ones too; columns as in `ATTEMPT_COLUMNS`."""
        if "attempts" not in self._frames:
            self._frames["attempts"] = self._table.frame(self._keys)
        return self._frames["attempts"].copy(deep=False)

    @property
    def predictions(self) -> pd.DataFrame:
        """One row per unit × model × run in input order; `PREDICTION_COLUMNS`, fields, then the unit's own columns.

        If several prompts were given, their names are the column `prompt` (str) after `model`, in both frames.
        """
        if "predictions" not in self._frames:
            self._frames["predictions"] = self._predictions()
        return self._frames["predictions"].copy(deep=False)

    @property
    def failed(self) -> pd.DataFrame:
        """The rows of `predictions` with status `failed`."""
        return self.predictions[self.predictions["status"] == "failed"]

    @property
    def units(self) -> pd.DataFrame:
        """The units' own columns, indexed by `unit_id`."""
        return self._units.copy(deep=False)

    def outcomes(self) -> Iterator[PredictionCategoryTokens]:
        """Each trial with its prediction and all its attempts, as records."""
        rows: dict[int, list[int]] = {}
        for at in self._table.order():
            rows.setdefault(self._table.position[at], []).append(int(at))
        for trial in trials_of(self._keys):
            attempts = tuple(self._table.row(at, trial) for at in rows.get(trial.position, ()))
            failed = trial.position in self._outcomes.errors
            yield PredictionCategoryTokens(trial, self._outcomes.values.get(trial.position), attempts, failed)

    def _predictions(self) -> pd.DataFrame:
        n = len(self._keys)
        sums = self._table.sums(n)
        last = sums.pop("last")
        ok = np.zeros(n, bool)
        ok[list(self._outcomes.values)] = True
        failed = ~ok & (last >= 0)
        failed[list(self._outcomes.errors)] = True
        status = np.where(ok, 0, np.where(failed, 1, 2))
        columns: dict[str, Any] = {name: self._keys[name].array for name in self._key}
        values = [self._outcomes.values.get(at) for at in range(n)]
        columns["prediction"] = self._labels(values)
        columns["status"] = _named(status, STATUSES)
        for name in ("error_type", "error"):
            texts = self._table.texts[name]
            ended = self._outcomes.errors
            which = 0 if name == "error_type" else 1
            columns[name] = _strings(
                [(ended[at][which] if at in ended else texts[last[at]]) if failed[at] else None for at in range(n)]
            )
        columns |= sums
        sent = np.frombuffer(self._table.floats["started_at"], "float64")
        took = np.frombuffer(self._table.floats["latency_s"], "float64")
        ended_at = np.full(n, math.nan)
        ended_at[last >= 0] = (sent + took)[last[last >= 0]]
        columns["finished_at"] = _times(ended_at)
        frame = {name: columns[name] for name in dict.fromkeys([*self._key, *PREDICTION_COLUMNS])}
        for field in self._fields:
            frame[_free(field, frame)] = _inferred([_field(value, field) for value in values])
        unit = self._keys["unit"].to_numpy()
        for name in self._units.columns:
            frame[_free(name, frame)] = self._units[name].array.take(unit)
        return _frame(frame)

    def _labels(self, values: list[Any]) -> Any:
        if self.categories is not None:
            return pd.Categorical(values, categories=self.categories)
        if self._fields or not all(value is None or isinstance(value, str) for value in values):
            return _cells(values)
        return _strings(values)

    def copy_state(self) -> tuple[AttemptTable, Outcomes]:
        """Independent copies of the attempts and outcomes behind the frames."""
        return self._table.copy(), self._outcomes.copy()

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

    def consensus(self, *, ties: Literal["first", "NA", "random"] = "first", seed: int = 0) -> pd.DataFrame:
        """The majority label of each unit and model; see `llmlab.analysis.consensus`."""
        return analysis.consensus(self.predictions, ties=ties, seed=seed)

    def agreement(self, *, level: float = 0.95, seed: int = 0) -> pd.DataFrame:
        """How far the runs agree, per model: Krippendorff's alpha, Fleiss' kappa; see `llmlab.analysis.agreement`."""
        return analysis.agreement(self.predictions, level=level, seed=seed)

    def wide(self) -> pd.DataFrame:
        """One row per unit and model, a column per run; see `llmlab.analysis.wide`."""
        return analysis.wide(self.predictions)

    def score(self, gold: analysis.Gold, *, level: float = 0.95, seed: int = 0) -> analysis.Score:
        """Accuracy, F1 and confusion against gold labels by unit id; see `llmlab.scoring.score`."""
        return analysis.score(self.predictions, gold, level=level, seed=seed)

    def compare(self, gold: analysis.Gold | None = None, *, level: float = 0.95, seed: int = 0) -> pd.DataFrame:
        """Models side by side: accuracy, cost per correct answer, latency, failures; see `llmlab.scoring.compare`."""
        return analysis.compare(self.predictions, self.attempts, gold, level=level, seed=seed)

    def costs(self, by: str = "model") -> pd.DataFrame:
        """Attempts, tokens and dollars by model, category, outcome or attempt number; see `llmlab.scoring.costs`."""
        return analysis.costs(self.predictions, self.attempts, by)

    def save(self, folder: str | Path, *, format: Literal["parquet", "csv"] | None = None) -> Path:
        """Write both frames and what they mean to a folder, for `load_results`; see `llmlab.storage.save`."""
        meaning = {"stopped": self.stopped, "description": self.description, "unit_columns": list(self._units.columns)}
        return storage.save(folder, self.predictions, self.attempts, format=format, **meaning)

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
        if self._again is None:
            raise TypeError(
                "These results were loaded from a file, or copied, and know no prompt: "
                "pass the rows to run_experiment(rows, prompt, ...), or use journal= there to go on."
            )
        return await self._again(self, rows)

    def __repr__(self) -> str:
        return "\n".join(f"{name:<12} {text}" for name, text in self.summary().items())

    def _repr_html_(self) -> str:
        return summary_html(self)

    def summary(self) -> dict[str, str]:
        """The main numbers in words, in reading order."""
        predictions, attempts = self.predictions, self.attempts
        counts = predictions["status"].value_counts()
        ok, failed, not_run = (int(counts.get(name, 0)) for name in STATUSES)
        lines = {"answered": f"{ok:,} of {len(predictions):,}"}
        if failed:
            kinds = predictions.loc[predictions["status"] == "failed", "error_type"].value_counts()
            lines["failed"] = f"{failed:,} ({', '.join(f'{n:,} {kind}' for kind, n in kinds.items())})"
        if not_run:
            lines["not run"] = f"{not_run:,}"
        if self.stopped:
            lines["stopped"] = self.stopped
        lines["attempts"] = f"{len(attempts):,}"
        if len(attempts) and (attempts["status"] != "ok").any():
            kinds = attempts.loc[attempts["status"] != "ok", "error_type"].value_counts()
            lines["attempts"] += f", unsuccessful: {', '.join(f'{n:,} {kind}' for kind, n in kinds.items())}"
        lines["tokens"] = (
            f"{_sum(attempts['total_tokens']):,} ({_sum(attempts['prompt_tokens']):,} in, "
            f"{_sum(attempts['completion_tokens']):,} out)"
        )
        silent = int((attempts["total_tokens"].isna() & attempts["http_status"].eq(200).fillna(True)).sum())
        if silent:
            lines["tokens"] += f"; {silent:,} attempts did not report theirs"
        lines["cost"] = _money(attempts)
        if len(attempts):
            lines["throttled"] = (
                f"{attempts['throttled'].mean():.1%} of attempts, waited {attempts['wait_s'].mean():.1f} s on average"
            )
            refused = int(attempts["http_status"].eq(429).sum())
            if refused:
                lines["refused"] = f"{refused:,} (429)"
            began = attempts["started_at"].min()
            ended = (attempts["started_at"] + pd.to_timedelta(attempts["latency_s"], unit="s")).max()
            lines["duration"] = f"{(ended - began).total_seconds():,.1f} s"
        if failed or not_run:
            lines["go on"] = "results = await results.rerun_failed()"
        return lines


def _sum(column: pd.Series) -> int:
    total = column.sum()
    return 0 if pd.isna(total) else int(total)


def _money(attempts: pd.DataFrame) -> str:
    paid = attempts[attempts["total_tokens"].notna()]
    unknown = paid["cost_usd"].isna()
    if len(paid) and unknown.all():
        return f"unknown (no price for {', '.join(sorted(paid['model'].unique()))})"
    text = f"${float(paid['cost_usd'].sum()):,.4f}"
    return text + (f" and {int(unknown.sum()):,} attempts of unknown price" if unknown.any() else "")


def _free(name: str, taken: Iterable[str]) -> str:
    """`name`, or the name with underscores if a declared column has it already."""
    while name in taken:
        name += "_"
    return name


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
