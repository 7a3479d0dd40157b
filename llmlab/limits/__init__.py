"""One rate limiter per API key, for every experiment, event loop and thread of this process."""

from llmlab.limits.by_model import Limiters, RequestLimits, TokenLimits
from llmlab.limits.grants import Grant
from llmlab.limits.limiter import LimiterSettings, RateLimiter
from llmlab.limits.registry import RateLimiterRegistry
from llmlab.limits.shared import share_limits, shared_place

__all__ = [
    "Grant",
    "LimiterSettings",
    "Limiters",
    "RateLimiter",
    "RateLimiterRegistry",
    "RequestLimits",
    "TokenLimits",
    "share_limits",
    "shared_place",
]
