"""What workers are told and what they tell: shares of the slots, trials that come back, and who is let go."""

from dataclasses import replace

import pytest

import llmlab as ll
from llmlab.client import ChatClient
from llmlab.display import Tally
from llmlab.engine.attempt import Attempts
from llmlab.engine.cluster.desk import MOST_LOSSES, Desk
from llmlab.engine.cluster.member import Member
from llmlab.engine.cluster.travel import Made, Report, Told
from llmlab.engine.verdict import Stop
from llmlab.records import ATTEMPT
from llmlab.results import NoJournal, Store
from tests.helpers import attempt, settings, texts


class Ends:
    def __init__(self):
        self.stops, self.bugs = [], []

    def end(self, stop):
        self.stops.append(stop)

    def fail(self, bug):
        self.bugs.append(bug)


@pytest.fixture
async def open_desk(provider):
    """Makes a desk with so many trials, its store and what it ended; and members."""
    opened = []

    def make(count, **more):
        setup = ll.run_experiment(texts(count), "{text}", **settings(provider(), **more)).setup
        client = ChatClient(setup.endpoint, timeout_s=1, connections=1)
        opened.append(client)
        store, journal, ends = Store(), NoJournal(), Ends()
        attempts = Attempts(setup, client, store, journal, Tally(count))
        return Desk(setup, range(count), store, journal, attempts, {}, ends), store, ends

    yield make
    for client in opened:
        await client.close()


def join(desk, *names):
    for name in names:
        desk.members[name] = Member(name)
    return list(desk.members.values())


REPORT = Report(
    told=Told(), in_flight=0, exposed=(), slots_used=0, waiting=0, retrying=0, last_retry_s=0.0, idle=False, ended={}, stops=(),
    bug=None, over=False,
)  # fmt: skip


def answered(desk, position):
    trial = next(desk._setup.plan.trials([position]))
    return Told(made=[Made(position, True, ATTEMPT.cells(attempt(trial)), "fine", [])])


async def test_workers_have_equal_shares_and_never_more_than_the_experiment_may_have(open_desk):
    desk, _, _ = open_desk(100, max_concurrent=7)
    first, second = join(desk, "a", "b")
    assert [desk.orders_for(one).slots for one in (first, second)] == [4, 3]
    (*_, third) = join(desk, "c")
    # The others may still use what they had.
    assert desk.orders_for(third).slots == 0
    assert desk.orders_for(first).slots == 3
    await desk.take(first, replace(REPORT, slots_used=3))
    assert desk.orders_for(third).slots == 1
    assert sum(one.bound for one in (first, second, third)) <= 7


async def test_what_a_lost_worker_had_goes_to_the_next_and_what_was_in_flight_is_told(open_desk):
    desk, store, _ = open_desk(40)
    (lost,) = join(desk, "a")
    given = [one.position for one in desk.orders_for(lost).part.trials]
    await desk.take(lost, replace(REPORT, told=answered(desk, 0), exposed=(1, 2)))
    del desk.members["a"]
    await desk.take_back(lost)
    (other,) = join(desk, "b")
    again = desk.orders_for(other).part.trials
    assert [one.position for one in again][: len(given) - 1] == given[1:]
    assert [one.before for one in again][:3] == [1, 1, 0]
    kinds = [(at, store.table.value("error_type", row)) for row, at in enumerate(store.table.position)]
    assert kinds == [(0, None), (1, "CancelledError"), (2, "CancelledError")]
    assert store.answered == {0}


async def test_a_trial_that_was_in_flight_with_three_lost_workers_is_given_to_no_other(open_desk):
    desk, store, _ = open_desk(2)
    for number in range(MOST_LOSSES):
        (member,) = join(desk, str(number))
        desk.orders_for(member)
        await desk.take(member, replace(REPORT, exposed=(0,)))
        desk.members.clear()
        await desk.take_back(member)
    (member,) = join(desk, "last")
    assert [one.position for one in desk.orders_for(member).part.trials] == [1]
    assert store.errors(2)["error_type"][0] == "CancelledError"
    assert store.attempts_before(0) == MOST_LOSSES


async def test_a_worker_that_alone_reaches_nobody_is_let_go(open_desk):
    desk, _, ends = open_desk(100)
    cut_off, other = join(desk, "a", "b")
    for one in (cut_off, other):
        desk.orders_for(one)
    nobody = replace(REPORT, stops=(Stop("nobody answers", away=True),))
    await desk.take(other, replace(REPORT, told=answered(desk, 32)))
    assert await desk.take(cut_off, nobody) == ("nobody answers",)
    assert ends.stops == []
    # The other one, too: then it is the provider.
    cut_off.heard_at = other.heard_at
    assert await desk.take(other, nobody) == ()
    assert ends.stops == [Stop("nobody answers", away=True)]


async def test_answers_of_one_worker_are_news_for_the_others_once(open_desk):
    desk, _, _ = open_desk(100)
    first, second = join(desk, "a", "b")
    desk.orders_for(first)
    await desk.take(first, replace(REPORT, told=answered(desk, 0)))
    told = [dict(desk.orders_for(one).answered) for one in (first, second, second)]
    assert told == [{}, {"openai/gpt-4o-mini": None}, {}]
