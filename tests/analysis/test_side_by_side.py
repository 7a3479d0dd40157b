"""The answers of a unit side by side, by hand."""

import pandas as pd
import pytest

import llmlab as ll
from llmlab import analysis
from tests.analysis.tables import SMALL, frame

GOLD = ["bug", "bug", "other", "bug"]


def cells(table, name):
    return [None if pd.isna(cell) else cell for cell in table[name].astype(object)]


def test_a_row_holds_the_runs_their_consensus_and_gold():
    table = analysis.side_by_side(frame(SMALL, gold=GOLD), "gold")
    assert list(table) == ["unit_id", "run_1", "run_2", "run_3", "consensus", "confidence", "gold"]
    assert cells(table, "run_2") == ["bug", "billing", None, None]
    assert cells(table, "consensus") == ["bug", "bug", "billing", None]
    assert cells(table, "confidence") == [1.0, pytest.approx(2 / 3), 0.5, None]
    assert cells(table, "gold") == GOLD
    assert table.sort_values("confidence")["unit_id"].tolist() == ["u3", "u2", "u1", "u4"]


def test_models_and_prompts_are_told_apart_where_there_are_several():
    several = pd.concat([frame(SMALL), frame(SMALL[::-1], model="n")])
    table = analysis.side_by_side(several, {"u1": "bug", "u2": "bug", "u3": "other"})
    assert table["model"].tolist() == ["m"] * 4 + ["n"] * 4
    assert table["unit_id"].tolist() == ["u1", "u2", "u3", "u4"] * 2
    assert cells(table, "consensus") == ["bug", "bug", "billing", None, None, "billing", "bug", "bug"]
    assert cells(table, "gold") == ["bug", "bug", "other", None] * 2


def test_one_run_needs_no_consensus():
    table = analysis.side_by_side(frame([["bug"], [None]]))
    assert list(table) == ["unit_id", "run_1"]


def test_long_texts_are_cut_and_stand_in_one_line():
    predictions = frame([["bug"], ["bug"], ["bug"]])
    predictions["text"] = ["short", "a\nb   c", "word " * 1000]
    table = analysis.side_by_side(predictions, columns=["text"], length=12)
    assert table["text"].tolist() == ["short", "a b c", "word word w…"]
    whole = analysis.side_by_side(predictions, columns=["text"], length=10_000)
    assert whole["text"].iloc[2] == ("word " * 1000).strip()


def test_a_wrong_column_or_length_is_named():
    predictions = frame([["bug"]], gold=["bug"])
    with pytest.raises(ll.InputError, match="columns='words' is no column of your units: they have gold"):
        analysis.side_by_side(predictions, columns=["words"])
    with pytest.raises(ll.InputError, match="length must be at least 2"):
        analysis.side_by_side(predictions, length=1)
