"""Bounds of the transport: how long, how many, how large."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long one request may take, in seconds, by what it is waiting for.

    ``connect_s`` covers finding a free connection, the name look-up, TCP, proxy and TLS. ``first_byte_s`` runs from then
    until the head of the answer is complete: for an answer that is not streamed that is the whole time the model thinks.
    ``idle_s`` is the longest silence between two pieces of the answer. ``attempt_s`` bounds everything together, the
    time that the consumer of a streamed answer takes included.
    """

    connect_s: float = 10.0
    first_byte_s: float = 60.0
    idle_s: float = 30.0
    attempt_s: float = 120.0

    def __post_init__(self) -> None:
        for name in ("connect_s", "first_byte_s", "idle_s", "attempt_s"):
            value = getattr(self, name)
            if math.isnan(value) or value <= 0:
                raise ValueError(f"{name} must be above 0, got {value}")


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """How much the transport may hold.

    ``max_connections`` bounds the requests under way to one origin at once (each holds a connection, or a stream of an
    HTTP/2 connection); whoever comes beyond waits in order, no longer than its ``connect_s``. ``max_keepalive`` bounds
    the connections to one origin that are kept open without work, and ``idle_s`` for how long they are. ``max_streams``
    bounds the requests that share one HTTP/2 connection, where the server does not allow fewer. ``max_head_bytes`` and
    ``max_body_bytes`` (after decompression) bound one answer.
    """

    max_connections: int = 100
    max_keepalive: int = 50
    idle_s: float = 60.0
    max_streams: int = 100
    max_head_bytes: int = 65_536
    max_body_bytes: int = 67_108_864

    def __post_init__(self) -> None:
        for name in ("max_connections", "max_streams", "max_head_bytes", "max_body_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.max_keepalive < 0:
            raise ValueError(f"max_keepalive must not be negative, got {self.max_keepalive}")
        if math.isnan(self.idle_s) or self.idle_s <= 0:
            raise ValueError(f"idle_s must be above 0, got {self.idle_s}")
