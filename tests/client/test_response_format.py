"""How an answer's form is asked for: found out once per model, over real HTTP; rejected calls are attempts too."""

import asyncio
import json
from collections import Counter

import pytest

import llmlab as ll
from llmlab import errors
from llmlab.client.failures import diagnose
from llmlab.client.response_format import Again, AnswerForms
from tests.provider.asking import policy
from tests.servers import chat_server, completion

SCHEMA = {"name": "category", "strict": True, "schema": {"type": "object"}}


def server(takes):
    """An endpoint that takes some kinds of response_format only."""

    def answer(body, number):
        kind = body.get("response_format", {}).get("type")
        if kind not in takes:
            message = f"Invalid parameter: 'response_format' of type '{kind}' is not supported with this model."
            return 400, {"error": {"message": message, "param": "response_format"}}, {}
        readable = len(body["messages"]) > 1 or "ok" in str(body)
        return completion(json.dumps({"label": "bug"}) if readable else "no idea")

    return chat_server(answer)


async def ask(url, units, **settings):
    settings = {"categories": ["bug", "other"], "model": "m"} | settings
    return await ll.run_experiment(
        units, "ok? {text}", base_url=url, api_key="k" * 20, requests_per_minute=None, progress=False, **settings
    )


@pytest.mark.parametrize(
    ("takes", "rejected", "last"),
    [
        ({"json_schema", "json_object", None}, 0, "json_schema"),
        ({"json_object", None}, 1, "json_object"),
        ({None}, 2, None),
    ],
)
async def test_a_simpler_form_is_found_out_once_per_model(takes, rejected, last):
    async with server(takes) as at:
        results = await ask(at.url, [f"text {n}" for n in range(40)], model=["m", "n"], max_concurrent=1)
    assert results.predictions["status"].eq("ok").all()
    assert results.predictions["attempts"].sum() == len(at.seen) == 80 + 2 * rejected
    assert (results.attempts["http_status"] == 400).sum() == 2 * rejected
    assert at.seen[-1].body.get("response_format", {}).get("type") == last


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"error": {"message": "'response_format' is not supported with this model", "param": "response_format"}}),
        (400, {"error": {"message": "computer says no"}}),
        (422, {"detail": "unprocessable"}),
        (500, {"error": {"message": "internal error"}}),
        (500, ""),
    ],
)
async def test_many_in_flight_are_refused_together_and_one_of_them_finds_the_form(status, body):
    together = asyncio.Event()

    async def answer(sent, number):
        # The first fifty are refused at the same moment.
        together.set() if number >= 50 else await together.wait()
        return (status, body, {}) if "response_format" in sent else completion(json.dumps({"label": "bug"}))

    async with chat_server(answer) as at:
        results = await ask(at.url, [f"text {n}" for n in range(100)], max_concurrent=50, retry=policy(max_retries=2))
    assert results.predictions["status"].eq("ok").all()
    kinds = Counter(str(one.body.get("response_format", {}).get("type")) for one in at.seen)
    unnamed = "response_format" not in str(body)
    assert kinds["json_schema"] == 50
    assert kinds["json_object"] == 1 or not unnamed
    assert kinds["None"] == 100


async def test_a_probe_that_ends_for_another_reason_holds_up_nobody():
    def answer(sent, number):
        if "response_format" not in sent or "text 0 " in str(sent):
            return completion("bug") if "text 0 " not in str(sent) else (400, {"error": {"code": "content_filter"}}, {})
        return 400, {"error": {"message": "computer says no"}}, {}

    async with chat_server(answer) as at:
        results = await ask(at.url, [f"text {n} " for n in range(20)], max_concurrent=5)
    assert results.predictions["status"].value_counts().to_dict() == {"ok": 19, "failed": 1}


async def test_the_users_own_response_format_is_left_alone():
    async with server({"json_object"}) as at:
        results = await ask(at.url, ["a"], response_format={"type": "json_object"})
    assert results.predictions["status"].tolist() == ["ok"]
    assert at.seen[0].body["response_format"] == {"type": "json_object"}


async def test_an_answer_that_is_not_readable_may_be_asked_again_with_the_error():
    async with server({"json_schema"}) as at:
        results = await ll.run_experiment(
            ["hm"], "{text}", model="m", categories=["bug", "other"], base_url=at.url, api_key="k" * 20,
            requests_per_minute=None, progress=False, reask_with_error=True,
        )  # fmt: skip
    assert results.predictions["status"].tolist() == ["ok"]
    assert [message["role"] for message in at.seen[1].body["messages"]] == ["user", "assistant", "user"]
    assert "no idea" in at.seen[1].body["messages"][1]["content"]
    assert "cannot be used" in at.seen[1].body["messages"][2]["content"]


def test_a_wrong_schema_is_no_rejection_of_the_answer_form():
    forms = AnswerForms(SCHEMA)
    error = errors.ConfigError("400: Invalid schema for response_format 'label': 'additionalProperties' is required")
    for _ in range(5):
        assert forms.rejected("m", forms.of("m"), error) is Again.NO
    assert forms.of("m") == AnswerForms(SCHEMA).of("m")


def test_no_schema_asks_for_no_form():
    assert AnswerForms(None).of("m") == {}


@pytest.mark.parametrize(
    "parameter",
    ["response_format", "guided_choice", "guided_json", "guided_regex", "structured_outputs", "grammar", "regex", "ebnf",
     "json_schema", "response_schema", "format"],
)  # fmt: skip
def test_where_the_user_constrains_the_answer_nothing_is_added(parameter):
    assert AnswerForms(SCHEMA, {"temperature": 0, parameter: "x"}).of("m") == {}
    assert AnswerForms(SCHEMA, {"temperature": 0, "information": "x"}).of("m") != {}


# Of DeepSeek, Groq, Novita, llama.cpp, llama-cpp-python, Ollama's proxy, Gemini, vLLM, Anthropic behind a gateway.
NAMED = [
    (400, {"error": {"message": "This response_format type is unavailable now"}}),
    (400, {"error": {"message": "This model does not support response format `json_schema`."}}),
    (400, {"code": 400, "reason": "INVALID_REQUEST_BODY", "message": "m does not support feature: structured-outputs"}),
    (500, {"error": {"code": 500, "message": 'response_format type must be one of "text" or "json_object"'}}),
    (422, {"detail": [{"type": "literal_error", "loc": ["body", "response_format", "type"],
                       "msg": "Input should be 'text' or 'json_object'", "input": "json_schema"}]}),
    (400, {"message": "Validation failed", "errors": [{"path": "response_format", "message": "not allowed"}]}),
    (400, [{"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "Invalid JSON payload received. Unknown name "
            "\"additionalProperties\" at 'generation_config.response_schema': Cannot find field."}}]),
    (400, {"object": "error", "message": "You can only use one kind of guided decoding", "code": 400}),
    (400, {"type": "error", "error": {"type": "invalid_request_error", "message": "output_config.format: not supported"}}),
    (404, {"error": {"code": 404, "message": "No endpoints found that can handle the requested parameters."}}),
    (400, {"error": {"message": "no", "param": "text.format", "code": "unsupported_parameter"}}),
    (200, {"base_resp": {"status_code": 2013, "status_msg": "invalid params, response_format is not allowed"}}),
    (501, {"error": "grammar is not implemented for this backend"}),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body"), NAMED)
def test_a_refusal_that_names_the_form_leads_to_a_simpler_one_at_once(status, body):
    forms = AnswerForms(SCHEMA)
    assert forms.rejected("m", forms.of("m"), diagnose(status, {}, body), position=3) is Again.NOW
    assert forms.of("m", 0) == forms.of("m", 3) == {"response_format": {"type": "json_object"}}
    assert forms.of("other", 3) != forms.of("m", 3)


UNKNOWN, FAILED = errors.RequestError("400: computer says no"), errors.OverloadedError("500: internal error")
JSON = {"response_format": {"type": "json_object"}}


# In words that say nothing of it: of Gemini, a gateway, a firewall, a plan, MiniMax in a 200.
UNNAMED = [
    (400, {"error": {"code": 400, "message": "The specified constraint has too many states for serving."}}),
    (424, {"message": "Failed Dependency"}),
    (406, "<html><title>Not Acceptable</title></html>"),
    (403, {"message": "Forbidden"}),
    (403, {"message": "Not included in your plan for this model"}),
    (200, {"base_resp": {"status_code": 2013, "status_msg": "invalid params"}}),
    (422, ""),
]


@pytest.mark.parametrize(("status", "body"), UNNAMED)
def test_a_refusal_that_does_not_name_the_form_is_probed(status, body):
    assert refused(AnswerForms(SCHEMA), 0, diagnose(None if status == 200 else status, {}, body)) is Again.NOW


def refused(forms, position, said=UNKNOWN, **more):
    """What follows if a trial is refused in the form that it is to be asked in."""
    return forms.rejected("m", forms.of("m", position), said, position, **more)


def test_an_unknown_refusal_is_probed_by_the_trial_that_met_it_and_the_others_wait():
    forms = AnswerForms(SCHEMA)
    strict = forms.of("m", 1)
    assert refused(forms, 1) is Again.NOW
    assert (forms.of("m", 1), forms.of("m", 2)) == (JSON, strict)
    assert [refused(forms, position) for position in (2, 3)] == [Again.AFTER_PROBE] * 2
    assert [forms.is_probe("m", position) for position in (1, 2)] == [True, False]
    assert (forms.is_probed("m"), forms.is_probed("n")) == (True, False)
    forms.answered("m", JSON)
    assert not forms.is_probed("m")
    assert forms.of("m", 2) == JSON
    assert forms.rejected("m", strict, UNKNOWN, 7) is Again.NOW  # it was in flight


def test_where_many_come_back_together_each_tries_the_simpler_form():
    forms = AnswerForms(SCHEMA)
    assert [refused(forms, position, together=True) for position in (1, 2)] == [Again.NOW] * 2
    assert [forms.of("m", position) for position in (1, 2)] == [JSON] * 2


def test_if_it_is_refused_without_a_form_too_the_form_was_not_the_reason():
    forms = AnswerForms(SCHEMA)
    strict = forms.of("m", 1)
    assert [refused(forms, 1) for _ in range(3)] == [Again.NOW, Again.NOW, Again.NO]
    assert forms.of("m", 1) == forms.of("m", 2) == strict
    assert refused(forms, 2) is Again.NO


def test_a_form_that_was_answered_is_not_doubted():
    forms = AnswerForms(SCHEMA)
    forms.answered("m", forms.of("m", 1))
    assert refused(forms, 2) is Again.NO
    assert forms.rejected("n", forms.of("n", 2), UNKNOWN, 2) is Again.NOW


def test_a_probe_proves_nothing_if_others_were_answered_with_the_stricter_form():
    forms = AnswerForms(SCHEMA)
    strict = forms.of("m", 2)
    refused(forms, 1)
    forms.answered("m", strict)
    forms.answered("m", JSON)
    assert forms.of("m", 1) == forms.of("m", 2) == strict


def test_a_probe_that_tells_nothing_leaves_it_to_the_next_one():
    forms = AnswerForms(SCHEMA)
    refused(forms, 1)
    forms.give_up("m", 2)
    assert forms.is_probed("m")
    forms.give_up("m", 1)
    assert not forms.is_probed("m")
    assert refused(forms, 2) is Again.NOW


def test_when_a_server_has_failed_twice_the_form_may_be_the_reason():
    forms = AnswerForms(SCHEMA)
    strict = forms.of("m", 0)
    assert [refused(forms, position, FAILED) for position in (0, 1, 2)] == [Again.NO, Again.NOW, Again.AFTER_PROBE]
    assert [forms.of("m", position) for position in (0, 1)] == [strict, JSON]
    assert [refused(forms, 1, FAILED) for _ in range(2)] == [Again.NOW, Again.NO]
    assert [refused(forms, position, FAILED) for position in range(9)] == [Again.NO] * 9
    assert forms.of("m", 2) == strict


@pytest.mark.parametrize(
    "error",
    [
        errors.RateLimitError("429: slow down"),
        errors.AuthenticationError("401: no"),
        errors.TooLongError("400: too long"),
        errors.ModerationError("400: flagged"),
        errors.TimeoutError("silence"),
        errors.OverloadedError("409: conflict"),
        errors.ConfigError("301: base_url redirects to /login"),
        diagnose(422, {}, {"detail": [{"loc": ["body", "messages"], "msg": "Field required"}]}),
        errors.ModelNotFoundError("404: no such model"),
        errors.BadResponseError("the body is empty"),
        errors.InvalidLabelError("maybe"),
        diagnose(400, {}, {"error": {"message": "not with this model", "param": "temperature"}}),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_has_another_reason_is_no_matter_of_the_form(error):
    forms = AnswerForms(SCHEMA)
    for _ in range(5):
        assert forms.rejected("m", forms.of("m"), error) is Again.NO
    assert forms.of("m") == AnswerForms(SCHEMA).of("m")
