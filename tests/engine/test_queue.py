"""Which trial goes next: due ones before fresh ones, none of a model held back or ended."""

from llmlab.engine.queue import Asked, TrialQueue
from llmlab.records import Trial


def queue(*models, drawn=None):
    """A queue of fresh trials of these models, in this order."""

    def fresh():
        for position, model in enumerate(models):
            if drawn is not None:
                drawn.append(position)
            yield Asked(Trial(position, position, model, 1), 0, 0.0)

    return TrialQueue([fresh()], set(models))


def order(one):
    """The positions of all trials that can go now."""
    return [asked.trial.position for asked in iter(one.next, None)]


def test_fresh_trials_go_in_order_and_are_drawn_when_needed():
    drawn = []
    one = queue(*"mmmm", drawn=drawn)
    assert one.next().trial.position == 0
    assert drawn == [0]
    assert order(one) == [1, 2, 3]
    assert one.empty


def test_what_is_due_again_goes_before_fresh_trials():
    one = queue(*"mmm")
    first = one.next()
    first.ready_at = 5.0
    one.put_later(first)
    assert (one.retries_due, one.first_due) == ([5.0], 5.0)
    assert one.next().trial.position == 1
    one.wake(4.9)
    assert len(one.retries_due) == 1
    one.wake(5.0)
    assert order(one) == [0, 2]


def test_a_model_on_hold_waits_and_the_others_go():
    one = queue(*"abab")
    one.hold({"a"})
    assert order(one) == [1, 3]
    assert not one.empty
    assert one.release({"a"})
    assert order(one) == [0, 2]
    assert one.empty
    assert not one.release({"a"})


def test_with_all_models_on_hold_nothing_is_drawn():
    drawn = []
    one = queue(*"abab", drawn=drawn)
    one.hold({"a", "b"})
    assert one.next() is None
    assert drawn == []
    assert not one.empty


def test_a_model_that_has_ended_is_forgotten_wherever_its_trials_are():
    one = queue(*"abababab")
    due, later, held = one.next(), one.next(), one.next()
    one.put(due)
    one.put_later(later)
    one.hold({"a"})
    one.put(held)
    one.drop({"a"})
    assert len(one.retries_due) == 1
    one.put(due)
    one.put_later(held)
    one.wake(1.0)
    assert order(one) == [1, 3, 5, 7]
    assert one.empty


def test_when_every_model_has_ended_nothing_is_left():
    drawn = []
    one = queue(*"ab" * 1000, drawn=drawn)
    one.drop({"a", "b"})
    assert one.next() is None
    assert one.empty
    assert drawn == []


def test_a_probe_is_a_trial_that_was_not_tried_yet_if_there_is_one():
    one = queue(*"bab")
    first = one.next()
    one.hold({"a", "b"})
    one.put(first)
    probes = [one.next_for_probe({"b"}) for _ in range(3)]
    assert [probe and probe.trial.position for probe in probes] == [2, 0, None]
    assert one.next() is None
    one.release({"a", "b"})
    assert order(one) == [1]


def test_a_probe_takes_what_waits_for_its_time_if_nothing_else_is_left():
    one = queue("m")
    first = one.next()
    first.ready_at = 100.0
    one.put_later(first)
    one.hold({"m"})
    assert one.next_for_probe({"m"}) is first
    assert one.retries_due == []


def by_limiter(*models):
    """A queue in which each model has an iterator of its own."""
    trials = [Asked(Trial(position, position, model, 1), 0, 0.0) for position, model in enumerate(models)]
    names = list(dict.fromkeys(models))
    return TrialQueue([iter([one for one in trials if one.trial.model == name]) for name in names], names)


def test_models_with_limiters_of_their_own_take_turns():
    one = by_limiter(*"aaabb")
    assert order(one) == [0, 3, 1, 4, 2]
    assert one.empty


def test_a_full_model_is_passed_over_and_keeps_its_order():
    one = by_limiter(*"aaabb")
    assert [one.next({"a"}).trial.position for _ in range(2)] == [3, 4]
    assert one.next({"a"}) is None
    assert not one.empty
    assert order(one) == [0, 1, 2]
    assert one.empty


def test_what_is_due_again_waits_too_while_its_model_is_full():
    one = by_limiter(*"ab")
    again = one.next({"b"})
    one.put(again)
    assert one.next({"a"}).trial.model == "b"
    assert one.next({"a"}) is None
    assert one.next() is again


def test_with_all_models_full_nothing_is_drawn():
    drawn = []
    one = queue(*"mm", drawn=drawn)
    assert one.next({"m"}) is None
    assert drawn == []


def test_a_trial_that_others_wait_for_goes_first_also_while_its_model_is_held():
    one = queue(*"aaab")
    leader = one.next()
    leader.leads = True
    one.hold({"a"})
    leader.ready_at = 5.0
    one.put_later(leader)
    assert order(one) == [3]
    one.wake(5.0)
    assert not one.empty
    assert order(one) == [0]
    one.put(leader)
    one.drop({"a"})
    assert order(one) == []
    assert one.empty
