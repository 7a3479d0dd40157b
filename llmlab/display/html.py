"""HTML that the live view and the summary share: inline styles only, readable on light and dark pages.

Text takes the page's own colour, and greys are translucent. Dollars stay dollars: JupyterLab would set what stands
between two of them as mathematics.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from llmlab.display.palette import NOTICE, PALE

FONT = (
    "font-family:var(--jp-ui-font-family,system-ui,sans-serif);font-size:13px;line-height:1.45;"
    "color:var(--jp-ui-font-color1,inherit)"
)
MUTED = "opacity:0.75;font-size:12px"
DIGITS = "font-variant-numeric:tabular-nums"
KEYS = "display:flex;flex-wrap:wrap;gap:2px 16px"
CELL = "padding:1px 12px 1px 0;text-align:left;vertical-align:top;border:none"
ONE_LINE = "white-space:nowrap;overflow:hidden;text-overflow:ellipsis"
# Breaks anywhere, so that a long word of an error does not set the width of the page.
TWO_LINES = (
    "overflow-wrap:anywhere;overflow:hidden;display:-webkit-box;-webkit-box-orient:vertical;-webkit-line-clamp:2"
)
CODE = "font-family:var(--jp-code-font-family,monospace);background:none;color:inherit;padding:0"
NOTE = f"margin-top:8px;border-left:3px solid {NOTICE};padding-left:8px"


def short(text: object, length: int = 160) -> str:
    """`text` in one line of at most `length` characters, escaped."""
    # Only the head is looked at: a model may answer with megabytes.
    words = " ".join(str(text)[: 4 * length].split())
    cut = len(words) > length or len(str(text)) > 4 * length
    return html.escape(words[: length - 1].rstrip() + "…" if cut else words)


def page(kind: str, rows: Iterable[str]) -> str:
    """The whole piece, as an element of the class `llmlab-<kind>`."""
    classes = f"llmlab-{kind} mathjax_ignore tex2jax_ignore"
    return f"<div class='{classes}' style='{FONT};max-width:920px;margin-bottom:6px'>{''.join(rows)}</div>"


def bar(parts: Iterable[tuple[float, str]], total: float, *, height_px: int = 10) -> str:
    """A bar of `total`, filled with (amount, colour) from the left."""
    filled = "".join(
        f"<div style='width:{100 * amount / total:.2f}%;background-color:{colour}'></div>"
        for amount, colour in parts
        if amount > 0 and total > 0
    )
    return (
        f"<div style='display:flex;height:{height_px}px;border-radius:{height_px // 2}px;overflow:hidden;"
        f"background-color:{PALE}'>{filled}</div>"
    )


def key(colour: str, text: str) -> str:
    """An entry of a legend."""
    dot = f"display:inline-block;width:9px;height:9px;border-radius:2px;margin-right:5px;background-color:{colour}"
    words = f"<span style='{MUTED};{DIGITS}'>{text}</span>"
    return f"<span style='white-space:nowrap'><span style='{dot}'></span>{words}</span>"


def apart(left: str, right: str) -> str:
    """Two texts at the two ends of a line, or below each other where it is narrow; escaped by the caller."""
    style = "display:flex;justify-content:space-between;flex-wrap:wrap;gap:0 16px"
    return f"<div style='{style}'><div style='min-width:0;overflow-wrap:anywhere'>{left}</div><div>{right}</div></div>"


def row(text: str) -> str:
    """A line of text with some room above; escaped by the caller."""
    return f"<div style='margin-top:6px;{DIGITS}'>{text}</div>"


def tile(label: str, value: str, note: str = "", *, drawn: str = "", about: str = "") -> str:
    """A number under its name, a note or a drawing below, what it means in a tooltip; escaped by the caller."""
    below = f"<div style='{MUTED};{DIGITS}'>{note}</div>" if note else ""
    hint = f" title='{html.escape(about)}'" if about else ""
    return (
        f"<div style='min-width:0'{hint}><div style='{MUTED}'>{label}</div>"
        f"<div style='font-size:15px;{DIGITS}'>{value}</div>{below}{drawn}</div>"
    )


def table(head: str, body: str) -> str:
    """A table without the page's own lines and stripes."""
    style = "border-collapse:collapse;border:none;margin:0;font-size:12px;line-height:1.4;color:inherit"
    head = f"<thead style='border:none'><tr style='background:none'>{head}</tr></thead>"
    return f"<table style='{style}'>{head}<tbody>{body}</tbody></table>"


def tiles(these: Iterable[str], *, width_px: int = 136) -> str:
    """Tiles side by side, as many as the page is wide for."""
    grid = f"display:grid;grid-template-columns:repeat(auto-fill,minmax({width_px}px,1fr));gap:8px 16px;margin-top:8px"
    return f"<div style='{grid}'>{''.join(these)}</div>"


def line(values: Sequence[float], colour: str, *, top: float, width: int = 92, height: int = 18) -> str:
    """A sparkline of `values` from 0 to `top`."""
    frame = f"<svg width='{width}' height='{height}' style='display:block' aria-hidden='true'>"
    floor = f"<path d='M0 {height - 0.5}H{width}' stroke='currentColor' stroke-opacity='0.25'/>"
    if len(values) < 2:
        return f"{frame}{floor}</svg>"
    step, scale = width / (len(values) - 1), (height - 3) / top if top > 0 else 0.0
    points = " ".join(f"{i * step:.0f},{height - 1.5 - scale * value:.1f}" for i, value in enumerate(values))
    return f"{frame}{floor}<polyline points='{points}' fill='none' stroke='{colour}' stroke-width='1.5'/></svg>"
