"""A provider's batch queue, through the openai package's `files` and `batches`."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from llmlab.client.endpoint import Endpoint
from llmlab.client.failures import diagnose, explain
from llmlab.client.sdk import is_plain, sdk_of
from llmlab.errors import AttemptError, BadResponseError, ConfigError, CreditError, TransientError

ENDED = ("completed", "failed", "expired", "cancelled", "gone")
NONCE = "llmlab"
"""The name in a batch's metadata under which it is found again."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a batch failed as a whole: code, message, and the line of the input, from 1, if that is to blame."""

    code: str
    message: str
    line: int | None


@dataclass(frozen=True, slots=True)
class BatchState:
    """Where a batch stands.

    Attributes
    ----------
    batch_id, status : str
        As the provider says; see `ENDED`.
    created_at, ended_at, expires_at : float or None
        Seconds since the epoch.
    total, done, failed : int
        Requests; 0 until the provider has read them.
    output_file_id, error_file_id : str or None
    problems : tuple of Problem
        Why it failed as a whole.
    nonce : str or None
        What it was created with.
    """

    batch_id: str
    status: str
    created_at: float
    ended_at: float | None
    expires_at: float | None
    total: int
    done: int
    failed: int
    output_file_id: str | None
    error_file_id: str | None
    problems: tuple[Problem, ...]
    nonce: str | None

    @classmethod
    def gone(cls, batch_id: str, created_at: float = 0.0) -> BatchState:
        """A batch that the provider does not know."""
        return cls(batch_id, "gone", created_at, None, None, 0, 0, 0, None, None, (), None)

    @property
    def ended(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status in ENDED


class BatchClient:
    """The batch queue of one endpoint.

    Every method raises an `AttemptError` that says what the failure means: a `TransientError` may be tried again, a
    `FatalError` may not.

    Parameters
    ----------
    endpoint : Endpoint
        Its keys are removed from whatever comes back.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        import openai

        self.secrets = endpoint.secrets
        # Connections belong to one event loop; the user's client may be used in several.
        self._own = endpoint.client is None or is_plain(endpoint.client)
        self._sdk = sdk_of(endpoint, openai.DefaultAsyncHttpxClient() if self._own else None)

    async def check(self) -> None:
        """Find out whether the endpoint has a batch queue.

        Raises
        ------
        ConfigError
            It has none.
        """
        try:
            _checked(await self._sdk.batches.list(limit=1), "data")
        except Exception as raised:
            error = raised if isinstance(raised, AttemptError) else self._explained(raised)
            status = getattr(raised, "status_code", None)
            passes = isinstance(error, TransientError) and not isinstance(error, BadResponseError)
            if status != 501 and (passes or status == 401 or isinstance(error, CreditError)):
                raise error from None
            # A web page with status 200, too: whoever has no such address may send one.
            raise ConfigError(
                f"{self._sdk.base_url} has no batch queue (at /batches: {error}): leave out batch= to ask it live"
            ) from None

    async def upload(self, content: bytes) -> str:
        """Upload the lines of a batch; returns the file's id."""
        made = self._sdk.files.create(file=("llmlab.jsonl", content), purpose="batch")
        return _checked(await self._made(made), "id").id

    async def create(self, file_id: str, nonce: str) -> BatchState:
        """Create a batch of an uploaded file; it can be found again by the nonce."""
        made = self._sdk.batches.create(
            input_file_id=file_id,
            endpoint="/v1/chat/completions",
            completion_window="24h",
            metadata={NONCE: nonce},
        )
        return _state(await self._made(made))

    async def find(self, nonces: set[str]) -> dict[str, BatchState]:
        """The batches that were created with these nonces, as far as the provider still lists them."""
        found: dict[str, BatchState] = {}
        async for state in self._listed():
            if state.nonce in nonces:
                found[str(state.nonce)] = state
            if len(found) == len(nonces):
                break
        return found

    async def look(self, batch_id: str) -> BatchState:
        """Where a batch stands now; its status is `gone` if the provider does not know it any more."""
        import openai

        try:
            return _state(await self._sdk.batches.retrieve(batch_id))
        except openai.NotFoundError:
            return BatchState.gone(batch_id)
        except AttemptError:
            raise
        except Exception as raised:
            raise self._explained(raised) from None

    async def cancel(self, batch_id: str) -> BatchState:
        """Ask the provider to cancel a batch, unless it has ended; what is done by then is charged and can be read."""
        try:
            return _state(await self._made(self._sdk.batches.cancel(batch_id)))
        except AttemptError:
            state = await self.look(batch_id)
            if state.ended or state.status == "cancelling":
                return state
            raise

    async def read(self, file_id: str) -> bytes:
        """The content of a file; empty if the provider does not have it any more."""
        import openai

        try:
            return (await self._sdk.files.content(file_id)).content
        except openai.NotFoundError:
            return b""
        except Exception as raised:
            raise self._explained(raised) from None

    async def close(self) -> None:
        """Close the connections that are ours."""
        if self._own:
            await self._sdk.close()

    async def _listed(self) -> AsyncIterator[BatchState]:
        page = _checked(await self._made(self._sdk.batches.list(limit=100)), "data")
        while True:
            for one in page.data:
                yield _state(one)
            if not page.has_next_page():
                return
            page = await self._made(page.get_next_page())

    async def _made(self, call: Awaitable[_T]) -> _T:
        try:
            return await call
        except Exception as raised:
            # Whatever the SDK, its transport or the decoder raises.
            raise self._explained(raised) from None

    def _explained(self, raised: Exception) -> AttemptError:
        import openai

        if isinstance(raised, openai.APIStatusError):
            body = raised.body if raised.body is not None else raised.response.text
            return diagnose(raised.status_code, raised.response.headers, body, key=self.secrets)
        if isinstance(raised, (AttributeError, TypeError)):
            # The SDK stumbles over what came with status 200, such as a web page.
            return BadResponseError("the answer is not of the form that it should have")
        return explain(raised, self.secrets)


def _checked(answer: Any, name: str) -> Any:
    """The answer, if it has that field; the SDK gives whatever came with status 200, a web page too."""
    if getattr(answer, name, None) is None:
        raise BadResponseError(f"the answer has no {name!r}: {str(answer)[:80]}")
    return answer


def _state(batch: Any) -> BatchState:
    """A batch as the SDK gives it; fields that a provider leaves out are `None` or 0."""
    batch = _checked(batch, "status")
    ended = [getattr(batch, f"{status}_at", None) for status in ENDED]
    counts = batch.request_counts
    problems = (getattr(batch.errors, "data", None) or []) if batch.errors is not None else []
    metadata = batch.metadata if isinstance(batch.metadata, Mapping) else {}
    return BatchState(
        batch_id=batch.id,
        status=str(batch.status).lower(),
        created_at=float(batch.created_at or time.time()),
        ended_at=next((float(at) for at in ended if at is not None), None),
        expires_at=batch.expires_at and float(batch.expires_at),
        total=getattr(counts, "total", 0) or 0,
        done=getattr(counts, "completed", 0) or 0,
        failed=getattr(counts, "failed", 0) or 0,
        output_file_id=batch.output_file_id,
        error_file_id=batch.error_file_id,
        problems=tuple(Problem(str(one.code or ""), str(one.message or ""), one.line) for one in problems),
        nonce=metadata.get(NONCE),
    )
