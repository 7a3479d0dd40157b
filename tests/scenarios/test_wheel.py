"""The wheel is whole: installed alone, in an empty folder, it answers the example, and it says that it is typed."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--wheel-dir", folder, ROOT], check=True, capture_output=True, timeout=120)
    (built,) = folder.glob("*.whl")
    return built


def test_it_holds_the_package_its_types_and_the_example(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        example = archive.read("llmlab/data/tickets.csv")
    assert example == (ROOT / "data" / "tickets.csv").read_bytes()
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "llmlab").rglob("*.py")}
    assert names == modules | {"llmlab/py.typed", "llmlab/data/tickets.csv"}


def test_from_the_wheel_alone_the_example_is_answered(wheel, tmp_path):
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", site, wheel]
    subprocess.run(install, check=True, capture_output=True, timeout=120)
    done = subprocess.run(
        [sys.executable, "-W", "error::ImportWarning", "-m", "llmlab"],
        cwd=empty, env=os.environ | {"PYTHONPATH": str(site)}, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "answered     750 of 750" in done.stdout
    counted = next(line for line in done.stdout.splitlines() if line.startswith("Tokens counted by the provider"))
    theirs, ours = (part.split(" ")[-1].rstrip(".") for part in counted.split(";"))
    assert theirs == ours
    assert (empty / "llmlab-demo" / "predictions.csv").exists()
    assert f"{site}" in subprocess.run(
        [sys.executable, "-c", "import llmlab; print(llmlab.__file__)"],
        cwd=empty, env=os.environ | {"PYTHONPATH": str(site)}, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
