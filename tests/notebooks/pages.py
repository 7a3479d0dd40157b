"""What the browser tests share: a notebook server of their own, Debian's chromium, and what is done in a page."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)
TOKEN = "only-for-this-test"
WIDTHS = (600, 800, 1280)

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
    retry=ll.RetryPolicy.exponential(base_s=0.2),
    {settings},
)
results
"""
COUNTED = "print('next cell:', results.predictions['status'].value_counts().to_dict())"


def chromium() -> str:
    """The browser's path; without it the test is skipped, or fails where all tests are to run."""
    if not Path(CHROMIUM).exists():
        reason = f"{CHROMIUM} is missing: apt-get install --no-install-recommends chromium fonts-dejavu-core"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return CHROMIUM


@contextlib.contextmanager
def chromium_browser() -> Iterator:
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS.split())
        yield browser
        browser.close()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def write_notebook(path: Path, cells: Sequence[str]) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell.strip()) for cell in cells])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


@contextlib.contextmanager
def served(command: Sequence[str], ready: str, *, home: Path, cwd: Path, env: dict[str, str]) -> Iterator[None]:
    """A server that runs for as long as this lasts; it is up once `ready` answers."""
    with (home / "server.log").open("w") as log:
        server = subprocess.Popen(command, env=env, cwd=cwd, stdout=log, stderr=log)
    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                urllib.request.urlopen(ready, timeout=5).close()
                break
            assert server.poll() is None, (home / "server.log").read_text()[-2000:]
            time.sleep(0.1)
        yield
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()


@contextlib.contextmanager
def jupyter(app: str, home: Path, notebooks: dict[str, Sequence[str]]) -> Iterator[tuple[str, Path]]:
    """The address of a `jupyterlab` or `notebook` server of its own, and its folder with these notebooks."""
    chromium()
    work = home / "work"
    (work / "notebooks").mkdir(parents=True)
    shutil.copytree(ROOT / "data", work / "data")
    for name, cells in notebooks.items():
        write_notebook(work / "notebooks" / f"{name}.ipynb", cells)
    for shipped in (ROOT / "notebooks").glob("*.ipynb"):
        shutil.copy(shipped, work / "notebooks")
    env = os.environ | {f"JUPYTER_{name}": str(home / name.lower()) for name in ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")}
    env |= {"IPYTHONDIR": str(home / "ipython"), "PYTHONPATH": str(ROOT), "HOME": str(home)}
    port = free_port()
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
        "JupyterNotebookApp.expose_app_in_browser": True,
        "LabApp.user_settings_dir": home / "settings",
        "LabApp.workspaces_dir": home / "workspaces",
    }
    news = home / "settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text('{"fetchNews": "false"}')
    command = [sys.executable, "-m", app, *(f"--{name}={value}" for name, value in arguments.items())]
    address = f"http://127.0.0.1:{port}"
    with served(command, f"{address}/api/status?token={TOKEN}", home=home, cwd=work, env=env):
        yield address, work


@contextlib.contextmanager
def marimo(home: Path, script: str) -> Iterator[str]:
    """The address of a marimo server with this notebook."""
    chromium()
    notebook = home / "notebook.py"
    notebook.write_text(script)
    env = os.environ | {"PYTHONPATH": str(ROOT), "HOME": str(home), "XDG_CONFIG_HOME": str(home / "config")}
    port = free_port()
    arguments = ["--headless", "--no-token", "--skip-update-check", "--host", "127.0.0.1", "--port", str(port)]
    command = [sys.executable, "-m", "marimo", "edit", str(notebook), *arguments]
    address = f"http://127.0.0.1:{port}"
    with served(command, f"{address}/health", home=home, cwd=home, env=env):
        yield address


def lab_page(browser, address: str):
    """A page with JupyterLab, its side bar closed."""
    page = new_page(browser)
    page.goto(f"{address}/lab?token={TOKEN}&reset")
    ready(page)
    return page


def new_page(browser):
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(30_000)
    return page


def ready(page) -> None:
    page.wait_for_function("window.jupyterapp")
    page.evaluate("() => jupyterapp.restored")
    page.evaluate("() => jupyterapp.shell.collapseLeft && jupyterapp.shell.collapseLeft()")


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


def wait_until_run(page) -> None:
    """Wait until every cell has run."""
    page.wait_for_function(
        """() => panel.content.widgets.filter(cell => cell.model.type === 'code')
            .every(cell => cell.model.executionCount) && panel.sessionContext.session.kernel.status === 'idle'""",
        timeout=90_000,
    )


def errors(page) -> list[str]:
    """The errors in the outputs of the open notebook."""
    return page.evaluate(
        """() => panel.content.widgets.filter(cell => cell.model.type === 'code').flatMap(cell =>
            [...Array(cell.model.outputs.length).keys()].map(at => cell.model.outputs.get(at).toJSON())
            .filter(output => output.output_type === 'error').map(output => output.ename + ': ' + output.evalue))"""
    )


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


def pictures_folder(tmp_path_factory) -> Path:
    """Where screenshots go: the folder in `LLMLAB_SCREENSHOTS`, else a temporary one."""
    folder = os.environ.get("LLMLAB_SCREENSHOTS")
    path = Path(folder) if folder else tmp_path_factory.mktemp("screenshots")
    path.mkdir(parents=True, exist_ok=True)
    return path


def box_of(locator) -> dict[str, float]:
    """Where an element is; one that is being drawn anew is nowhere for a moment."""
    for _ in range(100):
        box = locator.bounding_box()
        if box is not None:
            return box
        locator.page.wait_for_timeout(50)
    raise AssertionError(f"{locator} is not visible")
