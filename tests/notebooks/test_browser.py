"""JupyterLab in a real browser: the panel fits, Stop stops, a page loaded anew ends with the final line.

Screenshots go to the folder in `LLMLAB_SCREENSHOTS`, else to a temporary one.
"""

from __future__ import annotations

import ast
import re

import pytest

from tests.notebooks import pages
from tests.notebooks.pages import ASK, COUNTED, FIRST, WIDTHS, advanced, open_notebook, run_all, take

pytestmark = [pytest.mark.browser]

LONG_ERROR = """
def parse(text):
    raise ValueError("an-error-without-a-space-" * 30)

results = await ll.run_experiment(
    tickets, "{text}", model="openai/gpt-4o-mini", parse=parse, client=provider, requests_per_minute=60, runs=4,
)
results
"""
DOLLARS = """
print(1)
ll.estimate(tickets, "{text}", model="openai/gpt-4o-mini", categories=["bug", "billing"], client=provider, runs=3)
"""
CAPPED = """
results = await ll.run_experiment(
    tickets, "{text}", model="openai/gpt-4o-mini", categories=["bug", "billing"], client=provider,
    requests_per_minute=None, max_tokens=20, max_cost_usd=0.0006,
)
results
"""
QUEUED = """
provider = ll.simulate.client(latency_s=0.2, batch_s=45)
results = await ll.run_experiment(
    tickets, "{text}", model=["openai/gpt-4o-mini", "openai/gpt-4o"], categories=["bug", "billing"], client=provider,
    batch=True, journal="queued.sqlite", runs=20,
)
results
"""
NOTEBOOKS = {
    "queued": [FIRST, QUEUED],
    "long": [FIRST, ASK.format(settings="runs=4, requests_per_minute=60"), COUNTED],
    "reloaded": [FIRST, ASK.format(settings="limiter=ll.RateLimiter(40, period_s=10, margin_s=0.1)"), COUNTED],
    "error": [FIRST, LONG_ERROR],
    "dollars": [FIRST, "await " + DOLLARS.strip().splitlines()[1], CAPPED],
    "charts": [
        FIRST,
        ASK.format(settings="runs=3, requests_per_minute=None"),
        "ll.charts.overview(results, 'gold')",
        "ll.charts.token_costs(results); ll.charts.agreement(results)",
    ],
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return pages.pictures_folder(tmp_path_factory)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with pages.jupyter("jupyterlab", tmp_path_factory.mktemp("lab"), NOTEBOOKS) as served:
        yield served


@pytest.fixture(scope="module")
def browser():
    with pages.chromium_browser() as browser:
        yield browser


@pytest.fixture
def page(lab, browser):
    page = pages.lab_page(browser, lab[0])
    yield page
    page.close()


def fits(page) -> None:
    """The panel stands beside its button, and neither is wider than its place."""
    panel, button = page.locator(".llmlab-progress:visible").last, page.locator("button.jupyter-button:visible").last
    box, stop = pages.box_of(panel), pages.box_of(button)
    assert box["x"] + box["width"] <= stop["x"]
    assert stop["x"] + stop["width"] <= page.viewport_size["width"]
    assert panel.evaluate("one => one.scrollWidth <= one.clientWidth + 1")
    output = page.locator(".jp-OutputArea-output:has(.llmlab-progress):visible").last
    assert output.evaluate("one => one.scrollWidth <= one.clientWidth + 1")


def test_the_panel_fits_beside_its_button_at_any_width_with_any_error(page, pictures):
    open_notebook(page, "error")
    run_all(page)
    page.locator(".llmlab-progress", has_text="last error").wait_for()
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(100)
        fits(page)
        take(page, pictures, f"error-{width}")
    page.locator("button.jupyter-button", has_text="Stop").click()
    page.locator(".llmlab-results").wait_for()
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        results = page.locator(".llmlab-results")
        assert results.evaluate("one => one.scrollWidth <= one.clientWidth + 1")
        take(page, pictures, f"stopped-{width}")


def test_stop_in_a_long_run_gives_partial_results(page, pictures, lab):
    open_notebook(page, "long")
    run_all(page)
    advanced(page, 3)
    take(page, pictures, "live")
    assert re.search(r"ETA \d", page.locator(".llmlab-progress").inner_text())
    page.locator("button.jupyter-button", has_text="Stop").click()
    page.locator(".llmlab-results").wait_for()
    results = page.locator(".llmlab-results").inner_text()
    assert "240 trials" in results
    assert "stopped by the Stop button" in results
    answered = ast.literal_eval(page.locator("pre", has_text="next cell:").inner_text().split(": ", 1)[1])
    assert answered["not_run"] > 200
    assert 3 <= answered["ok"] < 40
    final = page.locator(".llmlab-progress").inner_text()
    assert f"{answered['ok']} of 240 answered" in final
    assert f"{answered['not_run']} not run" in final
    page.locator("button.jupyter-button").wait_for(state="detached")
    # Saved and opened again: no kernel, no widgets, and the line is still there.
    page.evaluate(
        """async () => {
            await panel.context.save();
            await panel.sessionContext.shutdown();
            panel.dispose();
            await jupyterapp.commands.execute('docmanager:open', {path: 'notebooks/long.ipynb', factory: 'Notebook'});
        }"""
    )
    line = page.locator(".llmlab-progress")
    line.wait_for()
    assert "stopped by the Stop button" in line.inner_text()
    assert page.locator(".llmlab-results").is_visible()
    saved = (lab[1] / "notebooks" / "long.ipynb").read_text()
    assert "llmlab-progress" in saved
    assert "children=" not in saved


def test_batches_say_where_they_are_and_stop_leaves_them_to_the_provider(page, pictures):
    open_notebook(page, "queued")
    run_all(page)
    panel = page.locator(".llmlab-progress:visible").last
    panel.get_by_text(re.compile(r"batch 1 of 2: [1-9][\d,]* of 1,199 done · submitted \d\d:\d\d · ends by")).wait_for()
    assert "closing the notebook is fine" in panel.inner_text()
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_timeout(100)
        fits(page)
        take(page, pictures, f"queued-{width}")
    page.locator("button.jupyter-button", has_text="Stop").click()
    results = page.locator(".llmlab-results")
    results.wait_for()
    assert "2 batches go on at the provider: the same cell reads them later" in results.inner_text()
    take(page, pictures, "queued-stopped")


def test_a_page_loaded_anew_during_the_run_ends_with_the_final_line(page, pictures):
    open_notebook(page, "reloaded")
    run_all(page)
    advanced(page, 1)
    page.evaluate("() => panel.context.save()")
    page.reload()
    pages.ready(page)
    open_notebook_again(page, "reloaded")
    advanced(page, 3)
    line = page.locator(".llmlab-progress", has_text="ll.last_results()")
    line.wait_for(timeout=60_000)
    assert "60 of 60 answered" in line.inner_text()
    assert not page.locator("button.jupyter-button:visible").count()
    take(page, pictures, "reloaded")


def open_notebook_again(page, name: str) -> None:
    """Open a notebook whose kernel is still busy."""
    page.evaluate(
        """async name => {
            const path = `notebooks/${name}.ipynb`;
            window.panel = await jupyterapp.commands.execute('docmanager:open', {path, factory: 'Notebook'});
            await panel.context.ready;
        }""",
        name,
    )


def test_dollars_are_dollars(page, pictures):
    open_notebook(page, "dollars")
    run_all(page)
    pages.wait_until_run(page)
    page.locator(".llmlab-results", has_text="max_cost_usd=0.0006").wait_for()
    page.wait_for_timeout(500)
    assert pages.errors(page) == []
    assert not page.locator("mjx-container, .MathJax").count()
    assert page.get_by_text(re.compile(r"\$0\.\d+ to \$0\.\d+")).count()
    take(page, pictures, "dollars")


def test_charts_are_pictures_and_print_nothing(page, pictures):
    open_notebook(page, "charts")
    run_all(page)
    pages.wait_until_run(page)
    assert pages.errors(page) == []
    kinds = page.evaluate(
        """() => panel.content.widgets.filter(cell => cell.model.type === 'code').map(cell =>
            [...Array(cell.model.outputs.length).keys()].map(at => Object.keys(cell.model.outputs.get(at).data)))"""
    )
    # One picture for the sheet; of two charts in a cell the last is its value, and the other is shown as any figure is.
    assert [sum("image/png" in output for output in cell) for cell in kinds] == [0, 0, 1, 2]
    for at, cell in ((0, 2), (1, 3)):
        page.evaluate("at => panel.content.scrollToCell(panel.content.widgets[at])", cell)
        page.evaluate("at => panel.content.widgets[at].outputArea.node.scrollIntoView()", cell)
        page.wait_for_timeout(300)
        take(page, pictures, f"charts-{at}")
    text = page.locator(".jp-Notebook:visible").inner_text()
    assert "<Chart" not in text
    assert "Axes:" not in text


def test_a_notebook_runs_from_top_to_bottom_and_its_bar_advances(page, pictures):
    open_notebook(page, "quickstart")
    run_all(page)
    advanced(page, 50)
    page.locator(".jp-Notebook:visible .llmlab-progress").last.scroll_into_view_if_needed()
    take(page, pictures, "quickstart-running")
    pages.wait_until_run(page)
    assert pages.errors(page) == []
    results = page.locator(".jp-Notebook:visible .llmlab-results").first
    results.scroll_into_view_if_needed()
    assert "simulated, no real model" in results.inner_text()
    take(page, pictures, "quickstart")
