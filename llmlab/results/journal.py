"""Durable attempts in one SQLite file: a dead kernel loses only what was in flight, and the same cell goes on.

A thread of its own writes, so that the event loop never waits for the disk (`llmlab.results.writer`).
"""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Awaitable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from llmlab.errors import AttemptError, JournalError
from llmlab.records import TokenUsageAttempt, Trial
from llmlab.results import batches, book, cells, lookup, old, reading, sqlite
from llmlab.results.batches import Line, NotedBatch
from llmlab.results.book import Asks, Session
from llmlab.results.reading import Anew, Parser
from llmlab.results.rows import ORDER, Messages, Rows
from llmlab.results.store import Call, Store
from llmlab.results.writer import Writer


class _Done:
    """Something that can be awaited and is over at once."""

    def __await__(self) -> Generator[None, None, None]:
        return
        yield


@dataclass(frozen=True, slots=True)
class Found:
    """Which trials of a file those of an experiment are, by position; `book` tells the file from another."""

    book: str
    trials: np.ndarray


class NoJournal:
    """What stands for a journal where none is kept.

    Parameters
    ----------
    session : int, optional
        How many times the experiment was begun, this time included.
    """

    found: Found | None = None
    batches: Sequence[NotedBatch] = ()

    def __init__(self, session: int = 1) -> None:
        self.session = session

    def recall(self, parser: Parser, before: Store) -> Store:
        """Nothing is kept but what is in memory."""
        before.call = Call(self.session)
        return before

    def put(self, attempt: TokenUsageAttempt, value: object, messages: Messages) -> Awaitable[None]:
        """Nothing is kept."""
        return _Done()

    def put_failure(self, trial: Trial, error: AttemptError) -> None:
        """Nothing is kept."""

    async def close(self, stopped: str | None, store: Store) -> None:
        """Nothing is open."""

    def release(self) -> None:
        """Nothing is open."""


class Journal:
    """A journal open for writing, in which a session has begun. Use `Journal.open`.

    Attributes
    ----------
    path : Path
    session : int
        The number of this session in the file.
    found : Found
        The experiment's trials in the file: a later session of it needs not look for them.
    batches : list of NotedBatch
        What earlier sessions handed to the provider's batch queue and have not read; as of the beginning.
    """

    def __init__(
        self,
        path: Path,
        connection: sqlite3.Connection,
        session: Session,
        asks: Asks,
        parameters: Mapping[str, int],
        name: str,
    ) -> None:
        self.path = path
        self.session = session.number
        self.found = Found(name, session.trials)
        self.batches: Sequence[NotedBatch] = batches.read(connection, session.trials)
        self._connection = connection
        self._asks = asks
        self._rows = Rows(session.trials, parameters)
        self._attempts = array("i", bytes(4 * len(session.trials)))
        self._writer = Writer(path, connection, ORDER)

    @classmethod
    def open(cls, path: str | Path, asks: Asks, found: Found | None = None, session: int = 1) -> Journal:
        """Open a journal, or begin it, and note a new session.

        Parameters
        ----------
        found : Found, optional
            The experiment's trials, if an earlier session of it has found them.
        session : int
            The number of the new session, if no higher one is in the file.

        Raises
        ------
        JournalError
            In use, not writable, damaged, of a newer format, or no journal at all.
        """
        path = Path(path)
        connection = sqlite.connect(path)
        try:
            # One transaction: whoever is killed in it leaves no half of a journal.
            connection.execute("BEGIN IMMEDIATE")
            with sqlite.damage_is_named(path):
                if sqlite.is_fresh(connection):
                    sqlite.create(connection)
                elif old.is_old(connection):
                    old.carry_over(connection, connection)
                sqlite.add_columns(connection)
                connection.execute(batches.TABLE)
                connection.execute(book.SKIPPED_TABLE)
                name = sqlite.read_meta(connection)["book"]
                parameters = book.note_parameters(connection, asks.parameters)
                if found is not None and found.book == name:
                    trials = found.trials.copy()
                else:
                    trials = lookup.find(connection, asks, parameters)
                    old.adopt(connection, asks, parameters, trials)
                begun = book.begin(connection, asks, trials, session)
            connection.commit()
            return cls(path, connection, begun, asks, parameters, name)
        except sqlite3.Error as error:
            connection.close()
            raise JournalError(f"The journal {path} cannot be used: {error}.") from error
        except BaseException:
            connection.close()
            raise

    def recall(self, parser: Parser, before: Store) -> Store:
        """What the file has of these trials, each kept text read by `parser`.

        Parameters
        ----------
        before : Store
            What is in memory. Attempts that did not get into the file, as when the disk was full, are taken from there
            and written.

        Raises
        ------
        JournalError
            The file is damaged.
        """
        read = Anew(parser)
        chunks = sqlite.read_attempts(self._connection, self.found.trials, self.session)
        store = reading.fill(Store(), sqlite.with_damage_named(chunks, self.path), read)
        rows = [(self.session, place, *map(cells.storable, reading.row_of(one))) for place, one in read.changed]
        with sqlite.damage_is_named(self.path), self._connection:
            self._connection.executemany(book.READINGS, rows)
        for position in range(len(self._attempts)):
            self._attempts[position] = store.attempts_before(position)
        self._add_unsaved(before, store)
        store.call = Call(self.session, from_book=True)
        return store

    def put(self, attempt: TokenUsageAttempt, value: object, messages: Messages) -> Awaitable[None]:
        """Queue one attempt; what is returned is done once it is on the disk.

        Parameters
        ----------
        messages : list of mapping
            What was sent about the unit, without what a repeated request adds.

        Raises
        ------
        JournalError
            From the awaitable: the disk is full, or the file is gone. From then on nothing more is written.
        """
        durable = self._writer.durable()
        if not durable.done():
            self._attempts[attempt.trial.position] = attempt.attempt
            said = self._rows.unless_noted(attempt.trial, messages)
            self._writer.send(partial(self._rows.of_attempt, attempt, value, said), durable)
        return durable

    def note_batch(
        self, nonce: str, account: str, model: str, asked: Sequence[tuple[Trial, int, Messages]]
    ) -> Awaitable[None]:
        """Queue what is to be submitted as a batch; what is returned is done once it is on the disk.

        Parameters
        ----------
        asked : sequence of (Trial, number of its attempt, its messages)

        Raises
        ------
        JournalError
            As `put`.
        """
        durable = self._writer.durable()
        if not durable.done():
            for trial, _, messages in asked:
                said = self._rows.unless_noted(trial, messages)
                self._writer.send(partial(self._rows.of_trial, trial, said))
            lines = tuple(self.line(trial.position, attempt) for trial, attempt, _ in asked)
            note = batches.note(nonce, account, model, lines)
            self._writer.send(lambda: [(batches.NOTE, note)], durable)
        return durable

    def batch_submitted(self, nonce: str, batch_id: str) -> Awaitable[None]:
        """Queue the provider's name for a batch; awaited as `put`."""
        durable = self._writer.durable()
        if not durable.done():
            self._writer.send(lambda: [(batches.SUBMITTED, (batch_id, nonce))], durable)
        return durable

    def forget_batch(self, nonce: str) -> None:
        """Queue that a batch was never created."""
        self._writer.send(lambda: [(batches.FORGET, (nonce,))])

    def line(self, position: int, attempt: int) -> Line:
        """The line of a batch for this attempt at the trial."""
        return batches.line(int(self.found.trials[position]), position, attempt)

    def put_failure(self, trial: Trial, error: AttemptError) -> None:
        """Queue the failure of a trial that was not sent."""
        self._note_failure(trial.position, type(error).__name__, str(error))

    async def close(self, stopped: str | None, store: Store) -> None:
        """Write what is queued, how the session ended and what it did not ask, and release the file."""
        rows = [(book.SKIPPED, book.skipped(self.session, *one)) for one in store.skipped]
        rows.append((book.END, book.ending(self.session, stopped, len(store.answered))))
        self._writer.send(lambda: rows)
        await self._writer.close()

    def release(self) -> None:
        """Write what is queued and release the file, without waiting for it."""
        self._writer.release()

    def _add_unsaved(self, before: Store, store: Store) -> None:
        lacking = np.flatnonzero(~np.isin(before.table.places(), store.table.places()))
        rows = lacking[np.argsort(before.table.places()[lacking])].tolist()
        trials = self._asks.plan.trials(before.table.position[at] for at in rows)
        for at, trial in zip(rows, trials, strict=True):
            attempt, value = before.table.row(at, trial), before.value(trial.position)
            store.record(attempt, value)
            self._attempts[trial.position] = attempt.attempt
            said = self._asks.messages_of(trial)
            self._writer.send(partial(self._rows.of_attempt, attempt, value, said))
        store.skipped += before.skipped
        for position, error in before.unsent.items():
            if store.attempts_before(position) <= before.attempts_before(position):
                store.fail_as(position, *error)
                self._note_failure(position, *error)

    def _note_failure(self, position: int, error_type: str, error: str) -> None:
        row = (self.session, position, self._attempts[position], error_type, cells.storable(error))
        self._writer.send(lambda: [(book.FAILURES, row)])
