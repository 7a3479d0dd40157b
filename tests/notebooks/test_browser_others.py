"""Notebook 7 and marimo in a real browser: the panel is live, a run can be stopped, summary and charts are shown."""

from __future__ import annotations

import re

import pytest

from tests.notebooks import pages
from tests.notebooks.pages import ASK, COUNTED, FIRST, TOKEN, WIDTHS, advanced

pytestmark = [pytest.mark.browser]

CELLS = [FIRST, ASK.format(settings="requests_per_minute=240"), COUNTED]
MARIMO = """
import marimo

app = marimo.App()


@app.cell
def _():
    import llmlab as ll

    texts = [f"Please refund order {at}" for at in range(40)]
    provider = ll.simulate.client(latency_s=0.3, malformed_rate=0.1, seed=1)
    return ll, provider, texts


@app.cell
async def _(ll, provider, texts):
    results = await ll.run_experiment(
        texts, "{text}", model="openai/gpt-4o-mini", categories=["billing", "bug"], client=provider,
        requests_per_minute=600,
    )
    results
    return (results,)


@app.cell
def _(ll, results):
    ll.charts.labels(results)


@app.cell
def _(results):
    results.table()
"""


@pytest.fixture(scope="module")
def browser():
    with pages.chromium_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return pages.pictures_folder(tmp_path_factory)


def test_notebook_7_shows_the_panel_stops_and_goes_on(browser, pictures, tmp_path):
    with pages.jupyter("notebook", tmp_path, {"asked": CELLS}) as (address, _):
        page = pages.new_page(browser)
        page.goto(f"{address}/notebooks/notebooks/asked.ipynb?token={TOKEN}")
        page.locator(".jp-Notebook .jp-CodeCell").nth(2).wait_for()
        page.wait_for_function("document.querySelector('.jp-NotebookKernelStatus, .jp-Notebook') && window.jupyterapp")
        page.wait_for_function("jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'")
        page.evaluate("() => { jupyterapp.commands.execute('notebook:run-all-cells'); }")
        advanced(page, 2)
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 900})
            page.wait_for_timeout(100)
            panel, button = page.locator(".llmlab-progress:visible").last, page.locator("button.jupyter-button:visible").last
            box, stop = pages.box_of(panel), pages.box_of(button)
            assert box["x"] + box["width"] <= stop["x"]
            assert stop["x"] + stop["width"] <= width
            page.screenshot(path=pictures / f"notebook7-{width}.png")
        page.locator("button.jupyter-button", has_text="Stop").click()
        page.locator(".llmlab-results", has_text="stopped by the Stop button").wait_for()
        page.locator("pre", has_text="next cell:").wait_for()
        assert re.search(r"\d+ of 60 answered", page.locator(".llmlab-progress").last.inner_text())
        page.screenshot(path=pictures / "notebook7-stopped.png")
        page.close()


def test_marimo_shows_the_panel_the_summary_a_chart_and_a_table(browser, pictures, tmp_path):
    with pages.marimo(tmp_path, MARIMO) as address:
        page = pages.new_page(browser)
        page.goto(address)
        page.locator("[data-testid=cell-editor]").nth(3).wait_for()
        page.locator("[data-testid=chrome-controls-bottom-right] [data-testid=run-button]").click()
        advanced(page, 5)
        assert "ETA" in page.locator(".llmlab-progress").inner_text()
        page.screenshot(path=pictures / "marimo-live.png")
        results = page.locator(".llmlab-results")
        results.wait_for()
        assert "40 answered" in results.inner_text()
        # The summary has taken the panel's place.
        assert not page.locator(".llmlab-progress").count()
        page.locator("img[src^=data]").first.wait_for()
        page.get_by_text("run_1").first.wait_for()
        assert not page.get_by_text("<Chart").count()
        page.screenshot(path=pictures / "marimo.png", full_page=True)
        page.close()
