"""Names on an axis: one line, cut at the end, without what is the same for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from llmlab.records import arm_columns

MOST = 30


def plain(text: str) -> str:
    """`text` as it is: two dollar signs would start mathematics."""
    return text.replace("$", r"\$")


def short(name: object, most: int = MOST) -> str:
    """A name in one line of at most `most` characters, without mathematics."""
    text = " ".join(str(name).split())
    return plain(text if len(text) <= most else f"{text[: most - 1].rstrip()}…")


def models(names: Sequence[str]) -> list[str]:
    """Names of models, without their provider ("openai/") where that leaves them different."""
    bare = [name.rpartition("/")[2] or name for name in names]
    different = len(set(zip(names, bare, strict=True))) == len(set(bare))
    return [short(name) for name in (bare if different else names)]


@dataclass(frozen=True)
class Arms:
    """What a chart compares: each model, or each model with each prompt.

    Attributes
    ----------
    names : list of tuple of str
        (model,) or (model, prompt), in order of appearance.
    at : ndarray of int
        The number of each row's arm.
    """

    names: list[tuple[str, ...]]
    at: np.ndarray

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Arms:
        """The arms of a frame's rows, models together."""
        columns = arm_columns(frame.columns)
        texts = frame[columns].astype(str)
        found = list(texts.drop_duplicates().itertuples(index=False, name=None))
        order = {model: at for at, model in enumerate(dict.fromkeys(name[0] for name in found))}
        found.sort(key=lambda name: order[name[0]])
        index = pd.MultiIndex.from_tuples(found, names=columns)
        return cls(found, index.get_indexer(pd.MultiIndex.from_frame(texts)))

    def __len__(self) -> int:
        return len(self.names)

    @property
    def labels(self) -> list[str]:
        """A name of each in one line, for a legend or a sentence."""
        bare = models([name[0] for name in self.names])
        rests = [[short(part) for part in name[1:]] for name in self.names]
        if len(set(bare)) == 1 and rests and rests[0]:
            return [rest[0] for rest in rests]
        return [", ".join([model, *rest]) for model, rest in zip(bare, rests, strict=True)]

    def rows(self) -> tuple[np.ndarray, list[str], list[int]]:
        """Where the arms stand on an axis, the name in each row, and which rows are headings: a model over its prompts.

        Returns
        -------
        tuple of ndarray, list of str, list of int
            The row of each arm, the names of all rows, the rows of headings.
        """
        bare = models([name[0] for name in self.names])
        names: list[str] = []
        headings: list[int] = []
        at = []
        for model, name in zip(bare, self.names, strict=True):
            if len(name) == 1:
                at.append(len(names))
                names.append(model)
                continue
            if not headings or names[headings[-1]] != model:
                headings.append(len(names))
                names.append(model)
            at.append(len(names))
            names.append(", ".join(map(short, name[1:])))
        return np.array(at, int), names, headings
