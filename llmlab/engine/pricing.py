"""What a call costs: (model, usage, tier) → US dollars, or `None` where nobody knows."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from llmlab.errors import InputError
from llmlab.records import BATCH, Usage

# The share of the list price at which a tier is served; other tiers have prices of their own.
_TIERS = {"default": 1.0, "auto": 1.0, "standard": 1.0, "on_demand": 1.0, "performance": 1.0, "flex": 0.5, BATCH: 0.5}
# Groq's flex tier is faster, and no cheaper.
_FLEX_AT_FULL_PRICE = "groq.com"
Prices = Mapping[str, Sequence[float]]


class PriceList:
    """Prices of one endpoint: the user's own, else the provider's where it sends one, else list prices, else unknown.

    List prices come from genai-prices. A server on this machine or in a private network has none: its models only share
    their names with those of a provider.

    Parameters
    ----------
    base_url : str
        Tells the provider.
    prices : mapping, optional
        The user's own prices by model, in US dollars per million tokens in and out, and third for cached ones in; for
        the batch queue they count half, for any other tier as they are.
    simulated : bool
        Whether it is a simulated provider, which has the list prices of the models that it plays.

    Raises
    ------
    InputError
        `prices` are none.
    """

    def __init__(self, base_url: str, prices: Prices | None = None, *, simulated: bool = False) -> None:
        self._base_url = base_url
        self._own = _checked(prices or {})
        self._is_listed = simulated or not is_private(base_url)
        self._flex = 1.0 if (urlsplit(base_url).hostname or "").endswith(_FLEX_AT_FULL_PRICE) else _TIERS["flex"]
        self._found: dict[str, Any] = {}

    def cost_usd(self, model: str, usage: Usage, tier: str | None = None) -> float | None:
        """Price of one call in US dollars; `None` if tokens or price are unknown.

        Parameters
        ----------
        tier : str, optional
            At which it was served.
        """
        if usage.cost_usd is not None and model not in self._own:
            return usage.cost_usd
        if usage.prompt_tokens is None or usage.completion_tokens is None:
            return None
        completion = usage.completion_tokens
        if usage.total_tokens is not None:
            # Some providers leave the reasoning out of completion_tokens, but bill it.
            completion = max(completion, usage.total_tokens - usage.prompt_tokens)
        cached = min(usage.cached_tokens or 0, usage.prompt_tokens)
        written = min(usage.cache_write_tokens or 0, usage.prompt_tokens - cached)
        return self.estimate_usd(model, usage.prompt_tokens, completion, cached, written=written, tier=tier)

    def estimate_usd(
        self, model: str, prompt: int, completion: int, cached: int = 0, *, written: int = 0, tier: str | None = None
    ) -> float | None:
        """Price of so many tokens in US dollars; `None` if nobody knows it.

        Parameters
        ----------
        cached, written : int
            Parts of `prompt`: read from the provider's cache, and written to it.
        tier : str, optional
            At which it is served.
        """
        if model in self._own:
            dollars_in, dollars_out, dollars_cached = self._own[model]
            part = _TIERS[BATCH] if tier == BATCH else 1.0
            return part * ((prompt - cached) * dollars_in + completion * dollars_out + cached * dollars_cached) / 1e6
        known, share = self._known(model), self._flex if tier == "flex" else _TIERS.get(tier or "default")
        if known is None or share is None:
            return None
        from genai_prices import Usage as PricedUsage

        try:
            usage = PricedUsage(
                input_tokens=prompt, output_tokens=completion, cache_read_tokens=cached, cache_write_tokens=written
            )
            return share * float(known.model_price.calc_price(usage)["total_price"])
        except (LookupError, ValueError, TypeError, ArithmeticError):
            return None

    def context_tokens(self, model: str) -> int | None:
        """How many tokens the model reads at most; `None` if nobody knows."""
        known = self._known(model)
        return None if known is None else known.model.context_window

    def _known(self, model: str) -> Any:
        """Model and price as the list has them, looked up once; `None` if it has not."""
        if not self._is_listed:
            return None
        return self._found[model] if model in self._found else self._found.setdefault(model, self._find(model))

    def _find(self, model: str) -> Any:
        from genai_prices import Usage as PricedUsage
        from genai_prices import calc_price

        routed: dict[str, Any] = {"provider_id": "openrouter"} if "/" in model else {}
        providers: tuple[dict[str, Any], ...] = ({"provider_api_url": self._base_url}, routed)
        for provider in providers:
            try:
                return calc_price(PricedUsage(input_tokens=1, output_tokens=1), model_ref=model, **provider)
            except (LookupError, ValueError):
                continue
        return None


def tier_asked(body: Mapping[str, Any]) -> str | None:
    """The service tier that a request asks for."""
    extra = body.get("extra_body")
    tier = body.get("service_tier") or (extra.get("service_tier") if isinstance(extra, Mapping) else None)
    return tier if isinstance(tier, str) else None


def is_private(base_url: str) -> bool:
    """Whether the address is this machine's or of a private network."""
    host = (urlsplit(base_url).hostname or "").rstrip(".").casefold()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".local", ".internal", ".lan")) or "." not in host
    return address.is_private or address.is_loopback or address.is_link_local


def _checked(prices: object) -> dict[str, tuple[float, float, float]]:
    """Dollars per million tokens in, out and cached, by model."""
    example = '{"my-model": (0.20, 0.80)}, in US dollars per million tokens in and out, and third for cached ones in'
    if not isinstance(prices, Mapping):
        raise InputError(f"prices must be a mapping such as {example}, not {prices!r:.80}.")
    found = {}
    for model, price in prices.items():
        numbers: tuple[Any, ...] = tuple(price) if isinstance(price, Sequence) and not isinstance(price, str) else ()
        good = all(isinstance(one, (int, float)) and not isinstance(one, bool) and one >= 0 for one in numbers)
        if len(numbers) not in (2, 3) or not good:
            raise InputError(f"prices[{model!r}] cannot be {price!r:.80}; prices are like {example}.")
        found[str(model)] = (float(numbers[0]), float(numbers[1]), float(numbers[2 if len(numbers) == 3 else 0]))
    return found
