"""The summary says what happened and what to do, escapes every text, and is quick for large results."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from llmlab import errors
from llmlab.display import Summary
from llmlab.display.hints import HINTS
from llmlab.records import Usage
from llmlab.results import Results
from tests.helpers import START, attempt, failing, keys_of, results_of, trial_of

VOID = {"path", "polyline", "br"}


class Balanced(HTMLParser):
    """Raises if a tag is not closed."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def shown(results: Results) -> str:
    """The summary, after checking what holds for every one."""
    page = results._repr_html_()
    parser = Balanced()
    parser.feed(page)
    assert not parser.open
    for thing in ("<script", "<style", "http-equiv", "src=", "background-color:#fff", "background:white"):
        assert thing not in page
    return page


def words(page: str) -> str:
    return " ".join(re.sub("<[^>]*>", " ", page).split())


def make(answers, *, runs=1, models=("m",), units=None, price_usd=1e-3, **more) -> Results:
    """Results of one attempt per trial; an answer that is an exception failed, `...` was not run."""
    count = len(answers) // (runs * len(models)) if units is None else units
    keys = keys_of([f"u{at}" for at in range(count)], runs=runs, models=models)
    sent = []
    for at, answer in enumerate(answers):
        if answer is ...:
            continue
        usual = {"started_at": 1e9 + at, "wait_s": 2.0, "throttled": True, "latency_s": 0.5}
        if isinstance(answer, Exception):
            code = 429 if isinstance(answer, errors.RateLimitError) else None
            usual |= failing(error_type=type(answer).__name__, error=str(answer), http_status=code)
        else:
            usual |= {"usage": Usage(1000, 10, 4, None, 1010), "cost_usd": price_usd}
        sent.append((attempt(trial_of(keys, at), **usual), answer))
    texts = pd.DataFrame({"text": ["t"] * count}, index=pd.Index(keys["unit_id"].unique(), name="unit_id"))
    return results_of(keys, sent, units=texts, **more)


def agreement(results: Results) -> tuple[int, int]:
    numbers = Summary.of(results, renamed={}, can_rerun=False)
    return numbers.agreeing, numbers.several


def rerunnable(results, rows):
    raise NotImplementedError


def test_says_counts_tokens_costs_waits_and_the_endpoint():
    page = shown(
        make(["a", "b", "a", ..., ValueError("x")], categories=["a", "b"], endpoint="https://openrouter.ai/api/v1")
    )
    text = words(page)
    for part in (
        "5 trials: 5 units × 1 run × 1 model",
        "3 answered",
        "1 failed",
        "1 not run",
        "tokens in 3,000 30 out, 12 reasoning",
        "cost $0.0030",
        "took 6.5 s",
        "What took the time: 92 % waiting for the rate limit",
        "To be faster: a higher requests_per_minute",
        "Waited for the limit: 100 % of attempts, 2.0 s on average",
        "https://openrouter.ai/api/v1",
    ):
        assert part in text
    assert "cached" not in text


def test_the_lines_of_text_say_the_same():
    results = make(
        ["x", errors.RateLimitError("no"), ...], unsent={2: errors.EmptyInputError("blank")}, again=rerunnable
    )
    assert results._numbers.lines() == {
        "answered": "1 of 3",
        "failed": "2 (1 RateLimitError, 1 EmptyInputError)",
        "attempts": "2, without a usable answer: 1 RateLimitError",
        "tokens": "1,010 (1,000 in, 10 out)",
        "cost": "$0.0010",
        "waited": "for the limit: 100 % of attempts, 2.0 s on average",
        "refused": "1 (429)",
        "took": "3.5 s: 86 % waiting for the rate limit, 14 % waiting for answers; to be faster: "
        "nothing, as the provider refuses more than this (429)",
        "go on": "results = await results.rerun_failed()",
    }
    assert "cost         unknown; no price for m" in repr(make(["x"], price_usd=None))


def test_says_when_no_real_model_was_asked():
    page = words(shown(make(["a"], endpoint="http://127.0.0.1:1/v1 (simulated, no real model)")))
    assert "simulated, no real model" in page
    assert "127.0.0.1" not in page


def test_an_unknown_cost_is_unknown_and_not_nothing():
    text = words(shown(make(["a"], models=("odd/model",), price_usd=None)))
    assert "cost unknown no price for odd/model" in text
    assert "$0" not in text


def test_agreement_counts_units_whose_runs_all_say_the_same():
    results = make(["a", "a", "a", "b", "b", ValueError("x"), ..., ...], runs=2, categories=["a", "b"])
    assert agreement(results) == (1, 2)
    assert "runs agree 50 % 1 of 2 units" in words(shown(results))


@pytest.mark.parametrize("answers", [["a", "b"], [], [...], ["a", ..., ..., "b"]])
def test_no_agreement_without_two_answers_to_a_unit(answers):
    results = make(answers, runs=2 if len(answers) == 4 else 1)
    assert agreement(results) == (0, 0)
    assert "runs agree" not in shown(results)


@pytest.mark.parametrize("same", ["x", ["x"], {"x": 1}, 1.5, True])
def test_agreement_of_answers_of_any_kind(same):
    results = make([same, same, same, type(same)()], runs=2)
    assert agreement(results) == (1, 2)
    assert results.agreement()["unanimous"].tolist() == [0.5]


def test_answers_with_fields_agree_by_the_first_field_that_is_a_category():
    answers = [{"why": f"because {at}", "label": "a" if at < 6 else "b"} for at in range(8)]
    results = make(answers, runs=4, fields=["why", "label"])
    assert agreement(results) == (1, 2)
    assert "label m a 6 b 2" in words(shown(results))


def test_each_kind_of_error_has_a_count_an_example_and_a_hint():
    trouble = [
        errors.RateLimitError("429: slow down"),
        errors.TimeoutError("no answer in 120 s"),
        errors.TimeoutError("2"),
    ]
    text = words(shown(make(["a", *trouble])))
    assert "TimeoutError 2 2 raise timeout" in text
    assert "no answer in 120 s" in text
    assert "RateLimitError 1 1 lower requests_per_minute" in text
    assert "1 refused (429)" in text


def test_trials_that_failed_without_an_attempt_are_named():
    results = make(["a", ...], unsent={1: errors.EmptyInputError("no text in unit u1")})
    assert "EmptyInputError 0 1 these units have no text" in words(shown(results))


def test_every_error_has_a_hint():
    def leaves(kind):
        below = kind.__subclasses__()
        return [leaf for one in below for leaf in leaves(one)] if below else [kind.__name__]

    missing = set(leaves(errors.AttemptError)) - set(HINTS)
    assert not missing
    assert all(hasattr(errors, kind) for kind in HINTS)


def test_what_models_and_providers_wrote_is_escaped_and_cut():
    evil = "<img src=x onerror=alert(1)>'\""
    results = make([evil, evil, evil, errors.TimeoutError(evil * 1000)], models=(evil,), stopped=evil, endpoint=evil)
    page = results._repr_html_()
    assert "<img" not in page
    assert "&lt;img" in page
    assert len(page) < 8000
    assert "onerror" not in re.sub(r"'[^']*'", "", re.sub(r">[^<]*<", "><", page))


def test_labels_are_counted_in_the_given_order_and_free_text_is_not():
    text = words(shown(make(["b", "a", "b"], categories=["c", "b", "a"])))
    assert "label m c 0 b 2 a 1" in text
    assert "prediction" not in words(shown(make(["one", "two", "three"]))).replace("predictions, attempts", "")


def test_many_labels_and_models_stay_compact():
    labels = [f"label {at}" for at in range(40)]
    models = tuple(f"m{at}" for at in range(6))
    page = shown(make(labels * 6, models=models, categories=labels, units=40))
    assert "and 28 more labels, 2 more models" in words(page)
    assert page.count("<tr") == 13


def test_a_run_that_ended_early_says_why_and_how_to_go_on():
    stopped = "stopped by the Stop button; 1 of 2 trials are not answered"
    text = words(shown(make(["a", ...], stopped=stopped, again=rerunnable)))
    assert text.endswith("not answered to go on: results = await results.rerun_failed()")
    capped = make(["a", ...], stopped="max_cost_usd=1 allows no further call", again=rerunnable)
    assert repr(capped).splitlines()[-1].partition("go on        ")[2].startswith("raise max_cost_usd, then run")
    assert "same journal" in words(shown(make(["a", ...], stopped=stopped)))
    assert "rerun" not in repr(make(["a", ...], stopped=stopped))
    assert "rerun" not in shown(make(["a"], again=rerunnable))


def test_nothing_was_asked():
    text = words(shown(make([])))
    assert "0 trials: 0 units" in text
    assert "cost $0" in text


def test_many_trials_stay_compact():
    rng = np.random.default_rng(1)
    answers = [
        errors.TimeoutError("slow") if at % 20 == 0 else "abc"[label]
        for at, label in enumerate(rng.integers(0, 3, 20_000))
    ]
    results = make(answers, runs=2, categories=["a", "b", "c"])
    assert len(results.predictions) == len(results.attempts) == 20_000
    page = results._repr_html_()
    assert len(page) < 10_000


def test_several_providers_of_one_model_are_named_and_how_to_pin_one():
    keys = keys_of(["a", "b", "c"])
    served = ["Slow", "Fast", "Fast"]
    made = [(attempt(trial_of(keys, at), provider=name), "x") for at, name in enumerate(served)]
    line = results_of(keys, made)._numbers.lines()["served by"]
    assert line == "Fast, Slow for m; to pin it: extra_body={'provider': {'only': ['Fast']}}"
    assert "to pin it" in results_of(keys, made)._repr_html_()
    assert "served by" not in results_of(keys, made[1:])._numbers.lines()


@pytest.mark.parametrize(
    ("returned", "pin"),
    [("m-2024-07-18", "model='m-2024-07-18'"), ("m", "seed= in each request, as far as the provider keeps it")],
)
def test_several_configurations_of_one_model_are_named_and_what_pins_most_of_it(returned, pin):
    keys = keys_of(range(3))
    fields = [{"system_fingerprint": name, "model_returned": returned} for name in ("fp_1", "fp_2", "fp_2")]
    made = [(attempt(trial_of(keys, at), **more), "x") for at, more in enumerate(fields)]
    line = results_of(keys, made)._numbers.lines()["served by"]
    assert line == f"fp_2, fp_1 (system_fingerprint) for m; what pins most of it: {pin}"
    assert "served by" not in results_of(keys, made[1:])._numbers.lines()


def test_the_time_between_sessions_is_no_duration():
    keys = keys_of(["a", "b"])
    first = attempt(trial_of(keys, 0), started_at=START, latency_s=1.0, session=1)
    second = attempt(trial_of(keys, 1), started_at=START + 1000, latency_s=2.0, session=2)
    assert results_of(keys, [(first, "x"), (second, "x")]).summary()["duration_s"] == 3.0
