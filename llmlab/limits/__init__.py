"""One rate limiter per API key, for every experiment, event loop and thread of this process."""

from llmlab.limits.grants import Grant
from llmlab.limits.limiter import RateLimiter
from llmlab.limits.registry import RateLimiterRegistry

__all__ = ["Grant", "RateLimiter", "RateLimiterRegistry"]
