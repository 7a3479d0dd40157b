"""The shipped notebooks run from top to bottom, are short, ask one question, and are stored without outputs."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def test_there_are_notebooks():
    assert "quickstart" in [path.stem for path in NOTEBOOKS]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_short_and_stripped(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(notebook.cells) <= 15
    assert notebook.cells[0].cell_type == "markdown"
    assert "?" in notebook.cells[0].source.splitlines()[0]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


# What the text of a notebook says, asked of its own variables after its last cell.
CLAIMS = {
    "quickstart": """
assert numbers["answered"] == numbers["trials"] == len(predictions) == 750
assert numbers["attempts"] == len(attempts) > 750
assert attempts["throttled"].mean() > 0.9
assert attempts["http_status"].ne(429).all()
assert consensus > single > 0.7
assert 125 < numbers["units_agreeing"] < numbers["units_compared"] == 250
assert numbers["cost_usd"] > 0 and numbers["unknown_cost"] == 0
assert results.table("gold")["confidence"].between(0.3, 1).all()
""",
    "rate_limits": """
assert tiers["refused"].sum() == 0 and tiers["requests"].sum() == 600
assert (tiers["waited (%)"] > 90).all()
assert 0 < refusals.refused < 0.3 * refusals.requests
assert wrong["answered"] == wrong["trials"] == 250
assert main["waited_for"] == "rate limit"
changes = too_fast.bottleneck().set_index("waited_for")["change"]
assert "a lower requests_per_minute" in changes["provider's pause"]
assert "429" in changes["rate limit"]
""",
    "failures_and_rerun": """
wrong_calls = first.summary()["unusable_attempts"] / first.summary()["attempts"]
assert 0.35 < wrong_calls < 0.55
assert 150 < ok[0] < 250 and ok[0] < ok[1]
assert (first.failed["attempts"] == 3).all()
assert len(again.attempts) > len(first.attempts)
assert 0 < kept["ok"] < 100 and kept["ok"] == calls and kept["not_run"] == 250 - calls
asked = resumed["requests"].tolist()
assert 0 < asked[0] < 250 and asked[0] + asked[1] == 250
assert asked[2:] == [0, 250, 250] and twice == 0
assert resumed["answered"].tolist()[1:] == [250, 250, 500, 250]
assert len(ll.experiments(journal)) == 5
""",
    "compare_models": """
assert table.index.tolist() == models
assert 0 < first["accuracy"] < second["accuracy"] and first["cost_usd"] < second["cost_usd"]
assert first["low"] < first["accuracy"] < first["high"]
assert second["difference_low"] < second["difference"] < second["difference_high"]
assert abs(second["difference"] - (second["accuracy"] - first["accuracy"])) < 1e-9
extra = second["cost_usd"] - first["cost_usd"]
assert abs(second["extra_usd_per_correct"] - extra / (750 * second["difference"])) < 1e-9
assert abs(first["majority_gain"] - (first["majority"] - first["accuracy"])) < 1e-9
assert first["majority_gain_low"] > 0
gained = 250 * first["majority_gain"]
assert abs(first["majority_usd_per_correct"] - first["cost_usd"] * 2 / 3 / gained) < 1e-9
consensus = results.score("gold").summary.query("of == 'consensus'").set_index("model")["accuracy"]
assert (table["majority"] - consensus).abs().max() < 1e-9
assert f1.shape == (6, 2) and agreement.index.tolist() == models
""",
    "publish": """
truth = (true_labels == "billing").mean()
assert corrected["low"] <= truth <= corrected["high"] and by_hand["low"] <= truth <= by_hand["high"]
assert corrected["high"] - corrected["low"] < by_hand["high"] - by_hand["low"]
is_new = tickets.set_index("unit_id")["customer"] == "new"
true_apart = (true_labels[is_new] == "billing").mean() - (true_labels[~is_new] == "billing").mean()
assert 0 < apart["low"] <= true_apart <= apart["high"]
assert abs(groups.loc[("new − known", "naive"), "share"]) < apart["share"]
assert len(sheet) == 100 and sheet["probability"].nunique() > 1
assert majority["n"] == 100 and majority["low"] < majority["accuracy"] < majority["high"]
assert 0.8 < people["krippendorff_alpha"] < 1
assert results.summary()["answered"] == 750 and len(plan.warnings) == 0
assert methods.missing.empty
for number in ("250 units", "750 trials", f"{len(results.attempts)} requests", f"cost: ${cost:.4f}", "100 units labelled by people"):
    assert number in methods.paragraph, number
assert "billing: Invoices, prices, refunds" in plan.messages(1)["messages"].item()[0]["content"]
""",
    "token_costs": """
assert 0.1 < wasted / spent < 0.2
assert unknown > 0 and results.summary()["unknown_cost"] == unknown
assert results.attempts.loc[results.attempts["total_tokens"].isna(), "cost_usd"].isna().all()
assert outcomes.loc["call_error", "cost_usd"] == 0
assert 0 < capped.summary()["cost_usd"] <= 0.002
assert abs(capped.attempts["cost_usd"].sum() - capped_provider.counts().cost_usd) < 1e-9
assert ways["answered"].eq(250).all()
assert ways["live requests"].tolist() == [250, 250, 1]
assert ways["queued requests"].tolist() == [0, 0, 249]
assert ways["tokens"].nunique() == 1
assert (ways["cost (USD)"] - ways["provider's cost (USD)"]).abs().max() < 1e-9
assert abs(per_1000["flex"] / per_1000["live"] - 0.5) < 1e-6
assert 0.5 < per_1000["batch"] / per_1000["live"] < 0.51
assert plan.usd[0] < ways.loc["live", "cost (USD)"] < plan.usd[1]
assert plan.batch_usd[0] < ways.loc["batch", "cost (USD)"] < plan.batch_usd[1]
assert ours == theirs
""",
}


@pytest.mark.notebook
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_from_top_to_bottom_and_what_it_says_is_true(path):
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(CLAIMS.get(path.stem, "")))
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(FOLDER)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error"]
    text = "\n".join(str(output) for output in outputs)
    assert "ConnectionError" not in text
    # Each question of the first cell has an answer with a number in the last.
    questions = re.findall(r"^\d\. ", notebook.cells[0].source, flags=re.MULTILINE)
    answers = "\n".join(output.get("text", str(output)) for output in notebook.cells[-2].get("outputs", []))
    for question in questions:
        assert re.search(rf"^{re.escape(question)}.*\d", answers, flags=re.MULTILINE)
