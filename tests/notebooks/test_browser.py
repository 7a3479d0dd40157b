"""JupyterLab in a real browser: the bar advances, Stop gives partial results, a reopened notebook shows the picture.

Screenshots go to the folder in `LLMLAB_SCREENSHOTS`, else to a temporary one.
"""

from __future__ import annotations

import ast
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest

pytestmark = [pytest.mark.browser]

ROOT = Path(__file__).parents[2]
CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
TOKEN = "only-for-this-test"
SHIPPED = ROOT / "notebooks" / "quickstart.ipynb"
FIRST = """
import pandas as pd
import llmlab as ll

tickets = pd.read_csv("../data/tickets.csv").head(60)
provider = ll.simulate.client(latency_s=0.4, jitter_s=0.3, error_rate=0.05, malformed_rate=0.1)
"""
ASK = """
results = await ll.run_experiment(
    tickets,
    "Which category fits?\\n\\n{{text}}",
    model="openai/gpt-4o-mini",
    categories=sorted(tickets["gold"].unique()),
    client=provider,
    {settings},
)
results
"""
SHORT = [
    FIRST,
    ASK.format(settings="runs=3, limiter=ll.RateLimiter(150, period_s=5), retry=ll.RetryPolicy.exponential()"),
]
LONG = [
    FIRST,
    ASK.format(settings="runs=4, requests_per_minute=60"),
    "print('next cell:', results.predictions['status'].value_counts().to_dict())",
]


def chromium() -> str:
    if not Path(CHROMIUM).exists():
        reason = f"{CHROMIUM} is missing: apt-get install --no-install-recommends chromium fonts-dejavu-core"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return CHROMIUM


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Path:
    folder = os.environ.get("LLMLAB_SCREENSHOTS")
    path = Path(folder) if folder else tmp_path_factory.mktemp("screenshots")
    path.mkdir(parents=True, exist_ok=True)
    return path


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab of its own, with the notebooks in its folder `notebooks`."""
    chromium()
    home = tmp_path_factory.mktemp("lab")
    work = home / "work"
    (work / "notebooks").mkdir(parents=True)
    shutil.copytree(ROOT / "data", work / "data")
    for name, cells in {"short": SHORT, "long": LONG}.items():
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in cells])
        notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, work / "notebooks" / f"{name}.ipynb")
    if SHIPPED.exists():
        shutil.copy(SHIPPED, work / "notebooks")
    folders = ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")
    env = os.environ | {f"JUPYTER_{name}": str(home / name.lower()) for name in folders}
    env |= {"IPYTHONDIR": str(home / "ipython"), "PYTHONPATH": str(ROOT), "HOME": str(home)}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = {
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.open_browser": False,
        "ServerApp.allow_root": True,
        "ServerApp.root_dir": work,
        "IdentityProvider.token": TOKEN,
        "LabApp.news_url": "",
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
        "LabApp.expose_app_in_browser": True,
        "LabApp.user_settings_dir": home / "settings",
        "LabApp.workspaces_dir": home / "workspaces",
    }
    news = home / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text('{"fetchNews": "false"}')
    command = [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in arguments.items())]
    with (home / "lab.log").open("w") as log:
        server = subprocess.Popen(command, env=env, cwd=work, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{address}/api/status?token={TOKEN}", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, (home / "lab.log").read_text()[-2000:]
                time.sleep(0.1)
        yield address, work
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(20)


@pytest.fixture(scope="module")
def browser():
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS.split())
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def page(lab, browser):
    address, _ = lab
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(20_000)
    page.goto(f"{address}/lab?token={TOKEN}&reset")
    page.wait_for_function("window.jupyterapp")
    page.evaluate("() => jupyterapp.restored")
    page.evaluate("() => jupyterapp.shell.collapseLeft && jupyterapp.shell.collapseLeft()")
    yield page
    page.close()


def open_notebook(page, name: str) -> None:
    page.evaluate(
        """async name => {
            const path = `notebooks/${name}.ipynb`;
            window.panel = await jupyterapp.commands.execute('docmanager:open', {path, factory: 'Notebook'});
            await panel.context.ready;
            await panel.sessionContext.ready;
        }""",
        name,
    )
    page.wait_for_function("panel.sessionContext.session?.kernel?.status === 'idle'")


def run_all(page) -> None:
    """Run every cell, and do not wait."""
    page.evaluate("() => { jupyterapp.commands.execute('notebook:run-all-cells'); }")


def theme(page, name: str) -> None:
    page.evaluate("name => jupyterapp.commands.execute('apputils:change-theme', {theme: name})", name)
    page.wait_for_function("name => document.body.dataset.jpThemeName === name", arg=name)
    page.locator("#jupyterlab-splash").wait_for(state="detached")


def advanced(page, at_least: int) -> None:
    """Wait until a live bar has come so far."""
    page.wait_for_function(
        """least => [...document.querySelectorAll('.llmlab-progress [role=progressbar]')]
            .some(bar => bar.offsetParent !== null && Number(bar.getAttribute('aria-valuenow')) >= least)""",
        arg=at_least,
    )


def take(page, pictures: Path, name: str) -> None:
    """Screenshots in both themes."""
    for kind in ("Light", "Dark"):
        theme(page, f"JupyterLab {kind}")
        page.screenshot(path=pictures / f"{name}-{kind.lower()}.png")
    theme(page, "JupyterLab Light")


def test_stop_in_a_long_run_gives_partial_results(page, pictures, lab):
    open_notebook(page, "long")
    run_all(page)
    advanced(page, 1)
    advanced(page, 3)
    take(page, pictures, "live")
    started = time.monotonic()
    page.locator("button.jupyter-button", has_text="Stop").click()
    page.locator(".llmlab-results").wait_for()
    assert time.monotonic() - started < 4
    results = page.locator(".llmlab-results").inner_text()
    assert "240 trials" in results
    assert "stopped by the Stop button" in results
    answered = ast.literal_eval(page.locator("pre", has_text="next cell:").inner_text().split(": ", 1)[1])
    assert answered["not_run"] > 200
    assert 3 <= answered["ok"] < 40
    page.screenshot(path=pictures / "stopped.png")
    page.locator("button.jupyter-button").wait_for(state="detached")
    # Saved and opened again: no kernel, no widgets, and the picture is still there.
    page.evaluate(
        """async () => {
            await panel.context.save();
            await panel.sessionContext.shutdown();
            panel.dispose();
            await jupyterapp.commands.execute('docmanager:open', {path: 'notebooks/long.ipynb', factory: 'Notebook'});
        }"""
    )
    picture = page.locator(".llmlab-progress")
    picture.wait_for()
    assert "stopped by the Stop button" in picture.inner_text()
    assert page.locator(".llmlab-results").is_visible()
    saved = (lab[1] / "notebooks" / "long.ipynb").read_text()
    assert "llmlab-progress" in saved
    assert "children=" not in saved


@pytest.mark.parametrize("name", [SHIPPED.stem if SHIPPED.exists() else "short"])
def test_a_notebook_runs_from_top_to_bottom_and_its_bar_advances(page, pictures, name):
    open_notebook(page, name)
    run_all(page)
    advanced(page, 1)
    advanced(page, 50)
    page.locator(".jp-Notebook:visible .llmlab-progress").last.scroll_into_view_if_needed()
    page.screenshot(path=pictures / f"{name}-running.png")
    page.wait_for_function(
        """() => panel.content.widgets.filter(cell => cell.model.type === 'code')
            .every(cell => cell.model.executionCount) && panel.sessionContext.session.kernel.status === 'idle'"""
    )
    errors = page.evaluate(
        """() => panel.content.widgets.filter(cell => cell.model.type === 'code').flatMap(cell =>
            [...Array(cell.model.outputs.length).keys()].map(at => cell.model.outputs.get(at).toJSON())
            .filter(output => output.output_type === 'error').map(output => output.ename + ': ' + output.evalue))"""
    )
    assert errors == []
    results = page.locator(".jp-Notebook:visible .llmlab-results").first
    results.scroll_into_view_if_needed()
    assert "simulated, no real model" in results.inner_text()
    take(page, pictures, name)
