"""Notebook-first LLM experiments: strict rate limits, every attempt kept, nothing lost."""

from typing import TYPE_CHECKING, Any

from llmlab import errors
from llmlab.client import image
from llmlab.display import charts
from llmlab.engine import RetryPolicy
from llmlab.errors import ExperimentStopped, InputError, JournalError, LlmlabError
from llmlab.experiment import (
    Experiment,
    estimate,
    last_results,
    run_experiment,
    run_experiment_sync,
    start_experiment,
)
from llmlab.limits import Grant, RateLimiter, RateLimiterRegistry, share_limits
from llmlab.records import PredictionCategoryTokens, TokenUsageAttempt
from llmlab.results import Results, combine, experiments, load_results

if TYPE_CHECKING:
    from llmlab import simulate

__version__ = "0.1.0"

__all__ = [
    "Experiment",
    "ExperimentStopped",
    "Grant",
    "InputError",
    "JournalError",
    "LlmlabError",
    "PredictionCategoryTokens",
    "RateLimiter",
    "RateLimiterRegistry",
    "Results",
    "RetryPolicy",
    "TokenUsageAttempt",
    "charts",
    "combine",
    "errors",
    "estimate",
    "experiments",
    "image",
    "last_results",
    "load_results",
    "run_experiment",
    "run_experiment_sync",
    "share_limits",
    "simulate",
    "start_experiment",
]


def __dir__() -> list[str]:
    # Tab completion shows what is meant to be used, and nothing of the inside.
    return __all__


def __getattr__(name: str) -> Any:
    # Imported when it is first used, so that `python -m llmlab.simulate` does not load the module twice.
    if name == "simulate":
        import importlib

        return importlib.import_module("llmlab.simulate")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
