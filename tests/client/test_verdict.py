"""What ends with an error is decided by structure; words count only in the provider's own message, about row or wait."""

import time

import pytest

from llmlab import errors
from llmlab.client.failures import diagnose
from tests.client.test_error_body import GOOGLE


def error(message="", **more):
    return {"error": {"message": message} | more}


@pytest.mark.parametrize(
    ("status", "body", "kind", "ends"),
    [
        # the model: it is gone, out of quota, or refuses a setting
        (404, error("The model `x` does not exist", code="model_not_found"), errors.ModelNotFoundError, "model"),
        (400, error("has been decommissioned", code="model_decommissioned"), errors.ModelNotFoundError, "model"),
        (503, error("No available channel for model x", code="model_not_found"), errors.ModelNotFoundError, "model"),
        (403, {"message": "This model is not available in your subscription tier", "type": "tier_not_allowed"},
         errors.ModelNotFoundError, "model"),
        (404, error("deployment missing", code="DeploymentNotFound"), errors.ModelNotFoundError, "model"),
        (429, [GOOGLE], errors.QuotaError, "model"),
        (429, error("Rate limit reached on tokens per day (TPD): Limit 500000"), errors.QuotaError, "model"),
        (400, error("no", param="temperature"), errors.ConfigError, "model"),
        (422, {"detail": [{"loc": ["body", "seed"], "msg": "not an integer"}]}, errors.ConfigError, "model"),
        (400, [error('Unknown name "safety_settings": Cannot find field.', status="INVALID_ARGUMENT")],
         errors.ConfigError, "model"),
        (400, error("Unrecognized request argument supplied: safety_identifier"), errors.ConfigError, "model"),
        # the run: the key, the account, the address
        (401, error("whatever"), errors.AuthenticationError, "run"),
        (400, error("API key not valid.", status="INVALID_ARGUMENT", details=[{"reason": "API_KEY_INVALID"}]),
         errors.AuthenticationError, "run"),
        (429, error("x", type="insufficient_quota"), errors.CreditError, "run"),
        (402, {"error": "Insufficient balance", "requiredBalance": 0.1, "status": 402}, errors.CreditError, "run"),
        (400, error("Access denied.", code="Arrearage"), errors.CreditError, "run"),
        (400, error("Your credit balance is too low to access the API"), errors.CreditError, "run"),
        (429, error("budget", type="budget_exceeded"), errors.CreditError, "run"),
        (403, error("x", code="unsupported_country_region_territory"), errors.ConfigError, "run"),
        (405, "", errors.ConfigError, "run"),
        # the trial: too long, moderated, not understood
        (400, error("x", code="context_length_exceeded", param="messages"), errors.TooLongError, "trial"),
        (400, error("x", type="exceed_context_size_error"), errors.TooLongError, "trial"),
        (400, error("max_tokens is 10, the maximum context length 8", param="max_tokens"), errors.TooLongError, "trial"),
        (400, {"message": "The decoder prompt (length 5023) is longer than the maximum model length of 4096."},
         errors.TooLongError, "trial"),
        (400, {"error": "This model's maximum prompt length is 131072 but the request contains 537812 tokens."},
         errors.TooLongError, "trial"),
        (400, error("The input token count (9) exceeds the maximum number of tokens allowed (8)"),
         errors.TooLongError, "trial"),
        (400, error("Input tokens exceed the configured limit of 8 tokens"), errors.TooLongError, "trial"),
        (400, error("Range of input length should be [1, 8]: input is too long"), errors.TooLongError, "trial"),
        (500, error("the request exceeds the available context size"), errors.TooLongError, "trial"),
        (413, "<html><h1>413 Request Entity Too Large</h1></html>", errors.TooLongError, "trial"),
        (400, error("x", code="content_filter", param="prompt"), errors.ModerationError, "trial"),
        (400, error("x", innererror={"code": "ResponsibleAIPolicyViolation"}), errors.ModerationError, "trial"),
        (400, error("x", code="data_inspection_failed"), errors.ModerationError, "trial"),
        (400, error("x", type="SensitiveContentDetected"), errors.ModerationError, "trial"),
        (403, error("Your input was flagged", metadata={"flagged_input": "api key"}), errors.ModerationError, "trial"),
        (403, "<!DOCTYPE html><title>Attention Required! | Cloudflare</title>", errors.RequestError, "trial"),
        (400, error("no", param="messages[0].content"), errors.RequestError, "trial"),
        (422, error("computer says no"), errors.RequestError, "trial"),
        # a wait
        (429, error("Please try again in 0s. Visit https://x.org/account/billing", code="rate_limit_exceeded"),
         errors.RateLimitError, None),
        (429, error("on requests per minute (RPM): Limit 30. For 1000 per day upgrade"), errors.RateLimitError, None),
        (429, error("You exceeded your current quota. Please retry in 1.5s.", status="RESOURCE_EXHAUSTED"),
         errors.RateLimitError, None),
        (400, {"__type": "com.amazon#ThrottlingException", "message": "Rate exceeded"}, errors.RateLimitError, None),
        (408, error("Request took too long to process, please retry."), errors.TimeoutError, None),
        (503, error("Loading model", type="unavailable_error"), errors.OverloadedError, None),
        (529, error("Overloaded", type="overloaded_error"), errors.OverloadedError, None),
        (400, error("Failed to validate JSON", code="json_validate_failed", failed_generation='{"label": "billing"'),
         errors.BadResponseError, None),
    ],
)  # fmt: skip
def test_the_smallest_thing_ends(status, body, kind, ends):
    found = diagnose(status, {}, body)
    assert (type(found), found.ends) == (kind, ends)


WORDS = "billing quota api key per day too long flagged safety model not found credit balance unsupported schema"


@pytest.mark.parametrize(
    "body",
    [
        error("no", failed_generation=WORDS),
        error("no", input=WORDS),
        error("no", metadata={"provider_name": WORDS}),
        {"detail": [{"loc": ["body", "messages"], "msg": "no", "input": WORDS, "ctx": {"error": WORDS}}]},
        error("no") | {"request": {"messages": [{"role": "user", "content": WORDS}]}},
        error(f'We cannot answer this: "{WORDS}".'),
        error(f"We cannot answer “{WORDS}”"),
    ],
)
def test_words_that_are_quoted_decide_nothing(body):
    found = diagnose(400, {}, body)
    assert found.ends in ("trial", None)
    assert type(found) in (errors.RequestError, errors.BadResponseError)


def test_headers_of_the_cloud_tell_the_kind():
    found = diagnose(400, {"x-amzn-errortype": "ThrottlingException:http://internal"}, {"message": "Rate exceeded"})
    assert type(found) is errors.RateLimitError


PAGE = "<html><title>Request Rejected</title><body>Your support ID is: 12345</body></html>"


@pytest.mark.parametrize(
    ("status", "body", "ends", "once_answered"),
    [
        (403, {"message": "Forbidden"}, "trial", None),
        (403, error("blocked"), "trial", None),
        (403, {"code": 30011, "message": "Model is only for paid users"}, "trial", None),
        (403, "error code: 1010", "trial", None),
        (403, error("no", code="invalid_api_key"), "run", None),
        (403, error("no", status="PERMISSION_DENIED"), "run", None),
        (403, error("Your API key is not allowed"), "run", None),
        (404, error("Not Found"), "run", "model"),
        (404, PAGE, "run", "trial"),
        (405, PAGE, "run", "trial"),
        (401, error("no"), "run", None),
    ],
)
def test_what_may_be_the_text_ends_the_trial_at_least_once_the_address_has_been_good(status, body, ends, once_answered):
    found = diagnose(status, {}, body)
    assert (found.ends, found.ends_once_answered) == (ends, once_answered)


# Bodies of DashScope, SiliconFlow, Zhipu, xAI, Cloudflare, Bedrock, Volcengine, Moonshot, LM Studio, TGI, llama.cpp's
# relatives, and of gateways that pass them on; with the status that they really have.
SEEN = [
    (400, error("Upstream request failed: [data_inspection_failed] <400> InternalError.Algo.DataInspectionFailed: Input "
                "text data may contain inappropriate content."), errors.ModerationError),
    (500, {"code": "DataInspectionFailed", "message": "Input data may contain inappropriate content."},
     errors.ModerationError),
    (400, error("The request failed because the input text may contain sensitive information.", code="", type="BadRequest"),
     errors.ModerationError),
    (400, error("Content violates usage guidelines. Team: x"), errors.ModerationError),
    (403, {"code": "The caller does not have permission to execute the specified operation",
           "error": "Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE_BIO"}, errors.ModerationError),
    (403, "Request blocked by security policy", errors.ModerationError),
    (400, error("Prompt tokens (9) exceeds context size (8)", type="context_exceeded"), errors.TooLongError),
    (400, error("Prompt too long: 5152 tokens exceeds max_seq_len 2048"), errors.TooLongError),
    (400, error("input length and max_tokens exceed context limit: 90402 + 116650 > 204648"), errors.TooLongError),
    (400, {"error": "Trying to keep the first 9000 tokens when context the overflows. However, the model is loaded with "
                    "context length of only 4096 tokens"}, errors.TooLongError),
    (422, {"error": "Input validation error: `inputs` must have less than 1024 tokens. Given: 1500",
           "error_type": "validation"}, errors.TooLongError),
    (400, {"code": 20015, "message": "length of prompt_tokens (9000) must be less than max_seq_len (8192)."},
     errors.TooLongError),
    (400, error("<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 30720]"),
     errors.TooLongError),
    (500, error("Requested tokens (5013) exceed context window of 2048", type="internal_server_error"),
     errors.TooLongError),
    (413, {"errors": [{"code": 5021, "message": "AiError: The estimated number of input and maximum output tokens (9000) "
                       "exceeded this model context window limit (8000)."}]}, errors.TooLongError),
    (400, {"message": "The provided model identifier is invalid."}, errors.ModelNotFoundError),
    (400, {"message": "Invocation of model ID x with on-demand throughput isn\u2019t supported. Retry with an ARN"},
     errors.ModelNotFoundError),
    (404, error("Your account has not activated the model x.", code="ModelNotOpen"), errors.ModelNotFoundError),
    (403, {"code": "30001", "message": "Sorry, your account balance is insufficient"}, errors.CreditError),
    (403, {"error": "Your team doesn't have any credits or licenses yet. You can purchase those, if you don't mind."},
     errors.CreditError),
    (403, error("The request failed.", code="AccountOverdueError"), errors.CreditError),
    (429, error("您的账户已欠费，请充值后重试。", code="1113"), errors.CreditError),
    (422, {"detail": "Insufficient credit"}, errors.CreditError),
    (403, error("Free allocated quota exceeded", code="AllocationQuota.FreeTierOnly"), errors.QuotaError),
    (429, {"errors": [{"code": 4006, "message": "you have used up your daily free allocation"}]}, errors.QuotaError),
    (429, error("Your account reached organization TPD rate limit", type="rate_limit_reached_error"), errors.QuotaError),
    (403, {"message": "API rate limit exceeded for user ID 1."}, errors.RateLimitError),
    (429, {"detail": "Request was throttled. Expected available in 3 seconds."}, errors.RateLimitError),
    (429, error("当前API请求过多，请稍后重试。", code="1305"), errors.RateLimitError),
    (503, "no healthy upstream", errors.OverloadedError),
    (530, "error code: 1033", errors.OverloadedError),
    (424, {"message": "Model processing failed", "originalStatusCode": 500}, errors.RequestError),
    (418, PAGE, errors.RequestError),
    (406, PAGE, errors.RequestError),
    # Baidu and MiniMax send these with a 200, in fields of their own.
    (None, {"error_code": 336104, "error_msg": "prompt tokens too long"}, errors.TooLongError),
    (None, {"error_code": 18, "error_msg": "Open api qps request limit reached"}, errors.RateLimitError),
    (None, {"error_code": 17, "error_msg": "Open api daily request limit reached"}, errors.QuotaError),
    (None, {"error_code": 110, "error_msg": "Access token invalid or no longer valid"}, errors.AuthenticationError),
    (None, {"base_resp": {"status_code": 1002, "status_msg": "rate limit"}}, errors.RateLimitError),
    (None, {"base_resp": {"status_code": 1026, "status_msg": "input new_sensitive"}}, errors.ModerationError),
    (None, {"base_resp": {"status_code": 1004, "status_msg": "login fail: Please carry the API secret key"}},
     errors.AuthenticationError),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body", "kind"), SEEN)
def test_bodies_that_people_have_reported(status, body, kind):
    assert type(diagnose(status, {}, body)) is kind


@pytest.mark.parametrize("status", [502, 503, 504, 529, 498])
def test_nobody_was_there(status):
    assert diagnose(status, {}, "").away
    assert not diagnose(500, {}, "").away
    assert not diagnose(429, {}, "").away


def test_a_key_that_has_reached_its_limit_says_when_it_is_reset():
    limited = error("Key limit exceeded", code=403, metadata={"resets_at": time.time() + 7260})
    found = diagnose(403, {}, limited)
    assert type(found) is errors.CreditError
    assert str(found).endswith("(resets in 2.0 h)")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (503, error("Loading model", type="unavailable_error")),
        (500, {"error": "model is still loading, please wait"}),
        (400, error("Model x is not ready. Wait and try your request again.")),
        (424, {"message": "Model is warming up"}),
        (404, {"error": "Model x is currently loading", "estimated_time": 20.5}),
        (409, {"message": "cold start in progress"}),
        (425, {"detail": "deploying", "retry_after_seconds": 30}),
        (None, {"error": "Loading the model into memory"}),
        (422, {"status": "queued", "retryAfter": 3, "message": "hold on"}),
    ],
)
def test_a_model_that_loads_is_away_whatever_the_status(status, body):
    found = diagnose(status, {}, body)
    assert (type(found), found.away, found.ends) == (errors.OverloadedError, True, None)


def test_a_wait_in_the_body_is_the_hint():
    loading = {"error": "Model x is currently loading", "estimated_time": 20.5}
    assert diagnose(503, {}, loading).retry_after_s == 20.5
    assert diagnose(429, {}, error("x", retry_after=12)).retry_after_s == 12
    assert diagnose(429, {"llm_provider-retry-after": "2"}, error("x")).retry_after_s == 2
