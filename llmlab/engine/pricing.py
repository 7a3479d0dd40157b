"""(model, usage) → US dollars, or `None` where nobody knows."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Any

from llmlab.client import prompt_tokens
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
        self._prices: dict[str, Any] = {}

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
        price = self._prices[model] if model in self._prices else self._prices.setdefault(model, self._find(model))
        if price is None:
            return None
        from genai_prices import Usage as PricedUsage

        try:
            usage = PricedUsage(input_tokens=prompt, output_tokens=completion, cache_read_tokens=cached)
            return float(price.calc_price(usage)["total_price"])
        except (LookupError, ValueError, TypeError, ArithmeticError):
            return None

    def _find(self, model: str) -> Any:
        from genai_prices import Usage as PricedUsage
        from genai_prices import calc_price

        routed: dict[str, Any] = {"provider_id": "openrouter"} if "/" in model else {}
        providers: tuple[dict[str, Any], ...] = ({"provider_api_url": self._base_url}, routed)
        for provider in providers:
            try:
                return calc_price(PricedUsage(input_tokens=1, output_tokens=1), model_ref=model, **provider).model_price
            except (LookupError, ValueError):
                continue
        return None


UNKNOWN_COMPLETION = 4096
HEADROOM = 1.3


class TokenEstimate:
    """What a call will use, before it is made: the mean of what calls to the same model used."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, int, int]] = {}

    def learn(self, model: str, usage: Usage) -> None:
        """Take in what a call really used."""
        if usage.total_tokens is not None:
            calls, total, most = self._seen.get(model, (0, 0, 0))
            self._seen[model] = (calls + 1, total + usage.total_tokens, max(most, usage.completion_tokens or 0))

    def reserve(self, model: str, body: Mapping[str, Any], most: float) -> float:
        """Tokens to book for a call, at most a whole period's `most` unless the prompt alone is longer."""
        calls, total, _ = self._seen.get(model, (0, 0, 0))
        prompt = prompt_tokens(body)
        if prompt > most:
            return prompt
        return min(most, HEADROOM * total / calls if calls else prompt + (completion_limit(body) or 0))

    def worst(self, model: str, body: Mapping[str, Any]) -> tuple[int, int]:
        """Tokens in and out that a call may use at most, as far as one can tell."""
        _, _, most = self._seen.get(model, (0, 0, 0))
        limit = completion_limit(body)
        # The limit is on each of n answers; what was seen holds them all.
        completion = max(2 * most, UNKNOWN_COMPLETION) if limit is None else limit * (body.get("n") or 1)
        return math.ceil(prompt_tokens(body) * HEADROOM), completion


def completion_limit(body: Mapping[str, Any]) -> int | None:
    """The request's own limit on the answer, if it has one."""
    return body.get("max_completion_tokens") or body.get("max_tokens")


class Budget:
    """A cap on money: the worst case of every call is put aside before it is sent, and settled after.

    Parameters
    ----------
    cap_usd : float or None
        US dollars; `None` is no cap.
    """

    def __init__(self, cap_usd: float | None) -> None:
        self._cap_usd = math.inf if cap_usd is None else cap_usd
        self.spent_usd = 0.0
        self._aside_usd = 0.0
        self._calls = 0
        self._settled = asyncio.Event()

    async def reserve(self, worst_usd: float) -> bool:
        """Put `worst_usd` aside, waiting for calls in flight to settle; False if the cap leaves no room for it."""
        while self.spent_usd + self._aside_usd + worst_usd > self._cap_usd:
            if self.spent_usd + worst_usd > self._cap_usd or not self._calls:
                return False
            self._settled.clear()
            await self._settled.wait()
        self._aside_usd += worst_usd
        self._calls += 1
        return True

    def settle(self, worst_usd: float, cost_usd: float) -> None:
        """The call for which `worst_usd` was put aside cost `cost_usd`."""
        self._calls -= 1
        self._aside_usd = self._aside_usd - worst_usd if self._calls else 0.0
        self.spent_usd += cost_usd
        self._settled.set()
