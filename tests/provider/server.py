"""A simulated provider that plays every fault of the catalogue, and has ports at which no provider answers."""

from __future__ import annotations

import asyncio
import contextlib

from llmlab.simulate import Settings, SimulatedProvider
from llmlab.simulate.completion import Request
from llmlab.simulate.reply import Reply
from llmlab.simulate.server import Server
from tests.provider.catalogue import Player, good_answer, parse
from tests.provider.faults import page
from tests.provider.sides import SIDES, open_side

MODEL = "fault/"


class FaultServer(Server):
    """The server's part; `played` is the fault that every request meets, if any."""

    def __init__(self, settings: Settings, port: int, played: str | None) -> None:
        super().__init__(settings, port)
        self.played = played
        self.player = Player(port)
        self.sides: dict[str, tuple[str, list]] = {}

    def fault(self, request: Request) -> Reply | None:
        """The fault of the model's name, or else the one that every request meets."""
        name = request.model.removeprefix(MODEL) if request.model.startswith(MODEL) else self.played
        if name is None:
            return None
        if "redirected=1" in request.query:
            return good_answer()
        self.player.port = self.port
        return self.player.reply(name, request, self.book.in_flight[request.model])

    def elsewhere(self, method: str, path: str) -> Reply:
        """As every simulated provider, and a page to sign in."""
        if path == "/login":
            return Reply(200, page("Please sign in"), {"Content-Type": "text/html"})
        return super().elsewhere(method, path)

    def stop(self) -> None:
        """End the side ports too."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, and so are they
            for _, opened in self.sides.values():
                for one in opened:
                    self.loop.call_soon_threadsafe(one.close)
        super().stop()


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
        super().__init__(Settings(**{"latency_s": 0, **settings}), port)

    def _make_server(self, port: int) -> FaultServer:
        return FaultServer(self.settings, port, self._played)

    @property
    def fault(self) -> str | None:
        """The fault that every request meets."""
        return self._server.played

    @fault.setter
    def fault(self, name: str | None) -> None:
        self._server.played = parse(name).text if name else None

    def side_url(self, name: str) -> str:
        """The base URL of a port at which no provider answers: one of `SIDES`."""
        if name not in SIDES:
            raise ValueError(f"no side port {name!r}; there are {', '.join(SIDES)}")
        server = self._server
        if name not in server.sides:
            server.sides[name] = asyncio.run_coroutine_threadsafe(open_side(name), server.loop).result(10)
        return server.sides[name][0]
