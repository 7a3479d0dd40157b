"""Attempts and outcomes: in memory, on disk, and as pandas frames."""

from llmlab.results.columns import ATTEMPT_COLUMNS, PREDICTION_COLUMNS
from llmlab.results.journal import Journal, NoJournal
from llmlab.results.load import load_results
from llmlab.results.results import Results, trials_of
from llmlab.results.sqlite import digest
from llmlab.results.store import Store

__all__ = [
    "ATTEMPT_COLUMNS",
    "PREDICTION_COLUMNS",
    "Journal",
    "NoJournal",
    "Results",
    "Store",
    "digest",
    "load_results",
    "trials_of",
]
