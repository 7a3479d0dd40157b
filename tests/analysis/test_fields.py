"""One field of answers with fields is the same as the labels themselves."""

import enum
import json
from typing import Literal

import pandas as pd
import pydantic
import pytest
from pandas.testing import assert_frame_equal
from sklearn import metrics

import llmlab as ll
from llmlab.pandas_versions import TEXT
from llmlab.parsing import make_parser
from tests.helpers import ask, attempt, keys_of, results_of, trial_of

LABELS = ["billing", "bug", "other"]
TAGS = ["refund", "invoice", "crash"]


class Tone(enum.Enum):
    CALM = "calm"
    ANGRY = "angry"


class Code(pydantic.BaseModel):
    category: Literal["billing", "bug", "other"]
    intensity: int = pydantic.Field(ge=1, le=5)
    tone: Tone
    urgent: bool
    tags: list[Literal["refund", "invoice", "crash"]]
    why: str
    product: Literal["app", "web"] | None


FREE = {"intensity": 3, "tone": "calm", "urgent": False, "tags": ["refund"], "why": "because", "product": None}
PARSER = make_parser(response_model=Code)


def results(answers, *, runs=2, gold=None, **description):
    """Results with these predictions by unit and run; `None` failed."""
    flat = [one for runs_of in answers for one in runs_of]
    keys = keys_of([f"u{at}" for at in range(len(answers))], runs=runs)
    made = [
        (attempt(trial_of(keys, at)), value)
        if value is not None
        else (attempt(trial_of(keys, at), status="parse_error", error_type="ParseError", error="?"), None)
        for at, value in enumerate(flat)
    ]
    index = pd.Index([f"u{at}" for at in range(len(answers))], name="unit_id")
    units = pd.DataFrame({"text": ["t"] * len(answers), **(gold or {})}, index=index)
    return results_of(keys, made, units=units, **description)


def coded(answers, gold=None, as_json=False, **fields):
    """The same with a whole code for each label."""
    codes = [[label and Code(category=label, **(FREE | fields)) for label in runs] for runs in answers]
    if as_json:
        codes = [[code and json.loads(code.model_dump_json()) for code in runs] for runs in codes]
    return results(codes, gold=gold, fields=dict(PARSER.fields))


ANSWERS = [["bug", "bug"], ["bug", "billing"], [None, "other"], ["other", "billing"]]
GOLD = {"gold": ["bug", "billing", "other", "other"]}


@pytest.mark.parametrize("as_json", [False, True])
def test_a_field_is_computed_like_the_same_labels_asked_with_categories(as_json):
    plain = results(ANSWERS, gold=GOLD, categories=LABELS)
    field = coded(ANSWERS, gold=GOLD, as_json=as_json).of("category")
    assert field.categories == plain.categories == LABELS
    assert_frame_equal(field.predictions, plain.predictions)
    assert_frame_equal(field.consensus(), plain.consensus())
    assert_frame_equal(field.agreement(), plain.agreement())
    assert_frame_equal(field.wide(), plain.wide())
    assert_frame_equal(field.compare("gold"), plain.compare("gold"))
    assert_frame_equal(field.score("gold").summary, plain.score("gold").summary)
    assert_frame_equal(field.costs("category"), plain.costs("category"))
    assert field.summary() == plain.summary()


def test_what_fields_there_are_is_listed():
    fields = coded(ANSWERS).fields
    assert {name: field.get("labels") for name, field in fields.items()} == {
        "category": LABELS, "intensity": [1, 2, 3, 4, 5], "tone": ["calm", "angry"], "urgent": [False, True],
        "tags": TAGS, "why": None, "product": ["app", "web"],
    }  # fmt: skip
    assert {name: field["kind"] for name, field in fields.items()} == {
        "category": "label", "intensity": "ordered", "tone": "label", "urgent": "label", "tags": "labels",
        "why": "text", "product": "label",
    }  # fmt: skip
    assert results(ANSWERS, categories=LABELS).fields == {}


@pytest.mark.parametrize("finding", ["consensus", "agreement", "wide", "score", "compare", "shares", "sheet"])
def test_a_finding_on_whole_answers_says_which_fields_can_be_asked(finding):
    wanted = {"score": ("gold",), "compare": ("gold",), "shares": (pd.DataFrame(),), "sheet": (2,)}
    with pytest.raises(ll.InputError, match=r"results.of\('category'\).*intensity \(1, 2, 3, 4, 5\); tone \(calm"):
        getattr(coded(ANSWERS, gold=GOLD), finding)(*wanted.get(finding, ()))
    with pytest.raises(ll.InputError, match=r"no field 'topic'.*category \(billing, bug, other\)"):
        coded(ANSWERS).of("topic")


def test_labels_stand_in_the_order_of_the_field_and_numbers_are_ordered():
    made = coded(ANSWERS)
    assert made.of("tone").predictions["prediction"].cat.categories.tolist() == ["calm", "angry"]
    intensity = made.of("intensity").predictions["prediction"]
    assert intensity.cat.ordered
    assert intensity.dropna().tolist() == [3] * 7
    assert made.of("urgent").categories == [False, True]
    assert made.of("why").predictions["prediction"].dtype == TEXT
    assert made.of("why").categories is None


def test_an_optional_field_that_is_not_given_is_no_vote():
    agreed = coded(ANSWERS).of("product").consensus()
    assert agreed["prediction"].isna().all()
    assert agreed["answered"].tolist() == [0] * 4


def test_the_summary_and_the_chart_count_the_field_that_agreement_counts():
    made = coded(ANSWERS)
    agree = made.of("category").agreement()["unanimous"].item()
    assert agree == pytest.approx(1 / 3)
    assert "1 of 3 units" in made._repr_html_()
    assert "33 %" in repr(ll.charts.agreement(made))


def test_a_list_of_labels_is_a_row_for_each_label_and_is_scored_like_indicators():
    said = [[["refund"], ["refund", "crash"]], [[], ["invoice"]], [["crash"], ["crash"]]]
    gold = [["refund"], ["invoice", "refund"], ["crash"]]
    codes = [[Code(category="bug", **(FREE | {"tags": tags})) for tags in runs] for runs in said]
    made = results(codes, gold={"truth": gold}, fields=dict(PARSER.fields)).of("tags")
    predictions = made.predictions
    assert list(predictions.columns[:5]) == ["unit_id", "model", "label", "run", "prediction"]
    assert len(predictions) == 3 * 2 * 3
    assert predictions.query("unit_id == 'u0' and run == 2")["prediction"].tolist() == [True, False, True]
    assert made.consensus().groupby("label", sort=False).size().to_dict() == dict.fromkeys(TAGS, 3)
    table = made.score("truth").per_category.set_index("category")
    flat = [tags for runs in said for tags in runs]
    truth = [tags for tags in gold for _ in range(2)]
    indicator = [[[tag in tags for tag in TAGS] for tags in side] for side in (truth, flat)]
    each = metrics.f1_score(*indicator, average=None)
    assert table.loc[TAGS, "f1"].tolist() == pytest.approx(each.tolist())
    assert table.loc["micro", "f1"] == pytest.approx(metrics.f1_score(*indicator, average="micro"))
    assert table.loc["macro", "f1"] == pytest.approx(metrics.f1_score(*indicator, average="macro"))
    assert made.agreement()["label"].tolist() == TAGS


async def test_of_a_loaded_result_is_that_of_the_live_one(provider, tmp_path):
    journal = tmp_path / "book.sqlite"
    live = await ask(provider(), [f"refund {n}" for n in range(6)], response_model=Code, runs=2, journal=journal)
    live.save(tmp_path / "folder")
    for loaded in (ll.load_results(journal), ll.load_results(tmp_path / "folder")):
        assert loaded.fields == live.fields
        for field in live.fields:
            assert_frame_equal(loaded.of(field).predictions, live.of(field).predictions)
    again = await live.of("category").rerun(live.predictions.head(1))
    assert again.fields == live.fields
