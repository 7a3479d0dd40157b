"""How far labels can be trusted, in sentences for a paper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from llmlab import analysis
from llmlab.display import words
from llmlab.display.methods_asked import Item
from llmlab.records import arm_columns


class Checked:
    """How far the labels can be trusted: agreement of the runs, and of the consensus with people.

    Parameters
    ----------
    results : Results
    gold : str, Series, mapping, DataFrame or None
    measure : str
        Of agreement.
    """

    def __init__(self, results: Any, gold: analysis.Gold | None, measure: analysis.Measure) -> None:
        self._results, self._gold, self._measure = results, gold, measure
        self._columns = arm_columns(results.predictions.columns)
        self._several = results.predictions["run"].nunique() > 1
        self._raters = analysis.raters_in(results.predictions, gold) if isinstance(gold, pd.DataFrame) else []

    def sentences(self) -> Iterator[str]:
        """Agreement, and validation."""
        people = self._gold if len(self._raters) > 1 else ()
        agreed = self._results.agreement(humans=people, measure=self._measure)
        if self._several:
            tied = int(self._results.consensus()["tied"].sum())
            went = f"{words.count(tied, 'tie')} went to the first of the categories"
            yield f"A unit's label is the majority of its runs; {went}."
            for row in agreed[agreed["raters"] == "runs"].to_dict("records"):
                yield f"The runs of {self._arm(row)} agree with {_alpha(row)}."
        if len(self._raters) > 1:
            yield f"The {len(self._raters)} people agree with {_alpha(agreed.iloc[0])}."
        if self._gold is None:
            yield "The labels were not compared with labels by people."
            return
        if isinstance(self._gold, pd.DataFrame):
            yield self._drawn(self._gold)
        score = self._results.score(self._gold, measure=self._measure)
        for row in score.summary[score.summary["of"] == "consensus"].to_dict("records"):
            what, n = "the majority" if self._several else "the label", words.count(row["n"], "unit")
            accuracy, low, high = (100 * row[name] for name in ("accuracy", "low", "high"))
            yield (
                f"Against {n} labelled by people {what} of {self._arm(row)} is right in {accuracy:.1f} % "
                f"(95 % interval {low:.1f} to {high:.1f} %), with a macro F1 of {row['macro_f1']:.2f}."
            )

    def _drawn(self, gold: pd.DataFrame) -> str:
        sheet = analysis.read_sheet(gold, self._results.predictions["unit_id"])
        least, most = sheet.probability.min(), sheet.probability.max()
        how = f"with probability {most:.3f}"
        if most - least > 1e-9:
            how = f"with probabilities of {least:.3f} to {most:.3f}, by which they are weighted"
        units = words.count(len(sheet.labels), "unit")
        return f"People labelled {units}, drawn at random {how}, without the models' labels."

    def items(self) -> Iterator[Item]:
        """What a reader needs to know of how far the labels can be trusted."""
        draw = "sheet = results.sheet(120, seed=1); fill in label; results.methods(sheet)"
        yield "validation", self._gold is not None, "none" if self._gold is None else "labels by people", draw
        if isinstance(self._gold, pd.DataFrame):
            sheet = analysis.read_sheet(self._gold, self._results.predictions["unit_id"])
            empty = len(self._gold) - len(sheet.labels)
            yield "sheet", not empty, f"{words.count(empty, 'unit')} without a label", "fill in the column label"
        two = "a column of labels by a second person in the sheet; results.agreement(humans=sheet)"
        yield "people", len(self._raters) > 1, words.listed(self._raters) or "not told", two

    def _arm(self, row: Mapping[str, Any]) -> str:
        return " · ".join(str(row[name]) for name in self._columns)


def _alpha(row: Any) -> str:
    return (
        f"Krippendorff's alpha {row['krippendorff_alpha']:.2f} (95 % interval {row['alpha_low']:.2f} to "
        f"{row['alpha_high']:.2f}, {words.count(row['units'], 'unit')})"
    )
