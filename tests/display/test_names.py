"""Names are one line, cut at the end, without mathematics and without what all of them have."""

import pandas as pd

from llmlab.display import names


def test_names_are_one_line_and_no_mathematics():
    assert names.short("a$_{$\n b") == r"a\$_{\$ b"
    assert names.short("with four examples of each of the six", 20) == "with four examples…"


def test_the_provider_is_left_out_where_models_stay_different():
    assert names.models(["openai/gpt-4o-mini", "anthropic/claude"]) == ["gpt-4o-mini", "claude"]
    assert names.models(["a/m", "b/m"]) == ["a/m", "b/m"]
    assert names.models(["a/m", "a/m"]) == ["m", "m"]


def test_prompts_stand_beneath_their_model():
    frame = pd.DataFrame(
        [("u", "m", "short", 1), ("u", "n", "short", 1), ("u", "m", "long", 1), ("v", "m", "short", 1)],
        columns=["unit_id", "model", "prompt", "run"],
    )
    arms = names.Arms.of(frame)
    assert arms.names == [("m", "short"), ("m", "long"), ("n", "short")]
    assert arms.at.tolist() == [0, 2, 1, 0]
    places, rows, headings = arms.rows()
    assert places.tolist() == [1, 2, 4]
    assert rows == ["m", "short", "long", "n", "short"]
    assert headings == [0, 3]
    assert arms.labels == ["m, short", "m, long", "n, short"]


def test_prompts_of_one_model_need_not_name_it():
    frame = pd.DataFrame({"unit_id": [1, 1], "model": "m", "prompt": ["short", "long"], "run": 1})
    assert names.Arms.of(frame).labels == ["short", "long"]
