"""Who goes next and how many at once: slots start tasks, hold none for a retry, narrow, widen, and close."""

import asyncio
import time

import pytest

from llmlab.engine.queue import Asked, TrialQueue
from llmlab.engine.slots import RAMP_S, STARTS_PER_TURN, Slots
from llmlab.engine.width import FIRST_SLOTS
from llmlab.records import Trial


def trials(count):
    return iter([Asked(Trial(n, n, "m", 1), 0, time.monotonic()) for n in range(count)])


def slots_for(count, most, attempt, ended=lambda task, asked: None):
    return Slots(TrialQueue([trials(count)], ["m"]), most, attempt, ended)


class Desk:
    """Attempts that last until `finish` ends them."""

    def __init__(self, count, most=100):
        self.begun, self.living, self.most_living, self.ended = [], {}, 0, []
        self.slots = slots_for(count, most, self.attempt, lambda task, asked: self.ended.append(task))

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

    slots = slots_for(3, 1, attempt)
    slots.open()
    await slots.over
    assert order == [0, 0, 1, 2, 1]


async def test_retries_come_in_the_order_of_their_times():
    order, waits = [], {0: 0.03, 1: 0.01, 2: 0.02}

    async def attempt(asked):
        order.append(asked.trial.position)
        if len(order) <= 3:
            slots.again(asked, waits[asked.trial.position])

    slots = slots_for(3, 1, attempt)
    slots.open()
    await slots.over
    assert order == [0, 1, 2, 1, 2, 0]


async def test_narrowing_halves_once_for_all_that_were_in_flight_together_and_answers_widen_again():
    desk = Desk(200, most=8)
    desk.slots.open()
    await turns()
    assert len(desk.living) == 8
    sent_at = time.monotonic()
    desk.slots.width.narrow(sent_at, room=8)
    desk.slots.width.narrow(sent_at, room=7)
    await desk.finish(8)
    assert len(desk.living) == 4
    desk.slots.width.narrow(time.monotonic(), room=4)
    await desk.finish(4)
    assert len(desk.living) == 2
    for _ in range(8):
        desk.slots.width.widen()
    await desk.finish(1)
    assert len(desk.living) == 3
    for _ in range(8 * 100):
        desk.slots.width.widen()
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
    slots = slots_for(50, 4, attempt, lambda task, asked: ends.append(task.cancelled()))
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
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_without_trials_it_is_over_at_once():
    desk = Desk(0)
    desk.slots.open()
    await desk.slots.over


async def test_models_on_hold_are_taken_back_unsent_probed_one_at_a_time_and_begin_again_with_few():
    sent, begun = set(range(3)), []

    async def attempt(asked):
        begun.append((asked.trial.position, bool(asked.probe)))
        asked.sent = asked.trial.position in sent or bool(asked.probe)
        await asyncio.sleep(60)

    slots = slots_for(100, 5, attempt)
    slots.open()
    await turns(10)
    assert begun == [(at, False) for at in range(5)]
    slots.hold({"m"})
    await turns(10)
    assert slots.probe(frozenset({"m"}))
    await turns(10)
    assert begun[5:] == [(5, True)]
    slots.release({"m"})
    await turns(10)
    # The two that were taken back are the next; three in flight and the probe hold the other slots.
    assert begun[6:] == [(3, False)]
    await slots.end()


async def test_the_trials_of_a_model_that_ended_are_not_started_and_what_is_in_flight_goes_on():
    desk = Desk(10, most=2)
    desk.slots.open()
    await turns()
    desk.slots.drop({"m"})
    await turns()
    assert desk.begun == [0, 1]
    await desk.finish_all()
    assert desk.begun == [0, 1]
    assert [task.cancelled() for task in desk.ended] == [False, False]


class Crowd:
    """Trials of two models whose attempts wait for a limiter until they are sent, and live until they are ended."""

    def __init__(self, count, most):
        models = ["a", "b"]
        fresh = [iter([Asked(Trial(n, n, model, 1), 0, 0.0) for n in range(count)]) for model in models]
        self.waiting, self.sent = {"a": [], "b": []}, {"a": [], "b": []}
        groups = [frozenset("a"), frozenset("b")]
        self.slots = Slots(TrialQueue(fresh, models), most, self.attempt, lambda task, asked: None, groups)

    async def attempt(self, asked):
        granted = asyncio.Event()
        self.waiting[asked.trial.model].append(granted)
        await granted.wait()
        asked.sent = True
        over = asyncio.Event()
        self.sent[asked.trial.model].append(over)
        await over.wait()

    def go(self, model, count=1):
        for _ in range(count):
            self.waiting[model].pop(0).set()

    def answer(self, model, count=1):
        for _ in range(count):
            self.sent[model].pop(0).set()


async def test_the_trials_of_one_limiter_do_not_fill_all_slots_while_they_wait():
    crowd = Crowd(100, 10)
    crowd.slots.open()
    await turns()
    assert {model: len(waiting) for model, waiting in crowd.waiting.items()} == {"a": 5, "b": 5}
    for _ in range(20):
        crowd.go("b")
        await turns(5)
        crowd.answer("b")
        await turns()
    assert len(crowd.waiting["a"]) == 5
    assert len(crowd.waiting["b"]) == 5
    crowd.slots.close()
    await crowd.slots.end()


async def test_when_those_who_waited_have_been_sent_others_follow_although_no_task_has_ended():
    crowd = Crowd(100, 40)
    crowd.slots.open()
    await turns()
    crowd.go("a", 8)
    for _ in range(100):
        await asyncio.sleep(0.01)
        if len(crowd.waiting["a"]) >= 8:
            break
    assert len(crowd.sent["a"]) == 8
    assert len(crowd.waiting["a"]) >= 8
    crowd.slots.close()
    await crowd.slots.end()
