"""A simulated OpenAI-compatible provider on loopback: real HTTP, no real model, no key, no cost."""

from llmlab.simulate.counts import Arrival, Counts
from llmlab.simulate.faults import FAULTS
from llmlab.simulate.server import SimulatedProvider
from llmlab.simulate.service import MODELS
from llmlab.simulate.settings import Settings
from llmlab.simulate.start import client

__all__ = ["FAULTS", "MODELS", "Arrival", "Counts", "Settings", "SimulatedProvider", "client"]


def __dir__() -> list[str]:
    return __all__
