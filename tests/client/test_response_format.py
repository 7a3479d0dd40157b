"""How an answer's form is asked for: found out once per model, over real HTTP; rejected calls are attempts too."""

import json
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

import llmlab as ll
from llmlab import errors
from llmlab.client.response_format import AnswerForms

SCHEMA = {"name": "category", "strict": True, "schema": {"type": "object"}}


@asynccontextmanager
async def server(takes):
    """An endpoint that takes some kinds of response_format only, and keeps the requests it got."""
    seen = []

    async def answer(request):
        body = await request.json()
        seen.append(body)
        kind = body.get("response_format", {}).get("type")
        if kind not in takes:
            message = f"Invalid parameter: 'response_format' of type '{kind}' is not supported with this model."
            return web.json_response({"error": {"message": message, "param": "response_format"}}, status=400)
        content = json.dumps({"label": "bug"}) if len(body["messages"]) > 1 or "ok" in str(body) else "no idea"
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
        return web.json_response({"id": "x", "model": body["model"], "choices": [choice], "usage": usage})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/v1", seen
    finally:
        await runner.cleanup()


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
    async with server(takes) as (url, seen):
        results = await ask(url, [f"text {n}" for n in range(40)], model=["m", "n"], max_concurrent=1)
    assert results.predictions["status"].eq("ok").all()
    assert results.predictions["attempts"].sum() == len(seen) == 80 + 2 * rejected
    assert (results.attempts["http_status"] == 400).sum() == 2 * rejected
    assert seen[-1].get("response_format", {}).get("type") == last


async def test_many_in_flight_are_refused_together_and_all_are_answered():
    async with server({None}) as (url, _):
        results = await ask(url, [f"text {n}" for n in range(100)], max_concurrent=50)
    assert results.predictions["status"].eq("ok").all()
    assert results.predictions["attempts"].max() <= 3


async def test_the_users_own_response_format_is_left_alone():
    async with server({"json_object"}) as (url, seen):
        results = await ask(url, ["a"], response_format={"type": "json_object"})
    assert results.predictions["status"].tolist() == ["ok"]
    assert seen[0]["response_format"] == {"type": "json_object"}


async def test_an_answer_that_is_not_readable_may_be_asked_again_with_the_error():
    async with server({"json_schema"}) as (url, seen):
        results = await ll.run_experiment(
            ["hm"], "{text}", model="m", categories=["bug", "other"], base_url=url, api_key="k" * 20,
            requests_per_minute=None, progress=False, reask_with_error=True,
        )  # fmt: skip
    assert results.predictions["status"].tolist() == ["ok"]
    assert [message["role"] for message in seen[1]["messages"]] == ["user", "assistant", "user"]
    assert "no idea" in seen[1]["messages"][1]["content"]
    assert "cannot be used" in seen[1]["messages"][2]["content"]


def test_a_wrong_schema_is_no_rejection_of_the_answer_form():
    forms = AnswerForms(SCHEMA)
    error = errors.ConfigError("400: Invalid schema for response_format 'label': 'additionalProperties' is required")
    assert not forms.rejected("m", forms.of("m"), error)


def test_no_schema_asks_for_no_form():
    assert AnswerForms(None).of("m") == {}
