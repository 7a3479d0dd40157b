"""A field of an attempt is declared once: one line more in the records, and it is kept, shown, saved and explained."""

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINE = '    shelf: int | None = column("Int64", "where it stands", default=7, summed="sum of the shelves")\n'
BEFORE = '    finish_reason: str | None = column("str"'
SCRIPT = """
import asyncio, sqlite3, sys
import pandas as pd
import llmlab as ll

folder = sys.argv[1]

async def main():
    client = ll.simulate.client()
    return await ll.run_experiment(
        ["a", "b"], "Say {text}", model="m", client=client, requests_per_minute=None, journal=f"{folder}/book.sqlite",
        progress=False,
    )

results = asyncio.run(main())
empty = results.attempts.iloc[:0]
kept = ll.load_results(f"{folder}/book.sqlite")
saved = results.save(f"{folder}/saved", format="csv")
with sqlite3.connect(f"{folder}/book.sqlite") as connection:
    in_file = [row[0] for row in connection.execute("SELECT shelf FROM attempts")]
print(
    results.attempts["shelf"].tolist(), results.predictions["shelf"].tolist(), empty["shelf"].dtype,
    kept.attempts["shelf"].tolist(), kept.predictions["shelf"].tolist(), ll.load_results(saved).attempts["shelf"].tolist(),
    pd.read_csv(saved / "attempts.csv")["shelf"].tolist(), in_file,
    "shelf : Int64" in ll.Results.attempts.__doc__, "Sum of the shelves" in ll.Results.predictions.__doc__,
)
"""


def test_one_line_more_is_seen_in_every_place(tmp_path):
    shutil.copytree(ROOT / "llmlab", tmp_path / "llmlab", ignore=shutil.ignore_patterns("__pycache__"))
    records = tmp_path / "llmlab" / "records.py"
    text = records.read_text(encoding="utf-8")
    assert text.count(BEFORE) == 1
    records.write_text(text.replace(BEFORE, LINE + BEFORE), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.stderr == ""
    assert done.stdout.split("\n")[0] == "[7, 7] [7, 7] Int64 [7, 7] [7, 7] [7, 7] [7, 7] [7, 7] True True"
