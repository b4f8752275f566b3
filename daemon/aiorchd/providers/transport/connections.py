"""Where an exchange gets its connection: kept, shared or newly opened, and where it brings it back."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from aiorchd.providers.transport.channel import Channel
from aiorchd.providers.transport.dial import dial
from aiorchd.providers.transport.failures import StreamReset
from aiorchd.providers.transport.http1 import Http1Connection
from aiorchd.providers.transport.limits import PoolLimits
from aiorchd.providers.transport.pool import Pool, Site
from aiorchd.providers.transport.proxy import Proxies
from aiorchd.providers.transport.tls import TlsContexts
from aiorchd.providers.transport.watch import Watch

if TYPE_CHECKING:
    from aiorchd.providers.transport.http2 import Http2Connection


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


class Connections:
    """The pool and the ways to fill it. HTTP/2 connections run in ``nursery``."""

    def __init__(self, nursery: trio.Nursery, limits: PoolLimits, environ: Mapping[str, str]) -> None:
        self.pool = Pool(limits)
        self.now = trio.lowlevel.current_clock().current_time
        """Trio's clock, which every exchange reads several times."""
        self.watch = Watch()
        """Gives up requests that take too long."""
        self._nursery = nursery
        self._proxies = Proxies(environ)
        self._tls = TlsContexts(environ)
        self._something_idle = trio.lowlevel.ParkingLot()
        self._reconfigured = trio.lowlevel.ParkingLot()
        self._dialling = 0
        self._dialled = 0
        self._resent = 0

    def reconfigure(self, limits: PoolLimits) -> None:
        """Take other bounds."""
        self.pool.reconfigure(limits)
        self._something_idle.unpark()
        self._reconfigured.unpark_all()

    def statistics(self) -> TransportStatistics:
        """Tell what is going on."""
        sites = self.pool.sites.values()
        return TransportStatistics(
            in_use=sum(site.places.taken for site in sites),
            waiting=sum(site.places.waiting for site in sites),
            dialling=self._dialling,
            idle=sum(len(site.idle) for site in sites),
            shared=sum(len(site.shared) for site in sites),
            dialled=self._dialled,
            reused=self.pool.reused_count,
            resent=self._resent,
            stale=self.pool.stale_count,
            expired=self.pool.expired_count,
        )

    async def expire_idle(self) -> None:
        """Close connections that nobody needed for a while, for ever; asleep when there are none."""
        while True:
            next_at = self.pool.expire(trio.current_time())
            if next_at is None:
                await self._something_idle.park()
            else:
                with trio.move_on_at(next_at):  # or sooner, when the time that they may be idle becomes shorter
                    await self._reconfigured.park()

    async def connect(self, site: Site, *, fresh: bool) -> tuple[Channel, bool]:
        """Take an open connection (unless a fresh one is wanted) or open one; says whether it was open already."""
        if (site.origin.http2 or not fresh) and (channel := self.pool.take(site)) is not None:
            return channel, True
        if not site.origin.http2 or site.refuses_http2:
            return await self._dial(site), False
        async with site.dialling:
            channel = self.pool.take(site)
            if channel is not None:
                return channel, True
            return await self._dial(site), False

    def give_back(self, site: Site, channel: Channel) -> None:
        """Take a channel back after the end of an answer."""
        if channel.release() and isinstance(channel, Http1Connection):
            self.pool.keep(site, channel, self.now())
        if self._something_idle:
            self._something_idle.unpark()

    def give_up(self, channel: Channel, *, timed_out: bool) -> None:
        """Take a channel back before the end of an answer; what it shared a connection with goes on."""
        channel.abandon(timed_out=timed_out)
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
                return Http1Connection(origin, line, self.pool.limits.max_head_bytes)
            from aiorchd.providers.transport.http2 import Http2Connection  # h2 takes 15 ms that few need

            connection = Http2Connection(origin, line, self.pool.limits)
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
