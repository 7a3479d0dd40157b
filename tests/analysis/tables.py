"""Predictions as frames, without an experiment: by hand, or drawn."""

import numpy as np
import pandas as pd

LABELS = ["bug", "billing", "other"]


def frame(rows, gold=None, model="m", prompt=None):
    """Predictions with labels (None: failed) by unit (rows) and run (columns)."""
    cells = [
        {
            "unit_id": f"u{unit}",
            "model": model,
            **({"prompt": prompt} if prompt else {}),
            "run": run,
            "prediction": label,
            "status": "ok" if label else "failed",
            "finished_at": pd.NaT,
            **({"gold": gold[unit - 1]} if gold else {}),
        }
        for unit, runs in enumerate(rows, 1)
        for run, label in enumerate(runs, 1)
    ]
    made = pd.DataFrame(cells)
    return made.assign(prediction=pd.Categorical(made["prediction"], categories=LABELS))


SMALL = [["bug", "bug", "bug"], ["bug", "billing", "bug"], ["other", None, "billing"], [None, None, None]]


def random_table(units=120, runs=4, missing=0.0, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 3, units)
    noise = rng.integers(0, 3, (units, runs))
    codes = np.where(rng.random((units, runs)) < 0.7, truth[:, None], noise)
    return np.where(rng.random((units, runs)) < missing, -1, codes)


def as_rows(codes):
    return [[LABELS[code] if code >= 0 else None for code in row] for row in codes]
