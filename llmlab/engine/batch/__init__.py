"""Trials that go through the provider's own batch queue."""

from llmlab.engine.batch.batch_queue import BatchQueue

__all__ = ["BatchQueue"]
