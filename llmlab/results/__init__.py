"""Attempts and outcomes: in memory, on disk, and as pandas frames."""

from llmlab.results.journal import Journal, digest, read_journal
from llmlab.results.load import load_folder
from llmlab.results.results import PREDICTION_COLUMNS, AttemptTable, Outcomes, Results, trials_of

__all__ = [
    "PREDICTION_COLUMNS",
    "AttemptTable",
    "Journal",
    "Outcomes",
    "Results",
    "digest",
    "load_folder",
    "read_journal",
    "trials_of",
]
