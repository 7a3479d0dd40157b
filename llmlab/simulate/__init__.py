"""A simulated OpenAI-compatible provider on loopback: real HTTP, no real model, no key, no cost."""

from llmlab.simulate.server import MODELS, Arrival, Counts, Settings, SimulatedProvider, client

__all__ = ["MODELS", "Arrival", "Counts", "Settings", "SimulatedProvider", "client"]
