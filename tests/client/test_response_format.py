"""How an answer's form is asked for: found out once per model, over real HTTP; rejected calls are attempts too."""

import json

import pytest

import llmlab as ll
from llmlab import errors
from llmlab.client.response_format import AnswerForms
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


async def test_many_in_flight_are_refused_together_and_all_are_answered():
    async with server({None}) as at:
        results = await ask(at.url, [f"text {n}" for n in range(100)], max_concurrent=50)
    assert results.predictions["status"].eq("ok").all()
    assert results.predictions["attempts"].max() <= 3


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
    assert not forms.rejected("m", forms.of("m"), error)


def test_no_schema_asks_for_no_form():
    assert AnswerForms(None).of("m") == {}
