"""`python -m llmlab` on a file: progress, a summary, frames and charts in a folder; clear errors and exit status."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from llmlab import __main__ as program

ROOT = Path(__file__).parent.parent
FILES = [
    "attempts.csv",
    "journal.sqlite",
    "overview.png",
    "predictions.csv",
    "throttle_rate.png",
    "token_costs.png",
    "wait_time.png",
]


@pytest.fixture
def ask(provider, monkeypatch, tmp_path):
    """Run the program on this CSV text against a provider: (exit status, provider, folder)."""

    def run(text, *arguments, client=None, **settings):
        client = client or provider(**settings)
        monkeypatch.setenv("OPENAI_BASE_URL", client.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        (tmp_path / "units.csv").write_text(text)
        fixed = [
            "--units",
            str(tmp_path / "units.csv"),
            "--out",
            str(tmp_path / "out"),
            "--requests-per-minute",
            "60000",
        ]
        return program.main([*fixed, *arguments]), client, tmp_path / "out"

    return run


def test_a_file_is_asked_and_written(ask, capsys):
    text = 'unit_id,review,n\nr1,"refund, please",1\nr2,it crashed with an error,2\nr3,None,3\n'
    status, client, folder = ask(
        text, "--text-column", "review", "--categories", "bug, billing,other", "--runs", "2",
        "--prompt", 'Answer {"in": "JSON"}:', accuracy=1.0,
    )  # fmt: skip
    assert status == 0
    assert sorted(path.name for path in folder.iterdir()) == FILES
    predictions = pd.read_csv(folder / "predictions.csv", keep_default_na=False)
    assert predictions["unit_id"].tolist() == ["r1", "r1", "r2", "r2", "r3", "r3"]
    assert predictions["prediction"].tolist()[:4] == ["billing", "billing", "bug", "bug"]
    assert predictions["review"].tolist()[::2] == ["refund, please", "it crashed with an error", "None"]
    attempts = pd.read_csv(folder / "attempts.csv")
    assert len(attempts) == client.counts().requests == 6
    assert attempts["total_tokens"].sum() == client.counts().total_tokens
    said = capsys.readouterr()
    assert "answered     6 of 6" in said.out
    assert f"Written to {folder}: {', '.join(FILES)}" in said.out
    assert "6 of 6 answered" in said.err


def test_the_same_journal_goes_on_where_it_ended(ask, tmp_path):
    text = "text\nrefund\ncrash\n"
    journal = ["--journal", str(tmp_path / "j.sqlite"), "--runs", "1"]
    _, client, _ = ask(text, *journal)
    assert client.counts().requests == 2
    status, again, _ = ask(text, *journal, client=client)
    assert (status, again.counts().requests) == (0, 2)


def test_a_second_call_overwrites_nothing_and_goes_on_with_the_first_ones_journal(ask, simulated, capsys):
    text = "text\nrefund\ncrash\n"
    client = simulated(fault="no_credit", fault_after=1, fault_s=0.05)
    status, client, folder = ask(text, "--runs", "1", client=client)
    said = capsys.readouterr().out
    assert status == 1
    assert "answered     1 of 2" in said
    assert f"go on        run the same command again with --journal {folder / 'journal.sqlite'}" in said
    assert "rerun_failed" not in said
    first = (folder / "attempts.csv").read_bytes()
    status, _, _ = ask(text, "--runs", "1", "--journal", str(folder / "journal.sqlite"), client=client)
    assert (status, client.counts().requests) == (0, 3)
    assert (folder / "attempts.csv").read_bytes() == first
    assert len(pd.read_csv(folder.with_name("out-2") / "predictions.csv")) == 2


def test_an_empty_cell_is_an_empty_text(ask):
    status, client, folder = ask('text,k\n"",1\nhello,2\n', "--runs", "1")
    assert status == 0
    predictions = pd.read_csv(folder / "predictions.csv")
    assert predictions["status"].tolist() == ["failed", "ok"]
    assert client.counts().requests == 1


def test_a_file_without_rows_gives_files_without_rows(ask):
    status, client, folder = ask("text\n", "--runs", "1")
    assert status == 0
    assert len(pd.read_csv(folder / "predictions.csv")) == client.counts().requests == 0


def test_an_early_end_is_written_too_and_exits_with_1(ask, capsys):
    status, _, folder = ask("text\na\nb\nc\n", "--model", "fault/s401-key/a1", "--runs", "1")
    assert status == 1
    assert sorted(path.name for path in folder.iterdir()) == FILES
    assert "stopped      401: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        ("a,b\n1,2\n", [], "--text-column 'text' is no column of the file: a, b."),
        ("", [], "cannot be read as CSV"),
        ('text\n"a\n', [], "cannot be read as CSV"),
        ("text\na\n", ["--units", "/nowhere/x.csv"], "No such file"),
        ("text\na\n", ["--units", "/"], "Is a directory"),
        ("text\na\n", ["--runs", "0"], "runs must be"),
        ("text\na\n", ["--requests-per-minute", "0"], "limit must be"),
        ("text\na\n", ["--api-key-env", "NOWHERE"], "no such variable"),
        ("text\na\n", ["--max-cost-usd", "-1"], "--max-cost-usd must be"),
        ("text\na\n", ["--prompt", "{nope}"], "The prompt asks for {nope}"),
        ("text\na\n", ["--base-url", "nowhere"], "--base-url must begin with"),
        ("text\na\n", ["--base-url", "https://example.invalid/v1"], "name its variable with --api-key-env"),
        ("text\na\n", ["--out", "/dev/null/x"], "Not a directory"),
        ("unit_id,text\n1,a\n1,b\n", [], "unit_id must be unique"),
    ],
)
def test_what_cannot_work_exits_with_2_and_one_line(ask, capsys, text, arguments, said):
    status, client, folder = ask(text, *arguments)
    assert status == 2
    error = capsys.readouterr().err
    assert error.startswith("llmlab: ")
    assert said in error
    assert "Traceback" not in error
    assert client.counts().requests == 0
    assert not folder.exists()


def test_a_file_of_ones_own_can_be_tried_without_a_key(tmp_path, capsys):
    (tmp_path / "few.csv").write_text("text\nrefund\nit crashed\n")
    arguments = ["--units", str(tmp_path / "few.csv"), "--categories", "bug,billing", "--runs", "2", "--simulate"]
    assert program.main([*arguments, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "Simulated provider, no real model" in said
    assert "2 units × 2 runs" in said
    assert "answered     4 of 4" in said


def test_the_key_can_come_from_a_variable_of_any_name(ask, monkeypatch):
    monkeypatch.setenv("LAB_KEY", "sk-lab-0123456789")
    status, client, _ = ask("text\nhello\n", "--api-key-env", "LAB_KEY", "--runs", "1")
    assert (status, client.counts().ok) == (0, 1)


def test_it_runs_as_a_module(provider, tmp_path):
    client = provider()
    (tmp_path / "units.csv").write_text("text\nhello\n")
    # An encoding without "×" and "…", as on Cyrillic Windows, ends nothing.
    environment = os.environ | {
        "OPENAI_BASE_URL": client.base_url,
        "OPENAI_API_KEY": "sk-test",
        "PYTHONIOENCODING": "cp1251",
    }
    done = subprocess.run(
        [sys.executable, "-m", "llmlab", "--units", tmp_path / "units.csv", "--runs", "1", "--out", tmp_path / "out"],
        cwd=ROOT, env=environment, capture_output=True, encoding="cp1251", timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "answered     1 of 1" in done.stdout
    assert client.counts().requests == 1
