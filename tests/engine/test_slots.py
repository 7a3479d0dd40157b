"""Who goes next and how many at once: slots start tasks, hold none for a retry, narrow, widen, and close."""

import asyncio
import time

import pytest

from llmlab.engine.attempt import Asked
from llmlab.engine.slots import FIRST_SLOTS, RAMP_S, STARTS_PER_TURN, Slots
from llmlab.records import Trial


def trials(count):
    return iter([Asked(Trial(n, n, "m", 1), 0, time.monotonic()) for n in range(count)])


class Desk:
    """Attempts that last until `finish` ends them."""

    def __init__(self, count, most=100):
        self.begun, self.living, self.most_living, self.ended = [], {}, 0, []
        self.slots = Slots(trials(count), most, self.attempt, self.ended.append)

    async def attempt(self, asked):
        position = asked.trial.position
        asked.sent = True
        self.begun.append(position)
        self.living[position] = asyncio.Event()
        self.most_living = max(self.most_living, len(self.living))
        try:
            await self.living[position].wait()
        finally:
            del self.living[position]

    async def finish(self, count):
        """End so many of those that live, the oldest first."""
        for event in list(self.living.values())[:count]:
            event.set()
        await turns()

    async def finish_all(self):
        while not self.slots.over.done():
            await self.finish(len(self.living))


async def turns(count=50):
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("most", [1, 3, 16])
async def test_all_trials_go_in_order_with_at_most_so_many_at_once(most):
    desk = Desk(40, most)
    desk.slots.open()
    await desk.finish_all()
    assert desk.begun == list(range(40))
    assert desk.most_living == most
    assert len(desk.ended) == 40


async def test_the_first_few_go_at_once_and_then_they_double():
    desk = Desk(100)
    desk.slots.open()
    await turns()
    assert len(desk.living) == FIRST_SLOTS
    await asyncio.sleep(1.5 * RAMP_S)
    await turns()
    assert len(desk.living) == 2 * FIRST_SLOTS
    await desk.slots.end()


async def test_few_start_in_each_turn_of_the_loop():
    desk = Desk(100)
    desk.slots.open()
    await asyncio.sleep(0)
    assert len(desk.begun) <= STARTS_PER_TURN
    await desk.slots.end()


async def test_a_retry_waits_without_a_slot_and_goes_before_fresh_trials():
    order = []

    async def attempt(asked):
        order.append(asked.trial.position)
        if order.count(asked.trial.position) == 1 and asked.trial.position < 2:
            slots.again(asked, 0.0 if asked.trial.position == 0 else 0.02)

    slots = Slots(trials(3), 1, attempt, lambda task: None)
    slots.open()
    await slots.over
    assert order == [0, 0, 1, 2, 1]
    assert len(slots.retries_due) == 0


async def test_retries_come_in_the_order_of_their_times():
    order, waits = [], {0: 0.03, 1: 0.01, 2: 0.02}

    async def attempt(asked):
        order.append(asked.trial.position)
        if len(order) <= 3:
            slots.again(asked, waits[asked.trial.position])

    slots = Slots(trials(3), 1, attempt, lambda task: None)
    slots.open()
    await slots.over
    assert order == [0, 1, 2, 1, 2, 0]


async def test_narrowing_halves_once_for_all_that_were_in_flight_together_and_answers_widen_again():
    desk = Desk(200, most=8)
    desk.slots.open()
    await turns()
    assert len(desk.living) == 8
    sent_at = time.monotonic()
    desk.slots.narrow(sent_at, in_flight=7)
    desk.slots.narrow(sent_at, in_flight=6)
    await desk.finish(8)
    assert len(desk.living) == 4
    desk.slots.narrow(time.monotonic(), in_flight=3)
    await desk.finish(4)
    assert len(desk.living) == 2
    for _ in range(8):
        desk.slots.widen()
    await desk.finish(1)
    assert len(desk.living) == 3
    for _ in range(8 * 100):
        desk.slots.widen()
    await desk.finish(1)
    assert len(desk.living) == 8
    await desk.slots.end()


async def test_closed_slots_take_back_what_is_not_sent_and_let_the_rest_end():
    ends = []

    async def attempt(asked):
        asked.sent = asked.trial.position == 0
        await (let_go.wait() if asked.sent else asyncio.sleep(60))
        slots.again(asked, 0)

    let_go = asyncio.Event()
    slots = Slots(trials(50), 4, attempt, lambda task: ends.append(task.cancelled()))
    slots.open()
    await turns(10)
    slots.close()
    await turns(10)
    assert ends == [True, True, True]
    assert not slots.over.done()
    let_go.set()
    await slots.over
    assert ends == [True, True, True, False]


async def test_the_end_cancels_what_is_in_flight_and_leaves_no_task_and_no_timer():
    desk = Desk(10)
    desk.slots.open()
    await turns(10)
    desk.slots.again(next(trials(1)), 1000.0)
    await desk.slots.end()
    assert not desk.living
    assert len(desk.slots.retries_due) == 0
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_without_trials_it_is_over_at_once():
    desk = Desk(0)
    desk.slots.open()
    await desk.slots.over
