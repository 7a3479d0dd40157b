"""The sheet is drawn blind with known probabilities, and survives the way through a file."""

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

import llmlab as ll
from llmlab import analysis
from llmlab.analysis.sheet import read_sheet
from tests.analysis.tables import LABELS, as_rows, frame, random_table

CODES = random_table(units=40, runs=3, seed=7)
PREDICTIONS = frame(as_rows(CODES))
UNITS = pd.DataFrame({"text": [f"text {n}" for n in range(1, 41)]}, index=[f"u{n}" for n in range(1, 41)])


def sheet(n=20, **options):
    return analysis.draw_sheet(PREDICTIONS, UNITS, n, **options)


@pytest.mark.parametrize("more", [None, "disagreement"])
def test_a_sheet_is_blind_in_random_order_and_knows_its_probabilities(more):
    made = sheet(more=more, seed=1)
    assert list(made.columns) == ["unit_id", "text", "label", "probability"]
    assert len(made) == made["unit_id"].nunique() == 20
    assert made["label"].isna().all()
    assert made["text"].tolist() == ["text " + unit[1:] for unit in made["unit_id"]]
    assert made["unit_id"].tolist() != sorted(made["unit_id"], key=lambda unit: int(unit[1:]))
    assert made["probability"].between(0, 1, inclusive="right").all()
    assert_frame_equal(made, sheet(more=more, seed=1))
    assert made["unit_id"].tolist() != sheet(more=more, seed=2)["unit_id"].tolist()


def test_units_of_which_answers_differ_come_more_often_and_every_unit_as_often_as_its_probability_says():
    came = pd.Series(0, index=UNITS.index)
    told = pd.Series(np.nan, index=UNITS.index)
    for seed in range(250):
        made = sheet(more="disagreement", seed=seed).set_index("unit_id")["probability"]
        came[made.index] += 1
        told[made.index] = made
    assert told.sum() == pytest.approx(20)
    # Four standard errors.
    assert (came / 250 - told).abs().max() < 4 * 0.5 / np.sqrt(250)
    share = analysis.consensus(PREDICTIONS).set_index("unit_id")["share"].astype(float)
    assert told[share < 1].min() > told[share == 1].max()
    assert told.max() / told.min() <= 2 + 1e-9


def test_all_units_can_be_drawn_and_no_more():
    assert sheet(40)["probability"].tolist() == [1.0] * 40
    assert sheet(40, more="disagreement")["probability"].tolist() == pytest.approx([1.0] * 40)
    for wrong in (0, 41, 2.5, True):
        with pytest.raises(ll.InputError, match="from 1 to 40"):
            sheet(wrong)
    with pytest.raises(ll.InputError, match="choose one of 'disagreement', 'low confidence'"):
        sheet(more="doubt")
    with pytest.raises(ll.InputError, match="several answers"):
        analysis.draw_sheet(frame(as_rows(CODES[:, :1])), UNITS, 5, more="disagreement")


def filled(made):
    return made.assign(label=[LABELS[len(text) % 3] for text in made["text"]])


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
@pytest.mark.parametrize("ids", ["text", "numbers"])
def test_a_sheet_survives_a_file(tmp_path, kind, ids):
    predictions, units = PREDICTIONS, UNITS
    if ids == "numbers":
        predictions = predictions.assign(unit_id=predictions["unit_id"].str[1:].astype(int))
        units = units.set_axis(range(1, 41))
    made = filled(analysis.draw_sheet(predictions, units, 20, more="disagreement", seed=3))
    path = tmp_path / f"sheet.{kind}"
    if kind == "csv":
        made.to_csv(path, index=False)
        back = pd.read_csv(path)
    else:
        made.to_excel(path, index=False)
        back = pd.read_excel(path)
    assert_frame_equal(analysis.score(predictions, made).summary, analysis.score(predictions, back).summary)
    assert_frame_equal(analysis.shares(predictions, made), analysis.shares(predictions, back))
    as_texts = back.astype(str).assign(probability=back["probability"].map(lambda one: str(one).replace(".", ",")))
    assert_frame_equal(analysis.shares(predictions, made), analysis.shares(predictions, as_texts))


def test_a_half_filled_sheet_says_what_is_left_and_its_filled_half_counts_as_a_random_part():
    made = filled(sheet(seed=4))
    made.loc[5:, "label"] = None
    made.loc[10, "label"] = "  "
    read = read_sheet(made, PREDICTIONS["unit_id"])
    assert read.labels.index.tolist() == made["unit_id"].head(5).tolist()
    assert read.probability.tolist() == pytest.approx((made["probability"].head(5) * 5 / 20).tolist())
    assert "15 of the sheet's 20 units have no label yet" in read.notes[0]
    assert "15 of the sheet's 20" in repr(analysis.score(PREDICTIONS, made))
    assert "15 of the sheet's 20" in analysis.shares(PREDICTIONS, made).attrs["notes"][0]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda made: made.drop(columns="probability"), "lost its column probability"),
        (lambda made: made.assign(probability=[0.0] + [0.5] * 19), "above 0 and at most 1"),
        (lambda made: made.assign(probability=[None] + [0.5] * 19), "above 0 and at most 1"),
        (lambda made: made.assign(label=None), "No label is filled in yet: 20 units"),
        (lambda made: made.drop(columns="label"), "needs the column label"),
        (lambda made: made.assign(unit_id="u1"), "more than once"),
        (lambda made: made.assign(unit_id=[f"x{n}" for n in range(20)]), "'x0', which is not in these results"),
        (lambda made: made.assign(label="nonsense"), "no category: nonsense"),
    ],
)
def test_a_spoilt_sheet_is_refused(spoil, says):
    with pytest.raises(ll.InputError, match=says):
        analysis.shares(PREDICTIONS, spoil(filled(sheet())))
