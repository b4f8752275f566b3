"""The listening socket, which can be taken away for some seconds: a provider that is down, and comes back."""

import asyncio
from typing import Final

from aiorchsim.server import Connection, Site

AGAIN_S: Final = 0.05
"""How soon listening is tried again when somebody else has the address."""
PARTING_S: Final = 0.02
"""How long the answer to who shut it has to be sent."""


class Door:
    """Listens on one address, and stops doing so for as long as it is told. `close` ends it for good."""

    def __init__(self, site: Site, server: asyncio.Server, host: str, port: int, backlog: int) -> None:
        self._site = site
        self._server: asyncio.Server | None = server
        self._host = host
        self._port = port
        self._backlog = backlog
        self._timer: asyncio.TimerHandle | None = None
        self._opening: asyncio.Task[None] | None = None

    def shut(self, for_s: float) -> None:
        """Refuse connections from now on, drop those there are, and listen again after so many seconds."""
        self._stop()
        loop = self._site.loop
        loop.call_later(PARTING_S, self._site.abort_all)
        self._timer = loop.call_later(for_s, self._reopen)

    def close(self) -> None:
        """Listen no more."""
        self._stop()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._opening is not None:
            self._opening.cancel()
        if self._server is not None:
            self._server.close()
            self._server = None

    def _reopen(self) -> None:
        self._opening = self._site.loop.create_task(self._open())

    async def _open(self) -> None:
        while self._server is None:
            try:
                self._server = await self._site.loop.create_server(
                    lambda: Connection(self._site), self._host, self._port, backlog=self._backlog
                )
            except OSError:
                await asyncio.sleep(AGAIN_S)
