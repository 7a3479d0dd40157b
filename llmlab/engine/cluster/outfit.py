"""What an experiment gives each of its workers on a cluster before the first part."""

from __future__ import annotations

import dataclasses
import socket
from importlib.metadata import version

from llmlab.engine.cluster.travel import Kit, Sealed, sealed
from llmlab.engine.setup import Setup
from llmlab.limits import shared_place

# The settings of a worker's run that are not the experiment's.
_OF_A_WORKER = {
    "base_url": None, "api_key": None, "client": None, "limiter": None, "journal": None, "on_stop": "return",
    "progress": False, "batch": False, "cluster": None, "requests_per_minute": ..., "tokens_per_minute": None,
}  # fmt: skip


def used_columns(setup: Setup) -> list[str]:
    """The units' columns that the prompts depend on."""
    used = {name for messages in setup.messages.values() for name in messages.used}
    return [name for name in setup.plan.units.frame.columns if name in used]


def kit_of(setup: Setup, session: int, *, keeps_messages: bool) -> Sealed[Kit]:
    """What a worker needs to carry out a run of this setup."""
    fields = {one.name: getattr(setup, one.name) for one in dataclasses.fields(setup) if one.name != "units"}
    return sealed(Kit(
        settings=fields | _OF_A_WORKER, units=setup.plan.units.frame.iloc[:0], endpoint=setup.endpoint,
        limiters=setup.limiters.settings, own_limiter=setup.limiter is not None, shared=shared_place(),
        host=socket.gethostname(), version=version("llmlab"), session=session, keeps_messages=keeps_messages,
    ))  # fmt: skip
