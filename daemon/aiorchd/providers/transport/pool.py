"""Connections that are open and whose turn it is: synchronous bookkeeping, every step O(1) in the number of connections.

HTTP/1.1 connections without work lie in one stack per origin, the latest on top: under load the same few are used again
and again and the others reach their end below. HTTP/2 connections are shared until their streams run out.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from aiorchd.providers.transport.endpoint import Origin
from aiorchd.providers.transport.http1 import Http1Connection
from aiorchd.providers.transport.http2 import Http2Connection, Http2Stream
from aiorchd.providers.transport.limits import PoolLimits


@dataclass(slots=True)
class _Idle:
    since: float
    connection: Http1Connection


@dataclass(slots=True)
class Pool:
    """All open connections. What is under way is known to whoever took it; this is all the mutable state."""

    limits: PoolLimits
    idle: dict[Origin, deque[_Idle]] = field(default_factory=dict)
    idle_count: int = 0
    shared: dict[Origin, list[Http2Connection]] = field(default_factory=dict)
    stale_count: int = 0
    expired_count: int = 0

    def take(self, origin: Origin) -> Http1Connection | Http2Stream | None:
        """Give a connection that can carry a request now; those found closed by the other end are dropped."""
        for shared in self.shared.get(origin, ()):
            stream = shared.open_stream()
            if stream is not None:
                return stream
        stack = self.idle.get(origin)
        while stack:
            connection = stack.pop().connection
            self.idle_count -= 1
            if not connection.is_stale():
                return connection
            self.stale_count += 1
            connection.abandon()
        return None

    def keep(self, connection: Http1Connection, now: float) -> None:
        """Take back an HTTP/1.1 connection that can carry another request."""
        if self.limits.max_idle == 0 or self.limits.idle_s == 0:
            connection.abandon()
            return
        if self.idle_count >= self.limits.max_idle:
            self._drop_oldest()
        self.idle.setdefault(connection.origin, deque()).append(_Idle(now, connection))
        self.idle_count += 1

    def make_room(self, busy_count: int) -> None:
        """Close the longest idle connection when one more would be over the limit."""
        if self.idle_count and self.idle_count + busy_count > self.limits.max_connections:
            self._drop_oldest()

    def share(self, connection: Http2Connection) -> None:
        """Add an HTTP/2 connection."""
        self.shared.setdefault(connection.origin, []).append(connection)

    def unshare(self, connection: Http2Connection) -> None:
        """Remove an HTTP/2 connection that ended."""
        connections = self.shared.get(connection.origin, [])
        if connection in connections:
            connections.remove(connection)
        if not connections:
            self.shared.pop(connection.origin, None)

    def expire(self, now: float) -> float | None:
        """Close what was idle too long; give the time when the next will have been, None when nothing is idle."""
        horizon = now - self.limits.idle_s
        oldest: list[float] = []
        for origin in list(self.idle):
            stack = self.idle[origin]
            while stack and stack[0].since <= horizon:
                stack.popleft().connection.abandon()
                self.idle_count -= 1
                self.expired_count += 1
            if stack:
                oldest.append(stack[0].since)
            else:
                del self.idle[origin]
        for connections in self.shared.values():
            for connection in connections:
                if connection.load == 0 and connection.usable:
                    if connection.idle_since <= horizon:
                        connection.close()
                        self.expired_count += 1
                    else:
                        oldest.append(connection.idle_since)
        return min(oldest) + self.limits.idle_s if oldest else None

    def close(self) -> None:
        """Close everything that is open."""
        for stack in self.idle.values():
            for entry in stack:
                entry.connection.abandon()
        self.idle.clear()
        self.idle_count = 0
        for connections in self.shared.values():
            for connection in connections:
                connection.close()

    def _drop_oldest(self) -> None:
        """Close the longest idle connection. One look at each origin: they are as many as providers."""
        origin = min((origin for origin, stack in self.idle.items() if stack), key=lambda o: self.idle[o][0].since)
        self.idle[origin].popleft().connection.abandon()
        self.idle_count -= 1
