"""How an experiment is carried out: slots, attempts, retries, prices, the budget."""

from llmlab.engine.estimate import Estimate, forecast
from llmlab.engine.pricing import PriceList
from llmlab.engine.retry import RetryPolicy
from llmlab.engine.run import Run, Setup

__all__ = ["Estimate", "PriceList", "RetryPolicy", "Run", "Setup", "forecast"]
