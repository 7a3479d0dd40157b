"""`python -m llmlab`: the main job on example tickets and a simulated provider, or on your own file and endpoint.

python -m llmlab --units reviews.csv --text-column review --categories good,bad --model gpt-4o-mini
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import re
import sys
from pathlib import Path

import pandas as pd

import llmlab as ll
from llmlab.display import RERUN

HERE = Path(__file__).parent
JOURNAL = "journal.sqlite"


def main(arguments: list[str] | None = None) -> int:
    """Run one experiment from the command line; returns the exit status."""
    for stream in (sys.stdout, sys.stderr):
        # What the terminal's encoding lacks, such as the "×" on Cyrillic Windows, is replaced and ends nothing.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    options = _parser().parse_args(arguments)
    try:
        folder = _new_folder(options.out or Path("llmlab-demo" if options.units is None else "llmlab-results"))
        # Before anything is paid for.
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return _run(options, folder)
        finally:
            if not any(folder.iterdir()):
                folder.rmdir()
    except (ll.LlmlabError, OSError) as error:
        print(f"llmlab: {_in_shell_words(str(error))}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m llmlab", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--units", type=Path, help="a CSV file, one unit per row (default: 250 example tickets)")
    parser.add_argument("--text-column", default="text", help="the column to ask about (default: text)")
    parser.add_argument("--categories", help="the labels, separated by commas (default: free text)")
    parser.add_argument("--prompt", default="Which category fits this message?", help="put before the text")
    parser.add_argument("--model", default="openai/gpt-4o-mini", help="its name at the endpoint (default: %(default)s)")
    parser.add_argument("--base-url", help="an OpenAI-compatible endpoint (default: as the environment says)")
    parser.add_argument("--api-key-env", metavar="NAME", help="the environment variable that holds the key")
    parser.add_argument("--simulate", action="store_true", help="ask a simulated provider: no key, no cost")
    parser.add_argument("--runs", type=int, default=3, help="how often each unit is asked (default: 3)")
    parser.add_argument("--requests-per-minute", type=float, default=60.0, help="your key's limit (default: 60)")
    parser.add_argument("--tokens-per-minute", type=float, help="your key's limit on tokens (default: none)")
    parser.add_argument("--max-cost-usd", type=float, help="stop before more than this is spent (default: no cap)")
    parser.add_argument("--journal", type=Path, help="the SQLite file that keeps every answer; what it holds is not "
                        f"asked again (default: {JOURNAL} in the folder)")  # fmt: skip
    parser.add_argument("--out", type=Path, help="folder for frames, charts and journal; if there is one, a number is "
                        "added to the name (default: llmlab-demo or llmlab-results)")  # fmt: skip
    return parser


def _run(options: argparse.Namespace, folder: Path) -> int:
    example = options.units is None
    simulated = options.simulate or (example and options.base_url is None)
    units = _read(_tickets() if example else options.units, options.text_column)
    if options.text_column not in units.columns:
        raise ll.InputError(
            f"--text-column {options.text_column!r} is no column of the file: {', '.join(units.columns)}."
        )
    if options.categories:
        categories = [label.strip() for label in options.categories.split(",")]
    else:
        categories = sorted(units["gold"].unique()) if example else None
    settings = {
        "model": options.model,
        "categories": categories,
        "runs": options.runs,
        "journal": options.journal or folder / JOURNAL,
        "max_cost_usd": options.max_cost_usd,
        "progress": "text",
    }
    if simulated:
        trials = f"{len(units)} units × {options.runs} runs"
        print(f"Simulated provider, no real model, 40 requests per second allowed: {trials}.")
        settings["client"] = ll.simulate.client(
            latency_s=0.4, jitter_s=0.3, limit=200, period_s=5.0, malformed_rate=0.03, error_rate=0.02, seed=1
        )
        settings["limiter"] = ll.RateLimiter(200, period_s=5.0, margin_s=0.1)
        settings["retry"] = ll.RetryPolicy.exponential(base_s=0.5, longest_s=5.0)
    else:
        settings |= {
            "base_url": options.base_url,
            "api_key": _key(options.api_key_env),
            "requests_per_minute": options.requests_per_minute,
            "tokens_per_minute": options.tokens_per_minute,
        }
    prompt = f"{options.prompt}\n\n{{{options.text_column}}}"
    results = ll.run_experiment_sync(units, prompt, **settings)
    journal = options.journal or folder / JOURNAL
    again = f"run the same command again with --journal {journal}"
    said = str(results).replace(RERUN, again).replace("with journal=", f"with --journal {journal}")
    print(f"\n{_in_shell_words(said)}\n")
    if simulated:
        counted = settings["client"].counts().total_tokens
        ours = int(results.attempts["total_tokens"].sum())
        print(f"Tokens counted by the provider: {counted:,}; in results.attempts: {ours:,}.")
    _write(results, folder)
    return 0 if results.stopped is None else 1


def _new_folder(wanted: Path) -> Path:
    """`wanted`, or the first of `wanted-2`, `wanted-3` … that does not exist: nothing is overwritten."""
    folder, number = wanted, 1
    while folder.exists() and (folder.is_file() or any(folder.iterdir())):
        number += 1
        folder = wanted.with_name(f"{wanted.name}-{number}")
    return folder


def _in_shell_words(text: str) -> str:
    """What llmlab says, with the options of the shell in place of Python's parameters."""
    text = text.replace("pass api_key=...", "name its variable with --api-key-env")
    text = text.replace("client=llmlab.simulate.client()", "--simulate")
    names = {one.dest: one.option_strings[-1] for one in _parser()._actions if "_" in one.dest}
    return re.sub(rf"\b({'|'.join(names)})\b", lambda found: names[found[0]], text)


def _tickets() -> Path:
    """The 250 example tickets: inside an installed package, beside it in a checkout."""
    inside = HERE / "data" / "tickets.csv"
    return inside if inside.exists() else HERE.parent / "data" / "tickets.csv"


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable)
    if not key:
        raise ll.InputError(f"--api-key-env {variable}: the environment has no such variable, or it is empty.")
    return key


def _read(path: Path, text_column: str) -> pd.DataFrame:
    try:
        file = path.read_text(encoding="utf-8-sig")
        units = pd.read_csv(io.StringIO(file))
        if text_column in units.columns:
            # An empty cell is an empty text, and "None" and "NA" are words.
            as_written = pd.read_csv(io.StringIO(file), usecols=[text_column], dtype="str", keep_default_na=False)
            units[text_column] = as_written[text_column].array
        return units
    except ValueError as error:
        raise ll.InputError(f"{path} cannot be read as CSV: {error}") from error


def _write(results: ll.Results, folder: Path) -> None:
    for name, frame in (("predictions", results.predictions), ("attempts", results.attempts)):
        # A lone carriage return within a text ends a row for many readers, unless the text is quoted.
        frame.to_csv(folder / f"{name}.csv", index=False, quoting=csv.QUOTE_NONNUMERIC)
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    for name in ("overview", "throttle_rate", "wait_time", "token_costs"):
        chart = getattr(ll.charts, name)(results)
        chart.save(folder / f"{name}.png")
        pyplot.close(chart.figure)
    names = ", ".join(sorted(path.name for path in folder.iterdir()))
    print(f"Written to {folder.resolve()}: {names}")


if __name__ == "__main__":
    sys.exit(main())
