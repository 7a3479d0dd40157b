"""What a call costs: (model, usage) → US dollars, or `None` where nobody knows."""

from __future__ import annotations

from typing import Any

from llmlab.records import Usage


class PriceList:
    """Prices of one endpoint: the provider's own where it sends one, else list prices (genai-prices), else unknown.

    Parameters
    ----------
    base_url : str
        Tells the provider.
    """

    def __init__(self, base_url: str) -> None:
        self._base_url = base_url
        self._found: dict[str, Any] = {}

    def cost_usd(self, model: str, usage: Usage) -> float | None:
        """Price of one call in US dollars; `None` if tokens or price are unknown."""
        if usage.cost_usd is not None:
            return usage.cost_usd
        if usage.prompt_tokens is None or usage.completion_tokens is None:
            return None
        completion = usage.completion_tokens
        if usage.total_tokens is not None:
            # Some providers leave the reasoning out of completion_tokens, but bill it.
            completion = max(completion, usage.total_tokens - usage.prompt_tokens)
        return self.estimate_usd(
            model, usage.prompt_tokens, completion, min(usage.cached_tokens or 0, usage.prompt_tokens)
        )

    def estimate_usd(self, model: str, prompt: int, completion: int, cached: int = 0) -> float | None:
        """Price of so many tokens; `cached` is part of `prompt`."""
        known = self._known(model)
        if known is None:
            return None
        from genai_prices import Usage as PricedUsage

        try:
            usage = PricedUsage(input_tokens=prompt, output_tokens=completion, cache_read_tokens=cached)
            return float(known.model_price.calc_price(usage)["total_price"])
        except (LookupError, ValueError, TypeError, ArithmeticError):
            return None

    def context_tokens(self, model: str) -> int | None:
        """How many tokens the model reads at most; `None` if nobody knows."""
        known = self._known(model)
        return None if known is None else known.model.context_window

    def _known(self, model: str) -> Any:
        """Model and price as the list has them, looked up once; `None` if it has not."""
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
