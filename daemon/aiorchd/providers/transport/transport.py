"""The shared transport: what a dialect asks with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final, Self

import msgspec
import trio

from aiorchd.providers.transport.channel import Headers
from aiorchd.providers.transport.connections import Connections, TransportStatistics
from aiorchd.providers.transport.endpoint import Endpoint
from aiorchd.providers.transport.exchange import Exchange
from aiorchd.providers.transport.http1 import SENT_AT_ONCE_BYTES
from aiorchd.providers.transport.limits import PoolLimits, Timeouts

_USUAL: Final = Timeouts()


class Response(msgspec.Struct, frozen=True):
    """A whole answer. Header names are in lower case; of several headers of one name the last is kept."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class StreamedResponse:
    """An answer as it comes. Iterate over it (or `chunks`, which is the same) once."""

    __slots__ = ("_exchange", "headers", "status")

    def __init__(self, exchange: Exchange, status: int, headers: Mapping[str, str]) -> None:
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

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def request(
        self, method: str, endpoint: Endpoint, headers: Headers, body: bytes = b"", timeouts: Timeouts = _USUAL
    ) -> Response:
        """Ask and read the whole answer."""
        at_once = len(body) <= SENT_AT_ONCE_BYTES
        exchange = Exchange(self._connections, endpoint, timeouts, closing_ends_it=at_once)
        if exchange.scope is not None:
            return await _in_time(exchange, exchange.scope, method, headers, body)
        try:
            status, fields = await exchange.begin(method, headers, body)
            return Response(status, fields, await exchange.whole())
        finally:
            exchange.end()

    @asynccontextmanager
    async def stream(
        self, method: str, endpoint: Endpoint, headers: Headers, body: bytes = b"", timeouts: Timeouts = _USUAL
    ) -> AsyncIterator[StreamedResponse]:
        """Ask and give the answer as it comes. Leaving the block before its end gives the rest up."""
        exchange = Exchange(self._connections, endpoint, timeouts)
        assert exchange.scope is not None
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
        self._connections.reconfigure(limits)

    def statistics(self) -> TransportStatistics:
        """Tell what is going on."""
        return self._connections.statistics()

    def close(self) -> None:
        """Close all connections that are not in use at once, and the shared ones even if they are."""
        self._connections.pool.close()

    @property
    def max_body_bytes(self) -> int:
        """How large an answer may be."""
        return self._connections.pool.limits.max_body_bytes


async def _in_time(exchange: Exchange, scope: trio.CancelScope, method: str, headers: Headers, body: bytes) -> Response:
    """Carry an exchange out to the end of its answer, in the scope that does its timing."""
    with scope:
        try:
            status, fields = await exchange.begin(method, headers, body)
            return Response(status, fields, await exchange.whole())
        finally:
            exchange.end()
    raise exchange.timed_out()


@asynccontextmanager
async def open_transport(limits: PoolLimits, environ: Mapping[str, str]) -> AsyncIterator[Transport]:
    """Have a transport for the length of the block; leaving it closes every connection.

    ``environ`` is read once, for HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY, SSL_CERT_FILE and SSL_CERT_DIR.
    """
    async with trio.open_nursery() as nursery:
        connections = Connections(nursery, limits, environ)
        nursery.start_soon(connections.expire_idle)
        nursery.start_soon(connections.watch.run)
        try:
            yield Transport(connections)
        finally:
            connections.pool.close()
            nursery.cancel_scope.cancel()
