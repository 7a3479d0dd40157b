"""The openai client of an endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from llmlab.client.endpoint import Endpoint

if TYPE_CHECKING:
    from openai import AsyncOpenAI


def sdk_of(endpoint: Endpoint, http_client: Any) -> AsyncOpenAI:
    """The user's own client, or one for the endpoint; it repeats nothing by itself, and sends over `http_client`."""
    import openai

    if endpoint.client is not None:
        return endpoint.client.with_options(max_retries=0, http_client=http_client)
    client = openai.AsyncOpenAI(
        base_url=endpoint.base_url, api_key=endpoint.api_key, max_retries=0, http_client=http_client
    )
    if not f".{urlsplit(endpoint.base_url).hostname}".endswith(".openai.com"):
        # OPENAI_ORG_ID, OPENAI_PROJECT_ID and OPENAI_CUSTOM_HEADERS are meant for OpenAI and sent to no other host.
        client.organization = client.project = None
        client._custom_headers = {}
    return client


def is_plain(client: AsyncOpenAI) -> bool:
    """Whether the client's requests differ only in their bodies, and its connections are the SDK's default ones."""
    import openai

    return (
        type(client) in (openai.AsyncOpenAI, openai.AsyncAzureOpenAI)
        and type(client._client).__name__ == "AsyncHttpxClientWrapper"
        and client.custom_auth is None
        # Signed or exchanged for each request; which of them there are depends on the version of openai.
        and getattr(client, "workload_identity", None) is None
        and getattr(client, "_provider_runtime", None) is None
    )
