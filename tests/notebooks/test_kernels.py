"""Real kernels: the view is live, Stop and ■ work while the cell awaits, and what is saved is static."""

from __future__ import annotations


import nbformat
import pytest
from nbclient import NotebookClient

from tests.notebooks.kernel import ROOT, WIDGET, Kernel, opened, printed, reported, shown, shown_as, valuenow

pytestmark = [pytest.mark.notebook]

SETUP = """
import asyncio, json
import llmlab as ll

provider = ll.simulate.client(latency_s=0.6)
units = [f"Please refund order {at}" for at in range(60)]

def settings(per_s=4, **more):
    limiter = ll.RateLimiter(per_s * 4, period_s=4, margin_s=0.1)
    asked = {"prompt": "{text}", "model": "openai/gpt-4o-mini", "categories": ["billing", "bug"]}
    return asked | {"client": provider, "limiter": limiter} | more

def report(results):
    predictions, attempts = results
    print(json.dumps({
        "status": predictions["status"].value_counts().to_dict(),
        "attempts": attempts["status"].value_counts().to_dict(),
        "stopped": results.stopped,
    }))
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory):
    kernel = Kernel(tmp_path_factory.mktemp("kernel"))
    kernel.run(SETUP)
    yield kernel
    kernel.close()


def test_the_view_is_live_and_ends_as_a_static_picture(kernel):
    messages = kernel.run("results = await ll.run_experiment(units[:8], **settings(per_s=8)); report(results)")
    assert reported(messages)["status"] == {"ok": 8}
    (running,), (final,) = shown(messages, "display_data"), shown(messages, "update_display_data")
    assert WIDGET in running
    assert "children=" not in running["text/plain"]
    assert set(final) == {"text/html", "text/plain"}
    assert "8 of 8 answered" in final["text/html"]
    assert final["text/plain"].startswith("llmlab: 8 of 8 answered")
    # Front ends without extensions of their own, as VS Code and Colab, know these two modules of widgets.
    made = [message["content"]["data"]["state"] for message in messages if message["msg_type"] == "comm_open"]
    assert {state["_model_module"] for state in made} <= {"@jupyter-widgets/base", "@jupyter-widgets/controls"}
    counts = [valuenow(message) for message in messages if message["msg_type"] == "comm_msg" and valuenow(message) >= 0]
    assert 0 < len(counts) <= 20
    assert counts == sorted(counts)
    # A page that was loaded anew shows the widget itself: it stays, says the end, and its button is hidden.
    assert not [message for message in messages if message["msg_type"] == "comm_close"]
    states = [m["content"]["data"].get("state", {}) for m in messages if m["msg_type"] == "comm_msg"]
    assert [state["value"] for state in states if "value" in state][-1] == final["text/html"]
    assert {"display": "none"} in states


def test_charts_and_the_users_own_plots_are_shown_once_each(kernel):
    kernel.run("results = await ll.run_experiment(units[:8], **settings(per_s=8), runs=2)")
    both = kernel.run("ll.charts.token_costs(results); ll.charts.agreement(results)")
    assert [len(shown(both, kind)) for kind in ("display_data", "execute_result")] == [1, 1]
    own = kernel.run("import matplotlib.pyplot as plt\nplt.plot([1, 2]);")
    (plot,) = shown(own, "display_data")
    assert "image/png" in plot


def test_an_interrupt_gives_what_was_answered_and_the_next_cell_runs(kernel):
    cell = kernel.start("results = await ll.run_experiment(units, **settings()); report(results)")
    queued = kernel.start("print('next', len(results.predictions))")
    kernel.advanced(2)
    kernel.manager.interrupt_kernel()
    report = reported(kernel.finish(cell))
    # What was in flight is answered: nothing failed, nothing was cut off.
    assert set(report["status"]) == {"ok", "not_run"}
    assert report["attempts"] == {"ok": report["status"]["ok"]}
    assert report["status"]["ok"] >= 3
    assert report["stopped"].startswith("interrupted; ")
    assert printed(kernel.finish(queued)) == "next 60\n"


def test_a_click_on_stop_ends_the_awaiting_cell_with_partial_results(kernel):
    cell = kernel.start("results = await ll.run_experiment(units, **settings()); report(results)")
    button = kernel.opened("ButtonModel")
    kernel.advanced(2)
    kernel.click(button)
    messages = kernel.finish(cell)
    report = reported(messages)
    assert set(report["status"]) == {"ok", "not_run"}
    assert report["stopped"].startswith("stopped by the Stop button; ")
    states = [
        m["content"]["data"].get("state", {}) for m in kernel.seen if m["content"].get("comm_id") == button["comm_id"]
    ]
    assert {"disabled": True} in states
    assert {"description": "Stopping"} in states
    assert "stopped by the Stop button" in shown(messages, "update_display_data")[0]["text/plain"]


def test_two_experiments_in_the_background_show_two_views_and_share_the_limit(kernel):
    first = kernel.run("shared = settings(per_s=12); a = ll.start_experiment(units[:12], **shared); print(a)")
    second = kernel.run("b = ll.start_experiment(units[12:24], **shared)")
    assert "<Experiment: 0 of 12 trials" in printed(first)
    assert printed(kernel.run("print(len(a.predictions), a.results.stopped)")) == "12 None\n"
    report = reported(kernel.run("results = await b; report(results)"))
    assert report["status"] == {"ok": 12}
    assert reported(kernel.run("report(await a)"))["status"] == {"ok": 12}
    assert printed(kernel.run("print(shared['limiter'].get_metrics()['total_requests'])")) == "24\n"
    # Each view is in its own cell, and its picture takes its place there.
    for cell in (first[0]["parent_header"]["msg_id"], second[0]["parent_header"]["msg_id"]):
        messages = [message for message in kernel.seen if message["parent_header"].get("msg_id") == cell]
        (display,) = shown_as(messages, "display_data")
        assert shown_as(kernel.seen, "update_display_data").count(display) == 1


def test_stop_in_the_background_works_between_cells_too(kernel):
    cell = kernel.start("a = ll.start_experiment(units, **settings())")
    button = kernel.opened("ButtonModel")
    kernel.finish(cell)
    kernel.advanced(2)
    kernel.click(button)
    assert reported(kernel.run("report(await a)"))["stopped"].startswith("stopped by the Stop button; ")


def test_the_blocking_form_has_no_button_and_loses_no_queued_cell(kernel):
    before = len(kernel.seen)
    cell = kernel.start("results = ll.run_experiment_sync(units, **settings()); report(results)")
    queued = kernel.start("print('next')")
    kernel.advanced(2)
    kernel.manager.interrupt_kernel()
    messages = kernel.finish(cell)
    report = reported(messages)
    assert set(report["status"]) == {"ok", "not_run"}
    assert report["stopped"].startswith("interrupted; ")
    assert " answered" in shown(messages, "update_display_data")[0]["text/plain"]
    kinds = opened(kernel.seen[before:]).values()
    assert "HTMLModel" in kinds
    assert "ButtonModel" not in kinds
    values = [m["content"]["data"]["state"].get("value", "") for m in messages if m["msg_type"] == "comm_open"]
    assert any("■ ends it early" in value for value in values)
    assert printed(kernel.finish(queued)) == "next\n"


def test_a_view_that_breaks_half_way_goes_on_as_text_and_loses_nothing(kernel):
    messages = kernel.run(
        "import llmlab.display.widget as w\n"
        "whole, calls = w.live_html, []\n"
        "def breaks(*args):\n"
        "    calls.append(1)\n"
        "    if len(calls) > 2: raise RuntimeError('no front end')\n"
        "    return whole(*args)\n"
        "w.live_html = breaks\n"
        "results = await ll.run_experiment(units[:8], **settings(per_s=8)); w.live_html = whole; report(results)"
    )
    assert reported(messages)["status"] == {"ok": 8}
    assert "8 of 8 answered" in "".join(m["content"]["text"] for m in messages if m["msg_type"] == "stream")


def test_without_ipywidgets_there_is_text(kernel):
    messages = kernel.run(
        "import sys; kept = sys.modules['ipywidgets']; sys.modules['ipywidgets'] = None\n"
        "results = await ll.run_experiment(units[:2], **settings(per_s=8))\n"
        "sys.modules['ipywidgets'] = kept; report(results)"
    )
    assert reported(messages)["status"] == {"ok": 2}
    assert not shown(messages, "display_data")
    assert "2 of 2 answered" in "".join(m["content"]["text"] for m in messages if m["msg_type"] == "stream")


def test_a_saved_notebook_shows_the_pictures_and_no_dead_widgets(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    cells = [SETUP, "results = await ll.run_experiment(units[:3], **settings(per_s=8))\nresults", "report(results)"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=30, store_widget_state=False).execute(cwd=str(tmp_path))
    path = tmp_path / "saved.ipynb"
    nbformat.write(notebook, path)
    saved = nbformat.read(path, as_version=4)
    picture, summary = (output["data"] for output in saved.cells[1].outputs)
    assert "llmlab-progress" in picture["text/html"]
    assert len(picture["text/plain"].splitlines()) == 1
    assert "llmlab-results" in summary["text/html"]
    assert "simulated, no real model" in summary["text/html"]
    text = path.read_text()
    assert "children=" not in text
    assert WIDGET not in text
