"""What reaches the provider is what the openai client would have sent, over whichever connection; nothing is paid twice."""

import asyncio
import base64
import re
import ssl
from contextlib import asynccontextmanager
from types import SimpleNamespace

import openai
import pytest
import trustme

from llmlab import errors
from llmlab.client import ChatClient, Endpoint, resolve
from llmlab.client.transport import DirectTransport, Request, SdkTransport, make_transport
from llmlab.client.writer import http_library
from tests.servers import bytes_server, chat_server, completion

KEY = "sk-5ecre7-5ecre7-5ecre7"
TOKEN = "eyJ0.5ecre7.c2ln"
BODY = {"model": "m-1", "messages": [{"role": "user", "content": "hi"}]}


async def token():
    return TOKEN


class Signing(openai.AsyncOpenAI):
    """A client that signs each request."""

    async def _prepare_request(self, request):
        request.headers["x-signature"] = str(len(request.content))


def azure(url, **settings):
    return openai.AsyncAzureOpenAI(azure_endpoint=url.removesuffix("/v1"), api_version="2024-10-21", **settings)


CLIENTS = {
    "OpenAI": lambda url: openai.AsyncOpenAI(base_url=url, api_key=KEY, organization="org-1", project="proj-1"),
    "OpenRouter": lambda url: openai.AsyncOpenAI(
        base_url=url, api_key=KEY, default_headers={"HTTP-Referer": "https://example.org", "X-Title": "study"}
    ),
    "a key from a function": lambda url: openai.AsyncOpenAI(base_url=url, api_key=token),
    "Azure with a key": lambda url: azure(url, api_key=KEY),
    "Azure with a deployment": lambda url: azure(url, api_key=KEY, azure_deployment="mine"),
    "Azure with a token": lambda url: azure(url, azure_ad_token=TOKEN),
    "Azure with Entra ID": lambda url: azure(url, azure_ad_token_provider=token),
    "Azure with Entra ID, not awaited": lambda url: azure(url, azure_ad_token_provider=lambda: TOKEN),
    "its own headers and query": lambda url: openai.AsyncOpenAI(
        base_url=url, api_key=KEY, default_headers={"X-Own": "1", "User-Agent": "mine"}, default_query={"v": "a b&c"}
    ),
    "its own Authorization": lambda url: openai.AsyncOpenAI(
        base_url=url, api_key=KEY, default_headers={"Authorization": "Basic abc"}
    ),
    "its own Host": lambda url: openai.AsyncOpenAI(base_url=url, api_key=KEY, default_headers={"Host": "models.lan"}),
    "a query in its address": lambda url: openai.AsyncOpenAI(base_url=url + "?api-version=1", api_key=KEY),
    "its own timeout": lambda url: openai.AsyncOpenAI(base_url=url, api_key=KEY, timeout=7),
    "its own http_client": lambda url: openai.AsyncOpenAI(
        base_url=url, api_key=KEY, http_client=http_library().AsyncClient(headers={"X-Hook": "1"})
    ),
    "signatures": lambda url: Signing(base_url=url, api_key=KEY),
}
THROUGH_THE_SDK = {"its own http_client", "signatures"}
# Codings depend on what can be decoded; a length on how the JSON is spaced.
OF_THE_CONNECTION = ("Accept-Encoding", "Content-Length")


def sent(request):
    headers = sorted((name.lower(), value) for name, value in request.headers.items() if name not in OF_THE_CONNECTION)
    return request.path, sorted(request.query.items()), headers, request.body


async def send(client, **more):
    chat = ChatClient(resolve(client=client) if isinstance(client, openai.AsyncOpenAI) else client, **SETTINGS)
    try:
        return await chat.send(BODY | more)
    finally:
        await chat.close()


SETTINGS = {"timeout_s": 5, "connections": 4}


@pytest.mark.parametrize("name", list(CLIENTS))
@pytest.mark.parametrize("extra", [{}, {"extra_headers": {"X-Title": "a"}, "extra_query": {"api-version": "b c"}}])
async def test_the_provider_receives_what_the_sdk_would_have_sent(name, extra):
    async with chat_server() as server, CLIENTS[name](server.url) as client:
        await client.with_options(max_retries=0).chat.completions.create(**BODY, **extra)
        for _ in range(2):
            assert (await send(client, **extra)).content == "fine"
        expected, *found = map(sent, server.seen)
        assert found == [expected, expected]
        transport = make_transport(resolve(client=client), **SETTINGS)
        await transport.close()
        assert isinstance(transport, SdkTransport if name in THROUGH_THE_SDK else DirectTransport)


async def test_an_address_and_a_key_are_sent_as_the_sdk_does():
    async with chat_server() as server, openai.AsyncOpenAI(base_url=server.url, api_key=KEY) as client:
        await client.chat.completions.create(**BODY)
        assert (await send(Endpoint(server.url, KEY))).content == "fine"
        first, second = map(sent, server.seen)
        assert first == second


async def test_each_model_of_azure_has_its_address():
    async with chat_server() as server, azure(server.url, api_key=KEY) as client:
        for model in ("m-1", "m-2"):
            await send(client, model=model)
        paths = [request.path for request in server.seen]
        assert paths == [f"/openai/deployments/{model}/chat/completions" for model in ("m-1", "m-2")]


async def test_a_lone_surrogate_is_replaced_on_both_ways():
    async with chat_server() as server:
        for name in ("OpenAI", "its own http_client"):
            async with CLIENTS[name](server.url) as client:
                reply = await send(client, messages=[{"role": "user", "content": "half \ud83d"}])
                assert "U+FFFD in the prompt: a character was lost" in reply.notes
    assert [request.body["messages"][0]["content"] for request in server.seen] == ["half \ufffd"] * 2


# keys that change


class Keys:
    """Gives a new key each time it is asked, and fails where it is told to."""

    def __init__(self, *failing):
        self.asked, self.failing = 0, failing

    async def __call__(self):
        self.asked += 1
        if self.asked in self.failing:
            raise RuntimeError(f"no answer for {KEY}")
        return f"{KEY}-{self.asked}"


def takes(*keys):
    """A server's answer that refuses all but these keys, by their numbers, and repeats the wrong one."""

    def answer(request):
        given = request.headers["Authorization"].removeprefix("Bearer ")
        if int(given.rsplit("-", 1)[1]) in keys:
            return completion()
        return 401, {"error": {"message": f"wrong key: {given}"}}, {}

    return answer


@asynccontextmanager
async def refusing(*keys):
    async with chat_server(lambda body, number: takes(*keys)(server.seen[number - 1])) as server:
        yield server


def direct(server, keys, **settings):
    client = openai.AsyncOpenAI(base_url=server.url, api_key=keys)
    return DirectTransport(resolve(client=client), **SETTINGS, **settings)


async def statuses(transport, times):
    request = Request(BODY, b"{}", {}, {})
    try:
        return [answer.status for answer in await asyncio.gather(*(transport.send(request) for _ in range(times)))]
    finally:
        await transport.close()


async def test_after_a_401_the_key_is_asked_for_again_once_for_all():
    keys = Keys()
    async with refusing(2) as server:
        assert await statuses(direct(server, keys), 20) == [200] * 20
    assert keys.asked == 2
    assert len(server.seen) <= 40


async def test_a_key_that_stays_wrong_is_sent_once_more_and_no_further():
    keys = Keys()
    async with refusing() as server:
        assert await statuses(direct(server, keys), 1) == [401]
    assert (keys.asked, len(server.seen)) == (2, 2)
    async with chat_server(lambda body, number: (401, {}, {})) as server:
        assert (await send(Endpoint(server.url, KEY))).http_status == 401
    assert len(server.seen) == 1


async def test_a_key_that_may_be_stale_is_asked_for_again():
    keys = Keys()
    async with refusing(1, 2, 3) as server:
        transport = direct(server, keys, fresh_s=0.0)
        for _ in range(3):
            await transport.send(Request(BODY, b"{}", {}, {}))
        await transport.close()
    assert [request.headers["Authorization"][-1] for request in server.seen] == ["1", "2", "3"]


async def test_the_last_key_serves_while_no_new_one_can_be_had():
    keys = Keys(2)
    async with refusing(1) as server:
        transport = direct(server, keys, fresh_s=0.0)
        for _ in range(3):
            assert (await transport.send(Request(BODY, b"{}", {}, {}))).status == 200
        await transport.close()
    assert keys.asked == 2


async def test_without_any_key_nothing_is_sent_and_no_key_is_shown():
    async with chat_server() as server, openai.AsyncOpenAI(base_url=server.url, api_key=Keys(1)) as client:
        reply = await send(client)
    assert type(reply.error) is errors.AuthenticationError
    assert "no answer for" in str(reply.error)
    assert KEY not in str(reply.error)
    assert not reply.may_be_billed
    assert server.seen == []


async def test_no_key_that_was_sent_is_in_a_reply():
    echo = {"error": {"message": f"wrong: {TOKEN} {KEY}"}}
    async with chat_server(lambda body, number: (403, echo, {})) as server:
        for name in ("Azure with Entra ID", "Azure with a key", "its own http_client"):
            async with CLIENTS[name](server.url) as client:
                chat = ChatClient(resolve(client=client), **SETTINGS)
                reply = await chat.send(BODY)
                used = TOKEN if "Entra" in name else KEY
                assert used not in str(reply.error) + repr(reply)
                await chat.close()


async def test_a_key_that_is_a_word_spoils_no_answer():
    async with chat_server(lambda body, number: completion("a simulated answer of 51mul4t3d")) as server:
        said = "a simulated answer of 51mul4t3d"
        assert (await send(Endpoint(server.url, "simulated", simulated=True))).content == said
        assert (await send(Endpoint(server.url, "simulated"))).content == said
        assert (await send(Endpoint(server.url, "51mul4t3d"))).content == "a simulated answer of [key]"


# connections


async def ask_bytes(answer, requests):
    async with bytes_server(answer) as server:
        chat = ChatClient(Endpoint(server.url, KEY), **SETTINGS)
        replies = [await chat.send(BODY) for _ in range(requests)]
        await chat.close()
        return [reply.error and type(reply.error).__name__ for reply in replies], server.requests, replies


FINE = b"{}"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


async def test_a_request_that_meets_a_closing_connection_is_sent_again_at_once():
    """The server closes each connection at its second request without having looked at it."""
    found, requests, _ = await ask_bytes(lambda n, of_connection: HEAD + FINE if of_connection == 1 else None, 4)
    assert found == ["BadResponseError"] * 4
    assert requests == 7


async def test_a_request_that_may_have_been_worked_on_is_not_sent_again():
    found, requests, replies = await ask_bytes(lambda n, of_connection: None, 2)
    assert (found, requests) == (["ConnectionError"] * 2, 2)
    assert all(reply.may_be_billed for reply in replies)
    cut = lambda n, of_connection: HEAD + FINE if of_connection == 1 else HEAD[:20]  # noqa: E731
    async with bytes_server(cut) as server:
        chat = ChatClient(Endpoint(server.url, KEY), timeout_s=0.3, connections=1)
        assert [type((await chat.send(BODY)).error).__name__ for _ in range(2)] == ["BadResponseError", "TimeoutError"]
        await chat.close()
        assert server.requests == 2


async def test_a_silent_server_may_have_billed_and_one_that_takes_no_connection_has_not():
    async def never(reader, writer):
        await gone.wait()
        writer.close()

    gone = asyncio.Event()
    server = await asyncio.start_server(never, "127.0.0.1", 0)
    chat = ChatClient(Endpoint(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", KEY),
                      timeout_s=0.3, connections=1)  # fmt: skip
    first = asyncio.ensure_future(chat.send(BODY))
    await asyncio.sleep(0.01)
    waiting = await chat.send(BODY)
    reply = await first
    gone.set()
    await chat.close()
    server.close()
    assert (type(reply.error), reply.may_be_billed) == (errors.TimeoutError, True)
    # The only connection was in use all the time.
    assert (type(waiting.error), waiting.may_be_billed) == (errors.TimeoutError, False)
    assert "nothing was sent" in str(waiting.error)


async def test_redirects_of_the_same_server_are_followed_and_no_others():
    async with chat_server() as other:

        def answer(body, number):
            if number < 3:
                return 307, {}, {"Location": "/elsewhere/chat/completions?n=1"}
            return 308, {}, {"Location": f"{other.url}/chat/completions"}

        async with chat_server(answer) as server:
            reply = await send(Endpoint(server.url, KEY))
            assert [request.path for request in server.seen] == ["/v1/chat/completions"] + 2 * [
                "/elsewhere/chat/completions"
            ]
            assert server.seen[1].query == {"n": "1"}
        assert reply.http_status == 308
        assert other.seen == []


# trust and proxies


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@asynccontextmanager
async def secure_server(authority):
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)
    async with chat_server(tls=tls) as server:
        yield server


@asynccontextmanager
async def proxy():
    """A forward proxy on loopback that wants a password; gives its `url` and the first `lines` of what it was asked."""
    lines = []
    wanted = b"Basic " + base64.b64encode(b"user:pass")

    async def pump(reader, writer):
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def handle(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        line = head.split(b"\r\n", 1)[0].decode()
        lines.append(line)
        if wanted not in head:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        host, port = re.search(r"(localhost):(\d+)", line).groups()
        to_reader, to_writer = await asyncio.open_connection(host, int(port))
        if line.startswith("CONNECT"):
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            to_writer.write(head)
        await asyncio.gather(pump(reader, to_writer), pump(to_reader, writer), return_exceptions=True)

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield SimpleNamespace(url=f"http://user:pass@127.0.0.1:{port}", wrong=f"http://127.0.0.1:{port}", lines=lines)


async def test_an_authority_of_the_environment_is_trusted_as_the_sdk_does(authority, monkeypatch, tmp_path):
    async with secure_server(authority) as server:
        untrusted = await send(Endpoint(server.url, KEY))
        assert type(untrusted.error) is errors.ConfigError
        assert "certificate is not trusted" in str(untrusted.error)
        authority.cert_pem.write_to_path(tmp_path / "authority.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
        assert (await send(Endpoint(server.url, KEY))).content == "fine"


async def test_proxies_of_the_environment_are_used_with_their_password(authority, monkeypatch, tmp_path):
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    async with chat_server() as plain, secure_server(authority) as secure, proxy() as between:
        monkeypatch.setenv("HTTP_PROXY", between.url)
        monkeypatch.setenv("HTTPS_PROXY", between.url)
        for server in (plain, secure):
            assert (await send(Endpoint(server.url, KEY))).content == "fine"
        port = secure.url.split(":")[-1].removesuffix("/v1")
        assert between.lines == [f"POST {plain.url}/chat/completions HTTP/1.1", f"CONNECT localhost:{port} HTTP/1.1"]
        monkeypatch.setenv("HTTPS_PROXY", between.wrong)
        refused = await send(Endpoint(secure.url, KEY))
        assert "it wants a name and a password" in str(refused.error)
        monkeypatch.setenv("NO_PROXY", "localhost")
        assert (await send(Endpoint(secure.url, KEY))).content == "fine"
        assert len(between.lines) == 3
