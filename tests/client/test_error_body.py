"""The provider's words, codes, parameter and waits are found in error bodies of any shape; what is quoted is not read."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.client.error_body import ErrorBody, read_error_body

GOOGLE = {"error": {"code": 429, "message": "You exceeded your current quota.", "status": "RESOURCE_EXHAUSTED", "details": [
    {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [
        {"quotaMetric": "generativelanguage.googleapis.com/generate_content_free_tier_requests",
         "quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]},
    {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"},
]}}  # fmt: skip


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "the words"}},
        {"error": "the words"},
        "the words",
        {
            "result": None,
            "success": False,
            "errors": [{"code": 5007, "message": "the words"}],
            "messages": [],
        },  # Cloudflare
        {"Message": "the words"},  # AWS
        {"__type": "ValidationException", "message": "the words"},
        {"error": ["the words"]},  # Hugging Face
        {"error": [{"message": "the words"}]},
        {"code": 1214, "msg": "the words", "success": False},  # Zhipu
        {"error_code": 336003, "error_msg": "the words"},  # Baidu
        {"fault": {"faultstring": "the words", "detail": {"errorcode": "x"}}},  # Apigee
        {"error": {"error": {"message": "the words"}}},
        {"errors": {"messages": ["the words"]}},
        {"error": {"code": 3, "details": [{"description": "the words"}]}},
        {"base_resp": {"status_code": 1004, "status_msg": "the words"}},  # MiniMax
        {"detail": "the words"},  # FastAPI
        {"detail": [{"msg": "the words"}]},
        {"error_code": "BAD_REQUEST", "message": "the words"},  # Databricks
        {"errorMessage": "the words"},
        {"status": 400, "title": "the words"},  # RFC 9457
        {"object": "error", "message": "the words", "type": "BadRequestError", "param": None, "code": 400},  # vLLM
        {"html-message": "the words"},  # Portkey
        {"error": {"message": json.dumps({"error": {"message": "the words"}})}},  # Gemini's command line
        {"error": {"metadata": {"raw": json.dumps({"error": "the words"})}}},  # OpenRouter
        {"statusCode": 400, "error": "the words"},
        {"response": {"error": {"reason": "the words"}}},
        [{"error": {"message": "the words"}}],  # Google
    ],
    ids=lambda body: json.dumps(body)[:60],
)
def test_the_words_are_found_wherever_they_stand(body):
    assert read_error_body(body).message == "the words"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": {"message": "Provider returned error", "metadata": {"raw": '{"message": "too busy"}'}}},
         "Provider returned error: too busy"),
        ({"message": "Validation failed", "errors": [{"path": "seed", "message": "must be a number"}]},
         "Validation failed: seed: must be a number"),
        ({"detail": [{"loc": ["body", "a"], "msg": "first"}, {"loc": ["body", "b", 0], "msg": "second"}]},
         "a: first; b.0: second"),
        ({"error": {"message": "said twice", "details": [{"message": "said twice"}]}}, "said twice"),
    ],
)  # fmt: skip
def test_complaints_beside_the_message_are_added(body, message):
    assert read_error_body(body).message == message


def test_what_is_quoted_is_not_read():
    body = {
        "error": {
            "message": "Failed to validate JSON.",
            "code": "json_validate_failed",
            "failed_generation": '{"label": "billing"}',
        },
        "request": {"messages": [{"content": "my credit balance"}]},
        "user_id": "insufficient_quota",
    }
    assert read_error_body(body) == ErrorBody(
        "Failed to validate JSON.", frozenset({"json_validate_failed", "failed_generation"})
    )
    detail = [
        {"loc": ["body", "messages"], "msg": "Field required", "input": {"content": "billing"}, "ctx": {"x": "y"}}
    ]
    assert "billing" not in read_error_body({"detail": detail}).message


@pytest.mark.parametrize(
    ("body", "codes"),
    [
        ({"error": {"type": "invalid_request_error", "code": "model_not_found"}}, {"invalid_request_error", "model_not_found"}),
        ({"error": {"code": "DeploymentNotFound"}}, {"deployment_not_found"}),
        ({"__type": "com.amazon.coral#ThrottlingException"}, {"throttling_exception"}),
        ({"error": {"metadata": {"error_type": "provider_overloaded"}}}, {"provider_overloaded"}),
        ({"error": {"innererror": {"code": "ResponsibleAIPolicyViolation"}}}, {"responsible_aipolicy_violation"}),
        ({"error": {"metadata": {"reasons": ["hate"], "flagged_input": "my text"}}}, {"moderation"}),
        ({"error_code": 336003}, {"336003"}),
        ({"error": {"code": None, "type": "", "message": "x"}}, set()),
        ({"reason": "a whole sentence is not a code"}, set()),
    ],
)  # fmt: skip
def test_codes_are_gathered_in_one_spelling(body, codes):
    assert set(read_error_body(body).codes) == codes


def test_google_states_its_quota_and_its_wait_in_details():
    said = read_error_body([GOOGLE])
    assert "generate_requests_per_day_per_project_per_model_free_tier" in said.codes
    assert said.waits == (("retrydelay", "7s"),)
    assert said.status == 429
    assert said.message == "You exceeded your current quota."


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"error": {"param": "temperature", "message": "x"}}, "temperature"),
        ({"detail": [{"loc": ["body", "response_format", "type"], "msg": "x"}]}, "response_format.type"),
        ({"errors": [{"field": "seed", "message": "x"}]}, "seed"),
        ({"error": {"details": [{"fieldViolations": [{"field": "generation_config.top_k"}]}]}}, "generation_config.top_k"),
        ({"error": {"message": 'Unknown name "safety_settings" at \'x\': Cannot find field.'}}, "safety_settings"),
        ({"error": {"message": "Unrecognized request argument supplied: reasoning_effort"}}, "reasoning_effort"),
        ({"error": {"message": "Unsupported parameter: 'max_tokens' is not supported"}}, "max_tokens"),
        ({"error": {"message": "Unexpected keyword argument 'logit_bias'"}}, "logit_bias"),
        ({"status": 404, "error": "Not Found", "path": "/v1/chat/completions"}, None),
        ({"error": {"message": "the input is invalid"}}, None),
        ({"error": {"param": None, "message": "x"}}, None),
    ],
)  # fmt: skip
def test_the_parameter_at_fault_is_found(body, param):
    assert read_error_body(body).param == param


@pytest.mark.parametrize(
    "body",
    [
        {"message": "", "type": "", "param": "", "code": None},
        {"error": {"message": "", "type": "", "param": "", "code": None}},
        {"error": {}}, {"error": []}, {"error": ""}, {"error": None}, {}, [], "", None, 5, True, [None, [[]]],
    ],
)  # fmt: skip
def test_an_error_that_says_nothing_is_none(body):
    assert not read_error_body(body).says_something


nested = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["error", "errors", "message", "code", "detail", "metadata", "raw", "param", "loc", "status"]
            )
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(deadline=None)
@given(nested)
def test_no_body_is_so_odd_that_it_raises(body):
    said = read_error_body(body)
    assert isinstance(said.message, str)
    assert read_error_body(json.dumps(body)).message is not None


def test_a_body_nested_without_end_is_an_error_like_others():
    body: object = "x"
    for _ in range(5000):
        body = {"error": body}
    assert isinstance(read_error_body(body).message, str)
