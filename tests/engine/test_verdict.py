"""What a reply means: the smallest thing ends, what may succeed is asked again, and too many at once become fewer."""

import pytest

import llmlab as ll
from llmlab import errors
from llmlab.engine.complaints import SETTINGS_STOP
from llmlab.engine.queue import Asked
from llmlab.engine.verdict import Verdicts
from llmlab.records import Reply, Trial
from tests.helpers import Clock


class Court:
    """Replies, one after the other, to an experiment with two models."""

    def __init__(self, models=("a", "b"), **settings):
        usual = {"base_url": "http://127.0.0.1:9/v1", "api_key": "k" * 20, "requests_per_minute": None}
        self.clock = Clock()
        setup = ll.run_experiment(["x"], "{text}", model=list(models), **(usual | settings)).setup
        self.verdicts = Verdicts(setup, self.clock)

    def sent(self, model="a"):
        return self.verdicts.sent(model, {}, {})

    def __call__(self, error=None, *, model="a", status=200, asked=None, sent=None, in_flight=0, content=None):
        """What follows a reply with this error to `asked`'s next attempt."""
        asked = asked or trial(model)
        asked.tried += 1
        given = error if not isinstance(error, errors.ParseError) else None
        reply = Reply(content=content, error=given, http_status=status)
        return self.verdicts.judge(asked, sent or self.sent(model), reply, error, in_flight)


def trial(model="a"):
    return Asked(Trial(0, "u", model, 1), 0, 0.0)


def error(kind, *, away=False, settings=False, hint=None, billed=False, ends=None, said="what it says"):
    made = kind(said)
    made.away, made.about_settings, made.retry_after_s, made.may_be_billed = away, settings, hint, billed
    if ends is not None:
        made.ends = ends
    return made


def test_an_answer_ends_the_trial_and_may_widen():
    follows = Court()()
    assert (follows.retry_in_s, follows.stop, follows.widen, follows.room) == (None, (), True, None)


# row, model, run


@pytest.mark.parametrize("kind", [errors.TooLongError, errors.ModerationError, errors.RequestError])
def test_some_errors_end_the_row_however_often_they_come(kind):
    court = Court()
    for _ in range(50):
        follows = court(error(kind), status=400)
        assert (follows.retry_in_s, follows.stop) == (None, ())


@pytest.mark.parametrize("kind", [errors.ModelNotFoundError, errors.QuotaError])
def test_some_end_the_model(kind):
    (stop,) = Court()(error(kind), status=404).stop
    assert (stop.models, stop.error_type, stop.reason) == ({"a"}, kind.__name__, "what it says")


def test_a_wait_longer_than_allowed_ends_the_model():
    (stop,) = Court()(error(errors.RateLimitError, hint=3600.0), status=429).stop
    assert stop.models == {"a"}
    assert "it asks to wait 3,600 s, longer than max_wait_s=600" in stop.reason


def test_a_parameter_that_one_model_refuses_ends_that_model():
    (stop,) = Court()(error(errors.ConfigError, ends="model"), status=400).stop
    assert stop.models == {"a"}


@pytest.mark.parametrize("kind", [errors.AuthenticationError, errors.CreditError, errors.ConfigError])
def test_some_end_the_run(kind):
    (stop,) = Court()(error(kind), status=401).stop
    assert stop.models == frozenset()


def test_the_same_complaint_about_the_settings_ends_the_model():
    court = Court()
    told = [court(error(errors.RequestError, settings=True), status=400).stop for _ in range(SETTINGS_STOP)]
    assert told[:-1] == [()] * 4
    assert told[-1][0].models == {"a"}
    assert told[-1][0].reason == "the first 5 trials failed the same way: what it says"


def test_an_unknown_host_stops_the_run_if_nothing_was_reached_before():
    unknown = error(errors.ConnectionError, away=True)
    unknown.fatal_at_first = True
    assert Court()(unknown, status=None).stop[0].models == frozenset()
    court = Court()
    court()
    assert court(unknown, status=None).stop == ()


# nobody there


def test_a_503_without_any_answer_holds_the_model_and_uses_up_no_retry():
    court, one = Court(max_retries=1), trial()
    for _ in range(5):
        follows = court(error(errors.OverloadedError, away=True), status=503, asked=one)
        assert (follows.retry_in_s, follows.hold, follows.stop, follows.room) == (2.0, {"a"}, (), None)
    assert court(asked=one).release == {"a", "b"}


def test_a_503_while_others_of_the_model_get_through_narrows_and_uses_up_no_retry():
    court, one = Court(max_retries=1), trial()
    for _ in range(5):
        sent = court.sent()
        court()
        follows = court(error(errors.OverloadedError, away=True), status=503, asked=one, sent=sent, in_flight=7)
        assert (follows.retry_in_s, follows.hold, follows.room) == (0.25, frozenset(), 8)


def test_a_503_while_another_model_answers_holds_its_own_model():
    court = Court()
    sent = court.sent("a")
    court(model="b")
    follows = court(error(errors.OverloadedError, away=True), status=503, sent=sent, in_flight=7)
    assert (follows.hold, follows.room) == ({"a"}, None)


def test_a_503_of_one_text_among_answers_ends_that_row():
    court, one = Court(max_retries=2), trial()
    waits = []
    for _ in range(4):
        court()
        waits.append(court(error(errors.OverloadedError, away=True), status=503, asked=one).retry_in_s)
    # At once, once more as it may be an outage, and then it is the text's own failure.
    assert waits == [0.0, 2.0, None, None]


def test_a_500_is_no_outage():
    court, one = Court(max_retries=2), trial()
    waits = [court(error(errors.OverloadedError), status=500, asked=one).retry_in_s for _ in range(2)]
    assert waits == [0.0, None]


def test_an_outage_that_is_over_outage_s_ends_the_model():
    court = Court(retry=ll.RetryPolicy(outage_s=30))
    court(error(errors.OverloadedError, away=True), status=503)
    court.clock.now = 31.0
    follows = court(error(errors.OverloadedError, away=True), status=503)
    assert follows.stop[0].models == {"a"}
    assert follows.stop[0].reason == "nobody answered for 31 s: what it says"
    assert follows.retry_in_s is not None


def test_five_refused_connections_before_any_answer_stop_the_run():
    court = Court()
    told = [court(error(errors.ConnectionError, away=True), status=None) for _ in range(5)]
    assert [follows.stop for follows in told[:4]] == [()] * 4
    assert told[4].stop[0].models == frozenset()


# refusals and timeouts


def test_refusals_without_a_limit_narrow_and_use_up_no_retry_while_others_are_in_flight():
    court, one = Court(max_retries=1), trial()
    follows = court(error(errors.RateLimitError), status=429, asked=one, in_flight=9)
    assert (follows.retry_in_s, follows.room) == (0.0, 10)
    assert court(error(errors.RateLimitError), status=429, asked=one).retry_in_s is None


@pytest.mark.parametrize(("hint", "in_flight", "room"), [(None, 3, 4), (None, 0, None), (1.0, 3, None)])
def test_refusals_under_a_limit_narrow_only_without_a_hint_and_while_others_are_worked_on(hint, in_flight, room):
    court = Court(requests_per_minute=60)
    follows = court(error(errors.RateLimitError, hint=hint), status=429, in_flight=in_flight)
    assert follows.room == room


@pytest.mark.parametrize(
    ("kind", "status"), [(errors.RateLimitError, 429), (errors.OverloadedError, 503), (errors.OverloadedError, 529)]
)
def test_a_refusal_now_and_then_does_not_narrow(kind, status):
    court = Court()
    for _ in range(40):
        for _ in range(10):
            court(in_flight=30)
        sent = court.sent()
        court(in_flight=30)
        follows = court(error(kind, away=status != 429), status=status, sent=sent, in_flight=30)
        assert (follows.room, follows.hold) == (None, frozenset())
        assert follows.retry_in_s <= 0.25


def test_a_text_that_always_meets_a_503_ends_while_the_others_are_answered():
    court, one = Court(), trial()
    waits = []
    for _ in range(8):
        for _ in range(20):
            court(in_flight=30)
        sent = court.sent()
        court(in_flight=30)
        follows = court(error(errors.OverloadedError, away=True), status=503, asked=one, sent=sent, in_flight=30)
        waits.append(follows.retry_in_s)
        assert follows.room is None
    # Five times there may just have been no room.
    assert waits == [0.25] * 5 + [0.0, 20.0, None]


def test_when_all_is_refused_for_max_wait_s_the_run_stops_and_says_why():
    court = Court(retry=ll.RetryPolicy(max_wait_s=100))
    assert court(error(errors.RateLimitError), status=429).stop == ()
    court.clock.now = 100.0
    assert court(error(errors.RateLimitError), status=429).stop == ()
    court.clock.now = 101.0
    assert court(error(errors.RateLimitError), status=429, in_flight=3).stop == ()
    (stop,) = court(error(errors.RateLimitError), status=429).stop
    assert stop.reason == "every request has been refused for 101 s, nothing was answered: what it says"
    assert stop.models == frozenset()


def test_an_answer_begins_that_time_anew():
    court = Court(retry=ll.RetryPolicy(max_wait_s=100))
    court(error(errors.RateLimitError), status=429)
    court.clock.now = 99.0
    court()
    court.clock.now = 120.0
    assert court(error(errors.RateLimitError), status=429).stop == ()


@pytest.mark.parametrize(("answers", "room"), [(0, 10), (1, 1), (40, 40)])
def test_a_timeout_narrows_to_what_was_answered_meanwhile(answers, room):
    court = Court()
    sent = court.sent()
    for _ in range(answers):
        court()
    follows = court(error(errors.TimeoutError, billed=True), status=None, sent=sent, in_flight=9)
    assert follows.room == room
    assert follows.retry_in_s == 0.0


# unreadable answers


@pytest.mark.parametrize(
    ("temperature", "texts", "waits"),
    [
        (0, ["x", "x"], [0.0, None]),
        (0.0, ["x", "y", "y"], [0.0, 0.0, None]),
        (0, ["", ""], [0.0, 0.0]),
        (0.7, ["x", "x"], [0.0, 0.0]),
        (None, ["x", "x"], [0.0, 0.0]),
    ],
)
def test_at_temperature_0_the_same_unreadable_answer_twice_is_not_paid_for_a_third_time(temperature, texts, waits):
    court, one = Court(temperature=temperature, max_retries=9), trial()
    told = [court(error(errors.ParseError), asked=one, content=text).retry_in_s for text in texts]
    assert told == waits


def test_a_rejected_answer_form_costs_no_retry():
    court, one = Court(categories=["x"], max_retries=1), trial()
    form = court.verdicts.forms.of("a")
    sent = court.verdicts.sent("a", {}, form)
    rejected = error(errors.ConfigError, ends="model", said="response_format is not supported")
    rejected.param = "response_format"
    assert court(rejected, status=400, asked=one, sent=sent).retry_in_s == 0.0
    assert court.verdicts.forms.of("a") != form
    assert court(error(errors.OverloadedError), status=500, asked=one).retry_in_s is None


def test_all_lines_of_a_batch_are_refused_for_the_form_that_they_were_sent_with():
    verdicts = Court(categories=["x"]).verdicts
    strict, simpler = (verdicts.forms.named(kind) for kind in ("json_schema", "json_object"))
    for position in range(3):
        line = Asked(Trial(position, "u", "a", 1), 0, 0.0)
        refused = error(errors.RequestError, said="response_format is not supported")
        assert verdicts.judge_line(line, strict, Reply(error=refused), refused).retry_in_s == 0.0
        assert verdicts.forms.of("a", position) == simpler
