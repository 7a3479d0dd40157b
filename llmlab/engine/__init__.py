"""How an experiment is carried out: slots, attempts, retries, prices, the budget."""

from llmlab.engine.estimate import Estimate, forecast, pilot_positions
from llmlab.engine.interrupts import stopped_by_interrupt
from llmlab.engine.pending import PendingResults, run_blocking
from llmlab.engine.resume import begin
from llmlab.engine.retry import RetryPolicy
from llmlab.engine.run import Run
from llmlab.engine.setup import Setup

__all__ = [
    "Estimate",
    "PendingResults",
    "RetryPolicy",
    "Run",
    "Setup",
    "begin",
    "forecast",
    "pilot_positions",
    "run_blocking",
    "stopped_by_interrupt",
]
