"""The keyword model errs as often as it is told to, knows several languages, and fills any schema."""

import asyncio
import json
from typing import Literal

import openai
import pydantic
import pytest

from tests.helpers import HttpClient


async def test_about_85_percent_of_the_tickets_are_labelled_right(simulated, tickets):
    provider = simulated(models={"good": 0.93, "poor": 0.6})

    async def share(client, model, runs=1):
        labels = await asyncio.gather(*(client.label(row["text"], model) for row in tickets for _ in range(runs)))
        gold = [row["gold"] for row in tickets for _ in range(runs)]
        flipped = sum(len(set(labels[at : at + runs])) > 1 for at in range(0, len(labels), runs))
        return sum(map(str.__eq__, labels, gold)) / len(gold), flipped

    async with HttpClient(provider) as client:
        usual, flipped = await share(client, "usual", runs=3)
        good, poor = (await share(client, "good"))[0], (await share(client, "poor"))[0]
    assert 0.82 < usual < 0.88
    assert 0.90 < good < 0.96
    assert 0.55 < poor < 0.65
    assert 20 < flipped < 100  # hard units flip between repeats, clear ones do not


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Ich habe mein Passwort vergessen", "account"),
        ("Solicito el reembolso de la factura", "billing"),
        ("L'application plante, erreur 500", "bug"),
        ("A entrega da encomenda está atrasada", "delivery"),
        ("Proszę dodać nową funkcję", "feature"),
        ("ログインできません", "account"),
        ("أريد استرداد المبلغ", "billing"),
        ("zzz", "other"),
    ],
)
async def test_several_languages_are_understood(simulated, text, label):
    async with HttpClient(simulated(accuracy=1.0)) as client:
        assert await client.label(text) == label


async def test_categories_come_from_a_schema_a_list_or_not_at_all(simulated):
    schema = {"type": "object", "properties": {"kind": {"enum": ["bug", "billing"]}}, "required": ["kind"]}
    async with HttpClient(simulated(accuracy=1.0)) as client:

        async def say(content, **body):
            _, _, raw = await client.ask(messages=[{"role": "user", "content": content}], **body)
            return json.loads(raw)["choices"][0]["message"]["content"]

        form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        assert await say("the app crashes", response_format=form) == '{"kind": "bug"}'
        asked = f"Answer with JSON only, matching this JSON schema: {json.dumps(schema)}"
        assert await say(f"refund!\n\n{asked}") == '{"kind": "billing"}'
        assert await say('the app crashes; one of: "bug", "billing"') == "bug"
        assert await say("Is it billing, bug or other? My parcel. Answer with one of: "
                         '"billing", "bug", "delivery"') == "delivery"  # fmt: skip
        assert await say('Say one of: "red", "green". The grass is green.') == "green"
        assert "simulated answer" in await say("Tell me a story.")


class Part(pydantic.BaseModel):
    name: str = pydantic.Field(min_length=3, max_length=12)
    parent: "Part | None" = None


class Ticket(pydantic.BaseModel):
    label: Literal["billing", "bug"]
    score: float = pydantic.Field(gt=0, lt=1)
    stars: int = pydantic.Field(ge=1, le=5)
    even: int = pydantic.Field(multiple_of=5, ge=6, le=11)
    urgent: bool
    tags: list[str] = pydantic.Field(min_length=2)
    pair: tuple[int, str]
    part: Part
    note: str | None


async def test_a_response_model_is_filled_so_that_it_validates(simulated):
    provider = simulated(accuracy=1.0)
    async with openai.AsyncOpenAI(base_url=provider.base_url, api_key="k", max_retries=0) as client:
        form = {"type": "json_schema", "json_schema": {"name": "t", "schema": Ticket.model_json_schema()}}
        for text in ("the app crashes", "an error, and again", "it is broken"):
            answer = await client.chat.completions.create(
                model="m", messages=[{"role": "user", "content": text}], response_format=form
            )
            assert Ticket.model_validate_json(answer.choices[0].message.content).label == "bug"
