"""Shared limits in Redis or Valkey: for processes on several machines."""

from __future__ import annotations

import hashlib
import random
import struct
import time
from urllib.parse import urlsplit

from llmlab.errors import InputError
from llmlab.limits.common import Outcome, Request
from llmlab.limits.state import step

PREFIX = "llmlab:limits:"
ANSWER_S = 1.0
TRIES = 50
KEEP_PERIODS = 10
VERSION = struct.Struct("<Q")

# Store the new state only if nobody else has stored one since it was read.
SWAP = """
if (redis.call('GETRANGE', KEYS[1], 0, 7) == ARGV[1]) then
    redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
    return 1
end
return 0
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
        for turn in range(TRIES):
            both = self._redis.pipeline(transaction=False)
            both.get(key)
            both.time()
            found, (seconds, microseconds) = both.execute()
            found = found or b""
            state, outcome = step(found[VERSION.size :], request, seconds + microseconds / 1e6)
            version = VERSION.unpack_from(found)[0] if found else 0
            if self._swap(key, found[: VERSION.size], VERSION.pack(version + 1) + state, keep_ms):
                return outcome
            time.sleep(random.uniform(0, min(0.0005 * (turn + 1), 0.01)))
        raise OSError("too many processes at once")

    def _swap(self, key: str, before: bytes, state: bytes, keep_ms: int) -> bool:
        try:
            return bool(self._redis.evalsha(self._sha, 1, key, before, state, keep_ms))
        except self._no_script:
            return bool(self._redis.eval(SWAP, 1, key, before, state, keep_ms))

    def close(self) -> None:
        """Close the connections; the next step opens them again."""
        self._redis.close()
