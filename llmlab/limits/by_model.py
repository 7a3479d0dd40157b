"""The limiters of one experiment: the key's own, and one for each model that has a limit of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from types import EllipsisType
from typing import Any, Literal, TypeAlias

from llmlab.errors import InputError
from llmlab.limits.limiter import LimiterSettings, RateLimiter, settings_of
from llmlab.limits.registry import RateLimiterRegistry

RequestLimit: TypeAlias = float | Literal["auto"] | None
RequestLimits: TypeAlias = RequestLimit | Mapping[str, RequestLimit] | EllipsisType
TokenLimits: TypeAlias = float | Mapping[str, float | None] | EllipsisType | None


class Limiters:
    """Which limiter the requests of a model pass.

    Parameters
    ----------
    default : RateLimiter
        For the models that have none of their own.
    by_model : mapping, optional
        Model → its own limiter.
    """

    def __init__(self, default: RateLimiter, by_model: Mapping[str, RateLimiter] | None = None) -> None:
        self.default = default
        self._by_model = dict(by_model or {})

    @classmethod
    def of_key(
        cls,
        api_key: str,
        models: Sequence[str],
        requests_per_minute: RequestLimits = ...,
        *,
        base_url: str | None = None,
        tokens_per_minute: TokenLimits = ...,
    ) -> Limiters:
        """The limiters of this key in the registry.

        Parameters
        ----------
        api_key : str
            Only its fingerprint is kept.
        models : sequence of str
            The models of the experiment.
        requests_per_minute, tokens_per_minute : limit, or mapping of model to limit
            A single one holds for all models together, one of a mapping for that model alone; its requests do not
            count against the key's own limit then. Left out (`...`), limits stay what they are.
        base_url : str, optional
            The endpoint.

        Raises
        ------
        InputError
            A limit that is none, or for a model that is not asked.
        """
        requests, requests_by_model = _split("requests_per_minute", requests_per_minute, models)
        tokens, tokens_by_model = _split("tokens_per_minute", tokens_per_minute, models)
        own = [model for model in models if model in requests_by_model or model in tokens_by_model]
        get = RateLimiterRegistry.get_limiter
        default = get(api_key, requests, base_url=base_url, tokens_per_minute=tokens)
        by_model = {
            model: get(
                api_key,
                requests_by_model.get(model, requests),
                base_url=base_url,
                tokens_per_minute=tokens_by_model.get(model, ...),
                model=model,
            )
            for model in dict.fromkeys(own)
        }
        return cls(default, by_model)

    @classmethod
    def like(
        cls, settings: Mapping[str | None, LimiterSettings], api_key: str | None, base_url: str | None = None
    ) -> Limiters:
        """Limiters like those of another process.

        Parameters
        ----------
        settings : mapping
            As `settings` gives them there.
        api_key : str or None
            Whose limiters in the registry they are; `None` if they are in no registry.
        """
        if api_key is None:
            return cls(RateLimiter(**asdict(settings[None])))

        def get(model: str | None) -> RateLimiter:
            limit, tokens = settings[model].limit, settings[model].tokens
            return RateLimiterRegistry.get_limiter(
                api_key, limit, base_url=base_url, tokens_per_minute=tokens, model=model
            )

        return cls(get(None), {model: get(model) for model in settings if model is not None})

    @property
    def settings(self) -> dict[str | None, LimiterSettings]:
        """What another process needs to make such limiters: those of the key, and of each model that has its own."""
        return {None: settings_of(self.default)} | {model: settings_of(one) for model, one in self._by_model.items()}

    def of(self, model: str) -> RateLimiter:
        """The limiter of this model's requests."""
        return self._by_model.get(model, self.default)

    def distinct(self, models: Sequence[str]) -> list[RateLimiter]:
        """The limiters of these models, each once."""
        return list({id(limiter): limiter for limiter in map(self.of, models)}.values())

    def groups(self, models: Sequence[str]) -> list[frozenset[str]]:
        """These models by limiter."""
        return [frozenset(model for model in models if self.of(model) is limiter) for limiter in self.distinct(models)]

    def per_minute(self, models: Sequence[str]) -> float | dict[str, float | None] | None:
        """Requests per minute: one number if one limiter serves all these models, else a number for each model."""
        limits = {model: self.of(model).per_minute for model in models}
        return limits if len(self.distinct(models)) > 1 else self.of(models[0]).per_minute


def _split(name: str, limits: Any, models: Sequence[str]) -> tuple[Any, dict[str, Any]]:
    """(limit of the key, limits of its models)."""
    if not isinstance(limits, Mapping):
        return limits, {}
    unknown = [model for model in limits if model not in models]
    if unknown or not limits:
        raise InputError(
            f"{name} names {', '.join(map(repr, unknown)) or 'no model'}, but the models are {', '.join(models)}."
        )
    return ..., dict(limits)
