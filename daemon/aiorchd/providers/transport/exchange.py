"""One request, from the wait for a connection to the end of its answer.

One `trio.CancelScope` does all the timing: its deadline is moved from phase to phase (1 us each) instead of a new scope
being opened around every read (8 us). The usual request needs none: it finds an HTTP/1.1 connection open, is sent at once, and
waits for nothing but its whole answer, so that closing the connection ends it (see `watch`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from urllib.parse import urlsplit

import trio

from aiorch.errors import Overloaded, ProviderError
from aiorchd.providers.transport.channel import Channel, Head, Headers, Question
from aiorchd.providers.transport.connections import Connections
from aiorchd.providers.transport.content import Meter, decoder
from aiorchd.providers.transport.endpoint import Endpoint, Origin
from aiorchd.providers.transport.failures import FOREIGN, Fault, Malformed, Phase, explain, timed_out
from aiorchd.providers.transport.http1 import Http1Connection
from aiorchd.providers.transport.limits import Timeouts


class Exchange:
    """One request, from the wait for a connection to the end of its answer. Whoever makes one calls `end`, whatever happens:
    it may hold a connection from the beginning."""

    __slots__ = (
        "_channel", "_connections", "_decoded", "_decoder", "_endpoint", "_expired", "_in_total", "_limit_s", "_phase",
        "_placed", "_row_s", "_site", "_timeouts", "_total_at", "scope",
    )  # fmt: skip

    def __init__(
        self, connections: Connections, endpoint: Endpoint, timeouts: Timeouts, *, closing_ends_it: bool = False
    ) -> None:
        """``closing_ends_it``: nothing is done in the time of this request but to send at once and to wait for its answer."""
        now = connections.now()
        self._connections = connections
        self._site = site = connections.pool.site(endpoint.origin)
        self._endpoint = endpoint
        self._timeouts = timeouts
        self._total_at = now + timeouts.attempt_s
        self._phase: Phase | None = None
        """None until a place was found."""
        self._placed = site.places.take_free()
        # What is open already spares the deadline a move.
        channel: Channel | None = connections.pool.take(site) if self._placed else None
        self._channel = channel
        limit_s, total_s = timeouts.connect_s if channel is None else timeouts.first_byte_s, timeouts.attempt_s
        self._in_total = total_s <= limit_s
        self._row_s = self._limit_s = limit_s = min(total_s, limit_s)
        self._expired = False
        self.scope: trio.CancelScope | None = None
        """Around everything; its deadline moves from phase to phase. None where the watch does that."""
        if closing_ends_it and type(channel) is Http1Connection:
            connections.watch.begin(self, limit_s)
        else:
            self.scope = trio.CancelScope(deadline=now + limit_s)
        self._decoder: Meter
        self._decoded: Iterator[bytes]

    async def begin(self, method: str, headers: Headers, body: bytes) -> tuple[int, dict[str, str]]:
        """Send the request; give status and headers of the answer."""
        endpoint = self._endpoint
        if not self._placed:
            await self._site.places.take()
            self._placed = True
        head = await self._ask(Question(method.encode(), endpoint.target, self._site.authority, headers, body))
        status, fields = head.status, head.fields
        if status < 200:
            raise explain(Malformed("answered without a status"), origin=endpoint.origin, phase="reading")
        if 300 <= status < 400:
            raise _redirected(endpoint.origin, status, fields.get("location", ""))
        try:
            self._decoder = decoder(fields.get("content-encoding", ""), self._connections.pool.limits.max_body_bytes)
        except Fault as error:
            raise explain(error, origin=endpoint.origin, phase="reading") from error
        self._decoded = iter(())
        return status, fields

    async def receive(self) -> bytes:
        """Wait for the next piece of the answer; ``b""`` at its end, when the connection is already given back."""
        channel = self._channel
        if channel is None:
            return b""
        try:
            piece = next(self._decoded, b"")
            while not piece:
                chunk = channel.at_hand()
                if chunk is None:
                    self._allow(self._timeouts.idle_s)
                    chunk = await channel.receive()
                if not chunk:
                    self._decoder.finish()
                    self._give_back(channel)
                    return b""
                self._decoded = self._decoder.feed(chunk)
                piece = next(self._decoded, b"")
        except FOREIGN as error:
            raise self._explained(error, "reading") from error
        return piece

    async def whole(self) -> bytes:
        """Wait for all that is still to come of the answer; then the connection is already given back."""
        channel = self._channel
        if channel is None:
            return b""
        parts: list[bytes] = []
        try:
            while True:
                chunk = channel.at_hand()
                if chunk is None:
                    self._allow(self._timeouts.idle_s)
                    chunk = await channel.receive()
                if not chunk:
                    break
                parts += self._decoder.feed(chunk)
            self._decoder.finish()
        except FOREIGN as error:
            raise self._explained(error, "reading") from error
        self._give_back(channel)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def leave_to_consumer(self) -> None:
        """Let only the total run while the consumer works on a piece, and nothing once the answer is complete."""
        assert self.scope is not None
        self.scope.deadline = math.inf if self._channel is None else self._total_at
        self._in_total, self._limit_s = True, self._timeouts.attempt_s

    def expire(self) -> None:
        """The time that the watch allowed is over."""
        self._expired = True
        if self._channel is not None:
            self._phase = self._channel.phase
            self._channel.abandon(timed_out=True)

    def end(self) -> None:
        """Let go of everything; an answer that was not read to its end is given up."""
        if self.scope is None:
            self._connections.watch.end(self, self._row_s)
        if self._channel is not None:
            timed_out = self._expired or (self.scope is not None and self.scope.cancel_called)
            self._phase = self._channel.phase
            self._connections.give_up(self._channel, timed_out=timed_out)
            self._channel = None
        if self._placed:
            self._placed = False
            self._site.places.leave()

    def timed_out(self) -> ProviderError | Overloaded:
        """Make the error for the deadline that passed."""
        if self._phase is None:
            return Overloaded(
                f"no connection came free within {self._limit_s:g} s; [pool] max_connections bounds them",
                stage="transport",
            )
        return timed_out(self._limit_s, origin=self._endpoint.origin, phase=self._phase, in_total=self._in_total)

    async def _ask(self, question: Question) -> Head:
        """Send, and send again on a fresh connection where the first had gone and the request was not processed."""
        origin, resent = self._endpoint.origin, False
        while True:
            channel, reused = self._channel, True
            if channel is None:
                self._phase = "connecting"
                try:
                    channel, reused = await self._connect(fresh=resent)
                except FOREIGN as error:
                    raise explain(error, origin=origin, phase="connecting") from error
                self._channel = channel
                self._allow(self._timeouts.first_byte_s)
            try:
                return await channel.ask(question)
            except FOREIGN as error:
                again = reused and not resent and not self._expired and channel.unprocessed(error)
                phase = channel.phase
                self._channel = None
                channel.abandon()
                if not again:
                    raise self._explained(error, phase) from error
            resent = True
            self._connections.count_resent()
            self._allow(self._timeouts.connect_s)

    async def _connect(self, *, fresh: bool) -> tuple[Channel, bool]:
        """Open a connection, in a scope of its own where there is none around everything: nothing can be closed yet."""
        if self.scope is not None:
            return await self._connections.connect(self._site, fresh=fresh)
        self._connections.watch.end(self, self._row_s)
        with trio.CancelScope(deadline=self._connections.now() + self._row_s):
            return await self._connections.connect(self._site, fresh=fresh)
        raise self.timed_out()

    def _allow(self, seconds: float) -> None:
        """Move the deadline: so long from now, but no longer than the total."""
        now = self._connections.now()
        self._in_total = now + seconds >= self._total_at
        self._limit_s = self._timeouts.attempt_s if self._in_total else seconds
        if self.scope is not None:
            self.scope.deadline = self._total_at if self._in_total else now + seconds
            return
        watch = self._connections.watch
        watch.end(self, self._row_s)
        self._row_s = self._total_at - now if self._in_total else seconds
        watch.begin(self, self._row_s)

    def _explained(self, error: BaseException, phase: Phase) -> ProviderError | Overloaded:
        """Make the error for what a connection raised, which is nothing but our own closing when the time is over."""
        return self.timed_out() if self._expired else explain(error, origin=self._endpoint.origin, phase=phase)

    def _give_back(self, channel: Channel) -> None:
        """The answer is whole."""
        self._channel = None
        if self._expired:  # in the same moment, and the connection is closed
            self._connections.give_up(channel, timed_out=True)
        else:
            self._connections.give_back(self._site, channel)
        self._placed = False
        self._site.places.leave()


def _redirected(origin: Origin, status: int, location: str) -> ProviderError:
    """Make the error for a redirection; of where it points to only the host is told."""
    try:
        parts = urlsplit(location)
        host = parts.hostname or ("" if parts.scheme else origin.host)
    except ValueError:
        host = ""
    if not host or len(host) > 253 or not host.isprintable():
        host = "elsewhere"
    return ProviderError(
        f"{origin.host_and_port} redirects ({status}) to {host}; redirections are not followed,"
        " put the final address into base_url",
        retryable=False,
        details={"phase": "reading", "host": origin.host_and_port, "sent": True, "status": status},
    )
