"""When nobody answers: what is an outage and of whom, when the next probe goes, when it is given up."""

import pytest

from llmlab import errors
from llmlab.engine.outage import REFUSED_STOP, Outages
from tests.helpers import Clock


def failure(kind=errors.OverloadedError, hint=None):
    error = kind("503: nobody there")
    error.away, error.retry_after_s = True, hint
    return error


class Endpoint:
    """An endpoint with models, of which one hears by and by."""

    def __init__(self, *models, outage_s=600.0):
        self.clock = Clock()
        self.outages = Outages(models, outage_s, self.clock)

    def answered(self, model, away=False):
        return self.outages.heard(self.outages.mark(model), away=away)

    def no_server(self, model, hint=None, last=False, mark=None):
        """A gateway says 503: it answers, but nobody behind it does."""
        mark = mark or self.outages.mark(model)
        self.outages.heard(mark, away=True)
        return self.outages.failed(mark, failure(hint=hint), answered=True, last=last)

    def no_connection(self, model, last=False, mark=None):
        mark = mark or self.outages.mark(model)
        return self.outages.failed(mark, failure(errors.ConnectionError), answered=False, last=last)


def test_a_model_that_never_answered_is_away_at_once():
    endpoint = Endpoint("m")
    away = endpoint.no_server("m")
    assert (away.models, away.probe_in_s, away.stop) == ({"m"}, 2.0, "")


def test_after_answers_it_takes_three_failures_in_a_row():
    endpoint = Endpoint("m")
    endpoint.answered("m")
    assert [endpoint.no_server("m") is None for _ in range(3)] == [True, True, False]
    endpoint.answered("m")
    assert endpoint.no_server("m") is None


def test_a_trial_is_not_given_up_before_another_one_was_asked():
    endpoint = Endpoint("m")
    endpoint.answered("m")
    assert endpoint.no_server("m", last=True).models == {"m"}


def test_while_others_get_through_it_is_no_outage():
    endpoint = Endpoint("m")
    mark = endpoint.outages.mark("m")
    endpoint.answered("m")
    assert endpoint.no_server("m", mark=mark) is None
    assert endpoint.outages.got_through(mark) == 1


def test_one_model_may_be_away_while_the_others_answer():
    endpoint = Endpoint("up", "down")
    mark = endpoint.outages.mark("down")
    endpoint.answered("up")
    assert endpoint.no_server("down", mark=mark).models == {"down"}
    assert endpoint.answered("up") == frozenset()
    assert endpoint.outages.next_probe(frozenset({"down"})) == 4.0
    assert endpoint.answered("down") == {"up", "down"}
    assert endpoint.outages.next_probe(frozenset({"down"})) is None


def test_without_a_connection_all_models_are_away_until_anybody_answers():
    endpoint = Endpoint("a", "b")
    endpoint.answered("a")
    assert [endpoint.no_connection(model) is None for model in "abb"] == [True, True, False]
    both = frozenset("ab")
    assert endpoint.outages.next_probe(both) == 4.0
    # The gateway is back, but has nobody behind it for this model.
    assert endpoint.answered("a", away=True) == both
    assert endpoint.outages.next_probe(both) is None


def test_probes_go_2_4_8_16_30_and_30_s_apart():
    endpoint = Endpoint("m")
    waits = [endpoint.no_server("m").probe_in_s]
    waits += [endpoint.outages.next_probe(frozenset({"m"})) for _ in range(5)]
    assert waits == [2, 4, 8, 16, 30, 30]
    endpoint.answered("m")
    for _ in range(3):
        again = endpoint.no_server("m")
    assert again.probe_in_s == 2


def test_the_servers_own_hint_is_when_the_next_probe_goes():
    endpoint = Endpoint("m")
    assert endpoint.no_server("m", hint=20.0).probe_in_s == 20.0
    assert endpoint.outages.next_probe(frozenset({"m"})) == 20.0


def test_an_outage_is_given_up_after_outage_s():
    endpoint = Endpoint("m", outage_s=60.0)
    assert endpoint.no_server("m").stop == ""
    endpoint.clock.now = 60.0
    assert endpoint.no_server("m").stop == ""
    endpoint.clock.now = 61.0
    assert endpoint.no_server("m").stop == "nobody answered for 61 s: 503: nobody there"


def test_an_outage_of_all_says_so_when_it_is_given_up():
    endpoint = Endpoint("a", "b", outage_s=0.0)
    endpoint.answered("a")
    endpoint.no_connection("a")
    endpoint.no_connection("a")
    assert endpoint.no_connection("a", last=True).everyone
    endpoint.clock.now = 1.0
    away = endpoint.no_connection("b")
    assert (away.everyone, away.stop) == (True, "nobody answered for 1 s: 503: nobody there")


def test_a_server_that_never_was_there_is_given_up_after_five_refused_connections():
    endpoint = Endpoint("a", "b")
    told = [endpoint.no_connection("ab"[number % 2]) for number in range(REFUSED_STOP)]
    assert told[:-1] == [None] * 4
    assert told[-1].everyone
    assert told[-1].stop.startswith("nobody answers at base_url, the first 5 requests got no connection")


@pytest.mark.parametrize("away", [False, True])
def test_any_answer_at_all_means_that_the_server_exists(away):
    endpoint = Endpoint("m")
    endpoint.answered("m", away=away)
    assert not any(told and told.stop for told in (endpoint.no_connection("m") for _ in range(50)))
