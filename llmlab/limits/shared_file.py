"""Shared limits in a SQLite file: for the processes of one machine."""

from __future__ import annotations

import math
import os
import socket
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from llmlab.limits.common import Outcome, Request
from llmlab.limits.state import step

BUSY_S = 1.0
SIGNED_EVERY_S, ANOTHER_MACHINE_S = 30.0, 120.0


def boot_time() -> float:
    """Seconds since the machine started: the one clock that all its processes share, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def _boot() -> str:
    """Which start of the machine this is; empty where the system does not tell."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


class FileStore:
    """One row per key, advanced in one transaction.

    Parameters
    ----------
    path : path
        Made with its folder if missing. It holds no key, and may be deleted at any time.
    clock : callable
        Seconds that all processes of the machine agree on.
    """

    def __init__(self, path: str | os.PathLike[str], *, clock: Callable[[], float] = boot_time) -> None:
        self._path = Path(path).expanduser().absolute()
        self._clock = clock
        self._connections: list[tuple[sqlite3.Connection, int]] = []
        self._signed_at = -math.inf

    def __repr__(self) -> str:
        return f"file {self._path}"

    def step(self, name: str, request: Request) -> Outcome:
        """Load, advance and store the state of one key.

        Raises
        ------
        sqlite3.Error, OSError
            The file cannot be read or written, or is locked for longer than a second.
        """
        try:
            return self._step(name, request)
        except (sqlite3.Error, OSError) as error:
            self.close()
            if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
                # Damaged, as after a power cut: what it said is out of date anyway.
                with suppress(OSError):
                    self._path.unlink()
            raise

    def close(self) -> None:
        """Close the file; the next step opens it again."""
        while self._connections:
            with suppress(sqlite3.Error):
                self._connections.pop()[0].close()

    def _step(self, name: str, request: Request) -> Outcome:
        connection = self._open()
        connection.execute("BEGIN IMMEDIATE")
        try:
            row = connection.execute("SELECT state FROM keys WHERE name = ?", (name,)).fetchone()
            # The time is taken inside, so that it goes the way of the transactions.
            now = self._clock()
            if now >= self._signed_at + SIGNED_EVERY_S:
                self._sign(connection)
                self._signed_at = now
            state, outcome = step(row[0] if row else b"", request, now)
            connection.execute("REPLACE INTO keys (name, state) VALUES (?, ?)", (name, state))
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            raise
        return outcome

    def _open(self) -> sqlite3.Connection:
        if self._connections:
            connection, inode = self._connections[0]
            with suppress(FileNotFoundError):
                if self._path.stat().st_ino == inode:
                    return connection
            # Deleted, or another one put in its place.
            self.close()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA journal_mode = MEMORY")
            connection.execute("PRAGMA synchronous = OFF")
            self._prepare(connection)
            with suppress(OSError):
                self._path.chmod(0o600)
            self._connections.append((connection, self._path.stat().st_ino))
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Make the tables."""
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("CREATE TABLE IF NOT EXISTS keys (name TEXT PRIMARY KEY, state BLOB NOT NULL)")
        connection.execute("CREATE TABLE IF NOT EXISTS machine (host TEXT, boot TEXT, at REAL)")
        self._sign(connection)
        connection.execute("COMMIT")

    def _sign(self, connection: sqlite3.Connection) -> None:
        """Say that this machine uses the file; empty it if the machine was started anew, as its clock was, too."""
        host, boot = socket.gethostname(), _boot()
        found = connection.execute("SELECT host, boot, at FROM machine").fetchone()
        # Containers of one machine have names of their own, but its clock.
        same = found is not None and (found[1] == boot if boot else found[0] == host)
        if found is not None and not same:
            if found[0] != host and abs(time.time() - found[2]) < ANOTHER_MACHINE_S:
                raise OSError(
                    f"{self._path.name} is in use on another machine, {found[0]}: several machines share through "
                    'share_limits("redis://…")'
                )
            connection.execute("DELETE FROM keys")
        connection.execute("DELETE FROM machine")
        connection.execute("INSERT INTO machine VALUES (?, ?, ?)", (host, boot, time.time()))
