"""How often trials must fail in the same way before their model is given up."""

import pytest

from llmlab import errors
from llmlab.engine.complaints import SETTINGS_STOP, UNEXPLAINED_STOP, Complaints


def setting(said="no seed"):
    error = errors.RequestError(said)
    error.about_settings = True
    return error


def count(complaints, error, model="a", most=50):
    """How often a model meets this error until it is given up; `None` if it is not."""
    return next((times for times in range(1, most) if complaints.stop(model, error)), None)


def test_what_is_said_of_a_setting_holds_for_all_trials_after_a_few():
    assert count(Complaints(), setting()) == SETTINGS_STOP
    assert Complaints().stop("a", setting()) == ""


def test_a_refusal_without_a_reason_may_be_about_texts_that_stand_together():
    complaints, error = Complaints(), errors.AuthenticationError("403: no")
    assert count(complaints, error) == UNEXPLAINED_STOP
    complaints.answered("a")
    assert count(complaints, error) == UNEXPLAINED_STOP
    assert complaints.stop("a", error) == "20 trials in a row failed the same way: 403: no"


@pytest.mark.parametrize(
    "kind", [errors.RequestError, errors.TooLongError, errors.ModerationError, errors.TimeoutError]
)
def test_what_is_said_of_texts_ends_no_model(kind):
    assert count(Complaints(), kind("no")) is None


def test_after_an_answer_no_setting_is_wrong_for_all():
    complaints = Complaints()
    complaints.answered("a")
    assert count(complaints, setting()) is None
    assert count(complaints, setting(), model="b") == SETTINGS_STOP


def test_an_answer_or_another_error_in_between_begins_the_count_anew():
    complaints, error = Complaints(), errors.AuthenticationError("403: no")
    for number in range(60):
        assert not complaints.stop("a", setting(f"no {number % 2}"))
    for _ in range(10):
        assert count(complaints, error, "b", most=UNEXPLAINED_STOP) is None
        complaints.answered("b")


def test_each_model_has_its_own_count():
    complaints = Complaints()
    for _ in range(SETTINGS_STOP - 1):
        assert not any(complaints.stop(model, setting()) for model in "ab")
