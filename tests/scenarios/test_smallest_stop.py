"""The smallest thing stops: the row, the model, the run; in the words of many providers, and whatever comes first.

The bodies are those that people reported to other tools, or that the providers' documentation shows.
"""

import pandas as pd
import pytest

import llmlab as ll
from tests.helpers import said, serving, texts

ONCE = ll.RetryPolicy(max_retries=1)


def odd_first(refusal):
    """Refuses texts that say "odd", which stand first."""
    return lambda body: refusal if "odd" in str(body["messages"]) else said()


ODD_FIRST = [f"odd {n}" for n in range(6)] + [f"fine {n}" for n in range(6)]

OF_ONE_TEXT = {
    "llama.cpp, too long": (400, {"error": {"code": 400, "type": "exceed_context_size_error", "n_ctx": 8192,
        "message": "the request exceeds the available context size, try increasing it"}}),
    "vLLM, too long": (400, {"object": "error", "type": "BadRequestError", "param": None, "code": 400,
        "message": "The decoder prompt (length 5023) is longer than the maximum model length of 4096."}),
    "xAI, too long": (400, {"error": "This model's maximum prompt length is 131072 but the request contains 537812 tokens."}),
    "SGLang, too long": (400, {"object": "error", "type": "BadRequestError", "code": 400,
        "message": "The input (40000 tokens) is longer than the model's context length (32768 tokens)."}),
    "Moonshot, moderated": (400, {"error": {"code": 400, "type": "content_filter", "param": "prompt",
        "message": "The request was rejected because it was considered high risk"}}),
    "MiMo, moderated": (400, {"error": {"code": "421", "type": "content_filter", "message": "Moderation Block",
        "param": "The request was rejected because it was considered high risk"}}),
    "DashScope, moderated": (400, {"error": {"code": "data_inspection_failed", "param": None, "type": "data_inspection_failed",
        "message": "<400> InternalError.Algo.DataInspectionFailed: Input text data may contain inappropriate content."}}),
    "DeepSeek, moderated": (400, {"error": {"message": "Content Exists Risk", "type": "invalid_request_error", "param": None,
        "code": "invalid_request_error"}}),
    "Zhipu, moderated": (400, {"contentFilter": [{"level": 1, "role": "user"}],
        "error": {"code": "1301", "message": "系统检测到输入或生成内容可能包含不安全或敏感内容"}}),
    "a gateway, no reason": (403, {"message": "Forbidden"}),
    "nginx, no reason": (403, {"status": 403, "title": "Access to this resource is denied"}),
    "a validator, one text": (422, {"detail": [{"type": "string_too_long", "loc": ["body", "messages", 0, "content"],
        "msg": "String should have at most 8000 characters"}]}),
}  # fmt: skip


@pytest.mark.parametrize("kind", OF_ONE_TEXT)
async def test_texts_that_are_refused_first_in_words_nobody_knows_end_as_rows(kind):
    async with serving(odd_first(OF_ONE_TEXT[kind])) as server:
        results = await ll.run_experiment(ODD_FIRST, "{text}", max_concurrent=1, **server)
    assert results.stopped is None
    assert results.predictions["status"].tolist() == ["failed"] * 6 + ["ok"] * 6
    assert len(results.attempts) == 12


FIREWALLS = {
    "F5": (200, "<html><title>Request Rejected</title><body>The requested URL was rejected.</body></html>"),
    "Aliyun": (405, "<!doctype html><title>405</title><body>您的访问被阻断</body>"),
    "mod_security": (406, "<html><head><title>Not Acceptable!</title></head></html>"),
    "Akamai": (403, "<HTML><HEAD><TITLE>Access Denied</TITLE></HEAD></HTML>"),
    "a hidden path": (404, "<html><title>404 Not Found</title></html>"),
}


@pytest.mark.parametrize("kind", FIREWALLS)
async def test_a_firewalls_page_about_one_text_ends_that_row(kind):
    def reply(body):
        return FIREWALLS[kind] if "odd" in str(body["messages"]) else said()

    async with serving(reply) as server:
        settings = server | {"max_concurrent": 1, "retry": ll.RetryPolicy(max_retries=2, wait=lambda attempt: 0.0)}
        results = await ll.run_experiment(["fine 1", "odd", "fine 2"], "{text}", **settings)
    assert results.stopped is None
    assert results.predictions["status"].tolist() == ["ok", "failed", "ok"]


async def test_a_page_for_every_text_stops_the_run_after_a_while():
    seen = []

    def reply(body):
        seen.append(body)
        return said() if len(seen) == 1 else FIREWALLS["F5"]

    async with serving(reply) as server:
        settings = server | {"max_concurrent": 1, "retry": ll.RetryPolicy(max_retries=1)}
        results = await ll.run_experiment(texts(100), "{text}", **settings)
    assert len(seen) == 21
    assert "20 trials in a row failed the same way" in results.stopped


OF_SETTINGS = {
    "OpenAI, a parameter": (400, {"error": {"code": "unsupported_parameter", "param": "seed",
        "message": "Unsupported parameter: 'seed' is not supported with this model.", "type": "invalid_request_error"}}),
    "OpenAI, a value": (400, {"error": {"code": "unsupported_value", "param": "temperature",
        "message": "Unsupported value: 'temperature' does not support 0.2 with this model.", "type": "invalid_request_error"}}),
    "a field of an own name": (400, {"error": {"message": "we do not do that here", "param": "tool_choice", "code": None}}),
    "FastAPI, a missing field": (422, {"detail": [{"type": "missing", "loc": ["body", "user"], "msg": "Field required"}]}),
    "FastAPI, an unknown field": (422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"],
        "msg": "Extra inputs are not permitted"}]}),
}  # fmt: skip


@pytest.mark.parametrize("kind", OF_SETTINGS)
async def test_what_is_wrong_with_the_settings_of_a_model_is_asked_five_times_at_most_and_the_others_go_on(kind):
    def reply(body):
        return OF_SETTINGS[kind] if body["model"] == "strict" else said()

    async with serving(reply) as server:
        settings = server | {"model": ["strict", "easy"]}
        results = await ll.run_experiment(texts(30), "{text}", max_concurrent=1, seed=1, **settings)
    counts = results.predictions.groupby("model")["status"].value_counts().to_dict()
    assert counts["easy", "ok"] == 30
    assert results.attempts["model"].eq("strict").sum() <= 5
    assert counts["strict", "not_run"] >= 25
    assert results.stopped.startswith("strict: ")
    assert results.stopped.endswith(f"; 30 of {len(results)} trials are not answered")


OF_THE_MODEL = {
    "OpenAI": (404, {"error": {"message": "The model `gone` does not exist or you do not have access to it.",
        "type": "invalid_request_error", "param": None, "code": "model_not_found"}}),
    "OpenRouter": (404, {"error": {"message": "No endpoints found for gone.", "code": 404}}),
    "OpenRouter, a name": (400, {"error": {"message": "gone is not a valid model ID", "code": 400}}),
    "vLLM": (404, {"object": "error", "message": "The model `gone` does not exist.", "type": "NotFoundError", "param": None,
        "code": 404}),
    "Ollama": (404, {"error": {"message": 'model "gone" not found, try pulling it first', "type": "api_error", "param": None,
        "code": None}}),
    "Gemini": (404, [{"error": {"code": 404, "status": "NOT_FOUND",
        "message": "models/gone is not found for API version v1main, or is not supported for generateContent."}}]),
    "Groq, its tokens of the day": (429, {"error": {"code": "rate_limit_exceeded", "type": "tokens",
        "message": "Rate limit reached for model `gone` on tokens per day (TPD): Limit 500000, Used 499980, Requested 900. "
        "Please try again in 2m32s."}}),
    "a wait of hours": (429, {"error": {"message": "Too many requests", "code": "rate_limit_exceeded"}}, {"retry-after": "7200"}),
}  # fmt: skip


@pytest.mark.parametrize("kind", OF_THE_MODEL)
async def test_a_model_that_is_missing_or_exhausted_ends_and_the_others_are_all_answered(kind):
    def reply(body):
        return OF_THE_MODEL[kind] if body["model"] == "gone" else said()

    async with serving(reply) as server:
        settings = server | {"model": ["good", "gone", "fine"]}
        results = await ll.run_experiment(texts(10), "{text}", max_concurrent=2, runs=2, **settings)
    rows = results.predictions
    assert rows.loc[rows["model"] != "gone", "status"].eq("ok").all()
    ended = rows[rows["model"] == "gone"]
    assert ended["status"].value_counts()["not_run"] >= 18
    # Each of its rows says why, also those that were never asked.
    assert ended["error_type"].nunique() <= 2
    assert ended["error"].notna().all()
    assert results.attempts["model"].eq("gone").sum() <= 2
    assert results.stopped.startswith("gone: ")


async def test_when_the_last_model_has_ended_the_run_is_over_and_says_why():
    async with serving(lambda body: OF_THE_MODEL["OpenAI"]) as server:
        results = await ll.run_experiment(texts(50), "{text}", max_concurrent=1, **server | {"model": ["a", "b"]})
    assert len(results.attempts) == 2
    assert results.stopped.startswith("404: The model `gone` does not exist")
    assert results.stopped.endswith("100 of 100 trials are not answered")


async def test_a_bad_key_stops_all_models_at_once():
    async with serving(
        lambda body: (401, {"error": {"message": "Incorrect API key", "code": "invalid_api_key"}})
    ) as server:
        results = await ll.run_experiment(texts(50), "{text}", max_concurrent=1, **server | {"model": ["a", "b"]})
    assert len(results.attempts) == 1


async def test_a_model_that_ended_can_be_asked_again():
    missing = {"gone"}

    def reply(body):
        return OF_THE_MODEL["vLLM"] if body["model"] in missing else said()

    async with serving(reply) as server:
        results = await ll.run_experiment(texts(5), "{text}", max_concurrent=1, **server | {"model": ["good", "gone"]})
        missing.clear()
        mended = await results.rerun_failed()
    assert mended.predictions["status"].eq("ok").all()
    assert mended.predictions["error"].isna().all()
    assert mended.stopped is None


async def test_on_stop_raise_raises_also_when_only_a_model_ended():
    def reply(body):
        return OF_THE_MODEL["OpenAI"] if body["model"] == "gone" else said()

    async with serving(reply) as server:
        with pytest.raises(ll.ExperimentStopped, match="gone: 404") as caught:
            await ll.run_experiment(texts(5), "{text}", on_stop="raise", **server | {"model": ["good", "gone"]})
    assert caught.value.results.predictions["status"].eq("ok").sum() == 5


async def test_the_same_unreadable_answer_at_temperature_0_is_not_paid_for_a_third_time():
    async with serving(lambda body: said("neither")) as server:
        for temperature, attempts in ((0, 2), (0.5, 3)):
            results = await ll.run_experiment(
                texts(2), "{text}", categories=["a", "b"], temperature=temperature, **server
            )
            assert results.predictions["attempts"].tolist() == [attempts] * 2
            assert results.predictions["status"].eq("failed").all()
            assert pd.isna(results.attempts["retry_in_s"].iloc[-1])
