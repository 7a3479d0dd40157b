"""What a cell says when it is wrong, and what Tab and `?` show, in a real kernel."""

from __future__ import annotations

from types import ModuleType

import pytest

import llmlab as ll
from tests.notebooks.kernel import Kernel, shown

pytestmark = [pytest.mark.notebook]

SETUP = """
import llmlab as ll

client = ll.simulate.client()
few = [{"text": "refund, please"}, {"text": None}]
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    kernel = Kernel(tmp_path_factory.mktemp("kernel"))
    kernel.run(SETUP)
    yield kernel
    kernel.close()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("await ll.run_experiment(few, '{text}', model='m', client=client)", "InputError: text is missing"),
        ("await ll.estimate(few, '{words}', model='m', client=client)", "InputError: The prompt asks for {words}"),
        ("ll.start_experiment(few, 'What?', model='m', client=client)", "InputError: The prompt names no column"),
        ("ll.run_experiment_sync(few, '{text}', model='m', run=3)", "InputError: run: did you mean runs?"),
        ("ll.load_results('nowhere.sqlite')", "JournalError: There is no journal at nowhere.sqlite"),
    ],
)
def test_a_wrong_call_shows_the_users_line_and_the_message_only(kernel, line, said):
    traceback = kernel.fails(f"before = 1\nresults = {line}")
    assert f"----> 2 results = {line}" in traceback
    assert traceback.splitlines()[-1].startswith(said)
    assert "File " not in traceback
    assert "direct cause" not in traceback
    assert len(traceback.splitlines()) <= 8


def test_an_error_in_the_users_own_function_shows_that_function(kernel):
    traceback = kernel.fails(
        "def parse(text):\n"
        "    return 1 / 0\n"
        "results = await ll.run_experiment(['a'], '{text}', model='m', client=client, parse=parse)"
    )
    assert "----> 3 results = await" in traceback
    assert "----> 2     return 1 / 0" in traceback
    assert "File " not in traceback
    assert traceback.endswith("ZeroDivisionError: division by zero\nThe answers so far: llmlab.last_results()")


def test_a_forgotten_await_says_what_to_write(kernel):
    (forgotten,) = shown(kernel.run("r = ll.run_experiment(['a'], '{text}', model='m', client=client)\nr"), "execute_result")
    assert forgotten["text/plain"] == "<nothing is sent yet: write  results = await run_experiment(...)>"
    assert kernel.fails("r.predictions").endswith(
        "AttributeError: Nothing is sent yet, so there is no predictions: write  results = await run_experiment(...)"
    )
    kernel.run("results = await r")
    (again,) = shown(kernel.run("results.rerun_failed()"), "execute_result")
    assert again["text/plain"] == "<nothing is sent yet: write  results = await results.rerun_failed()>"
    (plan,) = shown(kernel.run("ll.estimate(['a'], '{text}', model='m', client=client)"), "execute_result")
    assert plan["text/plain"] == "<nothing is sent yet: write  plan = await estimate(...)>"


@pytest.mark.parametrize("name", ["ll", "ll.charts", "ll.simulate", "ll.errors"])
def test_tab_shows_the_public_names_and_nothing_else(kernel, name):
    module = {"ll": ll, "ll.charts": ll.charts, "ll.simulate": ll.simulate, "ll.errors": ll.errors}[name]
    public = [name for name in dir(module) if not name.startswith("_")]
    assert sorted(kernel.completes(f"{name}.")) == sorted(public)
    for one in public:
        value = getattr(module, one)
        assert not isinstance(value, ModuleType) or one in ("charts", "errors", "simulate")
        assert getattr(value, "__module__", "llmlab").startswith("llmlab")


def test_tab_knows_every_parameter(kernel):
    assert "requests_per_minute=" in kernel.completes("ll.run_experiment(few, '{text}', req")
    assert "pilot=" in kernel.completes("ll.estimate(few, '{text}', pil")
    assert "latency_s=" in kernel.completes("ll.simulate.client(lat")
    assert "fault_after=" in kernel.completes("ll.simulate.client(fault")


def test_help_shows_types_as_they_are_written(kernel):
    for name, returned in (
        ("run_experiment", "PendingResults"),
        ("start_experiment", "Experiment"),
        ("estimate", "Pending[Estimate]"),
        ("run_experiment_sync", "Results"),
        ("simulate.client", "SimulatedProvider"),
    ):
        signature = kernel.helps(f"ll.{name}").partition("Docstring")[0]
        assert f") -> {returned}" in signature
        assert ": '" not in signature
        assert "llmlab." not in signature
        assert "collections.abc" not in signature
    text = kernel.helps("ll.run_experiment")
    for heading in ("Parameters", "Returns", "Raises"):
        assert f"{heading}\n-----" in text
