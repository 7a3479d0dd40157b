"""What is sent about many units is the same bytes as what is sent about each."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab.prompts import Messages
from llmlab.results.digests import said, said_of_many
from llmlab.units import Units

CELLS = st.one_of(
    st.text(st.characters(exclude_categories=[])),
    st.sampled_from(["", " ", "\u200b", '"\\{other}', "{{text}}", "\ud800", "\udc00", "\x00\n", "é🙂"]),
    st.integers(),
    st.lists(st.text()),
)
PROMPTS = [
    "{text}",
    'Say "{other}" of {unit_id}:\n{text} {text} {{text}} \\',
    [{"role": "system", "content": "{other}"}, {"role": "user", "content": "About {text}"}],
    [{"role": "user", "content": "{text}"}, {"role": "assistant", "content": "{other}"}],
    [{"role": "user", "content": [{"type": "text", "text": "{text}"}]}],
    lambda unit: f"{unit['text']}",
]


@pytest.mark.parametrize("prompt", PROMPTS, ids=range(len(PROMPTS)))
@pytest.mark.parametrize("instruction", [None, 'Answer with one of: "a", "b".'])
@pytest.mark.parametrize("examples", [[], [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]])
@settings(max_examples=25, deadline=None, database=None)
@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=4))
def test_many_units_say_what_each_says(prompt, instruction, examples, rows):
    frame = pd.DataFrame({"text": pd.Series([row[0] for row in rows], dtype=object),
                          "other": pd.Series([row[1] for row in rows], dtype=object)})  # fmt: skip
    units = Units(frame.set_axis(pd.Index([f"u{at}" for at in range(len(rows))], name="unit_id")))
    messages = Messages(prompt, units, instruction, examples)
    of_many = said_of_many(messages)
    assert [of_many(at) for at in range(len(rows))] == [said(messages, at) for at in range(len(rows))]


def test_what_differs_in_texts_alone_is_not_rendered_for_each():
    units = Units(pd.DataFrame({"text": ["a", "b"]}))
    assert Messages("{text}", units).placeholders == ("text",)
    assert Messages(PROMPTS[2], Units(units.frame.assign(other="c"))).placeholders == ("other", "text")
    for more in (PROMPTS[4], PROMPTS[5]):
        assert Messages(more, units).placeholders == ()
