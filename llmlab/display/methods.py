"""The paragraph on methods for a paper, and what is still missing for one; every number comes from the frames."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

import pandas as pd

from llmlab import analysis
from llmlab.display.methods_asked import Asked
from llmlab.display.methods_checked import Checked
from llmlab.errors import InputError


@dataclass(frozen=True, slots=True)
class MethodsText:
    """How the labels came about, for a paper.

    Attributes
    ----------
    paragraph : str
        The text.
    checklist : DataFrame
        `item`, `there` (whether it is), `says` (what), and where it is missing `mend`: the line that mends it.
    """

    paragraph: str
    checklist: pd.DataFrame

    @property
    def missing(self) -> pd.DataFrame:
        """What is not there yet: `item`, `says`, `mend`."""
        return self.checklist.loc[~self.checklist["there"], ["item", "says", "mend"]].reset_index(drop=True)

    def __repr__(self) -> str:
        lacking = [f"- {row.item}: {row.says}; {row.mend}" for row in self.missing.itertuples()]
        return "\n".join([self.paragraph, "", "Missing:" if lacking else "Nothing is missing.", *lacking])

    def _repr_html_(self) -> str:
        cells = [[html.escape(str(cell)) for cell in row] for row in self.missing.to_numpy()]
        rows = "".join(f"<li>{item}: {says}; <code>{mend}</code></li>" for item, says, mend in cells)
        rest = f"<p>Missing:</p><ul>{rows}</ul>" if rows else "<p>Nothing is missing.</p>"
        # JupyterLab takes two dollar signs for mathematics.
        return f'<div class="mathjax_ignore tex2jax_ignore"><p>{html.escape(self.paragraph)}</p>{rest}</div>'


def methods(results: Any, gold: analysis.Gold | None, measure: analysis.Measure) -> MethodsText:
    """Describe an experiment.

    Parameters
    ----------
    results : Results
    gold : str, Series, mapping or DataFrame, optional
        People's labels, best a sheet that was filled in.
    measure : {"nominal", "ordinal", "interval"}
        Of agreement.

    Raises
    ------
    InputError
        They are combined of several experiments, or their answers have several fields.
    """
    if "experiments" in results.description:
        raise InputError(
            "These results are combined of several experiments, each with methods of its own: ask each for methods()."
        )
    asked, checked = Asked(results), Checked(results, gold, measure)
    sentences = [*asked.sentences(), *checked.sentences(), *asked.spent()]
    items = pd.DataFrame([*asked.items(), *checked.items()], columns=["item", "there", "says", "mend"])
    return MethodsText(" ".join(sentences), items.assign(mend=items["mend"].where(~items["there"], "")))
