"""What an error answer or an exception means: the class of its error, and its message in one line."""

import copy
import itertools
import json
import pickle
import ssl
from email.utils import formatdate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab import errors
from llmlab.client.failures import diagnose, explain

NOW = 1_790_000_000.0
DATE = {"date": formatdate(NOW, usegmt=True)}
KEY = "abcd-5ecre7/key+with=odd"
PAGE = "<!DOCTYPE html>\n<html><head><title>502 Bad <b>Gateway</b></title></head><body>" + "x" * 5000 + "</body></html>"


def every_error():
    found, rest = [], [errors.LlmlabError]
    while rest:
        found.append(rest.pop())
        rest += found[-1].__subclasses__()
    return found


def test_when_a_limit_resets_says_nothing_where_none_was_met():
    headers = {"x-ratelimit-reset": "9h"}
    assert diagnose(500, headers, {}).retry_after_s is None
    assert diagnose(429, headers, {}).retry_after_s == 32_400
    assert diagnose(500, headers | {"retry-after": "4"}, {}).retry_after_s == 4


# the class


@pytest.mark.parametrize(
    ("status", "message", "expected"),
    [
        # what is said wins over the number, in the words of several providers
        (429, "You exceeded your current quota, please check your plan", errors.CreditError),
        (429, "Your account is not active, please check your billing details", errors.CreditError),
        (400, "Your credit balance is too low to access the Anthropic API", errors.CreditError),
        (402, "Insufficient Balance", errors.CreditError),
        (402, "", errors.CreditError),
        (403, "Key limit exceeded (daily limit)", errors.QuotaError),
        (429, "Rate limit exceeded: free-models-per-day", errors.QuotaError),
        (429, "Limit 500000 tokens per day (TPD)", errors.QuotaError),
        (429, "Request too large for gpt-x on tokens per min (TPM): Limit 30000", errors.TooLongError),
        (400, "prompt is too long: 205000 tokens > 200000 maximum", errors.TooLongError),
        (400, "The input token count exceeds the maximum context length", errors.TooLongError),
        (413, "", errors.TooLongError),
        (400, "The response was filtered due to Azure OpenAI's content management policy", errors.ModerationError),
        (403, "Your input was flagged", errors.ModerationError),
        (400, "API key not valid. Please pass a valid API key.", errors.AuthenticationError),
        (401, "whatever: per day, quota, model", errors.AuthenticationError),
        (403, "no", errors.AuthenticationError),
        (400, "foo/bar is not a valid model ID", errors.ModelNotFoundError),
        (404, "The model `gpt-9` does not exist", errors.ModelNotFoundError),
        (404, "No endpoints found matching your data policy", errors.ModelNotFoundError),
        (403, "Country, region, or territory not supported", errors.ConfigError),
        (400, "Invalid schema for response_format 'label'", errors.ConfigError),
        (400, "Unsupported value: 'temperature' does not support 0", errors.ConfigError),
        (422, "body.foo: Extra inputs are not permitted", errors.ConfigError),
        (404, "", errors.ConfigError),
        (405, "", errors.ConfigError),
        (400, "something else", errors.RequestError),
        (422, "something else", errors.RequestError),
        (418, "", errors.RequestError),
        # the number alone
        (408, "", errors.TimeoutError),
        (524, "", errors.TimeoutError),
        (409, "", errors.OverloadedError),
        (425, "", errors.OverloadedError),
        (429, "slow down", errors.RateLimitError),
        (498, "", errors.OverloadedError),
        (499, "", errors.ConnectionError),
        (500, "Invalid JSON schema", errors.OverloadedError),
        (503, "", errors.OverloadedError),
        (529, "Overloaded", errors.OverloadedError),
        (599, "", errors.OverloadedError),
        (301, "", errors.ConfigError),
        (None, "model overloaded", errors.BadResponseError),
        (None, "Not authenticated", errors.AuthenticationError),
    ],
)  # fmt: skip
def test_what_is_said_comes_before_the_number(status, message, expected):
    for body in ({"error": {"message": message}}, [{"error": {"message": message}}], {"detail": message}):
        assert type(diagnose(status, {}, body)) is expected


def test_credit_that_is_only_in_use_is_waited_for():
    said = {"error": {"message": "Insufficient credits while other requests are in flight"}}
    error = diagnose(402, {"retry-after": "1"}, said)
    assert type(error) is errors.OverloadedError
    assert error.retry_after_s == 1


def test_a_days_quota_says_when_it_is_over():
    headers = {"x-ratelimit-reset": str(int(NOW + 7200) * 1000)} | DATE
    assert "(resets in 2.0 h)" in str(diagnose(429, headers, {"error": "free-models-per-day"}))
    assert "(resets in 153 s)" in str(diagnose(429, {"retry-after": "153"}, {"error": "tokens per day"}))


def test_only_a_gateway_that_gave_up_may_have_billed():
    assert diagnose(524, {}, "").may_be_billed
    assert not any(diagnose(status, {}, "").may_be_billed for status in (400, 408, 429, 500, 503, 504))


# the line


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"error": {"message": "first\n  second"}}, "400: first second"),
        ({"error": "plain"}, "400: plain"),
        ({"message": "at the top"}, "400: at the top"),
        ({"detail": [{"loc": ["body", "messages"], "msg": "Field required"}, "odd"]},
         "400: messages: Field required; odd"),
        ({"detail": [{"loc": None, "msg": None}]}, '400: {"detail": [{"loc": null, "msg": null}]}'),
        ({"detail": "Not there"}, "400: Not there"),
        ([{"error": {"message": "in a list"}}], "400: in a list"),
        ({"error": {"message": "Provider returned error", "metadata": {"raw": '{"error": {"message": "why"}}'}}},
         "400: Provider returned error: why"),
        ({"error": {"message": "Provider returned error", "metadata": {"raw": {"error": "why"}}}},
         "400: Provider returned error: why"),
        ({"error": {"message": "Provider returned error", "metadata": {"raw": "not { json"}}},
         "400: Provider returned error: not { json"),
        ("just text", "400: just text"),
        (PAGE, "400: a web page: 502 Bad Gateway"),
        ("<html></html>", "400: a web page"),
        ({}, "400: no message"),
        ("", "400: no message"),
        (None, "400: no message"),
    ],
)  # fmt: skip
def test_the_message_is_found_in_bodies_of_any_shape(body, said):
    assert str(diagnose(400, {}, body)) == said


@pytest.mark.parametrize(
    ("status", "location", "said"),
    [
        (301, "https://other.example/v1", "redirects to https://other.example/v1: use that address"),
        (308, "https://other.example/api/v1/chat/completions?a=b", "to https://other.example/api/v1: use that address"),
        (301, "/v1/chat/completions", "redirects to /v1/chat/completions on the same server: use that path"),
        (307, "/v1/chat/completions", "in a circle, to /v1/chat/completions"),
        (302, "/login?next=x", "redirects to /login?next=x: is it right"),
        (303, "", "redirects to nowhere"),
    ],
)
def test_a_redirect_names_its_target_and_the_way_out(status, location, said):
    error = diagnose(status, {"location": location} if location else {}, "")
    assert type(error) is errors.ConfigError
    assert said in str(error)


def test_a_page_names_the_likely_mistake():
    assert "is /v1 missing?" in str(diagnose(404, {}, PAGE))


def test_the_parameter_at_fault_is_kept():
    assert diagnose(400, {}, {"error": {"message": "x", "param": "temperature"}}).param == "temperature"
    assert diagnose(400, {}, {"error": {"message": "x", "param": 5}}).param is None


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "code", "detail", "metadata", "raw", "param", "loc", "msg"])
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(st.none() | st.integers(200, 599), json_values)
def test_every_body_has_a_diagnosis(status, body):
    error = diagnose(status, {}, body, key=KEY)
    assert isinstance(error, errors.AttemptError)
    assert "\n" not in str(error)


def test_a_body_nested_beyond_the_recursion_limit_has_one_too():
    body = inner = {}
    for _ in range(5000):
        inner["error"] = inner = {}
    assert type(diagnose(500, {}, body)) is errors.OverloadedError


# exceptions


def chained(*links):
    for outer, inner in itertools.pairwise(links):
        outer.__cause__ = inner
    return links[0]


def named(name, text="", **attributes):
    return type(name, (Exception,), attributes)(text)


@pytest.mark.parametrize(
    ("raised", "expected", "said", "billed"),
    [
        (chained(named("APIConnectionError", "Connection error."), OSError(24, "Too many open files")),
         errors.ConfigError, "ulimit -n", False),
        (chained(named("ConnectError"), ExceptionGroup("all failed", [OSError(111, "no"), OSError(24, "files")])),
         errors.ConfigError, "ulimit -n", False),
        (chained(named("ConnectError", "x"), ssl.SSLCertVerificationError("CERTIFICATE_VERIFY_FAILED")),
         errors.ConfigError, "SSL_CERT_FILE", False),
        (named("UnsupportedProtocol", "no scheme"), errors.ConfigError, "base_url cannot be called", False),
        (UnicodeEncodeError("ascii", "é", 0, 1, "no"), errors.ConfigError, "not ASCII", False),
        (chained(named("ConnectError"), named("gaierror", "[Errno -2] Name or service not known")),
         errors.ConnectionError, "the host of base_url is not found", False),
        (chained(named("ConnectTimeout"), named("ClientConnectorError", "Connect call failed")),
         errors.ConnectionError, "could not connect: Connect call failed", False),
        (named("ConnectTimeout", "slow"), errors.TimeoutError, "nothing was sent", False),
        (chained(named("ClientResponseError"), named("BadStatusLine", "SSH")),
         errors.ConnectionError, "no HTTP server", False),
        (chained(named("ConnectTimeout"), named("ClientOSError"), ConnectionResetError(104, "reset by peer")),
         errors.ConnectionError, "broke before the answer was complete: [Errno 104] reset by peer", True),
        (chained(named("ConnectError"), OSError(111, "refused"), RuntimeError("no running event loop")),
         errors.ConnectionError, "could not connect: [Errno 111] refused", False),
        (named("ReadTimeout"), errors.TimeoutError, "may be billed", True),
        (json.JSONDecodeError("x", "y", 0), errors.BadResponseError, "cannot be decoded", True),
        (named("ReadError"), errors.ConnectionError, "ReadError", True),
        (RuntimeError("Event loop is closed"), errors.ConnectionError, "Event loop is closed", True),
    ],
)  # fmt: skip
def test_exceptions_are_read_from_the_chain_of_their_causes(raised, expected, said, billed):
    error = explain(raised)
    assert type(error) is expected
    assert said in str(error)
    assert error.may_be_billed is billed


def test_a_proxy_is_named():
    refused = chained(named("ConnectTimeout"), named("ClientProxyConnectionError", "Connect call failed"))
    assert "through the proxy of HTTP_PROXY (box)" in str(explain(refused, proxy="HTTP_PROXY (box)"))
    unknown = explain(named("gaierror", "not known"), proxy="HTTP_PROXY (box)")
    assert "the host of HTTP_PROXY (box) is not found" in str(unknown)
    assert unknown.fatal_at_first
    password = explain(named("ClientHttpProxyError", "no", status=407), proxy="ALL_PROXY (box)")
    assert type(password) is errors.ConfigError
    assert "password" in str(password)


def test_an_exception_shows_no_key():
    raised = chained(named("APIConnectionError"), named("LocalProtocolError", f"Illegal value b'Bearer {KEY}\\n'"))
    assert KEY not in str(explain(raised, KEY))
    assert "5ecre7" not in str(explain(raised, "another key altogether"))


def test_a_circle_of_causes_ends():
    first, second = named("A", "a"), named("B", "b")
    first.__context__, second.__context__ = second, first
    assert type(explain(first)) is errors.ConnectionError


# the tree


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_every_error_pickles_and_copies(kind, again):
    error = kind("what happened")
    error.retry_after_s, error.param, error.may_be_billed = 3.5, "temperature", True
    twin = again(error)
    assert type(twin) is kind
    assert str(twin) == "what happened"
    assert (twin.retry_after_s, twin.param, twin.may_be_billed) == (3.5, "temperature", True)


def test_the_tree_is_drawn_as_it_is():
    for kind in every_error():
        assert kind.__name__ in errors.__doc__
        assert kind.__doc__
