"""What a user types: `simulate.client(...)` with every setting by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches

from llmlab.errors import InputError
from llmlab.signatures import readable
from llmlab.simulate.server import SimulatedProvider
from llmlab.simulate.settings import Settings, documented


@readable
def client(
    *,
    latency_s: float = Settings.latency_s,
    jitter_s: float = Settings.jitter_s,
    arrival_jitter_s: float = Settings.arrival_jitter_s,
    requests_per_minute: int | None = Settings.requests_per_minute,
    tokens_per_minute: int | None = Settings.tokens_per_minute,
    limit: int | None = Settings.limit,
    tokens: int | None = Settings.tokens,
    period_s: float = Settings.period_s,
    count_refused: bool = Settings.count_refused,
    max_in_flight: int | None = Settings.max_in_flight,
    accuracy: float = Settings.accuracy,
    models: Mapping[str, float] | None = Settings.models,
    malformed_rate: float = Settings.malformed_rate,
    error_rate: float = Settings.error_rate,
    missing_usage_rate: float = Settings.missing_usage_rate,
    cost: bool = Settings.cost,
    fault: str | None = Settings.fault,
    fault_after: int = Settings.fault_after,
    fault_s: float | None = Settings.fault_s,
    batch_s: float = Settings.batch_s,
    batch_lines: int = Settings.batch_lines,
    enqueued_tokens: int | None = Settings.enqueued_tokens,
    batch_faults: Sequence[str] = Settings.batch_faults,
    seed: int = Settings.seed,
    **unknown: object,
) -> SimulatedProvider:
    """Start a simulated provider; it runs until it is closed or no longer referred to.

    {parameters}
    **unknown : object
        Refused; the error names the setting that was probably meant.

    Returns
    -------
    SimulatedProvider
        With `base_url` and `api_key`; give it to `run_experiment(client=...)`.

    Raises
    ------
    InputError
        For an unknown setting or a value out of range.

    Examples
    --------
    >>> with client(latency_s=0.1, requests_per_minute=300) as provider:
    ...     provider.counts().requests
    0
    """
    for name in unknown:
        known = [one.name for one in fields(Settings)]
        near = get_close_matches(name, known, 1)
        meant = f"did you mean {near[0]}? " if near else ""
        raise InputError(f"There is no setting {name!r}; {meant}There are {', '.join(known)}.")
    return SimulatedProvider(
        Settings(
            latency_s=latency_s,
            jitter_s=jitter_s,
            arrival_jitter_s=arrival_jitter_s,
            requests_per_minute=requests_per_minute,
            tokens_per_minute=tokens_per_minute,
            limit=limit,
            tokens=tokens,
            period_s=period_s,
            count_refused=count_refused,
            max_in_flight=max_in_flight,
            accuracy=accuracy,
            models=models,
            malformed_rate=malformed_rate,
            error_rate=error_rate,
            missing_usage_rate=missing_usage_rate,
            cost=cost,
            fault=fault,
            fault_after=fault_after,
            fault_s=fault_s,
            batch_s=batch_s,
            batch_lines=batch_lines,
            enqueued_tokens=enqueued_tokens,
            batch_faults=batch_faults,
            seed=seed,
        )
    )


client.__doc__ = documented(client.__doc__)
Settings.__doc__ = documented(Settings.__doc__)
