"""A simulated provider that plays every fault of the catalogue, and has ports at which no provider answers."""

from __future__ import annotations

import asyncio
import contextlib

from llmlab.simulate import Settings, SimulatedProvider
from llmlab.simulate.completion import Request
from llmlab.simulate.reply import Reply
from llmlab.simulate.service import Service
from tests.provider.catalogue import Player, good_answer, parse
from tests.provider.faults import page
from tests.provider.sides import SIDES, open_side

MODEL = "fault/"


class FaultService(Service):
    """Plays the fault of the model's name, or else `played`, the one that every request meets."""

    def __init__(self, settings: Settings, played: str | None) -> None:
        super().__init__(settings)
        self.played = played
        self.player = Player()

    def fault(self, request: Request) -> Reply | None:
        """A fault, or a good answer where its conditions do not hold."""
        name = request.model.removeprefix(MODEL) if request.model.startswith(MODEL) else self.played
        if name is None:
            return None
        if "redirected=1" in request.query:
            return good_answer()
        return self.player.reply(name, request, self.book.in_flight[request.model])

    def elsewhere(self, method: str, path: str) -> Reply:
        """As every simulated provider, and a page to sign in."""
        if path == "/login":
            return Reply(200, page("Please sign in"), {"Content-Type": "text/html"})
        return super().elsewhere(method, path)


class FaultProvider(SimulatedProvider):
    """Start a provider with faults.

    Parameters
    ----------
    fault : str or None
        A fault that every request meets, as in "s503-html/w5"; set it to `None` to mend the provider.
    port : int
    **settings
        Of `llmlab.simulate.Settings`.
    """

    def __init__(self, *, fault: str | None = None, port: int = 0, **settings) -> None:
        self._played = parse(fault).text if fault else None
        self._sides: dict[str, tuple[str, list]] = {}
        super().__init__(Settings(**{"latency_s": 0, **settings}), port)
        self._service.player.port = self._server.port

    def _make_service(self) -> FaultService:
        return FaultService(self.settings, self._played)

    @property
    def fault(self) -> str | None:
        """The fault that every request meets."""
        return self._service.played

    @fault.setter
    def fault(self, name: str | None) -> None:
        self._service.played = parse(name).text if name else None

    def side_url(self, name: str) -> str:
        """The base URL of a port at which no provider answers: one of `SIDES`."""
        if name not in SIDES:
            raise ValueError(f"no side port {name!r}; there are {', '.join(SIDES)}")
        if name not in self._sides:
            self._sides[name] = asyncio.run_coroutine_threadsafe(open_side(name), self._server.loop).result(10)
        return self._sides[name][0]

    def close(self) -> None:
        """End the side ports too."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, and so are they
            for _, opened in self._sides.values():
                for one in opened:
                    self._server.loop.call_soon_threadsafe(one.close)
        super().close()
