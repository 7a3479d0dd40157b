"""Ports, names, certificates and proxies at which no provider answers: each is named, and what helps is said."""

import re
import subprocess
import sys

import openai
import pytest

from llmlab.errors import InputError
from tests.provider.answers import GOOD
from tests.provider.asking import KEY, ask, statuses, texts


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
