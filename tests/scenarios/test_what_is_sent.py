"""What leaves for the provider, and what its echo leaves behind: no hidden attempt, no key, nothing that is no text."""

import json

import openai
import pytest

import llmlab as ll
from llmlab.errors import InputError
from tests.provider.answers import GOOD
from tests.provider.asking import KEY, ask, policy, texts


async def test_no_attempt_is_hidden_in_the_sdk(recorder):
    recorder.answers = [(500, {}, b"{}"), (502, {"x-should-retry": "true"}, b"{}"), (503, {}, b"{}")] * 2
    results = await ask(None, ["text"], base_url=recorder.url, api_key=KEY, retry=policy(max_retries=3))
    async with openai.AsyncOpenAI(base_url=recorder.url, api_key=KEY, max_retries=5) as client:
        again = await ask(None, ["text"], client=client, retry=policy(max_retries=3))
    assert len(recorder.requests) == len(results.attempts) + len(again.attempts) >= 6
    assert {headers["x-stainless-retry-count"] for _, headers, _ in recorder.requests} == {"0"}


async def test_the_environments_headers_go_to_openai_only(recorder, monkeypatch):
    monkeypatch.setenv("OPENAI_ORG_ID", "org-5ecre7")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-5ecre7")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer 5ecre7\nX-Own: 5ecre7 é")
    await ask(None, ["text"], base_url=recorder.url, api_key="none-needed")
    (_, headers, _), *_ = recorder.requests
    assert headers["authorization"] == "Bearer none-needed"
    assert "5ecre7" not in str(headers)


async def test_a_key_of_the_environment_reaches_no_other_host(recorder, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENROUTER_API_KEY", f"sk-or-v1-{KEY}")
    with pytest.raises(InputError, match="belongs to another host"):
        await ask(None, ["text"], base_url=recorder.url)
    assert recorder.requests == []
    recorder.answers = [(307, {"Location": recorder.url.replace("127.0.0.1", "localhost") + "/chat/completions"}, b"")]
    results = await ask(None, ["text"], base_url=recorder.url, api_key=KEY)
    assert "redirects to http://localhost" in results.stopped
    assert len(recorder.requests) == 1


@pytest.mark.parametrize("headers", [{"X-Own": "5ecre7\n"}, {"X-Own": "5ecre7é"}, {"X-é": "5ecre7"}, {"X-Own": 3}])
async def test_headers_that_cannot_be_sent_are_refused_and_not_shown(recorder, headers):
    with pytest.raises(InputError, match="extra_headers") as caught:
        await ask(None, ["text"], base_url=recorder.url, api_key=KEY, extra_headers=headers)
    assert "5ecre7" not in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe\xfd", object(), [len]])
async def test_a_message_that_is_no_json_is_a_bug_of_the_users_and_not_sent(provider, content):
    simulated = provider()
    with pytest.raises(InputError, match="A message holds .*, which cannot be sent") as caught:
        await ll.run_experiment(
            texts(3),
            lambda unit: [{"role": "user", "content": "x", "extra": content}],
            model="m",
            client=simulated,
            progress=False,
        )
    assert simulated.counts().requests == 0
    assert caught.value.results.predictions["status"].tolist() == ["not_run"] * 3


async def test_half_a_surrogate_pair_is_replaced_and_noted_with_any_client(recorder):
    async with openai.AsyncOpenAI(base_url=recorder.url, api_key=KEY) as client:
        for where in ({"base_url": recorder.url, "api_key": KEY}, {"client": client}):
            results = await ask(None, ["half \ud83d"], **where)
            assert results.attempts["notes"].tolist() == ["U+FFFD in the prompt: a character was lost"]
    assert [body["messages"][0]["content"][:16] for _, _, body in recorder.requests] == ["Classify: half \ufffd"] * 2


@pytest.mark.parametrize("place", ["message", "content", "header", "model"])
async def test_a_key_that_the_provider_echoes_appears_nowhere(recorder, place, tmp_path):
    body = json.loads(GOOD)
    if place == "message":
        answer = (400, {}, json.dumps({"error": {"message": f"bad key {KEY}", "param": KEY}}).encode())
    elif place == "content":
        body["choices"][0]["message"]["content"] = f'{{"label": "yes", "you sent": "{KEY}"}}'
        answer = (200, {}, json.dumps(body).encode())
    elif place == "model":
        answer = (200, {}, json.dumps(body | {"model": KEY, "id": KEY}).encode())
    else:
        answer = (401, {"x-request-id": KEY, "cf-ray": KEY, "Location": KEY, "Retry-After": KEY}, b"{}")
    recorder.answers = [answer]
    path = tmp_path / "journal.sqlite"
    results = await ask(None, ["text"], base_url=recorder.url, api_key=KEY, journal=path)
    shown = [repr(results), results._repr_html_(), results.attempts.to_csv(), results.predictions.to_csv()]
    assert KEY not in "".join(shown)
    assert KEY.encode() not in path.read_bytes()
    assert "[key]" in "".join(shown)
