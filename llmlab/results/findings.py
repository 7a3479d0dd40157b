"""What can be concluded from results: each method hands the frames to `llmlab.analysis`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pandas as pd

from llmlab import analysis
from llmlab.display import MethodsText, methods
from llmlab.errors import InputError
from llmlab.results.answers import Answers


class Findings(Answers):
    """The findings of `Results`."""

    @property
    def _labels(self) -> pd.DataFrame:
        """The predictions, which are labels or values and no objects with fields.

        Raises
        ------
        InputError
            They have fields.
        """
        if self.fields:
            first = analysis.main_field(self.fields) or next(iter(self.fields))
            raise InputError(
                f"These answers have several fields; ask for one of them, as in results.of({first!r}). "
                f"There are: {analysis.listed_fields(self.fields)}."
            )
        return self.predictions

    @property
    def _judged(self) -> pd.DataFrame:
        """As `_labels`, without the units that are examples in the prompt."""
        return analysis.without_examples(self._labels, self.units, self.description)

    def consensus(self, *, ties: Literal["first", "NA", "random"] = "first", seed: int = 0) -> pd.DataFrame:
        """The majority label of each unit and model; see `llmlab.analysis.consensus`."""
        return analysis.consensus(self._labels, ties=ties, seed=seed)

    def agreement(
        self,
        *,
        humans: analysis.Humans = (),
        measure: analysis.Measure = "nominal",
        by: Literal["label"] | None = None,
        level: float = 0.95,
        seed: int = 0,
    ) -> pd.DataFrame:
        """How far the runs of a model, and people, agree beyond chance; see `llmlab.analysis.agreement`."""
        return analysis.agreement(self._labels, humans=humans, measure=measure, by=by, level=level, seed=seed)

    def table(
        self, gold: analysis.Gold | None = None, *, columns: Sequence[str] | None = None, length: int = 80
    ) -> pd.DataFrame:
        """The answers to look at: a row per unit and model, the runs side by side.

        Parameters
        ----------
        gold : str, Series, mapping or DataFrame, optional
            A unit's column, the right labels by unit id, or a sheet.
        columns : sequence of str, optional
            Which of the units' columns are shown; by default those that the prompt names, else those of text.
        length : int
            Texts are cut to so many characters.

        Returns
        -------
        DataFrame
            `unit_id`; `model`, `prompt` and `label` where there are several; the units' columns; `run_1` … `run_R`;
            `consensus` and `confidence` (0 to 1) of the runs; `gold`. To sort it: ``.sort_values("confidence")``.
        """
        shown = self._columns_asked if columns is None else columns
        return analysis.side_by_side(self._labels, gold, columns=shown, length=length)

    @property
    def _columns_asked(self) -> list[str]:
        """The units' columns that the prompts name, as they are called in `predictions`; else those of text."""
        prompts = str(self.description.get("prompts") or self.description.get("prompt"))
        named = [new for name, new in self._own_names.items() if f"{{{name}}}" in prompts]
        return named or [new for name, new in self._own_names.items() if self.units[name].map(_is_text).any()]

    def wide(self) -> pd.DataFrame:
        """One row per unit and model, a column per run; see `llmlab.analysis.wide`."""
        return analysis.wide(self._labels)

    def score(
        self, gold: analysis.Gold, *, measure: analysis.Measure = "nominal", level: float = 0.95, seed: int = 0
    ) -> analysis.Score:
        """Accuracy, F1 and confusion against gold labels by unit id, or a sheet; see `llmlab.analysis.score`."""
        return analysis.score(self._judged, gold, measure=measure, level=level, seed=seed)

    def calibration(self, gold: analysis.Gold, *, level: float = 0.95, seed: int = 0) -> analysis.Calibration:
        """How right the consensus is by how sure it is; see `llmlab.analysis.calibration`."""
        return analysis.calibration(self._judged, gold, level=level, seed=seed)

    def sheet(
        self, n: int, *, more: Literal["disagreement", "low confidence"] | None = None, seed: int = 0
    ) -> pd.DataFrame:
        """Draw units to code by hand, blind; see `llmlab.analysis.draw_sheet`.

        Write it to a file, fill in `label`, read it back, and pass it to `score`, `shares` or `corrected`.
        """
        return analysis.draw_sheet(self._judged, self.units, n, more=more, seed=seed)

    def shares(
        self, gold: pd.DataFrame, *, by: str | None = None, beyond: bool = False, level: float = 0.95, seed: int = 0
    ) -> pd.DataFrame:
        """The share of each label, naive, by hand and corrected by a sheet; see `llmlab.analysis.shares`."""
        return analysis.shares(self._judged, gold, by=by, beyond=beyond, level=level, seed=seed)

    def corrected(self, gold: pd.DataFrame) -> pd.DataFrame:
        """The units with an outcome corrected by a sheet, for a regression; see `llmlab.analysis.corrected`."""
        return analysis.corrected(self._judged, gold)

    def diff(self, after: Findings, gold: analysis.Gold | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The units whose consensus is another in `after`, and McNemar's test; see `llmlab.analysis.changes`."""
        return analysis.changes(self._judged, after._judged, gold)

    def methods(self, gold: analysis.Gold | None = None, *, measure: analysis.Measure = "nominal") -> MethodsText:
        """The paragraph on methods for a paper, and what is missing for one.

        Parameters
        ----------
        gold : DataFrame, str, Series or mapping, optional
            People's labels: best a sheet that was filled in, with a further column of labels by a second person.
        measure : {"nominal", "ordinal", "interval"}
            Of agreement.

        Returns
        -------
        MethodsText
            Its `paragraph`: models, versions, providers, dates, parameters, prompt, runs, failures, what is left out,
            agreement, validation, cost. Its `checklist`: what a reader needs, whether it is there, and what mends it.
        """
        return methods(self, gold, measure)

    def compare(self, gold: analysis.Gold | None = None, *, level: float = 0.95, seed: int = 0) -> pd.DataFrame:
        """Models side by side: accuracy, cost per correct answer, latency, failures; see `llmlab.analysis.compare`."""
        return analysis.compare(self._judged, self.attempts, gold, level=level, seed=seed)

    def bottleneck(self) -> pd.DataFrame:
        """What took the time, and what would make the run shorter.

        Returns
        -------
        DataFrame
            A row for each thing that the run waited for, longest first: `waited_for` (rate limit, free slots, batch
            queue, answers, retries, provider's pause, outage), `seconds`, `share` (0 to 1), `change` (what would make
            it shorter).
        """
        return analysis.bottleneck(self.attempts)

    def costs(self, by: str = "model") -> pd.DataFrame:
        """Attempts, tokens and dollars by model, category, outcome or attempt number; see `llmlab.analysis.costs`."""
        return analysis.costs(self.predictions, self.attempts, by)


def _is_text(cell: object) -> bool:
    return isinstance(cell, str)
