"""The probability of a label is that of all its own tokens, in any spelling; never of the first one alone."""

import math

import pytest

from llmlab.analysis import label_logprob
from llmlab.records import SaidToken


def tokens(*said):
    return [SaidToken(text, math.log(p)) for text, p in said]


@pytest.mark.parametrize(("said", "label", "expected"), [
    ([("bug", 0.5)], "bug", 0.5),
    ([('{"', 0.9), ("label", 0.8), ('":"', 0.7), ("bil", 0.5), ("ling", 0.4), ('"}', 0.9)], "billing", 0.2),
    # It stands last in the answer, after it was weighed.
    ([("bug", 0.1), (" or ", 0.5), ("other", 0.5), (": ", 0.9), ("bug", 0.8)], "bug", 0.8),
    ([("Bug", 0.5)], "bug", 0.5),
    ([("5", 0.25)], 5, 0.25),
    ([(" bug.", 0.5)], "bug", 0.5),
])  # fmt: skip
def test_the_tokens_of_the_label_count_and_no_others(said, label, expected):
    assert math.exp(label_logprob(tokens(*said), label)) == pytest.approx(expected)


@pytest.mark.parametrize(("said", "label"), [([], "bug"), ([("other", 0.5)], "bug"), ([("x", 0.5)], "")])
def test_a_label_that_is_not_there_is_unknown(said, label):
    assert label_logprob(tokens(*said), label) is None


def test_other_spellings_count_and_other_labels_do_not():
    others = ((" Bug", math.log(0.2)), ("bugs", math.log(0.1)), ("other", math.log(0.1)))
    said = [SaidToken("bug", math.log(0.5), others)]
    assert math.exp(label_logprob(said, "bug")) == pytest.approx(0.7)


def test_it_is_never_above_certainty():
    said = [SaidToken("bug", -1e-9, (("Bug", -1e-9),))]
    assert label_logprob(said, "bug") == 0.0
    assert label_logprob([SaidToken("bug", -math.inf)], "bug") < -700
