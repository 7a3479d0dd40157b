"""What was submitted is known until its result is read, by the place of each attempt alone."""

import sqlite3

import numpy as np
import pytest

from llmlab.results import batches
from llmlab.results.sqlite import PLACES


@pytest.fixture
def connection():
    with sqlite3.connect(":memory:") as opened:
        opened.execute(batches.TABLE)
        opened.execute("CREATE TABLE attempts (place INTEGER PRIMARY KEY)")
        yield opened
    opened.close()


def note(connection, nonce, *trials, attempt=1):
    lines = tuple(batches.line(trial, -1, attempt) for trial in trials)
    connection.execute(batches.NOTE, batches.note(nonce, "account", "m", lines))


def test_lines_come_back_with_their_positions_until_they_have_an_attempt(connection):
    trials = np.array([70, 50, 60])  # by position
    note(connection, "n", 50, 60, 70, attempt=2)
    (noted,) = batches.read(connection, trials)
    assert [(line.position, line.attempt) for line in noted.lines] == [(1, 2), (2, 2), (0, 2)]
    assert len({line.name for line in noted.lines}) == 3
    connection.execute("INSERT INTO attempts VALUES (?)", (60 * PLACES + 2,))
    connection.execute("INSERT INTO attempts VALUES (?)", (50 * PLACES + 1,))
    (noted,) = batches.read(connection, trials)
    assert [line.position for line in noted.lines] == [1, 0]
    for trial in (50, 70):
        connection.execute("INSERT INTO attempts VALUES (?)", (trial * PLACES + 2,))
    assert batches.read(connection, trials) == []


def test_batches_of_other_experiments_are_left_alone(connection):
    note(connection, "other", 1, 2)
    note(connection, "both", 2, 3)
    (noted,) = batches.read(connection, np.array([3, 4]))
    assert (noted.nonce, [line.position for line in noted.lines]) == ("both", [0])
    assert batches.read(connection, np.array([], "int64")) == []


def test_a_batch_is_nameless_until_it_is_created_and_can_be_forgotten(connection):
    note(connection, "n", 1)
    (noted,) = batches.read(connection, np.array([1]))
    assert (noted.batch_id, noted.account, noted.model) == (None, "account", "m")
    connection.execute(batches.SUBMITTED, ("batch_7", "n"))
    assert batches.read(connection, np.array([1]))[0].batch_id == "batch_7"
    connection.execute(batches.FORGET, ("n",))
    assert batches.read(connection, np.array([1])) == []
