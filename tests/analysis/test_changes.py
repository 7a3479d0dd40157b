"""What changed between two experiments about the same units is listed, and tested."""

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.contingency_tables import mcnemar

from llmlab import InputError
from llmlab.analysis import changes, consensus
from tests.analysis.tables import LABELS, as_rows, frame, random_table

GOLD = [LABELS[at % 3] for at in range(120)]


def drawn(seed, model="m", **more):
    return frame(as_rows(random_table(seed=seed)), GOLD, model, **more)


def counted(table, label):
    """The same as numbers: has both, lost, gained, and statsmodels' p-value."""
    then, now = (table[when].eq(table["gold"] if pd.isna(label) else label).to_numpy(bool) for when in "ab")
    cells = [[(then & now).sum(), (then & ~now).sum()], [(~then & now).sum(), (~then & ~now).sum()]]
    return [len(table), cells[0][0], cells[0][1], cells[1][0], mcnemar(cells, exact=True).pvalue]


def test_changed_units_are_listed_and_tested_against_statsmodels():
    before, after = drawn(1), drawn(2)
    changed, test = changes(before, after, "gold")
    a, b = (consensus(one).set_index("unit_id") for one in (before, after))
    table = pd.DataFrame({"a": a["prediction"].astype(str), "b": b["prediction"].astype(str), "gold": a["gold"]})
    moved = table[table["a"] != table["b"]]
    assert 0 < len(moved) < 120
    assert changed.columns.tolist() == ["unit_id", "model", "before", "after", "gold"]
    assert changed["unit_id"].tolist() == moved.index.tolist()
    assert changed[["before", "after", "gold"]].to_numpy().tolist() == moved.to_numpy().tolist()
    assert test["about"].tolist() == ["right", "label", "label", "label"]
    assert test["label"].dropna().tolist() == LABELS
    for row in test.itertuples():
        assert [row.units, row.both, row.lost, row.gained, row.p_value] == pytest.approx(counted(table, row.label))


def test_a_unit_without_answer_is_listed_and_in_no_test():
    before, after = frame([["bug"], [None], ["bug"], [None]]), frame([["bug"], ["bug"], [None], [None]])
    changed, test = changes(before, after)
    assert changed["unit_id"].tolist() == ["u2", "u3"]
    assert test["units"].tolist() == [1, 1, 1]
    assert test["p_value"].tolist() == [1.0, 1.0, 1.0]


def test_models_that_both_have_are_paired_and_one_each_by_unit():
    both = [pd.concat([drawn(1, "m"), drawn(2, "n")]), pd.concat([drawn(3, "n"), drawn(4, "o")])]
    changed, test = changes(*both)
    alone = changes(drawn(2, "n"), drawn(3, "n"))
    pd.testing.assert_frame_equal(changed, alone[0])
    pd.testing.assert_frame_equal(test, alone[1])
    renamed = changes(drawn(2, "old"), drawn(3, "new"))
    assert renamed[0]["unit_id"].tolist() == changed["unit_id"].tolist()
    assert renamed[1]["model"].unique().tolist() == ["old"]


def test_ordered_numbers_stay_numbers():
    numbers = dict(zip(LABELS, (1, 2, 3), strict=True))
    before, after = (
        one.assign(prediction=one["prediction"].cat.rename_categories(numbers)) for one in (drawn(1), drawn(2))
    )
    changed, test = changes(before, after)
    labelled = changes(drawn(1), drawn(2))
    assert changed["after"].tolist() == [numbers[label] for label in labelled[0]["after"]]
    assert test["label"].tolist() == [1, 2, 3]
    assert test["gained"].tolist() == labelled[1]["gained"].tolist()


def test_lists_of_labels_are_tested_label_by_label():
    def once(seed):
        return frame(as_rows(random_table(runs=1, seed=seed)), GOLD)

    def of_labels(seed):
        parts = [once(seed).assign(prediction=once(seed)["prediction"].eq(label), label=label) for label in LABELS]
        made = pd.concat(parts, ignore_index=True)
        order = ["unit_id", "model", "label", "run", "prediction", "gold", "status", "finished_at"]
        return made.assign(gold=[[one] for one in made["gold"]])[order]

    changed, test = changes(of_labels(1), of_labels(2), "gold")
    single = changes(once(1), once(2))[1].set_index("label")
    assert set(changed["label"]) == set(LABELS)
    for label in LABELS:
        right, has = test[test["label"] == label].itertuples()
        assert (right.about, has.about) == ("right", "label")
        assert right.units == has.units == 120
        assert (has.lost, has.gained) == tuple(single.loc[label, ["lost", "gained"]])


def test_nothing_changed_and_nothing_in_common():
    changed, test = changes(drawn(1), drawn(1))
    assert len(changed) == 0
    assert test["p_value"].tolist() == [1.0] * 3
    others = drawn(1).assign(unit_id=np.arange(480))
    with pytest.raises(InputError, match="no unit in common"):
        changes(drawn(1), others)
