"""Kept texts are read anew without a call; the same reader changes nothing."""

import pandas as pd
import pytest

import llmlab as ll
from llmlab.parsing import make_parser
from llmlab.results import Store
from llmlab.results.reading import reread
from tests.helpers import ask, attempt, failing, texts


@pytest.mark.parametrize("how", [{"categories": ["billing", "bug"]}, {"parse": len}])
async def test_the_same_reader_is_the_identity(provider, tmp_path, how):
    client = provider(malformed_rate=0.4, error_rate=0.3, seed=3)
    results = await ask(client, [*texts(30), ""], journal=tmp_path / "j.sqlite", retry=ll.RetryPolicy(2, wait=lambda n: 0),
                        **how)  # fmt: skip
    assert results.attempts["status"].nunique() > 1
    for known in (results, ll.load_results(tmp_path / "j.sqlite")):
        again = known.reparse(**how)
        pd.testing.assert_frame_equal(again.predictions, results.predictions)
        pd.testing.assert_frame_equal(again.attempts, results.attempts)


async def test_another_reader_gives_other_predictions_of_the_same_attempts(provider):
    client = provider()
    results = await ask(client, texts(4))
    shouted = results.reparse(parse=str.upper)
    assert shouted.predictions["prediction"].tolist() == results.predictions["prediction"].str.upper().tolist()
    labels = results.reparse(categories=["a", "b"])
    assert labels.predictions["status"].tolist() == ["failed"] * 4
    assert labels.categories == ["a", "b"]
    unchanged = ["total_tokens", "cost_usd", "attempts", "finished_at"]
    pd.testing.assert_frame_equal(labels.predictions[unchanged], results.predictions[unchanged])
    assert client.counts().requests == 4
    assert labels.messages(0) == results.messages(0)
    with pytest.raises(ll.InputError, match="reparse needs"):
        results.reparse()
    with pytest.raises(ll.InputError, match="categories and parse"):
        results.reparse(categories=["a"], parse=len)


def test_a_failed_rerun_stays_failed_and_a_mended_text_counts():
    unread = {"status": "parse_error", "error_type": "ParseError", "error": "no", "content": "7"}
    parser = make_parser(parse=int)
    store = Store()
    store.record(attempt(content="7"), 7)
    store.record(attempt(number=2, **failing()))
    again = reread(store, parser)
    assert set(again.answered) == set()
    mended = Store()
    mended.record(attempt(**unread))
    mended.record(attempt(number=2, **failing()))
    again = reread(mended, parser)
    assert (set(again.answered), again.value(0)) == ({0}, 7)
    assert again.table.value("error_type", 0) is None


def test_what_a_model_declined_is_not_read():
    store = Store()
    store.record(attempt(status="parse_error", error_type="RefusalError", error="declined", content="5"))
    again = reread(store, make_parser(parse=int))
    assert set(again.answered) == set()
    assert again.table.value("error_type", 0) == "RefusalError"
