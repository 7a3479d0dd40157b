"""What results show of themselves in a notebook: one compact piece of HTML, and what to do about each error."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
import pandas as pd

from llmlab.display import html as markup
from llmlab.display.html import BLUE, CELL, GREEN, GREY, RED
from llmlab.records import arm_columns

MOST_LABELS = 12
MOST_MODELS = 4
MOST_ERRORS = 6
GO_ON = "results = await results.rerun_failed()"

HINTS: dict[str, str] = {
    "CancelledError": "it was in flight at the end of the run: ask it again",
    "RateLimitError": "lower requests_per_minute or tokens_per_minute, or set it to 'auto'",
    "OverloadedError": "the provider has no capacity: ask again later, or lower max_concurrent",
    "TimeoutError": "raise timeout, or lower max_concurrent or max_tokens",
    "ConnectionError": "check the network and base_url, lower max_concurrent; then ask again",
    "BadResponseError": "base_url may not be a chat completions endpoint, or a proxy stands between",
    "TooLongError": "shorten these units, take a model with more context, or raise tokens_per_minute",
    "ModerationError": "a content filter refuses these units: leave them out or ask another model",
    "EmptyInputError": "these units have no text: drop or fill them",
    "RequestError": "the message names what the provider refuses in these requests",
    "AuthenticationError": "check api_key, or OPENROUTER_API_KEY and OPENAI_API_KEY, and that it fits base_url",
    "CreditError": "add credit or raise the key's spending limit at the provider",
    "QuotaError": "wait until the quota is renewed, or use another key or model",
    "ModelNotFoundError": "check the model's name at this endpoint, and that the key may use it",
    "ConfigError": "check base_url, and the parameters and schema that the message names",
    "EmptyAnswerError": "raise max_tokens: reasoning may have used them all; or lower reasoning_effort",
    "TruncatedError": "raise max_tokens, ask for shorter answers, or lower reasoning_effort",
    "InvalidLabelError": "look at attempts.content; add the category, or mend the prompt",
    "ValidationError": "look at attempts.content; loosen the response_model or describe its fields",
    "RefusalError": "the model declines: reword the prompt or ask another model",
    "ParseError": "look at attempts.content; say in the prompt how to answer",
}


def summary_html(results: Any) -> str:
    """The summary of `Results` as self-contained HTML.

    Parameters
    ----------
    results : Results

    Returns
    -------
    str
        Inline styles only, every text escaped; about 300 pixels high, for light and dark pages.
    """
    words = results.summary()
    predictions, attempts = results.predictions, results.attempts
    counts = predictions["status"].value_counts()
    ok, failed, not_run = (int(counts.get(status, 0)) for status in ("ok", "failed", "not_run"))
    columns = [_labels(results, predictions), _errors(predictions, attempts)]
    rows = [
        _head(results, predictions),
        f"<div style='margin:5px 0'>{markup.bar([(ok, GREEN), (failed, RED)], len(predictions))}</div>",
        f"<div style='{markup.KEYS}'>"
        f"{markup.key(GREEN, f'{ok:,} answered')}{markup.key(RED, f'{failed:,} failed')}"
        f"{markup.key(GREY, f'{not_run:,} not run')}</div>",
        markup.tiles(_tiles(results, words)),
        f"<div style='display:flex;flex-wrap:wrap;gap:12px 28px;margin-top:10px'>{''.join(columns)}</div>",
    ]
    if results.stopped:
        reason = markup.short(results.stopped.removesuffix(f": {GO_ON} asks them"), 400)
        rows.append(f"<div style='{markup.NOTICE}'>{reason}</div>")
    rows.append(f"<div style='margin-top:8px;{markup.MUTED}'>{_next_step(results, failed + not_run)}</div>")
    return f"<div class='llmlab-results' style='{markup.FONT};max-width:920px'>{''.join(rows)}</div>"


def agreement(results: Any) -> tuple[int, int] | None:
    """How many unit × model pairs have runs that all agree, of those with two answers or more.

    Answers with fields are compared by the first field that is a category.

    Returns
    -------
    tuple of int or None
        (agreeing, asked more than once); `None` if no pair has two answers.
    """
    predictions = results.predictions
    answered = predictions[predictions["status"] == "ok"]
    if len(answered) < 2 or predictions["run"].nunique() < 2:
        return None
    labels = _few_labels(results, answered)[1]
    codes = _codes(answered["prediction"] if labels is None else labels)
    pair = (
        answered.groupby(["unit_id", *arm_columns(predictions.columns)], sort=False, observed=True).ngroup().to_numpy()
    )
    said = pd.Series(codes).groupby(pair).agg(["size", "min", "max"])
    said = said[said["size"] > 1]
    return (int((said["min"] == said["max"]).sum()), len(said)) if len(said) else None


def _codes(predictions: pd.Series) -> np.ndarray:
    try:
        return np.asarray(pd.factorize(predictions, use_na_sentinel=False)[0])
    except TypeError:
        # Lists, dicts and pydantic models have no hash.
        return np.asarray(pd.factorize(np.array([repr(value) for value in predictions], object))[0])


def _head(results: Any, predictions: pd.DataFrame) -> str:
    sizes = [(len(results.units), "unit"), (predictions["run"].nunique(), "run")]
    sizes += [(predictions[name].nunique(), name) for name in arm_columns(predictions.columns)]
    product = " × ".join(f"{count:,} {word}{'' if count == 1 else 's'}" for count, word in sizes)
    size = f"<b>{len(predictions):,}</b> trials: {product}"
    endpoint = str(results.description.get("endpoint", ""))
    if "(simulated" in endpoint:
        border = "border:1px solid rgba(128,128,128,0.5);border-radius:9px;padding:0 8px"
        where = f"<span style='{border};font-size:12px'>simulated, no real model</span>"
    else:
        where = f"<span style='{markup.MUTED}'>{markup.short(endpoint, 60)}</span>"
    between = "display:flex;justify-content:space-between;flex-wrap:wrap"
    return f"<div style='{between}'><div style='{markup.DIGITS}'>{size}</div><div>{where}</div></div>"


def _tiles(results: Any, words: dict[str, str]) -> list[str]:
    attempts = results.attempts
    tiles = []
    agreeing = agreement(results)
    if agreeing is not None:
        share = f"{agreeing[0] / agreeing[1]:.1%}"
        tiles.append(markup.tile("runs agree", share, f"{agreeing[0]:,} of {agreeing[1]:,} units"))
    wasted = int((attempts["status"] != "ok").sum())
    tiles.append(markup.tile("attempts", f"{len(attempts):,}", f"{wasted:,} unsuccessful" if wasted else ""))
    tokens = {name: _known(attempts[f"{name}_tokens"]) for name in ("prompt", "completion", "reasoning", "cached")}
    silent = words["tokens"].partition("; ")[2].replace("attempts did not report theirs", "not reported")
    details = [
        f"{tokens[name]} {word}"
        for name, word in (("completion", "out"), ("reasoning", "reasoning"), ("cached", "cached"))
        if tokens[name] not in (None, "0")
    ]
    prompt = tokens["prompt"] or ("unknown" if len(attempts) else "0")
    tiles.append(markup.tile("tokens in", prompt, ", ".join([*details, silent] if silent else details)))
    cost, _, unknown = words["cost"].partition(" (" if words["cost"].startswith("unknown") else " and ")
    tiles.append(markup.tile("cost", markup.short(cost, 24), markup.short(unknown.removesuffix(")"), 60)))
    if len(attempts):
        waited = f"average wait {attempts['wait_s'].mean():,.1f} s"
        tiles.append(markup.tile("throttled", f"{attempts['throttled'].mean():.0%}", waited))
        refused = int(attempts["http_status"].eq(429).sum())
        tiles.append(markup.tile("duration", markup.short(words["duration"], 24), f"{refused:,} refused (429)"))
    return tiles


def _known(tokens: pd.Series) -> str | None:
    return f"{int(tokens.sum()):,}" if tokens.notna().any() else None


def _labels(results: Any, predictions: pd.DataFrame) -> str:
    """Answers by label, a column of bars per model."""
    answered = predictions[predictions["status"] == "ok"]
    name, labels = _few_labels(results, answered)
    if labels is None or not len(labels):
        return ""
    table = pd.crosstab(labels.astype(object), answered["model"].astype(object))
    if results.categories is not None:
        table = table.reindex(list(results.categories), fill_value=0)
    models = list(dict.fromkeys(answered["model"]))
    hidden = len(table) - MOST_LABELS
    if hidden > 0:
        table = table.loc[table.sum(axis=1).nlargest(MOST_LABELS).index]
    most = max(int(table.to_numpy().max(initial=0)), 1)
    head = "".join(
        f"<th style='{CELL};font-weight:600'>{markup.short(model, 32)}</th>" for model in models[:MOST_MODELS]
    )
    body = "".join(
        f"<tr style='background:none'><td style='{CELL};white-space:nowrap'>{markup.short(label, 28)}</td>"
        + "".join(_count(int(row[model]), most) for model in models[:MOST_MODELS])
        + "</tr>"
        for label, row in table.iterrows()
    )
    more = [f"{hidden:,} more labels"] if hidden > 0 else []
    more += [f"{len(models) - MOST_MODELS:,} more models"] if len(models) > MOST_MODELS else []
    note = f"<div style='{markup.MUTED}'>and {', '.join(more)}</div>" if more else ""
    head = f"<th style='{CELL};font-weight:600'>{markup.short(name, 28)}</th>{head}"
    return f"<div>{markup.table(head, body)}{note}</div>"


def _few_labels(results: Any, answered: pd.DataFrame) -> tuple[str, pd.Series | None]:
    """The predictions, or the first field of them, if they are categories and no free text."""
    if results.categories is not None:
        return "label", answered["prediction"]
    fields = [name for name in results.description.get("fields") or () if name in answered]
    for name in fields or ["prediction"]:
        column = answered[name]
        try:
            distinct = column.nunique()
        except TypeError:
            continue
        if 0 < distinct <= MOST_LABELS and distinct * 3 <= len(column):
            return str(name), column
    return "", None


def _count(count: int, most: int) -> str:
    width = round(96 * count / most)
    drawn = (
        f"display:inline-block;width:{width}px;height:9px;border-radius:2px;margin-right:5px;background-color:{BLUE}"
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
        f"<th style='{CELL};font-weight:600'>{word}</th>" for word in ("error", "attempts", "lost", "what to do")
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


def _next_step(results: Any, left: int) -> str:
    code = "font-family:var(--jp-code-font-family,monospace);background:none;color:inherit;padding:0"
    if not left:
        return f"<code style='{code}'>predictions, attempts = results</code>"
    if results._again is None:
        return "to go on: run the experiment again with the same journal; only what is missing is asked"
    return f"to go on: <code style='{code}'>{GO_ON}</code>"
