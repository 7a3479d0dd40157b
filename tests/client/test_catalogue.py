"""A model that is missing is told together with those that may have been meant; whatever the endpoint says to that."""

import pytest

import llmlab as ll
from llmlab.client.catalogue import nearest
from tests.helpers import serving, texts

NAMES = ["openai/gpt-4o-mini", "openai/gpt-4o", "qwen/qwen3-8b", "meta-llama/llama-3.3-70b-instruct", "Mistral-7B"]


@pytest.mark.parametrize(
    ("model", "names"),
    [
        ("gpt-4o-mni", ["openai/gpt-4o-mini", "openai/gpt-4o"]),
        ("gpt-4o", ["openai/gpt-4o", "openai/gpt-4o-mini"]),
        ("openai/gpt4o", ["openai/gpt-4o"]),
        ("mistral-7b", ["Mistral-7B"]),
        ("qwen3", ["qwen/qwen3-8b"]),
        ("claude", []),
        ("", []),
    ],
)
def test_the_nearest_names_come_first(model, names):
    assert nearest(model, NAMES) == names


GONE = (404, {"error": {"message": "The model does not exist", "code": "model_not_found"}})


@pytest.mark.parametrize(
    ("listed", "end"),
    [
        (
            {"object": "list", "data": [{"id": name} for name in NAMES]},
            "Did you mean 'openai/gpt-4o-mini' or 'openai/gpt-4o'?",
        ),
        ((500, {"error": "no"}), "The model does not exist"),
        ("<html>no</html>", "The model does not exist"),
        ({"data": None}, "The model does not exist"),
        ([], "The model does not exist"),
    ],
)
async def test_a_missing_model_is_told_with_similar_ones(listed, end):
    def reply(body):
        return GONE if body["model"] == "gpt-4o-mni" else {"choices": [{"message": {"content": "fine"}}]}

    async with serving(reply, models=listed) as server:
        alone = await ll.run_experiment(texts(2), "{text}", **server | {"model": "gpt-4o-mni"})
        beside = await ll.run_experiment(texts(2), "{text}", **server | {"model": ["gpt-4o-mni", "good"]})
    for results in (alone, beside):
        assert results.stopped.partition(";")[0].endswith(end)
    assert beside.predictions["status"].eq("ok").sum() == 2
