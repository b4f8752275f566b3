"""The shared transport: takes a connection, asks, bounds the time and the size, gives the connection back.

One `trio.CancelScope` per request does all the timing: its deadline is moved from phase to phase (1 us each) instead of
a new scope being opened around every read (8 us).
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final, Self
from urllib.parse import urlsplit

import trio

from aiorch.errors import Overloaded, ProviderError
from aiorchd.providers.transport.channel import Channel, Head, Headers, Question
from aiorchd.providers.transport.content import Meter, decoder
from aiorchd.providers.transport.dial import dial
from aiorchd.providers.transport.endpoint import Endpoint, Origin
from aiorchd.providers.transport.failures import FOREIGN, Fault, Phase, StreamReset, explain, timed_out
from aiorchd.providers.transport.http1 import Http1Connection
from aiorchd.providers.transport.http2 import Http2Connection
from aiorchd.providers.transport.limits import PoolLimits, Timeouts
from aiorchd.providers.transport.pool import Pool, Site
from aiorchd.providers.transport.proxy import Proxies
from aiorchd.providers.transport.tls import TlsContexts

_USUAL: Final = Timeouts()


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer. Header names are in lower case; of several headers of one name the last is kept."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class TransportStatistics:
    """What is going on now (all 0 when idle, but ``idle``), and what was since the start."""

    in_use: int
    """Requests under way."""
    waiting: int
    """Requests that wait for one of these to end."""
    dialling: int
    """Connections being opened."""
    idle: int
    """HTTP/1.1 connections kept open without work."""
    shared: int
    """HTTP/2 connections."""
    dialled: int
    reused: int
    """Requests that found an open connection."""
    resent: int
    """Requests sent again, on a fresh connection, because the first one was certainly not processed."""
    stale: int
    """Kept connections that turned out to be closed by the other end."""
    expired: int
    """Kept connections closed because nobody needed them."""


class StreamedResponse:
    """An answer as it comes. Iterate over it (or `chunks`, which is the same) once."""

    __slots__ = ("_exchange", "headers", "status")

    def __init__(self, exchange: _Exchange, status: int, headers: Mapping[str, str]) -> None:
        self.status = status
        self.headers = headers
        self._exchange = exchange

    def chunks(self) -> Self:
        """Give the pieces of the body as they arrive, decompressed, never empty; raises `ProviderError`."""
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._exchange.receive()
        self._exchange.leave_to_consumer()
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def read(self, max_bytes: int) -> bytes:
        """Read the body, or as much of it as comes with the piece that reaches ``max_bytes``; raises `ProviderError`."""
        parts: list[bytes] = []
        size = 0
        while size < max_bytes and (chunk := await self._exchange.receive()):
            parts.append(chunk)
            size += len(chunk)
        self._exchange.leave_to_consumer()
        return b"".join(parts)[:max_bytes]


class Transport:
    """Sends requests to providers over connections that it keeps. Made by `open_transport`.

    Both ways to ask raise `ProviderError` (``details``: ``phase``, ``host``, ``sent``, maybe ``timed_out``) for every
    fault of the network or of HTTP itself, and `Overloaded` when no connection came free in ``connect_s``. An answer
    with an error status is an answer; a redirection is not: it is never followed, so a key never goes to a host that
    the configuration does not name. Cancellation closes the connection (resets the HTTP/2 stream) at once.
    """

    def __init__(self, nursery: trio.Nursery, limits: PoolLimits, environ: Mapping[str, str]) -> None:
        self._nursery = nursery
        self._pool = Pool(limits)
        self._proxies = Proxies(environ)
        self._tls = TlsContexts(environ)
        self._something_idle = trio.lowlevel.ParkingLot()
        self._dialling = 0
        self._dialled = 0
        self._reused = 0
        self._resent = 0

    async def request(
        self, method: str, endpoint: Endpoint, headers: Headers, body: bytes = b"", timeouts: Timeouts = _USUAL
    ) -> Response:
        """Ask and read the whole answer."""
        exchange = _Exchange(self, endpoint, timeouts)
        with exchange.scope:
            try:
                status, fields = await exchange.begin(method, headers, body)
                parts = []
                while chunk := await exchange.receive():
                    parts.append(chunk)
                return Response(status, fields, parts[0] if len(parts) == 1 else b"".join(parts))
            finally:
                exchange.end()
        raise exchange.timed_out()

    @asynccontextmanager
    async def stream(
        self, method: str, endpoint: Endpoint, headers: Headers, body: bytes = b"", timeouts: Timeouts = _USUAL
    ) -> AsyncIterator[StreamedResponse]:
        """Ask and give the answer as it comes. Leaving the block before its end gives the rest up."""
        exchange = _Exchange(self, endpoint, timeouts)
        with exchange.scope:
            try:
                status, fields = await exchange.begin(method, headers, body)
                exchange.leave_to_consumer()
                yield StreamedResponse(exchange, status, fields)
            finally:
                exchange.end()
        if exchange.scope.cancelled_caught:
            raise exchange.timed_out()

    def reconfigure(self, limits: PoolLimits) -> None:
        """Change the bounds; connections over a lower one end with their present work."""
        self._pool.reconfigure(limits)
        self._something_idle.unpark()

    def statistics(self) -> TransportStatistics:
        """Tell what is going on."""
        sites = self._pool.sites.values()
        return TransportStatistics(
            in_use=sum(site.places.borrowed_tokens for site in sites),
            waiting=sum(site.places.statistics().tasks_waiting for site in sites),
            dialling=self._dialling,
            idle=sum(len(site.idle) for site in sites),
            shared=sum(len(site.shared) for site in sites),
            dialled=self._dialled,
            reused=self._reused,
            resent=self._resent,
            stale=self._pool.stale_count,
            expired=self._pool.expired_count,
        )

    @property
    def max_body_bytes(self) -> int:
        """How large an answer may be."""
        return self._pool.limits.max_body_bytes

    def close(self) -> None:
        """Close all connections at once."""
        self._pool.close()

    async def expire_idle(self) -> None:
        """Close connections that nobody needed for a while, for ever; asleep when there are none."""
        while True:
            next_at = self._pool.expire(trio.current_time())
            if next_at is None:
                await self._something_idle.park()
            else:
                with trio.move_on_at(next_at):
                    await trio.sleep_forever()

    # What follows is for the exchanges.

    def site(self, origin: Origin) -> Site:
        """Give the site of an origin."""
        return self._pool.site(origin)

    async def connect(self, site: Site, *, fresh: bool) -> tuple[Channel, bool]:
        """Take an open connection (unless a fresh one is wanted) or open one; says whether it was open already."""
        channel: Channel | None
        if site.origin.http2 or not fresh:
            channel = self._pool.take(site)
            if channel is not None:
                self._reused += 1
                return channel, True
        if not site.origin.http2 or site.refuses_http2:
            return await self._dial(site), False
        async with site.dialling:
            channel = self._pool.take(site)
            if channel is not None:
                self._reused += 1
                return channel, True
            return await self._dial(site), False

    def give_back(self, site: Site, channel: Channel) -> None:
        """Take a channel back after the end of an answer."""
        if channel.release() and isinstance(channel, Http1Connection):
            self._pool.keep(site, channel, trio.current_time())
        if self._something_idle:
            self._something_idle.unpark()

    def count_resent(self) -> None:
        """Count a request that was sent again."""
        self._resent += 1

    async def _dial(self, site: Site) -> Channel:
        origin = site.origin
        self._dialling += 1
        try:
            line = await dial(origin, self._proxies.route(origin), self._tls)
            self._dialled += 1
            if not line.http2:
                site.refuses_http2 = origin.http2
                return Http1Connection(origin, line, self._pool.limits.max_head_bytes)
            connection = Http2Connection(origin, line, self._pool.limits)
            self._nursery.start_soon(self._keep_running, site, connection)
            with ExitStack() as on_failure:
                on_failure.callback(connection.close)
                await connection.settle()
                stream = connection.open_stream()
                if stream is None:
                    raise StreamReset("allows no requests on a new connection", unprocessed=True)
                on_failure.pop_all()
            site.shared.append(connection)
            return stream
        finally:
            self._dialling -= 1

    async def _keep_running(self, site: Site, connection: Http2Connection) -> None:
        try:
            await connection.run()
        finally:
            if connection in site.shared:
                site.shared.remove(connection)


@asynccontextmanager
async def open_transport(limits: PoolLimits, environ: Mapping[str, str]) -> AsyncIterator[Transport]:
    """Have a transport for the length of the block; leaving it closes every connection.

    ``environ`` is read once, for HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR.
    """
    async with trio.open_nursery() as nursery:
        transport = Transport(nursery, limits, environ)
        nursery.start_soon(transport.expire_idle)
        try:
            yield transport
        finally:
            transport.close()
            nursery.cancel_scope.cancel()


class _Exchange:
    """One request, from the wait for a connection to the end of its answer."""

    __slots__ = (
        "_channel", "_decoded", "_decoder", "_endpoint", "_in_total", "_limit_s", "_phase", "_placed", "_site",
        "_timeouts", "_total_at", "_transport", "scope",
    )  # fmt: skip

    def __init__(self, transport: Transport, endpoint: Endpoint, timeouts: Timeouts) -> None:
        now = trio.current_time()
        self._transport = transport
        self._site = transport.site(endpoint.origin)
        self._endpoint = endpoint
        self._timeouts = timeouts
        self._total_at = now + timeouts.attempt_s
        self._in_total = timeouts.attempt_s <= timeouts.connect_s
        self._limit_s = min(timeouts.attempt_s, timeouts.connect_s)
        self.scope = trio.CancelScope(deadline=now + self._limit_s)
        """Around everything; its deadline moves from phase to phase."""
        self._phase: Phase | None = None
        """None until a place was found."""
        self._placed = False
        self._channel: Channel | None = None
        self._decoder = Meter(0)
        self._decoded: Iterator[bytes] = iter(())

    async def begin(self, method: str, headers: Headers, body: bytes) -> tuple[int, dict[str, str]]:
        """Send the request; give status and headers of the answer."""
        endpoint = self._endpoint
        places = self._site.places
        try:
            places.acquire_on_behalf_of_nowait(self)
        except trio.WouldBlock:
            await places.acquire_on_behalf_of(self)
        self._placed = True
        question = Question(method.encode(), endpoint.target, endpoint.origin.authority.encode(), headers, body)
        head = await self._ask(question)
        fields = {name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers}
        if 300 <= head.status < 400:
            raise _redirected(endpoint.origin, head.status, fields.get("location", ""))
        try:
            self._decoder = decoder(fields.get("content-encoding", ""), self._transport.max_body_bytes)
        except Fault as error:
            raise explain(error, origin=endpoint.origin, phase="reading") from error
        return head.status, fields

    async def receive(self) -> bytes:
        """Wait for the next piece of the answer; ``b""`` at its end, when the connection is already given back."""
        piece = next(self._decoded, b"")
        channel = self._channel
        if piece or channel is None:
            return piece
        try:
            while not piece:
                self._allow(self._timeouts.idle_s)
                chunk = await channel.receive()
                if not chunk:
                    self._decoder.finish()
                    self._channel = None
                    self._transport.give_back(self._site, channel)
                    self._leave()
                    return b""
                self._decoded = self._decoder.feed(chunk)
                piece = next(self._decoded, b"")
        except FOREIGN as error:
            raise explain(error, origin=self._endpoint.origin, phase="reading") from error
        return piece

    def leave_to_consumer(self) -> None:
        """Let only the total run while the consumer works on a piece, and nothing once the answer is complete."""
        self.scope.deadline = math.inf if self._channel is None else self._total_at
        self._in_total, self._limit_s = True, self._timeouts.attempt_s

    def end(self) -> None:
        """Let go of everything; an answer that was not read to its end is given up."""
        if self._channel is not None:
            self._phase = self._channel.phase
            self._channel.abandon(timed_out=self.scope.cancel_called)
            self._channel = None
        self._leave()

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
            self._phase = "connecting"
            try:
                channel, reused = await self._transport.connect(self._site, fresh=resent)
            except FOREIGN as error:
                raise explain(error, origin=origin, phase="connecting") from error
            self._channel = channel
            self._allow(self._timeouts.first_byte_s)
            try:
                return await channel.ask(question)
            except FOREIGN as error:
                again = reused and not resent and channel.unprocessed(error)
                phase = channel.phase
                self._channel = None
                channel.abandon()
                if not again:
                    raise explain(error, origin=origin, phase=phase) from error
            resent = True
            self._transport.count_resent()
            self._allow(self._timeouts.connect_s)

    def _allow(self, seconds: float) -> None:
        """Move the deadline: so long from now, but no longer than the total."""
        at = trio.current_time() + seconds
        self._in_total = at >= self._total_at
        if self._in_total:
            at, seconds = self._total_at, self._timeouts.attempt_s
        self._limit_s = seconds
        self.scope.deadline = at

    def _leave(self) -> None:
        if self._placed:
            self._placed = False
            self._site.places.release_on_behalf_of(self)


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
