"""Every fault of the catalogue, played over HTTP: what becomes of the trial, and no token and no request is lost."""

import asyncio
import re
from types import SimpleNamespace
from typing import NamedTuple

import openai
import pandas as pd
import pytest

import llmlab as ll
from llmlab.client.writer import http_library
from tests.provider.asking import KEY, ask, policy, statuses, texts
from tests.provider.catalogue import FAULTS
from tests.provider.server import FaultProvider

TIMEOUT_S = 3.0


class Fate(NamedTuple):
    """What a trial comes to: its row, its attempts, and whether the run stops.

    `tokens` are those of all attempts together, `None` if none reported any; `note` is a part of the attempts' notes.
    """

    status: str
    error_type: str | None
    attempts: int
    stopped: bool = False
    prediction: str | None = None
    tokens: int | None = None
    note: str | None = None


def ok(tokens=15, note=None):
    return Fate("ok", None, 1, False, "yes", tokens, note)


def failed(error_type, attempts, tokens=None):
    return Fate("failed", error_type, attempts, tokens=tokens)


def stops(error_type, attempts=1):
    return Fate("failed", error_type, attempts, stopped=True)


def unread(error_type, tokens=45):
    """Paid, unreadable and asked again at once until the third time."""
    return failed(error_type, 3, tokens)


OVERLOADED, LIMITED, BAD = failed("OverloadedError", 3), failed("RateLimitError", 3), failed("BadResponseError", 3)
# Before the second retry the model is asked in simpler forms, which a server may fail to say that it does not know.
FAILING = failed("OverloadedError", 5)
# Nobody is there for the model: the run waits, asks once more after 2 s, and gives up.
AWAY = Fate("not_run", "OverloadedError", 2, stopped=True)
# Nobody knows whether these were paid for: one repeat and no more.
CUT, GARBLED, SILENT = failed("ConnectionError", 2), failed("BadResponseError", 2), failed("TimeoutError", 2)

FATES: dict[str, Fate] = {
    "s400-context": failed("TooLongError", 1),
    "s400-schema": stops("ConfigError"),
    "s400-value": stops("ConfigError"),
    "s400-effort": stops("ConfigError"),
    "s400-filter": failed("ModerationError", 1),
    "s400-gemini-list": stops("AuthenticationError"),
    "s400-router-model": stops("ModelNotFoundError"),
    "s400-router-raw": stops("ConfigError"),
    "s401-key": stops("AuthenticationError"),
    "s401-echo": stops("AuthenticationError"),
    "s402-credits": stops("CreditError"),
    "s402-in-flight": OVERLOADED,
    "s403-key-limit": stops("CreditError"),
    "s403-region": stops("ConfigError"),
    "s404-model": stops("ModelNotFoundError"),
    "s404-endpoints": stops("ModelNotFoundError"),
    "s404-html": stops("ConfigError"),
    "s408": failed("TimeoutError", 3),
    "s409": OVERLOADED,
    "s413-html": failed("TooLongError", 1),
    "s413-tpm": failed("TooLongError", 1),
    "s422-detail": failed("RequestError", 1),
    "s425": OVERLOADED,
    "s498-capacity": AWAY,
    "s499": failed("ConnectionError", 3),
    "s500-json": FAILING,
    "s500-bad-request": OVERLOADED,
    "s501": FAILING,
    "s502-html": AWAY,
    "s503-html": AWAY,
    "s503-after": AWAY,
    "s504-html": AWAY,
    "s520-html": OVERLOADED,
    "s522-html": AWAY,
    "s523-html": AWAY,
    "s524-html": SILENT,
    "s525-html": AWAY,
    "s529-overloaded": AWAY,
    "s204": BAD,
    "r429-reset-6m": stops("RateLimitError"),  # longer than this policy's max_wait_s
    "r429-text": LIMITED,
    "r429-after": LIMITED,
    "r429-date": LIMITED,
    "r429-ms-0": LIMITED,
    "r429-days": stops("RateLimitError"),
    "r429-zero": LIMITED,
    "r429-nan": LIMITED,
    "r429-negative": LIMITED,
    "r429-garbage": LIMITED,
    "r429-no-retry": LIMITED,
    "r429-quota": stops("CreditError"),
    "r429-credit": stops("CreditError"),
    "r429-inactive": stops("CreditError"),
    "r429-free-day": stops("QuotaError"),
    "r429-tpd": stops("QuotaError"),
    "r429-too-large": failed("TooLongError", 1),
    "r429-upstream": LIMITED,
    "r429-gemini": LIMITED,
    "m301": stops("ConfigError"),
    "m302-login": stops("ConfigError"),
    "m307": ok(),
    "m308": ok(),
    "m-loop": stops("ConfigError"),
    "m-cross": stops("ConfigError"),
    "b-empty-json": BAD,
    "b-blank": GARBLED,
    "b-null": BAD,
    "b-string": BAD,
    "b-number": BAD,
    "b-object": BAD,
    "b-html": stops("ConfigError"),
    "b-html-json": GARBLED,
    "b-utf16": ok(),
    "b-text-type": ok(),
    "b-no-type": ok(),
    "b-space": ok(),
    "b-comments": ok(note="rescued"),
    "b-sse": ok(note="rescued"),
    "b-dup-keys": failed("BadResponseError", 3, 45),
    "b-nan": ok(),
    "b-extra": failed("BadResponseError", 2, 30),
    "b-deep": GARBLED,
    "b-big": unread("ParseError"),  # as a category; as a text it is whole, see below
    "b-gzip": ok(),
    "b-gzip-cut": GARBLED,
    "b-gzip-bad": GARBLED,
    "b-br": GARBLED,
    "b-control": ok(note="normalised"),
    "b-surrogate": ok(note="normalised"),
    "w-reset": CUT,
    "w-cut-length": CUT,
    "w-cut-eof": GARBLED,
    "w-cut-chunk": CUT,
    "w-garbage": failed("ConnectionError", 3),
    "w-hang": SILENT,
    "w-drip": SILENT,
    "w-slow": ok(),
    "w-idle-close": ok(),
    "c-error-502": AWAY,
    "c-error-400": failed("TooLongError", 1),
    "c-error-text": BAD,
    "c-detail": stops("AuthenticationError"),
    "c-error-null-ok": ok(),
    "c-no-choices": failed("BadResponseError", 3, 45),
    "c-choices-null": failed("BadResponseError", 3, 48),
    "c-choices-empty": failed("BadResponseError", 3, 48),
    "c-choices-dict": failed("BadResponseError", 3, 48),
    "c-no-message": failed("BadResponseError", 3, 45),
    "c-content-null": unread("EmptyAnswerError"),
    "c-content-empty": unread("EmptyAnswerError"),
    "c-content-space": unread("EmptyAnswerError"),
    "c-content-parts": ok(),
    "c-content-thinking": ok(),
    "c-refusal": failed("RefusalError", 1, 15),
    "c-filter": failed("ModerationError", 1, 15),
    "c-filter-safety": failed("ModerationError", 1, 15),
    "c-finish-error": failed("OverloadedError", 3, 45),
    "c-finish-system": failed("OverloadedError", 3, 45),
    "c-finish-null": ok(note="no finish_reason"),
    "c-finish-odd": ok(note="eos_token"),
    "c-model-null": ok(),
    "c-two": ok(note="2 choices"),
    "c-cut-prompt": ok(6, "was the prompt cut?"),
    "u-null": ok(None, "no usage"),
    "u-missing": ok(None, "no usage"),
    "u-empty": ok(None, "no usage"),
    "u-partial": ok(15, "partial usage"),
    "u-zero": ok(None, "zero usage"),
    "u-strings": ok(15, "odd prompt_tokens"),
    "u-negative": ok(5, "odd completion_tokens"),
    "u-float": ok(None, "odd prompt_tokens"),
    "u-bool": ok(None, "odd prompt_tokens"),
    "u-mismatch": ok(915, "not the sum"),
    "u-details-null": ok(),
    "u-details-odd": ok(note="odd token details"),
    "u-cost": ok(),
    "u-cost-byok": ok(note="own key"),
    "u-cost-text": ok(note="odd cost"),
    "j-fence": ok(),
    "j-prose": ok(),
    "j-two": unread("ParseError"),
    "j-braces-prose": ok(),
    "j-think": ok(),
    "j-think-end": ok(),
    "j-think-inside": ok(),
    "j-think-open": unread("TruncatedError"),
    "j-trailing-comma": ok(note="repaired"),
    "j-single": ok(note="repaired"),
    "j-python": ok(note="repaired"),
    "j-smart": ok(note="repaired"),
    "j-nan": ok(note="repaired"),
    "j-infinity": ok(note="repaired"),
    "j-dup": unread("ParseError"),
    "j-cut": unread("TruncatedError"),
    "j-zero-width": ok(note="normalised"),
    "j-escaped": ok(note="repaired"),
    "j-scalar": ok(note="bare"),
    "j-bare": ok(note="bare"),
    "j-number": unread("InvalidLabelError"),
    "j-number-text": ok(),
    "j-bool": unread("InvalidLabelError"),
    "j-empty": unread("InvalidLabelError"),
    "j-key-case": ok(note="normalised"),
    "j-unknown": unread("InvalidLabelError"),
    "j-multi": unread("InvalidLabelError"),
    "j-label-list": unread("InvalidLabelError"),
    "j-extra": ok(),
    "j-nested": ok(note="nested"),
    "j-schema": unread("InvalidLabelError"),
    "j-refuse": unread("ParseError"),
    "j-flood": unread("TruncatedError", 12_321),
    "j-loop": unread("TruncatedError", 12_321),
    "j-xml": ok(note="bare"),
    "t-rpm": ok(),
    "t-crowd": ok(),
    "t-broke": ok(),
}
# Redirects to the same origin are followed, and each hop is a request of its own.
HOPS = {"m307": 1, "m308": 1, "m-loop": 3}
# A word of the message that a reader needs; the number or the way out.
SAID = {
    "s400-context": "8192 tokens",
    "s400-value": "'temperature' does not support 0",
    "s400-router-raw": "additionalProperties",
    "s401-echo": "Incorrect API key provided: [key]",
    "s402-credits": "https://openrouter.ai/settings/credits",
    "s404-endpoints": "https://openrouter.ai/settings/privacy",
    "s404-html": "is /v1 missing?",
    "s422-detail": "messages: Field required",
    "s502-html": "a web page: 502 Bad Gateway",
    "r429-free-day": "resets in",
    "r429-tpd": "resets in 153 s",
    "r429-days": "asks to wait 259,200 s",
    "r429-reset-6m": "asks to wait 360 s",
    "r429-upstream": "temporarily rate-limited upstream",
    "m301": "on the same server: use that path",
    "m302-login": "redirects to /login: is it right",
    "m-loop": "in a circle",
    "m-cross": "http://localhost:",
    "b-string": "upstream error",
    "b-html": "a web page",
    "w-hang": "may be billed",
    "c-error-502": "Provider returned error",
    "c-error-text": "model overloaded",
    "c-detail": "Not authenticated",
    "c-refusal": "I'm sorry, I can't assist",
    "j-unknown": "'maybe' is not one of the categories",
}
UNKNOWN_COST = {"w-reset", "w-cut-length", "w-cut-chunk", "w-hang", "w-drip", "b-gzip-bad"}


@pytest.fixture(scope="module")
def played():
    """All faults at once: results by id, and what the provider counted. Long runs with a memory go on beside them."""
    memory = ("t-rpm", "t-crowd", "t-broke", "s503-html/w1")
    with FaultProvider() as provider, FaultProvider(latency_s=0.01) as other:

        async def one(fault):
            timeout = TIMEOUT_S if fault in ("w-hang", "w-drip") else 20.0
            return fault, await ask(provider, ["some text"], f"fault/{fault}", timeout=timeout)

        async def many(fault, units):
            retry = policy(outage_s=60.0)
            return fault, await ask(other, texts(units), f"fault/{fault}", retry=retry, timeout=20.0)

        async def everything():
            runs = [many(fault, units) for fault, units in zip(memory, (120, 100, 60, 20), strict=True)]
            return await asyncio.gather(*runs, *(one(fault) for fault in FATES))

        done = asyncio.run(everything())
        yield SimpleNamespace(
            many=dict(done[: len(memory)]),
            one=dict(done[len(memory) :]),
            counts=provider.counts(),
            other=other.counts(),
        )


def test_the_table_is_whole():
    assert FATES.keys() == FAULTS.keys()


@pytest.mark.parametrize("fault", FATES)
def test_fault(played, fault):
    results = played.one[fault]
    row, attempts = results.predictions.iloc[0], results.attempts
    notes = "; ".join(attempts["notes"].dropna())
    tokens = None if pd.isna(row["total_tokens"]) else int(row["total_tokens"])
    fate = Fate(
        row["status"],
        None if pd.isna(row["error_type"]) else row["error_type"],
        len(attempts),
        results.stopped is not None,
        None if pd.isna(row["prediction"]) else row["prediction"],
        tokens,
        FATES[fault].note if (FATES[fault].note or "") in notes else notes,
    )
    assert fate == FATES[fault]
    # What is said can be read: one line, no page, no key, no name of a class of another library.
    said = "" if pd.isna(row["error"]) else row["error"]
    assert SAID.get(fault, "") in f"{said} {results.stopped}"
    assert len(said) <= 500
    assert not re.search(r"<\w+>|5ecre7|NoneType|JSONDecodeError|^\W*$", said) or not said


def test_every_attempt_was_one_request_and_none_was_hidden(played):
    attempts = sum(len(results.attempts) for results in played.one.values())
    assert played.counts.requests == attempts + sum(HOPS.values())


def test_every_token_that_reached_the_wire_is_in_the_attempts(played):
    for runs, counts in ((played.one, played.counts), (played.many, played.other)):
        for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
            # The zero of u-zero is no count.
            ours = sum(int(results.attempts[name].sum()) for results in runs.values())
            assert ours == getattr(counts, name)
            ours = sum(int(results.predictions[name].sum()) for results in runs.values())
            assert ours == getattr(counts, name)


def test_unknown_tokens_are_na_and_never_0(played):
    for fault, results in played.one.items():
        assert not (results.attempts["total_tokens"] == 0).any(), fault
    for fault in UNKNOWN_COST:
        assert played.one[fault].attempts["total_tokens"].isna().all()
        assert played.one[fault].attempts["http_status"].isna().all()


def test_costs_are_the_providers_own(played):
    costs = {fault: played.one[fault].predictions["cost_usd"].iloc[0] for fault in ("u-cost", "u-cost-byok")}
    assert costs == {"u-cost": 0.00014, "u-cost-byok": 0.00014}
    assert played.one["u-cost-text"].predictions["cost_usd"].iloc[0] == 0.000123


def test_hints_are_waited_for_and_a_busy_loop_is_never_made(played):
    for fault, hint_s in {"r429-text": 1.2, "r429-after": 1, "r429-date": 1, "r429-ms-0": 2, "r429-gemini": 1.5,
                          "s503-after": 1, "s402-in-flight": 1, "r429-negative": 0.9, "r429-nan": 0.9}.items():  # fmt: skip
        started = played.one[fault].attempts["started_at"]
        assert (started.diff().dropna().dt.total_seconds() >= hint_s - 0.05).all(), fault


async def test_a_big_answer_is_whole(provider):
    results = await ask(provider(), ["text"], "fault/b-big", categories=None)
    assert results.predictions["prediction"].iloc[0] == "x" * 2_000_000


def test_a_crowd_is_thinned_out_until_all_are_answered(played):
    assert statuses(played.many["t-crowd"]) == {"ok": 100}


def test_a_limit_nobody_told_us_of_costs_waiting_and_no_row(played):
    assert statuses(played.many["t-rpm"]) == {"ok": 120}
    # At most the first burst is a storm.
    assert len(played.many["t-rpm"].attempts) < 2.5 * 120


def test_an_outage_is_outlived(played):
    results = played.many["s503-html/w1"]
    assert statuses(results) == {"ok": 20}
    assert results.stopped is None
    # Those in flight when it began, and the probe or two that were too early.
    assert 1 <= (results.attempts["error_type"] == "OverloadedError").sum() <= 22


def test_when_the_credit_is_used_up_exactly_the_paid_rows_are_kept(played):
    results = played.many["t-broke"]
    assert statuses(results)["ok"] == 20
    assert results.predictions["total_tokens"].notna().sum() == 20
    assert "Insufficient credits" in results.stopped
    assert results.stopped.endswith("are not answered")


async def test_a_key_revoked_in_mid_run_costs_no_answer_and_the_rest_is_asked_later(provider, tmp_path):
    simulated = provider(fault="s401-key/a10")
    settings = {"journal": tmp_path / "journal.sqlite", "max_concurrent": 4}
    revoked = await ask(simulated, texts(40), **settings)
    assert statuses(revoked)["ok"] == 10
    assert "Incorrect API key" in revoked.stopped
    assert len(revoked.attempts) <= 10 + 4
    before, simulated.fault = simulated.counts().requests, None
    mended = await ask(simulated, texts(40), base_url=simulated.base_url, api_key=f"{KEY}-new", **settings)
    assert statuses(mended) == {"ok": 40}
    assert simulated.counts().requests - before == 30
    kept = revoked.predictions["status"] == "ok"
    assert mended.predictions.loc[kept, "finished_at"].equals(revoked.predictions.loc[kept, "finished_at"])


async def test_the_same_refusal_of_the_first_five_stops_the_run(provider):
    simulated = provider(latency_s=0.05)
    results = await ask(simulated, texts(500), "fault/s422-detail", max_concurrent=20)
    assert simulated.counts().requests <= 5 + 20
    assert results.stopped.startswith("the first 5 trials failed the same way: 422: messages: Field required; ")
    assert results.stopped.count("422") == 1


@pytest.mark.parametrize("fault", ["s400-filter", "c-filter", "s400-context", "s413-html"])
async def test_what_is_said_of_one_text_stops_nothing(provider, fault):
    results = await ask(provider(), texts(20), f"fault/{fault}")
    assert statuses(results) == {"failed": 20}
    assert results.stopped is None


async def test_a_503_with_a_hint_holds_back_every_trial(provider):
    simulated = provider(fault="s503-after/a3")
    results = await ask(simulated, texts(6), max_concurrent=2, retry=policy(max_retries=1))
    started = results.attempts["started_at"].sort_values()
    refused = results.attempts.loc[results.attempts["http_status"] == 503, "started_at"].min()
    after = started[started > refused + pd.Timedelta("0.1s")]
    assert (after - refused).min() >= pd.Timedelta("0.95s")


async def test_a_refusal_for_days_ends_the_run_and_leaves_the_key_free(provider):
    simulated, limiter = provider(), ll.RateLimiter(None)
    results = await ask(simulated, ["text"], "fault/r429-days", limiter=limiter)
    assert "longer than max_wait_s=60" in results.stopped
    assert limiter.get_metrics()["paused_s"] < 5


async def test_every_kind_of_fault_ends_the_same_with_a_client_of_ones_own(provider, played):
    # Cut bodies and lost connections come as other exceptions from another transport.
    some = [fault for fault in FATES if fault[0] in "wbmu" and fault not in ("w-slow", "w-hang", "w-drip")]
    some += ["s401-key", "s500-json", "s502-html", "s524-html", "c-error-502", "r429-quota", "j-cut"]
    simulated = provider()
    transport = http_library().AsyncClient(timeout=20.0)
    async with openai.AsyncOpenAI(base_url=simulated.base_url, api_key=KEY, http_client=transport) as client:
        done = await asyncio.gather(*(ask(simulated, ["some text"], f"fault/{fault}", client=client) for fault in some))
    for fault, results in zip(some, done, strict=True):
        row, fate = results.predictions.iloc[0], FATES[fault]
        assert (row["status"], results.stopped is not None) == (fate.status, fate.stopped), fault
        assert (None if pd.isna(row["total_tokens"]) else row["total_tokens"]) == fate.tokens, fault
        if fault != "w-garbage":  # this transport does not tell a strange greeting from a lost connection
            assert len(results.attempts) == fate.attempts, fault
            assert (None if pd.isna(row["error_type"]) else row["error_type"]) == fate.error_type, fault
    ours = sum(int(results.attempts["total_tokens"].sum()) for results in done)
    assert simulated.counts().total_tokens == ours
