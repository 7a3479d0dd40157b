"""The policy decides what follows an error: a wait, the trial's end, or the run's; it never sleeps itself."""

import math
import pickle

import pytest

from llmlab import errors
from llmlab.engine.retry import MOST_REFUSALS, Decision, RetryPolicy
from llmlab.errors import InputError

TRANSIENT = [errors.RateLimitError, errors.OverloadedError, errors.TimeoutError, errors.ConnectionError,
             errors.BadResponseError]  # fmt: skip
WAITING = [kind for kind in TRANSIENT if kind is not errors.RateLimitError]
PARSE = [errors.ParseError, errors.EmptyAnswerError, errors.TruncatedError, errors.InvalidLabelError,
         errors.ValidationError]  # fmt: skip
TRIAL = [errors.TooLongError, errors.ModerationError, errors.EmptyInputError, errors.RequestError]
FATAL = [errors.AuthenticationError, errors.CreditError, errors.QuotaError, errors.ModelNotFoundError,
         errors.ConfigError]  # fmt: skip


def failed(kind, *, hint=None, billed=False):
    error = kind("what it says")
    error.retry_after_s, error.may_be_billed = hint, billed
    return error


def waits(policy, kind=errors.OverloadedError, attempts=range(1, 8)):
    return [policy.decide(failed(kind), attempt).retry_in_s for attempt in attempts]


@pytest.mark.parametrize("kind", WAITING)
def test_three_attempts_wait_0_and_20_seconds_and_nothing_after_the_last(kind):
    assert waits(RetryPolicy(), kind, range(1, 5)) == [0.0, 20.0, None, None]


def test_four_attempts_wait_0_20_and_40_seconds():
    assert waits(RetryPolicy(max_retries=4), attempts=range(1, 5)) == [0.0, 20.0, 40.0, None]


def test_one_attempt_is_never_repeated():
    assert waits(RetryPolicy(max_retries=1), attempts=[1]) == [None]


def test_exponential_waits_are_random_below_a_bound_that_doubles_up_to_the_longest():
    policy = RetryPolicy.exponential(base_s=0.5, longest_s=3.0, max_retries=9)
    for attempt, bound in [(1, 0.5), (2, 1.0), (3, 2.0), (4, 3.0), (8, 3.0)]:
        drawn = [policy.decide(failed(errors.OverloadedError), attempt).retry_in_s for _ in range(200)]
        assert 0 <= min(drawn) < bound / 4
        assert bound * 3 / 4 < max(drawn) <= bound
    assert policy.max_retries == 9


def test_wait_is_any_callable_of_the_attempts_number():
    policy = RetryPolicy(max_retries=9, wait=lambda attempt: attempt**2)
    assert waits(policy, attempts=[1, 2, 3]) == [policy.wait_s(attempt) for attempt in (1, 2, 3)] == [1, 4, 9]


@pytest.mark.parametrize("wrong", [{"base_s": -1}, {"base_s": math.nan}, {"longest_s": math.inf}, {"longest_s": "1"}])
def test_exponential_refuses_what_is_no_wait(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        RetryPolicy.exponential(**wrong)


def test_exponential_waits_stay_bounded_after_thousands_of_attempts():
    assert 0 <= RetryPolicy.exponential(longest_s=30.0).wait_s(5000) <= 30.0


@pytest.mark.parametrize("kind", TRANSIENT)
def test_the_providers_hint_wins(kind):
    assert RetryPolicy().decide(failed(kind, hint=7.5), 2) == Decision(7.5)
    assert RetryPolicy().decide(failed(kind, hint=0.0), 2) == Decision(0.0)
    assert RetryPolicy().decide(failed(kind, hint=7.5), 3) == Decision(None)


def test_a_refusal_without_a_hint_waits_with_the_whole_key_not_on_its_own():
    assert RetryPolicy().decide(failed(errors.RateLimitError), 2) == Decision(0.0)


@pytest.mark.parametrize("kind", TRANSIENT)
def test_a_hint_beyond_max_wait_stops_the_run(kind):
    policy = RetryPolicy(max_wait_s=60)
    assert policy.decide(failed(kind, hint=60.0), 1) == Decision(60.0)
    decision = policy.decide(failed(kind, hint=3600.0), 1)
    assert decision.retry_in_s is None
    assert isinstance(decision.stop, errors.QuotaError)
    assert str(decision.stop) == "what it says — it asks to wait 3,600 s, longer than max_wait_s=60"


def test_refusals_while_others_get_through_use_up_no_retry():
    policy = RetryPolicy(max_retries=2)
    refused = failed(errors.RateLimitError, hint=1.0)
    assert policy.decide(refused, 2, uncounted=0) == Decision(None)
    assert policy.decide(refused, 2, uncounted=1) == Decision(1.0)
    assert policy.decide(refused, MOST_REFUSALS, uncounted=MOST_REFUSALS) == Decision(1.0)
    assert policy.decide(refused, MOST_REFUSALS + 1, uncounted=MOST_REFUSALS + 1) == Decision(None)
    # The wait of another error counts from its own attempts.
    assert RetryPolicy().decide(failed(errors.OverloadedError), 5, uncounted=3) == Decision(20.0)


@pytest.mark.parametrize("kind", PARSE)
def test_an_unreadable_answer_is_asked_again_at_once(kind):
    assert [RetryPolicy().decide(failed(kind), n, unread=n).retry_in_s for n in (1, 2, 3)] == [0.0, 0.0, None]


def test_unreadable_answers_have_a_budget_of_their_own():
    policy = RetryPolicy(max_retries=9, parse_retries=1)
    unread = failed(errors.InvalidLabelError)
    assert policy.decide(unread, 1, unread=1) == Decision(0.0)
    assert policy.decide(unread, 5, unread=1) == Decision(0.0)
    assert policy.decide(unread, 2, unread=2) == Decision(None)
    assert RetryPolicy(parse_retries=0).decide(unread, 1, unread=1) == Decision(None)


@pytest.mark.parametrize("kind", [*TRIAL, errors.RefusalError])
def test_errors_that_would_repeat_end_the_trial(kind):
    assert RetryPolicy(max_retries=99).decide(failed(kind), 1, unread=1) == Decision(None)


@pytest.mark.parametrize("kind", FATAL)
def test_errors_that_every_trial_would_meet_stop_the_run(kind):
    error = failed(kind)
    decision = RetryPolicy(max_retries=99).decide(error, 1)
    assert decision.stop is error
    assert decision.retry_in_s is None


def test_calls_that_may_have_been_billed_are_repeated_once():
    silent = failed(errors.TimeoutError, billed=True)
    assert RetryPolicy(max_retries=9).decide(silent, 1, billed=1) == Decision(0.0)
    assert RetryPolicy(max_retries=9).decide(silent, 2, billed=2) == Decision(None)
    assert RetryPolicy(max_retries=9, billed_retries=0).decide(silent, 1, billed=1) == Decision(None)
    # Earlier calls in vain do not end a trial whose last error cost nothing.
    assert RetryPolicy(max_retries=9).decide(failed(errors.OverloadedError), 3, billed=2) == Decision(40.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_retries": 0}, {"max_retries": -1}, {"max_retries": 1.5}, {"max_retries": True}, {"max_retries": None},
        {"parse_retries": -1}, {"parse_retries": "1"}, {"billed_retries": -1}, {"billed_retries": None},
        {"wait": 20}, {"max_wait_s": -1}, {"max_wait_s": math.nan}, {"max_wait_s": "60"},
    ],
)  # fmt: skip
def test_settings_that_cannot_work_are_refused(wrong):
    with pytest.raises(InputError, match=next(iter(wrong))):
        RetryPolicy(**wrong)


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf])
def test_a_wait_that_is_no_wait_is_refused(seconds):
    with pytest.raises(InputError, match=r"wait must give 0 or more seconds, not .* for attempt 2"):
        RetryPolicy(wait=lambda attempt: seconds).wait_s(2)


def test_a_policy_is_a_frozen_value():
    assert RetryPolicy() == RetryPolicy()
    for policy in (RetryPolicy(max_retries=5), RetryPolicy.exponential(base_s=2)):
        assert pickle.loads(pickle.dumps(policy)) == policy
    with pytest.raises(AttributeError):
        RetryPolicy().max_retries = 4
