"""Attempts and outcomes: in memory, on disk, and as pandas frames."""

from llmlab.results.answers import trials_of
from llmlab.results.batches import Line, NotedBatch
from llmlab.results.book import SIMULATED, Asks
from llmlab.results.columns import ATTEMPT_COLUMNS, PREDICTION_COLUMNS
from llmlab.results.combine import combine
from llmlab.results.journal import Found, Journal, NoJournal
from llmlab.results.load import experiments, load_results
from llmlab.results.old import identity
from llmlab.results.pending import Pending
from llmlab.results.results import Results
from llmlab.results.sent import InMemory
from llmlab.results.store import Store

__all__ = [
    "ATTEMPT_COLUMNS",
    "PREDICTION_COLUMNS",
    "SIMULATED",
    "Asks",
    "Found",
    "InMemory",
    "Journal",
    "Line",
    "NoJournal",
    "NotedBatch",
    "Pending",
    "Results",
    "Store",
    "combine",
    "experiments",
    "identity",
    "load_results",
    "trials_of",
]
