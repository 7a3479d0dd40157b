"""Every fault of the catalogue, played over HTTP: what becomes of the trial, and that no token and no request is lost."""

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import NamedTuple

import httpx2
import openai
import pandas as pd
import pytest

import llmlab as ll
from llmlab.errors import InputError
from tests.provider.catalogue import FAULTS
from tests.provider.server import FaultProvider

KEY = "sk-5ecre7-5ecre7-5ecre7"
TIMEOUT_S = 1.2


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
    "s498-capacity": OVERLOADED,
    "s499": failed("ConnectionError", 3),
    "s500-json": OVERLOADED,
    "s500-bad-request": OVERLOADED,
    "s501": OVERLOADED,
    "s502-html": OVERLOADED,
    "s503-html": OVERLOADED,
    "s503-after": OVERLOADED,
    "s504-html": OVERLOADED,
    "s520-html": OVERLOADED,
    "s522-html": OVERLOADED,
    "s523-html": OVERLOADED,
    "s524-html": SILENT,
    "s525-html": OVERLOADED,
    "s529-overloaded": OVERLOADED,
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
    "c-error-502": OVERLOADED,
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
    "s422-detail": "body.messages: Field required",
    "s502-html": "a web page: 502 Bad Gateway",
    "r429-free-day": "resets in",
    "r429-tpd": "resets in 153 s",
    "r429-days": "asks to wait 259,200 s",
    "r429-reset-6m": "asks to wait 360 s",
    "r429-upstream": "temporarily rate-limited upstream",
    "m301": "use that address as base_url",
    "m302-login": "/login",
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


def policy(**settings):
    return ll.RetryPolicy(**{"wait": lambda attempt: 0.01, "max_wait_s": 60.0} | settings)


async def ask(provider, units, model="m", **settings):
    """Ask without any limit of ours; the address of the provider, and a key that looks like one."""
    given = {} if settings.keys() & {"client", "base_url"} else {"base_url": provider.base_url, "api_key": KEY}
    return await ll.run_experiment(
        units,
        "Classify: {text}",
        model=model,
        progress=False,
        **{
            "limiter": ll.RateLimiter(None),
            "retry": policy(),
            "timeout": 20.0,
            "categories": ["yes", "no"],
            **given,
            **settings,
        },
    )


def texts(count):
    return [f"text {at}" for at in range(count)]


def statuses(results):
    return results.predictions["status"].value_counts().to_dict()


@pytest.fixture(scope="module")
def played():
    """All faults at once: results by id, and what the provider counted. Long runs with a memory go on beside them."""
    memory = ("t-rpm", "t-crowd", "t-broke", "s503-html/w1")
    with FaultProvider() as provider, FaultProvider(latency_s=0.01) as other:

        async def one(fault):
            timeout = TIMEOUT_S if fault in ("w-hang", "w-drip") else 20.0
            return fault, await ask(provider, ["some text"], f"fault/{fault}", timeout=timeout)

        async def many(fault, units):
            # The waits reach beyond the outage of a second.
            retry = policy(wait=lambda attempt: 0.4 * attempt) if "/w" in fault else policy()
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


# faults with a memory


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
    assert (results.attempts["error_type"] == "OverloadedError").sum() >= 20


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
    assert results.stopped.startswith("the first 5 trials failed the same way: 422: body.messages: Field required; ")
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


# ports, names, certificates, proxies


@pytest.mark.parametrize(
    ("side", "error_type", "attempts", "said"),
    [
        ("reset", "ConnectionError", (2, 3), "connect|connection"),
        ("refused", "ConnectionError", (3,), "could not connect"),
        ("blackhole", "TimeoutError", (3,), "could not connect in time; nothing was sent"),
        ("tls_self_signed", "ConfigError", (1,), "SSL_CERT_FILE"),
        ("no_dns", "ConnectionError", (1,), "the host of base_url is not found"),
    ],
)
@pytest.mark.parametrize("own", [False, True], ids=["url", "client"])
async def test_ports_where_no_provider_answers(provider, side, error_type, attempts, said, own):
    url = provider().side_url(side)
    async with openai.AsyncOpenAI(base_url=url, api_key=KEY) as client:
        where = {"client": client} if own else {"base_url": url, "api_key": KEY}
        results = await ask(None, ["text"], timeout=0.5, **where)
    assert results.predictions["error_type"].tolist() == [error_type]
    assert len(results.attempts) in attempts
    assert re.search(said, results.attempts["error"].iloc[-1])
    assert (results.stopped is not None) == (side in ("tls_self_signed", "no_dns"))


async def test_a_name_that_is_unknown_at_first_stops_the_run_and_later_it_does_not(recorder):
    unknown = "http://no-such-host.invalid/v1"
    results = await ask(None, texts(50), base_url=unknown, api_key=KEY, max_concurrent=3)
    assert len(results.attempts) <= 3
    assert results.stopped.startswith("the host of base_url is not found")
    # Once a server has answered, the name is right and the network is gone: the redirect plays that part.
    recorder.answers = [(200, {}, GOOD), (200, {}, GOOD), (307, {"Location": unknown}, b"")]
    later = await ask(None, texts(4), base_url=recorder.url, api_key=KEY, max_concurrent=1)
    assert later.predictions["status"].tolist()[:2] == ["ok", "ok"]


def named(results):
    return str(results.attempts["error"].iloc[-1])


@pytest.mark.filterwarnings("ignore::DeprecationWarning:openai")
async def test_a_dead_proxy_is_named_without_its_password(provider, monkeypatch):
    dead = provider().side_url("refused").removesuffix("/v1").replace("://", "://user:5ecre7@")
    monkeypatch.setenv("HTTP_PROXY", dead)
    results = await ask(provider(), ["text"])
    assert "could not connect through the proxy of HTTP_PROXY (127.0.0.1)" in named(results)
    assert "5ecre7" not in named(results)
    monkeypatch.setenv("HTTP_PROXY", "http://no-such-proxy.invalid:3128")
    results = await ask(provider(), ["text"])
    assert "the host of HTTP_PROXY (no-such-proxy.invalid) is not found" in results.stopped
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert statuses(await ask(provider(), ["text"])) == {"ok": 1}


async def test_a_socks_proxy_is_named_before_anything_is_sent(provider, monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    with pytest.raises(InputError, match=r"ALL_PROXY names a socks5 proxy.*NO_PROXY"):
        await ask(provider(), ["text"])


async def test_a_certificate_file_that_is_missing_is_named(provider, monkeypatch, tmp_path):
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gone.pem"))
    simulated, journal = provider(), tmp_path / "journal.sqlite"
    with pytest.raises(InputError, match=r"SSL_CERT_FILE=.*gone\.pem cannot be found"):
        await ask(None, ["text"], base_url=simulated.side_url("tls_self_signed"), api_key=KEY, journal=journal)
    # Where there is no TLS it is not needed; and the journal was let go.
    assert statuses(await ask(simulated, ["text"], journal=journal)) == {"ok": 1}


@pytest.mark.parametrize(
    "base_url", ["http://user:5ecre7@127.0.0.1/v1", "http://127.0.0.1/v1?key=5ecre7", "http://127.0.0.1/v1#x"]
)
async def test_an_address_holds_no_password(base_url):
    with pytest.raises(InputError, match="extra_query") as caught:
        await ask(None, ["text"], base_url=base_url, api_key=KEY)
    assert "5ecre7" not in str(caught.value)


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on file descriptors")
def test_running_out_of_file_descriptors_is_named(provider):
    script = """if True:
        import asyncio, os, resource, sys
        import llmlab as ll
        async def main():
            limit = len(os.listdir("/proc/self/fd")) + 12
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, 4096))
            results = await ll.run_experiment([str(at) for at in range(60)], "{text}", model="m", progress=False,
                limiter=ll.RateLimiter(None), base_url=sys.argv[1], api_key="none")
            resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 4096))
            print(results.stopped, (results.predictions["status"] == "ok").sum())
        asyncio.run(main())
        """
    url = provider(latency_s=0.2).base_url
    done = subprocess.run([sys.executable, "-c", script, url], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.startswith("out of file descriptors: lower max_concurrent, or raise the limit (ulimit -n); ")
    assert int(done.stdout.split()[-1]) > 0


# what is sent

MESSAGE = {"role": "assistant", "content": '{"label": "yes"}'}
GOOD = json.dumps(
    {
        "model": "m",
        "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15},
    }
).encode()


@pytest.fixture
def recorder():
    """A server on loopback that keeps what it is sent, and gives its `answers` one after the other, then good ones."""
    state = SimpleNamespace(requests=[], answers=[])

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            state.requests.append((self.path, headers, json.loads(body)))
            status, headers, answer = state.answers.pop(0) if state.answers else (200, {}, GOOD)
            self.send_response(status)
            headers = {"Content-Type": "application/json", "Content-Length": str(len(answer))} | headers
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


async def test_no_attempt_is_hidden_in_the_sdk(recorder):
    recorder.answers = [(500, {}, b"{}"), (502, {"x-should-retry": "true"}, b"{}"), (503, {}, b"{}")] * 2
    results = await ask(None, ["text"], base_url=recorder.url, api_key=KEY, retry=policy(max_retries=3))
    async with openai.AsyncOpenAI(base_url=recorder.url, api_key=KEY, max_retries=5) as client:
        again = await ask(None, ["text"], client=client, retry=policy(max_retries=3))
    assert len(recorder.requests) == len(results.attempts) + len(again.attempts) == 6
    assert {headers["x-stainless-retry-count"] for _, headers, _ in recorder.requests} == {"0"}


async def test_the_environments_headers_go_to_openai_only(recorder, monkeypatch):
    monkeypatch.setenv("OPENAI_ORG_ID", "org-5ecre7")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-5ecre7")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Bearer 5ecre7\nX-Own: 5ecre7 é")
    await ask(None, ["text"], base_url=recorder.url, api_key="none-needed")
    (_, headers, _), *_ = recorder.requests
    assert headers["authorization"] == "Bearer none-needed"
    assert "5ecre7" not in str(headers)


async def test_a_key_of_the_environment_reaches_no_other_host(recorder, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENROUTER_API_KEY", f"sk-or-v1-{KEY}")
    with pytest.raises(InputError, match="belongs to another host"):
        await ask(None, ["text"], base_url=recorder.url)
    assert recorder.requests == []
    recorder.answers = [(307, {"Location": recorder.url.replace("127.0.0.1", "localhost") + "/chat/completions"}, b"")]
    results = await ask(None, ["text"], base_url=recorder.url, api_key=KEY)
    assert "redirects to http://localhost" in results.stopped
    assert len(recorder.requests) == 1


@pytest.mark.parametrize("headers", [{"X-Own": "5ecre7\n"}, {"X-Own": "5ecre7é"}, {"X-é": "5ecre7"}, {"X-Own": 3}])
async def test_headers_that_cannot_be_sent_are_refused_and_not_shown(recorder, headers):
    with pytest.raises(InputError, match="extra_headers") as caught:
        await ask(None, ["text"], base_url=recorder.url, api_key=KEY, extra_headers=headers)
    assert "5ecre7" not in str(caught.value)


@pytest.mark.parametrize("content", [{1, 2}, b"bytes", float("nan"), object()])
async def test_a_message_that_is_no_json_is_a_bug_of_the_users_and_not_sent(provider, content):
    simulated = provider()
    with pytest.raises(InputError, match="cannot be sent as JSON") as caught:
        await ll.run_experiment(
            texts(3),
            lambda unit: [{"role": "user", "content": "x", "extra": content}],
            model="m",
            client=simulated,
            progress=False,
        )
    assert simulated.counts().requests == 0
    assert caught.value.results.predictions["status"].tolist() == ["not_run"] * 3


async def test_half_a_surrogate_pair_is_replaced_and_noted_with_any_client(recorder):
    async with openai.AsyncOpenAI(base_url=recorder.url, api_key=KEY) as client:
        for where in ({"base_url": recorder.url, "api_key": KEY}, {"client": client}):
            results = await ask(None, ["half \ud83d"], **where)
            assert results.attempts["notes"].tolist() == ["U+FFFD in the prompt: a character was lost"]
    assert [body["messages"][0]["content"][:16] for _, _, body in recorder.requests] == ["Classify: half \ufffd"] * 2


@pytest.mark.parametrize("place", ["message", "content", "header", "model"])
async def test_a_key_that_the_provider_echoes_appears_nowhere(recorder, place, tmp_path):
    body = json.loads(GOOD)
    if place == "message":
        answer = (400, {}, json.dumps({"error": {"message": f"bad key {KEY}", "param": KEY}}).encode())
    elif place == "content":
        body["choices"][0]["message"]["content"] = f'{{"label": "yes", "you sent": "{KEY}"}}'
        answer = (200, {}, json.dumps(body).encode())
    elif place == "model":
        answer = (200, {}, json.dumps(body | {"model": KEY, "id": KEY}).encode())
    else:
        answer = (401, {"x-request-id": KEY, "cf-ray": KEY, "Location": KEY, "Retry-After": KEY}, b"{}")
    recorder.answers = [answer]
    path = tmp_path / "journal.sqlite"
    results = await ask(None, ["text"], base_url=recorder.url, api_key=KEY, journal=path)
    shown = [repr(results), results._repr_html_(), results.attempts.to_csv(), results.predictions.to_csv()]
    assert KEY not in "".join(shown)
    assert KEY.encode() not in path.read_bytes()
    assert "[key]" in "".join(shown)


# clients of the user's own


async def test_every_kind_of_fault_ends_the_same_with_a_client_of_ones_own(provider, played):
    # Cut bodies and lost connections come as other exceptions from another transport.
    some = [fault for fault in FATES if fault[0] in "wbmu" and fault not in ("w-slow", "w-hang", "w-drip")]
    some += ["s401-key", "s500-json", "s502-html", "s524-html", "c-error-502", "r429-quota", "j-cut"]
    simulated = provider()
    transport = httpx2.AsyncClient(timeout=20.0)
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


@pytest.mark.parametrize("transport", [None, httpx2.AsyncClient, openai.DefaultAioHttpClient])
async def test_a_client_of_ones_own_keeps_every_token(provider, transport):
    simulated = provider(error_rate=0.1, malformed_rate=0.1, seed=3)
    given = {} if transport is None else {"http_client": transport()}
    async with openai.AsyncOpenAI(base_url=simulated.base_url, api_key=KEY, **given) as client:
        results = await ask(simulated, texts(100), client=client)
        assert not client.is_closed()
    assert statuses(results)["ok"] > 90
    assert simulated.counts().requests == len(results.attempts)
    assert simulated.counts().total_tokens == results.attempts["total_tokens"].sum()


async def test_azure_is_asked_at_its_deployments(recorder):
    endpoint = recorder.url.removesuffix("/v1")
    async with openai.AsyncAzureOpenAI(azure_endpoint=endpoint, api_key=KEY, api_version="2026-01-01") as client:
        results = await ask(None, texts(3), "my-gpt", client=client)
    assert statuses(results) == {"ok": 3}
    assert results.attempts["total_tokens"].tolist() == [15] * 3
    path, headers, body = recorder.requests[0]
    assert path == "/openai/deployments/my-gpt/chat/completions?api-version=2026-01-01"
    assert headers["api-key"] == KEY
    assert body["model"] == "my-gpt"


def test_one_client_serves_several_loops(provider):
    simulated = provider(latency_s=0.02)
    client = openai.AsyncOpenAI(base_url=simulated.base_url, api_key=KEY)
    for _ in range(3):
        results = asyncio.run(ask(simulated, texts(40), client=client))
        assert statuses(results) == {"ok": 40}
    asyncio.run(client.close())
    # No request was made that is not an attempt.
    assert simulated.counts().requests == 3 * 40
    assert simulated.counts().dropped == 0


def test_a_key_in_a_client_is_checked_and_not_shown(provider):
    client = openai.AsyncOpenAI(base_url=provider().base_url, api_key="sk-5ecre7\n")
    with pytest.raises(InputError, match="line break") as caught:
        asyncio.run(ask(None, ["text"], client=client))
    asyncio.run(client.close())
    assert "5ecre7" not in str(caught.value)


# the user's own code


def prompts_that_fail_at(unit_ids):
    def prompt(unit):
        if unit["unit_id"] in unit_ids:
            raise LookupError(f"no template for {unit['unit_id']}")
        return f"Classify: {unit['text']}"

    return prompt


@pytest.mark.parametrize("where", ["prompt", "parse", "wait", "ids"])
async def test_a_bug_of_the_users_is_raised_with_the_answers_and_loses_none(provider, tmp_path, where):
    simulated = provider(error_rate=0.5 if where == "wait" else 0, seed=1)
    prompt, settings = "{text}", {"parse": str.strip}
    if where == "prompt":
        prompt = prompts_that_fail_at({7})
    elif where == "parse":
        settings = {"parse": lambda text: text.missing}
    elif where == "ids":
        prompt = lambda unit: 42  # noqa: E731
    if where == "wait":
        settings["retry"] = ll.RetryPolicy(wait=lambda attempt: 1 / 0)
    path = tmp_path / "journal.sqlite"
    with pytest.raises((LookupError, AttributeError, ZeroDivisionError, InputError)) as caught:
        await ll.run_experiment(
            texts(20), prompt, model="m", client=simulated, limiter=ll.RateLimiter(None), max_concurrent=3,
            progress=False, journal=path, **settings,
        )  # fmt: skip
    assert caught.value.__notes__ == ["The answers so far: llmlab.last_results()"]
    results = caught.value.results
    assert results is ll.last_results()
    assert "an error in your code" in results.stopped
    # Every request is an attempt, in memory and in the file, also the one over which the code fell.
    assert simulated.counts().requests == len(results.attempts)
    assert simulated.counts().total_tokens == results.attempts["total_tokens"].sum()
    pd.testing.assert_frame_equal(ll.load_results(path).attempts, results.attempts)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert not [thread for thread in threading.enumerate() if thread.name == "llmlab-journal"]


async def test_a_view_that_fails_costs_nothing(provider, monkeypatch):
    class Broken:
        def show(self, *_, **__):
            raise RuntimeError("no display")

    monkeypatch.setattr("llmlab.engine.run.make_view", lambda *_: Broken())
    results = await ask(provider(), texts(10))
    assert statuses(results) == {"ok": 10}
    monkeypatch.undo()
    with open(os.devnull, "w") as gone:
        monkeypatch.setattr(sys, "stderr", gone)
        gone.close()
        results = await ll.run_experiment(
            texts(10), "{text}", model="m", client=provider(), progress="text", limiter=ll.RateLimiter(None)
        )
    assert statuses(results) == {"ok": 10}
