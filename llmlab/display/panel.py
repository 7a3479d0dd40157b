"""The panel of an experiment as HTML: live while it runs, one line at the end."""

from __future__ import annotations

from llmlab.display import html as markup
from llmlab.display import words
from llmlab.display.palette import ANSWERED, FAILED, IN_FLIGHT, NOTICE, PALE
from llmlab.display.tally import Tally
from llmlab.display.waiting import waiting_for

SAMPLE_EVERY_S = 1.0
MOST_SAMPLES = 120


class History:
    """The wait over the whole run in at most `MOST_SAMPLES` points: full, it keeps every other one."""

    def __init__(self) -> None:
        self.wait_s: list[float] = []
        self._every_s = SAMPLE_EVERY_S
        self._due = 0.0

    def sample(self, tally: Tally) -> None:
        """Take a point if it is time."""
        now = tally.clock()
        if now < self._due:
            return
        self._due = now + self._every_s
        if len(self.wait_s) >= MOST_SAMPLES:
            del self.wait_s[1::2]
            self._every_s *= 2
        self.wait_s.append(tally.recent_wait_s)


def live_html(tally: Tally, history: History, stopped: str | None = None) -> str:
    """The tally while it runs: how far, how long still, what it waits for, and what it took so far."""
    reason = waiting_for(tally, stopped)
    colour = "" if reason.normal else f"color:{NOTICE};font-weight:600"
    state = f"<span style='{colour}'>{markup.short(reason.text, 160)}</span>"
    title = f"<span style='{markup.MUTED}'>{markup.short(tally.title, 80)}</span>" if tally.title else ""
    ahead = "" if stopped else words.eta(tally.eta_s)
    rows = [
        markup.apart(_counted(tally), f"<span style='{markup.DIGITS}'>{ahead}</span>"),
        _bar(tally),
        markup.apart(state, title),
        *(
            f"<div style='margin-top:6px;{markup.DIGITS}'>{markup.short(line, 200)}</div>"
            for line in words.batches(tally.batches)
        ),
        markup.tiles(_tiles(tally, history), width_px=150),
    ]
    if stopped:
        rows.append(f"<div style='{markup.NOTE}'>{markup.short(stopped, 400)}</div>")
    if tally.last_error:
        rows.append(f"<div style='margin-top:6px;{markup.TWO_LINES};{markup.MUTED}'>"
                    f"last error: {markup.short(tally.last_error, 300)}</div>")  # fmt: skip
    return markup.page("progress", rows)


def snapshot(tally: Tally, stopped: str | None = None) -> dict[str, str]:
    """The end of a run as a mimebundle: one line in HTML, and in text."""
    text = final_line(tally, stopped)
    where = f"<span style='{markup.MUTED}'>results: <code style='{markup.CODE}'>ll.last_results()</code></span>"
    rows = [markup.apart(f"<span style='{markup.DIGITS}'>{markup.short(text, 500)}</span>", where)]
    return {"text/html": markup.page("progress", rows), "text/plain": f"llmlab: {text}"}


def final_line(tally: Tally, stopped: str | None = None) -> str:
    """The end of a run in one line."""
    if not tally.trials:
        return "nothing to ask" + (f": {words.before(tally.before, tally.from_book)}" if tally.before else "")
    parts = [f"{tally.answered:,} of {tally.total:,} answered"]
    if tally.before:
        asked = tally.done + tally.in_flight
        parts[0] += f": {words.before(tally.before, tally.from_book)}, {asked:,} asked"
    if tally.failed:
        parts.append(f"{tally.failed:,} failed")
    not_run = tally.trials - tally.done
    if not_run:
        parts.append(f"{not_run:,} not run")
    parts += [words.count(tally.attempts, "attempt"), words.duration(tally.elapsed_s)]
    parts.append("cost unknown" if tally.cost_usd.amount is None else words.cost(tally.cost_usd))
    reason = f"{' '.join(stopped.split())} · " if stopped else ""
    return reason + " · ".join(parts)


def _counted(tally: Tally) -> str:
    share = f" ({int(100 * tally.answered / tally.total)} %)" if tally.total else ""
    known = words.before(tally.before, tally.from_book)
    before = f"<span style='{markup.MUTED}'>: {known}, {tally.trials:,} to ask</span>" if tally.before else ""
    return f"<span style='{markup.DIGITS}'><b>{tally.answered:,}</b> of {tally.total:,} answered{share}{before}</span>"


def _bar(tally: Tally) -> str:
    flying = min(tally.in_flight, max(0, tally.trials - tally.done))
    left = max(0, tally.trials - tally.done - flying)
    filled = markup.bar([(tally.answered, ANSWERED), (tally.failed, FAILED), (flying, IN_FLIGHT)], tally.total)
    aria = (
        f"role='progressbar' aria-valuemin='0' aria-valuemax='{tally.total}' "
        f"aria-valuenow='{tally.answered + tally.failed}'"
    )
    keys = [markup.key(ANSWERED, f"{tally.answered:,} answered")]
    keys += [markup.key(FAILED, f"{tally.failed:,} failed")] if tally.failed else []
    keys += [markup.key(IN_FLIGHT, f"{flying:,} in flight"), markup.key(PALE, f"{left:,} to come")]
    return f"<div {aria} style='margin:5px 0'>{filled}</div><div style='{markup.KEYS}'>{''.join(keys)}</div>"


def _tiles(tally: Tally, history: History) -> list[str]:
    projected = "" if tally.projected_usd is None else f"{words.usd(tally.projected_usd)} expected in all"
    unusable = f"{tally.unusable:,} without a usable answer" if tally.unusable else ""
    waited = f"{100 * tally.throttle_rate:.0f} % of the last ones (normal)" if tally.throttle_rate else ""
    drawn = markup.line(history.wait_s, IN_FLIGHT, top=max(history.wait_s, default=0.0)) if tally.waited_s >= 1 else ""
    return [
        markup.tile("attempts", f"{tally.attempts:,}", unusable, about="HTTP calls, repeated ones too"),
        markup.tile(
            "waited for the limit", f"{tally.avg_wait_s:,.1f} s each", waited, drawn=drawn,
            about="Until it may be sent, as the limit has it. Long waits are normal: more are ready than may leave",
        ),
        markup.tile("tokens in", words.tokens(tally.prompt_tokens), f"{words.tokens(tally.completion_tokens)} out"),
        markup.tile("cost so far", words.cost(tally.cost_usd), projected),
    ]  # fmt: skip
