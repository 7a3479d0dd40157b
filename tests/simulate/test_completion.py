"""An answer follows from the seed and the request alone; its usage is like the real thing."""

import asyncio
import json
from collections import Counter, defaultdict

import pytest

from tests.helpers import CATEGORIES, HttpClient, messages


async def test_answers_do_not_depend_on_order_or_timing(simulated, tickets):
    texts = [row["text"] for row in tickets[:40]]
    rates = {"seed": 7, "malformed_rate": 0.2, "error_rate": 0.2, "missing_usage_rate": 0.2, "accuracy": 0.5}

    async def run(provider, order):
        answers = defaultdict(list)
        async with HttpClient(provider) as client:
            for text in order:
                status, _, raw = await client.ask(text)
                body = json.loads(raw)
                answers[text].append((status, body.get("choices"), body.get("usage")))
        return answers

    calm = await run(simulated(**rates), texts * 3)
    jittered = await run(simulated(**rates, jitter_s=0.002), sorted(texts) * 3)
    assert calm == jittered
    assert len({str(answers) for text in texts for answers in calm[text]}) > 40
    assert any(len({str(answer) for answer in calm[text]}) > 1 for text in texts)
    assert calm != await run(simulated(**rates | {"seed": 8}), texts * 3)


async def test_refusals_change_no_later_answer(simulated, tickets):
    texts = [row["text"] for row in tickets[:20]]
    free, limited = simulated(error_rate=0.5), simulated(error_rate=0.5, limit=10, period_s=0.05)

    async def run(provider):
        async with HttpClient(provider) as client:
            answers = []
            for text in texts * 2:
                while (answer := await client.ask(text))[0] == 429:
                    await asyncio.sleep(0.01)
                answers.append((answer[0], json.loads(answer[2]).get("choices")))
        return answers

    assert await run(free) == await run(limited)
    assert limited.counts().refused > 0


async def test_malformed_answers_are_paid_and_unreadable(simulated):
    provider = simulated(malformed_rate=1.0)
    seen, tokens = Counter(), 0
    async with HttpClient(provider) as client:
        for at in range(60):
            _, _, raw = await client.ask(f"The app crashes, case {at}")
            body = json.loads(raw)
            content, finish = body["choices"][0]["message"]["content"], body["choices"][0]["finish_reason"]
            tokens += body["usage"]["total_tokens"]
            try:
                label = json.loads(content)["label"]
            except ValueError:
                label = None
            assert label not in CATEGORIES
            seen[finish if finish == "length" else "label" if label else "json" if "{" in content else "prose"] += 1
    assert set(seen) == {"length", "label", "json", "prose"}
    counts = provider.counts()
    assert (counts.malformed, counts.ok, counts.total_tokens) == (60, 60, tokens)


async def test_usage_is_like_the_real_thing(simulated):
    async with HttpClient(simulated()) as client:

        async def usage(text="hi", **body):
            _, _, raw = await client.ask(text, **body)
            body = json.loads(raw)
            return body["usage"], body["choices"][0]

        plain, _ = await usage()
        assert plain["prompt_tokens"] == pytest.approx(len(str(messages("hi"))) / 4, abs=15)
        thought = [(await usage(reasoning_effort=effort))[0] for effort in ("low", "medium", "high")]
        reasoning = [one["completion_tokens_details"]["reasoning_tokens"] for one in thought]
        assert 0 < reasoning[0] < reasoning[1] < reasoning[2]
        assert all(one["completion_tokens"] > one["completion_tokens_details"]["reasoning_tokens"] for one in thought)
        cut, choice = await usage(max_tokens=2)
        assert (cut["completion_tokens"], choice["finish_reason"]) == (2, "length")
        first, again = (await usage("word " * 2000))[0], (await usage("word " * 2000))[0]
        assert first["prompt_tokens_details"]["cached_tokens"] == 0
        assert 2000 < again["prompt_tokens_details"]["cached_tokens"] <= again["prompt_tokens"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"model": None}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": [{"content": 3}]}, "messages"),
        ({"stream": True}, "stream"),
        ({"reasoning_effort": "enormous"}, "Supported values are"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"response_format": "json"}, "response_format"),
        ({"model": "fault/nonsense"}, "no fault 'nonsense'"),
    ],
)
async def test_a_wrong_request_is_told_what_is_wrong(simulated, body, words):
    async with HttpClient(simulated()) as client:
        status, _, raw = await client.ask(**body)
    assert status in (400, 404)
    assert words in json.loads(raw)["error"]["message"]
