"""Shared limits in Redis or Valkey: for processes on several machines."""

from __future__ import annotations

import hashlib
import struct
import time
from typing import cast
from urllib.parse import urlsplit

from llmlab.errors import InputError
from llmlab.limits.common import Outcome, Request
from llmlab.limits.state import step

PREFIX = "llmlab:limits:"
ANSWER_S = 1.0
TRY_S = 2.0
KEEP_PERIODS = 10
VERSION = struct.Struct("<Q")

# Store the new state only if nobody else has stored one since it was read; if so, tell it and the time.
SWAP = """
if redis.call('GETRANGE', KEYS[1], 0, 7) == ARGV[1] then
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
    return {}
end
local now = redis.call('TIME')
return {redis.call('GET', KEYS[1]) or '', now[1], now[2]}
"""


class RedisStore:
    """One value per key, advanced by optimistic steps on the server's own clock.

    Parameters
    ----------
    url : str
        `redis://`, `rediss://` or `unix://`, as of the package redis. A password in it is shown nowhere.

    Raises
    ------
    InputError
        The package redis is missing, or the address cannot be read.
    """

    def __init__(self, url: str) -> None:
        try:
            import redis
            from redis.exceptions import NoScriptError
        except ImportError:
            raise InputError(
                'sharing limits through Redis needs the package redis: pip install "llmlab[shared]"'
            ) from None
        try:
            self._redis = redis.Redis.from_url(
                url, socket_timeout=ANSWER_S, socket_connect_timeout=ANSWER_S, decode_responses=False
            )
        except ValueError as error:
            raise InputError(f"not the address of a Redis: {error}") from None
        self._sha = hashlib.sha1(SWAP.encode()).hexdigest()
        self._no_script = NoScriptError
        self._where = urlsplit(url).hostname or urlsplit(url).path

    def __repr__(self) -> str:
        return f"Redis at {self._where}"

    def step(self, name: str, request: Request) -> Outcome:
        """Load, advance and store the state of one key.

        Raises
        ------
        redis.RedisError, OSError
            The server does not answer within a second, refuses, or is too busy.
        """
        key = PREFIX + name
        keep_ms = int(1000 * KEEP_PERIODS * request.limits.period_s)
        give_up_at = time.monotonic() + TRY_S
        both = self._redis.pipeline(transaction=False)
        both.get(key)
        both.time()
        found, (seconds, microseconds) = both.execute()
        while True:
            found = found or b""
            state, outcome = step(found[VERSION.size :], request, int(seconds) + int(microseconds) / 1e6)
            version = VERSION.unpack_from(found)[0] if found else 0
            other = self._swap(key, found[: VERSION.size], VERSION.pack(version + 1) + state, keep_ms)
            if not other:
                return outcome
            if time.monotonic() > give_up_at:
                raise OSError("too many processes at once")
            found, seconds, microseconds = other

    def _swap(self, key: str, before: bytes, state: bytes, keep_ms: int) -> list[bytes]:
        """Store the state if it follows on `before`; else what is there instead: (state, seconds, microseconds)."""
        try:
            answer = self._redis.evalsha(self._sha, 1, key, before, state, keep_ms)
        except self._no_script:
            answer = self._redis.eval(SWAP, 1, key, before, state, keep_ms)
        return cast("list[bytes]", answer)

    def close(self) -> None:
        """Close the connections; the next step opens them again."""
        self._redis.close()
