"""How often the intervals of `shares` hold the true share: `python -m tests.benchmarks.coverage` writes COVERAGE.md.

Each draw makes 250 units, a model that is right with a given probability and else says any other label, and a sheet of
80 of the units, and asks whether the true share of a label in the 250 units lies in the interval. Where the sampling is
unequal, units about which two runs differ are drawn up to twice as often; they differ for 60 % of the wrong labels and
15 % of the right ones.

Of 250 units that are always the same there are only few possible counts of a rare label in the sheet, and coverage jumps
with them whatever the interval is (Brown, Cai and DasGupta 2001). So the units of each draw are new ones, in which a
label is as frequent as chance wills; the second table keeps the units, as one who asks about these 250 does.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from llmlab import analysis

UNITS, CODED = 250, 80
LABELS = ["often", "b", "c", "d", "e", "rare"]
SHARES = [0.4, 0.2, 0.17, 0.1, 0.1, 0.03]
ACCURACIES = [0.60, 0.70, 0.80, 0.90, 0.97]
SAME = np.repeat(np.arange(len(LABELS)), np.round(np.array(SHARES) * UNITS).astype(int))[:UNITS]


def predictions(gold: np.ndarray, accuracy: float, rng: np.random.Generator) -> pd.DataFrame:
    """Three runs: the majority is what the model says, and the third differs from it where it is unsure."""
    wrong = rng.random(UNITS) > accuracy
    other = (gold + rng.integers(1, len(LABELS), UNITS)) % len(LABELS)
    said = np.where(wrong, other, gold)
    differs = rng.random(UNITS) < np.where(wrong, 0.6, 0.15)
    third = np.where(differs, (said + 1) % len(LABELS), said)
    codes = np.stack([said, said, third], axis=1).ravel()
    return pd.DataFrame(
        {
            "unit_id": np.repeat(np.arange(UNITS), 3),
            "model": "m",
            "run": np.tile([1, 2, 3], UNITS),
            "prediction": pd.Categorical.from_codes(codes, LABELS),
            "status": "ok",
            "finished_at": pd.NaT,
        }
    )


def draw(accuracy: float, more: str | None, new: bool, seed: int) -> list[tuple[str, str, bool, float]]:
    """(label, estimate, whether the interval holds the true share, its width) of one draw."""
    # A stream of its own: the sheet is drawn with the plain seed.
    rng = np.random.default_rng([seed, 1])
    gold = rng.choice(len(LABELS), UNITS, p=SHARES) if new else SAME
    said = predictions(gold, accuracy, rng)
    sheet = analysis.draw_sheet(said, pd.DataFrame(index=range(UNITS)), CODED, more=more, seed=seed)
    sheet["label"] = [LABELS[gold[unit]] for unit in sheet["unit_id"]]
    table = analysis.shares(said, sheet, seed=seed)
    found = []
    for row in table[table["label"].isin(["often", "rare"])].itertuples():
        true = float((LABELS.index(row.label) == gold).mean())
        found.append((row.label, row.estimate, row.low - 1e-9 <= true <= row.high + 1e-9, row.high - row.low))
    return found


def cell(accuracy: float, more: str | None, new: bool, draws: int) -> pd.DataFrame:
    """Coverage and mean width per label and estimate over many draws."""
    rows = [row for seed in range(draws) for row in draw(accuracy, more, new, seed)]
    table = pd.DataFrame(rows, columns=["label", "estimate", "holds", "width"])
    return table.groupby(["label", "estimate"], sort=False)[["holds", "width"]].mean()


def main(draws: int = 1000) -> None:
    """Write both tables."""
    cells = list(product((True, False), ACCURACIES, (None, "disagreement")))
    new, accuracies, mores = zip(*cells, strict=True)
    with ProcessPoolExecutor(int(os.environ.get("WORKERS", os.cpu_count() or 1))) as pool:
        tables = list(pool.map(cell, accuracies, mores, new, [draws] * len(cells)))
    lines = [
        "# Coverage of the 95 % intervals of `results.shares`",
        "",
        f"{CODED} of {UNITS} units coded by hand, {draws:,} draws each, made by `python -m tests.benchmarks.coverage`;",
        "`tests/benchmarks/coverage.py` says how. Label `often` is 40 % of the units, `rare` 3 %. The width is the mean.",
        f"A true coverage of 0.95 comes out between {0.95 - 2 * ERROR / draws**0.5:.3f} and "
        f"{0.95 + 2 * ERROR / draws**0.5:.3f} in 95 % of the cells.",
    ]
    for of_new, title in ((True, "New units in each draw"), (False, "The same 250 units in each draw")):
        lines += ["", f"## {title}", "", *HEAD]
        mine = [(one, table) for one, table in zip(cells, tables, strict=True) if one[0] == of_new]
        lines += [row for (_, accuracy, more), table in mine for row in written(accuracy, more, table)]
    Path(__file__).with_name("COVERAGE.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


ERROR = (0.95 * 0.05) ** 0.5
HEAD = [
    "| accuracy | sampling | label | naive | by hand | corrected | width by hand | width corrected |",
    "|---|---|---|---|---|---|---|---|",
]


def written(accuracy: float, more: str | None, table: pd.DataFrame) -> list[str]:
    """The rows of a table, one for each label."""
    rows = []
    for label in ("often", "rare"):
        holds, width = table.loc[label, "holds"], table.loc[label, "width"]
        rows.append(
            f"| {accuracy:.0%} | {'unequal' if more else 'simple'} | {label} | {holds['naive']:.3f} | "
            f"{holds['by hand']:.3f} | **{holds['corrected']:.3f}** | {width['by hand']:.3f} | "
            f"{width['corrected']:.3f} |"
        )
    return rows


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
