"""Connections that are open and whose turn it is: synchronous bookkeeping, every step O(1) in the number of connections.

Each origin has a site of its own, so that one provider that hangs takes no place from another. HTTP/1.1 connections
without work lie in a stack, the latest on top: under load the same few are used again and again and the others reach
their end below. HTTP/2 connections are shared until their streams run out.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import trio

from aiorchd.providers.transport.endpoint import Origin
from aiorchd.providers.transport.http1 import Http1Connection
from aiorchd.providers.transport.limits import PoolLimits
from aiorchd.providers.transport.places import Places

if TYPE_CHECKING:
    from aiorchd.providers.transport.http2 import Http2Connection, Http2Stream


@dataclass(slots=True)
class Site:
    """What is open to one origin. ``places`` counts the requests under way and queues those that must wait."""

    origin: Origin
    places: Places
    authority: bytes
    """What requests say whom they are for."""
    idle: deque[tuple[float, Http1Connection]] = field(default_factory=deque)
    """(since when, connection), the longest idle first."""
    shared: list[Http2Connection] = field(default_factory=list)
    dialling: trio.Lock = field(default_factory=trio.Lock)
    """Held while an HTTP/2 connection is opened: who comes meanwhile will share it."""
    refuses_http2: bool = False
    """The server was offered HTTP/2 and chose HTTP/1.1: nothing to share while dialling."""


class Pool:
    """All sites; this and the connections themselves are all the mutable state."""

    def __init__(self, limits: PoolLimits) -> None:
        self.limits = limits
        self.sites: dict[Origin, Site] = {}
        self.reused_count = 0
        self.stale_count = 0
        self.expired_count = 0

    def site(self, origin: Origin) -> Site:
        """Give the site of an origin."""
        site = self.sites.get(origin)
        if site is None:
            places = Places(self.limits.max_connections)
            site = self.sites[origin] = Site(origin, places, origin.authority.encode())
        return site

    def take(self, site: Site) -> Http1Connection | Http2Stream | None:
        """Give a connection that can carry a request now; those found closed by the other end are dropped."""
        for shared in site.shared:
            stream = shared.open_stream()
            if stream is not None:
                self.reused_count += 1
                return stream
        while site.idle:
            _, connection = site.idle.pop()
            if not connection.is_stale():
                self.reused_count += 1
                return connection
            self.stale_count += 1
            connection.abandon()
        return None

    def keep(self, site: Site, connection: Http1Connection, now: float) -> None:
        """Take back an HTTP/1.1 connection that can carry another request."""
        if self.limits.max_keepalive == 0:
            connection.abandon()
            return
        while len(site.idle) >= self.limits.max_keepalive:
            site.idle.popleft()[1].abandon()
        site.idle.append((now, connection))

    def expire(self, now: float) -> float | None:
        """Close what was idle too long; give the time when the next will have been, None when nothing is idle."""
        horizon = now - self.limits.idle_s
        oldest: list[float] = []
        for origin, site in list(self.sites.items()):
            while site.idle and site.idle[0][0] <= horizon:
                site.idle.popleft()[1].abandon()
                self.expired_count += 1
            if site.idle:
                oldest.append(site.idle[0][0])
            for connection in site.shared:
                if connection.load == 0 and connection.usable:
                    if connection.idle_since <= horizon:
                        connection.close()
                        self.expired_count += 1
                    else:
                        oldest.append(connection.idle_since)
            if not (site.idle or site.shared or site.places.taken or site.places.waiting):
                del self.sites[origin]
        return min(oldest) + self.limits.idle_s if oldest else None

    def reconfigure(self, limits: PoolLimits) -> None:
        """Take other bounds; what is over a lower one ends with its present work, or at once when it has none."""
        self.limits = limits
        for site in self.sites.values():
            site.places.resize(limits.max_connections)
            while len(site.idle) > limits.max_keepalive:
                site.idle.popleft()[1].abandon()

    def close(self) -> None:
        """Close everything that is open."""
        for site in self.sites.values():
            while site.idle:
                site.idle.pop()[1].abandon()
            for connection in site.shared:
                connection.close()
