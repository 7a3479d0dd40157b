"""What can be checked about the arguments of an experiment before the first request; each raises an `InputError`."""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmlab.engine.pricing import tier_asked
from llmlab.engine.retry import RetryPolicy
from llmlab.errors import InputError
from llmlab.limits import RateLimiter, shared_place

if TYPE_CHECKING:
    from llmlab.engine.setup import Setup

# Parameters of the API that a misspelt name is compared with, besides our own.
_OF_THE_API = (
    "audio", "frequency_penalty", "function_call", "functions", "include_reasoning", "logit_bias", "logprobs",
    "max_completion_tokens", "max_tokens", "metadata", "min_p", "modalities", "models", "n", "parallel_tool_calls",
    "plugins", "prediction", "presence_penalty", "prompt_cache_key", "provider", "reasoning", "repetition_penalty",
    "response_format", "route", "safety_identifier", "seed", "service_tier", "stop", "store", "temperature",
    "tool_choice", "tools", "top_a", "top_k", "top_logprobs", "top_p", "transforms", "usage", "user", "verbosity",
    "web_search_options", "extra_body", "extra_headers", "extra_query",
)  # fmt: skip


def numbers(setup: Setup) -> None:
    """Numbers are in their ranges."""
    most = setup.max_concurrent
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise InputError(f"max_concurrent must be a whole number of at least 1, not {most!r}.")
    for name in ("timeout", "max_cost_usd"):
        value = getattr(setup, name)
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf
        if not number and value is not None:
            raise InputError(f"{name} must be a positive number, not {value!r}.")
    if not isinstance(setup.grace_s, (int, float)) or not setup.grace_s >= 0:
        raise InputError(f"grace_s must be 0 or more seconds, not {setup.grace_s!r}.")


def choices(setup: Setup) -> None:
    """What is one of a few things is one of them."""
    if setup.progress not in (True, False, "text", "widget"):
        raise InputError(f'progress must be True, False, "text" or "widget", not {setup.progress!r}.')
    if setup.batch not in (True, False, "again"):
        raise InputError(f'batch must be True, False or "again", not {setup.batch!r}.')
    if setup.batch and tier_asked(setup.request) is not None:
        raise InputError(f"batch=True is a tier of its own: leave out service_tier={tier_asked(setup.request)!r}.")
    if setup.batch and setup.journal is None:
        raise InputError(
            'batch=True needs a journal, as in journal="study.sqlite": it takes hours and outlives the kernel, '
            "and the journal is where it is found again."
        )
    if setup.on_stop not in ("return", "raise"):
        raise InputError(f'on_stop must be "return" or "raise", not {setup.on_stop!r}.')
    for name, kind in (
        ("model", (str, Sequence)),
        ("retry", RetryPolicy | None),
        ("limiter", RateLimiter | None),
        ("journal", str | os.PathLike | None),
    ):
        value = getattr(setup, name)
        if not isinstance(value, kind):
            raise InputError(f"{name} cannot be {value!r:.80}, a {type(value).__name__}.")


def prices(setup: Setup) -> None:
    """With a limit on the cost, every price is known."""
    # Looked up now, as it reads a file: later it would hold up the event loop.
    tier = tier_asked(setup.body)
    unpriced = [name for name in setup.models if setup.price_list.estimate_usd(name, 1, 1, tier=tier) is None]
    if setup.max_cost_usd is not None and unpriced:
        at = f" at the tier {tier}" if tier else ""
        raise InputError(
            f"max_cost_usd cannot be kept: the price of {', '.join(unpriced)}{at} is unknown. "
            f"Give it in US dollars per million tokens in and out: prices={{{unpriced[0]!r}: (…, …)}}."
        )


def names(request: Mapping[str, Any], ours: Sequence[str]) -> None:
    """A misspelt parameter would go to the API, which may ignore it and bill another experiment than was meant."""
    for name in request:
        if name in _OF_THE_API:
            continue
        close = difflib.get_close_matches(name, [*ours, *_OF_THE_API], n=1, cutoff=0.8)
        if close:
            raise InputError(
                f"{name}: did you mean {close[0]}? If the API has a parameter called {name}, "
                f"pass extra_body={{{name!r}: …}}."
            )


def cluster(setup: Setup) -> None:
    """The workers of a cluster can ask, as far as that is known before anything travels to them."""
    if setup.cluster is None:
        return
    try:
        from distributed import Client
    except ImportError:
        raise InputError('cluster= needs dask: pip install "llmlab[cluster]".') from None
    if setup.batch:
        raise InputError(
            "cluster= and batch= do not go together: a batch needs no CPU here, as the provider works through it."
        )
    if not isinstance(setup.cluster, Client):
        given = f"{setup.cluster!r:.80}, a {type(setup.cluster).__name__}"
        raise InputError(f"cluster= takes a dask.distributed.Client, not {given}.")
    if hasattr(setup.client, "with_options"):
        raise InputError(
            "With cluster= give base_url= and api_key= instead of client=: an open client cannot travel to the workers."
        )
    if setup.limiter is not None and not setup.limiter.name:
        raise InputError('With cluster= a limiter needs a name, as in RateLimiter(…, name="mine"): it is shared by it.')
    if not shared_place():
        raise InputError(
            "With cluster= the limits must be shared by all workers, so call ll.share_limits() before: "
            'll.share_limits() for workers on this machine, ll.share_limits("redis://host:6379/0") for several.'
        )
    for name in ("prompt", "categories", "response_model", "parse", "examples", "retry", "request"):
        _travels(name, getattr(setup, name))


def _travels(name: str, value: object) -> None:
    import cloudpickle

    try:
        cloudpickle.dumps(value)
    except Exception as error:
        raise InputError(
            f"{name} cannot travel to the workers of the cluster ({type(error).__name__}: {error}): "
            "it must hold no open files, connections or locks."
        ) from None
