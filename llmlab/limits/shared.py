"""`share_limits`: several kernels, several machines, one limit. Where it is kept, and the thread that talks to it."""

from __future__ import annotations

import hashlib
import logging
import math
import os
import re
import socket
import threading
import time
import weakref
from pathlib import Path
from typing import Protocol

from llmlab.errors import InputError
from llmlab.limits.alone import Alone
from llmlab.limits.common import Outcome, Request
from llmlab.limits.grants import Grants
from llmlab.limits.share import RETRY_S, Share
from llmlab.limits.shared_file import FileStore
from llmlab.limits.shared_redis import RedisStore
from llmlab.limits.state import FORMAT

logger = logging.getLogger("llmlab.limits")

VARIABLE = "LLMLAB_SHARED_LIMITS"
ON_WORDS, OFF_WORDS = ("1", "true", "yes", "on"), ("", "0", "false", "no", "off")


class Store(Protocol):
    """Keeps the state of every key."""

    def step(self, name: str, request: Request) -> Outcome:
        """Load, advance and store the state of one key, in one atomic step."""
        ...

    def close(self) -> None:
        """Let go of what is open."""
        ...


class Sharing:
    """The worker of this process, and the limiters for which it talks to the store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._pid = os.getpid()
        self._due: dict[Grants, float] = {}
        self._changed = threading.Condition()
        self._talking = threading.Lock()
        self._over = False
        self._thread = threading.Thread(target=self._work, name="llmlab shared limits", daemon=True)
        self._thread.start()

    def join(self, grants: Grants, name: str) -> None:
        """Let a limiter share under this name from now on."""
        ref = weakref.ref(grants)

        def wake(in_s: float) -> None:
            found = ref()
            if found is not None:
                self.wake(found, in_s)

        with grants.lock.timed() as now:
            grants.share = Share(
                name, grants.schedule, now, weights=grants.waiters.weights, wake=wake, log=grants.lock.log
            )
            grants.waiters.serve(now)

    def close(self) -> None:
        """End the worker; the limiters go on alone."""
        with self._changed:
            self._over = True
            self._changed.notify()

    def hold(self) -> None:
        """Until `go_on`, the worker is between two steps, so that a fork leaves no lock behind in the child."""
        self._talking.acquire()
        self._changed.acquire()

    def go_on(self) -> None:
        """End `hold`."""
        self._changed.release()
        self._talking.release()

    def wake(self, grants: Grants, in_s: float) -> None:
        """Take a step for this limiter in so many seconds, or earlier."""
        if in_s == math.inf:
            return
        if os.getpid() != self._pid:
            # The worker stayed behind in the parent process.
            _process.begin_again()
            return
        at = time.monotonic() + in_s
        with self._changed:
            if at < self._due.get(grants, math.inf):
                self._due[grants] = at
                self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._over:
                    wait_s = min(self._due.values(), default=math.inf) - time.monotonic()
                    if wait_s <= 0:
                        break
                    self._changed.wait(min(wait_s, threading.TIMEOUT_MAX))
                if self._over:
                    self.store.close()
                    return
            self._serve_next()

    def _serve_next(self) -> None:
        """Take the step that is due first. Between the steps the worker holds no limiter that nobody else uses."""
        with self._changed:
            grants = min(self._due, key=self._due.__getitem__)
            del self._due[grants]
        try:
            self.wake(grants, self._step(grants))
        except Exception:
            # A clock that raises, say; acquire must not be the one to notice.
            logger.debug("shared limits: a step failed", exc_info=True)
            self.wake(grants, RETRY_S)

    def _step(self, grants: Grants) -> float:
        """One step of one limiter; returns in how many seconds the next is due."""
        share = grants.share
        if not isinstance(share, Share):
            return math.inf
        with grants.lock.timed() as now:
            request = share.request(now)
        try:
            with self._talking:
                outcome = self.store.step(share.name, request)
        except Exception as error:
            with grants.lock.timed() as now:
                next_s = share.fail(_words(error), now)
                grants.waiters.serve(now)
            return next_s
        with grants.lock.timed() as now:
            next_s = share.outcome(request, outcome, now)
            grants.waiters.serve(now)
        return next_s


def _words(error: Exception) -> str:
    """What went wrong, without a password that may stand in an address."""
    return f"{type(error).__name__}: {re.sub(r'//[^@/ ]*@', '//…@', str(error))}"


class _Process:
    """What this process shares: every limiter that has a name, and where."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.limiters: weakref.WeakKeyDictionary[Grants, str] = weakref.WeakKeyDictionary()
        self.where = ""
        self.sharing: list[Sharing] = []
        self.held: list[Grants] = []

    def begin(self, where: str, store: Store) -> None:
        with self.lock:
            self.end()
            self.where = where
            self.sharing.append(Sharing(store))
            logger.info("Limits are shared through %r", store)
            for grants, name in list(self.limiters.items()):
                self.sharing[0].join(grants, name)

    def end(self) -> None:
        with self.lock:
            while self.sharing:
                self.sharing.pop().close()
            self.where = ""
            for grants in list(self.limiters):
                with grants.lock.timed() as now:
                    grants.schedule.share = 1.0
                    grants.share = Alone(grants.schedule)
                    grants.waiters.serve(now)

    def before_fork(self) -> None:
        """Take every lock, as a child would find those of other threads taken for ever."""
        self.lock.acquire()
        self.held = list(self.limiters) if self.sharing else []
        for grants in self.held:
            grants.lock.__enter__()
        for sharing in self.sharing:
            sharing.hold()

    def after_fork(self) -> None:
        """Give them back."""
        for sharing in self.sharing:
            sharing.go_on()
        for grants in self.held:
            grants.lock.__exit__()
        self.held = []
        self.lock.release()

    def after_fork_in_child(self) -> None:
        """The worker stayed behind in the parent: another one is made when a limiter is used."""
        self.after_fork()
        self.sharing = []

    def begin_again(self) -> None:
        with self.lock:
            if self.where and not self.sharing:
                self.begin(self.where, _store(self.where))
                for grants in list(self.limiters):
                    self.sharing[0].wake(grants, 0.0)


_process = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_process.before_fork,
        after_in_parent=_process.after_fork,
        after_in_child=_process.after_fork_in_child,
    )


def enlist(grants: Grants, name: str, period_s: float) -> None:
    """Let a limiter share under a digest of this name once `share_limits` is called, or at once if it has been."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    # Other versions of the state, and other periods, are kept apart.
    digest = f"{digest}:{period_s:g}:{FORMAT}"
    if not _process.where and _in_environment() not in OFF_WORDS:
        share_limits()
    with _process.lock:
        _process.limiters[grants] = digest
        for sharing in _process.sharing:
            sharing.join(grants, digest)


def share_limits(where: str | os.PathLike[str] | bool | None = None) -> None:
    """Count the requests of several processes together, so that they share one limit.

    Call it once in each process, before or while experiments run. From then on every limiter of the registry counts
    together with those of the same endpoint and key in all processes that share; so do limiters of your own that have
    the same `name` and `period_s`.

    Parameters
    ----------
    where : path, str or False, optional
        A file, for the processes of this machine; or `redis://host:6379/0`, for several machines (needs
        ``pip install "llmlab[shared]"``; Valkey works as well). Left out, it is the environment variable
        `LLMLAB_SHARED_LIMITS`, else a file in this user's cache folder. `False` ends the sharing.

    Raises
    ------
    InputError
        No such kind of place, or the package redis is missing.

    Notes
    -----
    The place holds fingerprints, no key. If it cannot be reached, sending goes on at one n-th of the limits, where n
    is how many processes shared last; one warning on the logger `llmlab.limits` says so.
    """
    if where is False:
        _process.end()
        return
    address = _address(where)
    with _process.lock:
        if address != _process.where:
            _process.begin(address, _store(address))


def shared_place() -> str:
    """Where the limits of this process are shared: a path or an address; empty if they are not."""
    return _process.where


def _in_environment() -> str:
    given = os.environ.get(VARIABLE, "").strip()
    return given.lower() if given.lower() in (*ON_WORDS, *OFF_WORDS) else given


def _address(where: object) -> str:
    if where is None:
        given = _in_environment()
        where = True if given in (*ON_WORDS, *OFF_WORDS) else given
    if where is True:
        import platformdirs

        # Home folders are often shared by machines, clocks are not.
        machine = re.sub(r"\W+", "-", socket.gethostname()) or "machine"
        return str(platformdirs.user_cache_path("llmlab") / f"limits-{machine}.sqlite")
    if not isinstance(where, (str, os.PathLike)) or not os.fspath(where):
        raise InputError(
            f'share_limits takes a path, an address such as "redis://host:6379/0", or nothing, not {where!r}.'
        )
    text = os.fspath(where)
    if isinstance(text, bytes):
        text = os.fsdecode(text)
    scheme = re.match(r"(\w+)://", text)
    if scheme is None:
        return str(Path(text).expanduser().absolute())
    if scheme[1] not in ("redis", "rediss", "unix"):
        raise InputError(f'share_limits knows files and "redis://", "rediss://" and "unix://", not "{scheme[1]}://".')
    return text


def _store(address: str) -> Store:
    return RedisStore(address) if "://" in address else FileStore(address)
