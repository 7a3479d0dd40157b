"""What results show of themselves in a notebook: one compact piece of HTML."""

from __future__ import annotations

from html import escape
from typing import Any

import pandas as pd

from llmlab.display import html as markup
from llmlab.display import words
from llmlab.display.frames import MOST_LABELS, labelled
from llmlab.display.hints import HINTS, RERUN
from llmlab.display.html import CELL
from llmlab.display.names import Arms
from llmlab.display.palette import ANSWERED, FAILED, LABEL, PALE
from llmlab.display.summary import Summary
from llmlab.records import arm_columns

MOST_ARMS = 4
MOST_EXAMPLES = 3
MOST_ERRORS = 6


def summary_html(results: Any, numbers: Summary) -> str:
    """The summary of `Results` as self-contained HTML.

    Parameters
    ----------
    results : Results
    numbers : Summary
        Those of the results.

    Returns
    -------
    str
        Inline styles only, every text escaped; about 300 pixels high, for light and dark pages.
    """
    predictions, attempts = results.predictions, results.attempts
    columns = [_labels(results), _errors(predictions, attempts)]
    filled = markup.bar([(numbers.answered, ANSWERED), (numbers.failed, FAILED)], numbers.trials)
    rows = [
        _head(results, predictions, numbers),
        f"<div style='margin:5px 0'>{filled}</div>",
        f"<div style='{markup.KEYS}'>"
        f"{markup.key(ANSWERED, f'{numbers.answered:,} answered')}{markup.key(FAILED, f'{numbers.failed:,} failed')}"
        f"{markup.key(PALE, f'{numbers.not_run:,} not run')}</div>",
        markup.tiles(_tiles(numbers)),
        f"<div style='display:flex;flex-wrap:wrap;gap:12px 28px;margin-top:10px'>{''.join(columns)}</div>",
    ]
    rows += _sentences(numbers)
    if numbers.served:
        rows.append(f"<div style='margin-top:6px;{markup.MUTED}'>served by "
                    f"{markup.short('; '.join(numbers.served), 400)}</div>")  # fmt: skip
    if numbers.stopped:
        rows.append(f"<div style='{markup.NOTE}'>{markup.short(numbers.stopped, 400)}</div>")
    if numbers.renamed:
        names = ", ".join(
            f"{markup.short(name, 40)} is {markup.short(new, 40)}" for name, new in numbers.renamed.items()
        )
        rows.append(f"<div style='margin-top:6px;{markup.MUTED}'>in predictions your column {names}</div>")
    rows.append(f"<div style='margin-top:8px;{markup.MUTED}'>{_next_step(numbers)}</div>")
    return markup.page("results", rows)


def _head(results: Any, predictions: pd.DataFrame, numbers: Summary) -> str:
    sizes = [(len(results.units), "unit"), (predictions["run"].nunique(), "run")]
    sizes += [(predictions[name].nunique(), name) for name in arm_columns(predictions.columns)]
    product = " × ".join(f"{count:,} {word}{'' if count == 1 else 's'}" for count, word in sizes)
    came_from = f"<span style='{markup.MUTED}'> · {numbers.origin}</span>" if numbers.origin.before else ""
    size = f"<b>{len(predictions):,}</b> trials: {product}{came_from}"
    endpoint = str(results.description.get("endpoint", ""))
    if "(simulated" in endpoint:
        border = "border:1px solid rgba(128,128,128,0.5);border-radius:9px;padding:0 8px"
        where = f"<span style='{border};font-size:12px'>simulated, no real model</span>"
    else:
        where = f"<span style='{markup.MUTED}'>{markup.short(endpoint, 60)}</span>"
    between = "display:flex;justify-content:space-between;flex-wrap:wrap"
    return f"<div style='{between}'><div style='{markup.DIGITS}'>{size}</div><div>{where}</div></div>"


def _tiles(numbers: Summary) -> list[str]:
    tiles = []
    if numbers.several:
        counted = "units × models" if numbers.several_arms else "units"
        share = words.share(numbers.agreeing, numbers.several)
        about = "Of the units with two or more answers, those whose answers are all the same"
        note = f"{numbers.agreeing:,} of {numbers.several:,} {counted}"
        tiles.append(markup.tile("all runs agree", share, note, about=about))
    unusable = sum(numbers.unsuccessful.values())
    note = f"{unusable:,} without a usable answer" if unusable else ""
    tiles.append(markup.tile("attempts", f"{numbers.attempts:,}", note, about="HTTP calls, repeated ones too"))
    parts = {"out": numbers.completion_tokens, "reasoning": numbers.reasoning_tokens, "cached": numbers.cached_tokens}
    details = [f"{total.known:,} {name}" for name, total in parts.items() if total.known]
    silent = numbers.total_tokens.unknown
    details += [f"{words.count(silent, 'attempt')} told none"] if silent else []
    tiles.append(markup.tile("tokens in", words.tokens(numbers.prompt_tokens), ", ".join(details)))
    unpriced = numbers.cost_usd.unknown and not silent
    note = f"no price for {markup.short(', '.join(numbers.unpriced), 60)}" if unpriced else ""
    tiles.append(markup.tile("cost", words.cost(numbers.cost_usd), note))
    if numbers.attempts:
        refused = f"{numbers.refused:,} refused (429)" if numbers.refused else ""
        tiles.append(markup.tile("took", words.span(numbers.duration_s), refused))
    return tiles


def _sentences(numbers: Summary) -> list[str]:
    """What took the time, and the wait for the limit, each in a sentence."""
    if not numbers.attempts or not numbers.waits:
        return []
    took = f"What took the time: {numbers.waits}. To be faster: {numbers.change}."
    waited = f" Waited for the limit: {numbers.waited}." if numbers.throttled else ""
    return [f"<div style='margin-top:8px;{markup.MUTED}'>{markup.short(took + waited, 400)}</div>"]


def _labels(results: Any) -> str:
    """Answers by label, a column of bars per model and prompt; of free text some examples."""
    name, predictions = labelled(results)
    answered = predictions[predictions["status"] == "ok"]
    if not len(answered):
        return ""
    if not name:
        return _examples(answered)
    arms = Arms.of(answered)
    table = pd.crosstab(answered["prediction"].astype(object), arms.at)
    if results.categories is not None:
        table = table.reindex(list(results.categories), fill_value=0)
    hidden = len(table) - MOST_LABELS
    if hidden > 0:
        table = table.loc[table.sum(axis=1).nlargest(MOST_LABELS).index]
    most = max(int(table.to_numpy().max(initial=0)), 1)
    shown = list(enumerate(arms.labels))[:MOST_ARMS]
    head = "".join(f"<th style='{CELL};font-weight:600'>{markup.short(arm, 32)}</th>" for _, arm in shown)
    body = "".join(
        f"<tr style='background:none'><td style='{CELL};white-space:nowrap'>{markup.short(label, 28)}</td>"
        + "".join(_count(int(row[at]), most) for at, _ in shown)
        + "</tr>"
        for label, row in table.iterrows()
    )
    more = [f"{hidden:,} more labels"] if hidden > 0 else []
    more += [f"{len(arms) - MOST_ARMS:,} more models"] if len(arms) > MOST_ARMS else []
    note = f"<div style='{markup.MUTED}'>and {', '.join(more)}</div>" if more else ""
    head = f"<th style='{CELL};font-weight:600'>{markup.short(name, 28)}</th>{head}"
    return f"<div>{markup.table(head, body)}{note}</div>"


def _examples(answered: pd.DataFrame) -> str:
    """The first answers of as many units."""
    first = answered.drop_duplicates("unit_id").head(MOST_EXAMPLES)
    rows = zip(first["unit_id"], first["prediction"], strict=True)
    body = "".join(
        f"<tr style='background:none'><td style='{CELL}'>{markup.short(unit, 24)}</td>"
        f"<td style='{CELL};overflow-wrap:anywhere'>{markup.short(answer, 240)}</td></tr>"
        for unit, answer in rows
    )
    head = f"<th style='{CELL};font-weight:600'>unit</th><th style='{CELL};font-weight:600'>first answers</th>"
    return f"<div>{markup.table(head, body)}</div>"


def _count(count: int, most: int) -> str:
    width = round(96 * count / most)
    drawn = (
        f"display:inline-block;width:{width}px;height:9px;border-radius:2px;margin-right:5px;background-color:{LABEL}"
    )
    return f"<td style='{CELL};white-space:nowrap;{markup.DIGITS}'><span style='{drawn}'></span>{count:,}</td>"


def _errors(predictions: pd.DataFrame, attempts: pd.DataFrame) -> str:
    """What went wrong: how often, an example, and what to do."""
    tried, lost = attempts[attempts["status"] != "ok"], predictions[predictions["status"] == "failed"]
    counts = pd.DataFrame({"attempts": tried["error_type"].value_counts(), "trials": lost["error_type"].value_counts()})
    if counts.empty:
        return ""
    counts = counts.fillna(0).astype(int).sort_values(["trials", "attempts"], ascending=False)
    both = pd.concat([tried[["error_type", "error"]], lost[["error_type", "error"]]])
    example = both.drop_duplicates("error_type").set_index("error_type")["error"]
    head = "".join(
        f"<th style='{CELL};font-weight:600'>{word}</th>"
        for word in ("error", "attempts", "trials failed", "what to do")
    )
    body = "".join(
        f"<tr style='background:none'><td style='{CELL};white-space:nowrap'>{markup.short(kind, 40)}</td>"
        f"<td style='{CELL};{markup.DIGITS}'>{row['attempts']:,}</td>"
        f"<td style='{CELL};{markup.DIGITS}'>{row['trials']:,}</td>"
        f"<td style='{CELL};width:100%;max-width:0'>{escape(HINTS.get(str(kind), 'see the message'))}"
        f"<div style='{markup.ONE_LINE};{markup.MUTED}' title='{markup.short(example.get(kind), 400)}'>"
        f"{markup.short(example.get(kind))}</div></td></tr>"
        for kind, row in counts.head(MOST_ERRORS).iterrows()
    )
    hidden = len(counts) - MOST_ERRORS
    note = (
        f"<div style='{markup.MUTED}'>and {hidden:,} more kinds: attempts.error_type.value_counts()</div>"
        if hidden > 0
        else ""
    )
    return f"<div style='flex:1 1 380px'>{markup.table(head, body)}{note}</div>"


def _next_step(numbers: Summary) -> str:
    if numbers.go_on == RERUN:
        return f"to go on: <code style='{markup.CODE}'>{escape(RERUN)}</code>"
    if numbers.go_on:
        return f"to go on: {escape(numbers.go_on)}"
    return f"<code style='{markup.CODE}'>predictions, attempts = results</code>"
