"""What headers and words say about waiting and about limits, as numbers; nothing is so odd that it raises."""

from email.utils import formatdate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.client.headers import duration_s, feedback, retry_after_s

NOW = 1_790_000_000.0
DATE = {"date": formatdate(NOW, usegmt=True)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12", 12), ("0.5", 0.5), ("6m0s", 360), ("1s200ms", 1.2), ("1h0m0s", 3600), ("20ms", 0.02), ("1d2h", 93_600),
        ("120us", 120e-6), (" 7 ", 7), (str(NOW + 30), 30), (str((NOW + 30) * 1000), 30),
        ("2026-09-21T14:13:50Z", 30), ("2026-09-21T14:13:50", 30), ("2026-09-21T16:13:50+02:00", 30),
        ("0", None), ("-5", None), ("nan", None), ("inf", None), ("1e300", None), ("soon", None), ("", None),
        ("5 apples", None), (str(NOW - 30), None), ("2026-09-21T14:12:00Z", None),
    ],
)  # fmt: skip
def test_durations_of_every_provider_are_read(text, expected):
    assert duration_s(text, NOW) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("headers", "text", "expected"),
    [
        ({"retry-after": "3"}, "try again in 9s", 3),
        ({"retry-after-ms": "1500", "retry-after": "2"}, "", 1.5),
        ({"retry-after-ms": "0", "retry-after": "2"}, "", 2),
        ({"retry-after": formatdate(NOW + 40, usegmt=True)} | DATE, "", 40),
        ({"retry-after": formatdate(NOW - 40, usegmt=True)} | DATE, "", None),
        ({"retry-after": "-1"}, "", None),
        ({"retry-after": "0"}, "", None),
        ({"retry-after": "nan"}, "", None),
        ({"retry-after": "soon"}, "Please try again in 1.2s.", 1.2),
        ({"x-ratelimit-reset-requests": "1s", "x-ratelimit-reset-tokens": "6m0s"}, "", 360),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "20ms",
          "x-ratelimit-remaining-tokens": "99", "x-ratelimit-reset-tokens": "6m0s"}, "", 0.02),
        ({"x-ratelimit-reset": str(int(NOW + 50) * 1000)} | DATE, "", 50),
        ({"anthropic-ratelimit-requests-reset": "2026-09-21T14:13:50Z"} | DATE, "", 30),
        ({}, "Please try again in 2m32.064s. Visit", 152.064),
        ({}, "Please retry in 1.5s", 1.5),
        ({}, "Rate limit resets in 30 sec", 30),
        ({"llm_provider-retry-after": "2"}, "", 2),
        ({"retry-after": "3", "x-upstream-retry-after": "9"}, "", 3),
        ({"llm_provider-retry-after-ms": "1500"}, "", 1.5),
        ({}, "Too many requests. Please retry after 500 milliseconds.", 0.5),
        ({}, "Please try again in 250 msecs.", 0.25),
        ({}, "Please retry after 1 minute and tell us", 60),
        ({}, "Requests are blocked. Try again after 2 hours, 5 minutes.", 7500),
        ({}, "Please wait 30 seconds before trying again", 30),
        ({}, "Please retry in 17.", 17),
        ({}, "retry in 3 apples", None),
        ({}, "try again in a moment", None),
        ({}, "", None),
    ],
)  # fmt: skip
def test_the_hint_is_found_in_headers_then_in_words(headers, text, expected):
    assert retry_after_s(headers, text) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("waits", "expected"),
    [
        ([("retrydelay", "7s")], 7),
        ([("retryafter", 12)], 12),
        ([("retryafterms", 1500)], 1.5),
        ([("estimatedtime", 20.5)], 20.5),
        ([("retryafter", None), ("retrydelay", [])], None),
        ([("retryafter", True)], None),
        ([("retryafter", 0)], None),
    ],
)
def test_the_body_may_state_the_wait(waits, expected):
    assert retry_after_s({}, "", waits) == pytest.approx(expected)
    assert retry_after_s({"retry-after": "3"}, "", waits) == 3


def test_dates_are_compared_with_the_providers_clock_not_with_ours():
    # DATE is not now: a clock that is an hour off, fast or slow, reads the same two seconds.
    assert retry_after_s({"retry-after": formatdate(NOW + 2, usegmt=True)} | DATE) == 2


names = st.sampled_from(["retry-after", "retry-after-ms", "x-ratelimit-reset", "date", "x-ratelimit-remaining-tokens"])
values = st.text(max_size=30) | st.from_regex(r"[0-9:.TZ+\-e ]{1,25}", fullmatch=True)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(names, values), st.text(max_size=60))
def test_no_header_is_so_odd_that_it_raises_or_gives_no_wait(headers, text):
    wait = retry_after_s(headers, text)
    assert wait is None or 0 < wait < 1e12
    feedback(headers)


def test_the_providers_limits_are_read():
    read = feedback({"x-ratelimit-limit-requests": "500", "anthropic-ratelimit-tokens-limit": "8e4"})
    assert (read.limit_requests, read.limit_tokens) == (500, 80_000)
    assert feedback({"x-ratelimit-limit": "-1", "x-ratelimit-limit-tokens": "many"}).limit_requests is None
