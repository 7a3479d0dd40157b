"""Where requests go and with which key; what cannot work is refused before anything is sent, and no key is shown."""

import openai
import pytest

import llmlab as ll
from llmlab.client.endpoint import OPENAI_URL, OPENROUTER_URL, Endpoint, resolve
from llmlab.errors import InputError

KEY = "sk-test-5ecre7-5ecre7"
OTHER = "sk-or-v1-0ther-0ther"
SERVER = "http://10.0.0.5:8000/v1"


def found(**given):
    endpoint = resolve(**given)
    return endpoint.base_url, endpoint.api_key


@pytest.mark.parametrize(
    ("environment", "given", "expected"),
    [
        ({"OPENROUTER_API_KEY": OTHER}, {}, (OPENROUTER_URL, OTHER)),
        ({"OPENAI_API_KEY": KEY}, {}, (OPENAI_URL, KEY)),
        ({"OPENROUTER_API_KEY": OTHER, "OPENAI_API_KEY": KEY}, {}, (OPENROUTER_URL, OTHER)),
        ({"OPENROUTER_API_KEY": " \n", "OPENAI_API_KEY": f" {KEY}\n"}, {}, (OPENAI_URL, KEY)),
        ({"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": SERVER}, {}, (SERVER, KEY)),
        ({"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": SERVER}, {"base_url": SERVER}, (SERVER, KEY)),
        ({"OPENROUTER_API_KEY": OTHER, "OPENAI_API_KEY": KEY}, {"base_url": OPENAI_URL}, (OPENAI_URL, KEY)),
        ({"OPENROUTER_API_KEY": OTHER, "OPENAI_API_KEY": KEY}, {"base_url": OPENROUTER_URL}, (OPENROUTER_URL, OTHER)),
        ({}, {"api_key": KEY}, (OPENAI_URL, KEY)),
        ({"OPENROUTER_API_KEY": OTHER}, {"api_key": KEY}, (OPENAI_URL, KEY)),
        ({}, {"api_key": OTHER}, (OPENROUTER_URL, OTHER)),
        ({"OPENAI_API_KEY": KEY}, {"base_url": SERVER, "api_key": "none"}, (SERVER, "none")),
        ({}, {"base_url": f"{SERVER}/chat/completions/", "api_key": " k "}, (SERVER, "k")),
        ({}, {"base_url": f" {SERVER}/ ", "api_key": "k"}, (SERVER, "k")),
    ],
)
def test_the_endpoint_follows_from_arguments_and_environment(monkeypatch, environment, given, expected):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert found(**given) == expected


@pytest.mark.parametrize(
    "base_url",
    [SERVER, "https://api.openai.com.evil.example/v1", "https://evil.example/api.openai.com", OPENROUTER_URL],
)
def test_a_key_of_the_environment_is_never_sent_to_another_host(monkeypatch, base_url):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with pytest.raises(InputError, match="OPENAI_API_KEY belongs to another host and is not sent there") as caught:
        resolve(base_url)
    assert KEY not in str(caught.value)


def test_the_key_of_an_endpoint_of_ones_own_is_not_sent_to_openai(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", SERVER)
    with pytest.raises(InputError, match="belongs to another host"):
        resolve(OPENAI_URL)


def test_without_a_key_the_error_names_the_variables_and_the_ways_out():
    with pytest.raises(InputError, match="OPENROUTER_API_KEY and OPENAI_API_KEY are not set") as caught:
        resolve()
    assert "api_key=" in str(caught.value)
    assert "simulate.client()" in str(caught.value)


@pytest.mark.parametrize(
    "key", ["sk-5ecre7\nX-Evil: 1", "sk-5ecre7\rx", "sk-5ecre7\x00", "sk 5ecre7", "sk-5ecre7é", ""]
)
def test_a_key_that_cannot_be_a_header_is_refused_and_shown_nowhere(monkeypatch, key):
    if "\x00" not in key:  # no environment takes that
        monkeypatch.setenv("OPENAI_API_KEY", key)
    for given in ({"api_key": key}, {}):
        with pytest.raises(InputError) as caught:
            resolve(**given)
        assert "5ecre7" not in str(caught.value)
        assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "api.openai.com/v1",
        "ftp://host/v1",
        "https://",
        "http://host:0/v1",
        "http://host:99999/v1",
        "http://[::1/v1",
    ],
)
def test_a_base_url_that_cannot_be_called_is_refused(base_url):
    with pytest.raises(InputError, match="base_url"):
        resolve(base_url, KEY)


def test_a_client_brings_its_own_address_and_key(provider):
    simulated = provider()
    endpoint = resolve(client=simulated)
    assert endpoint == Endpoint(simulated.base_url, "simulated", None, simulated=True)
    own = openai.AsyncOpenAI(base_url=SERVER, api_key=KEY)
    assert resolve(client=own) == Endpoint(SERVER, KEY, own)
    assert KEY not in repr(resolve(client=own))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"client": object()}, "client= takes an openai.AsyncOpenAI or llmlab.simulate.client"),
        ({"client": "openai"}, "not str"),
        ({"client": openai.OpenAI(base_url=SERVER, api_key=KEY)}, "needs the asynchronous client"),
        ({"client": ll.simulate, "api_key": KEY}, "not both"),
    ],
)
def test_a_client_that_cannot_work_is_refused(given, said):
    with pytest.raises(InputError, match=said) as caught:
        resolve(**given)
    assert KEY not in str(caught.value)
