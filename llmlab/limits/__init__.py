"""One rate limiter per API key, for every experiment, event loop and thread of this process."""

from llmlab.limits.limiter import Grant, RateLimiter, RateLimiterRegistry

__all__ = ["Grant", "RateLimiter", "RateLimiterRegistry"]
