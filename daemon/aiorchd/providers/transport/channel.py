"""What carries one request: an HTTP/1.1 connection or one stream of an HTTP/2 connection, alike to whoever asks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeAlias

import msgspec

from aiorchd.providers.transport.endpoint import Origin
from aiorchd.providers.transport.failures import Phase

Headers: TypeAlias = Sequence[tuple[bytes, bytes]]
"""Names in lower case."""


class Question(msgspec.Struct, frozen=True):
    """A request in bytes. ``headers`` are what the dialect wants; host and length are added by the channel."""

    method: bytes
    target: bytes
    authority: bytes
    headers: Headers
    body: bytes


class Head(msgspec.Struct, frozen=True):
    """Status and headers of an answer. Names are in lower case; of several headers of one name the last is kept."""

    status: int
    fields: dict[str, str]


class Channel(Protocol):
    """Carries one request at a time. Raises `failures.FOREIGN`; after any failure or cancellation call `abandon`."""

    @property
    def origin(self) -> Origin:
        """Whom it is connected to."""
        ...

    @property
    def phase(self) -> Phase:
        """How far the present request has come."""
        ...

    async def ask(self, question: Question) -> Head:
        """Send a request and wait for the head of its answer; an answer that comes before all was sent is taken."""
        ...

    async def receive(self) -> bytes:
        """Wait for the next piece of the body; ``b""`` at its end."""
        ...

    def at_hand(self) -> bytes | None:
        """Give the next piece of the body if it is here already, ``b""`` at its end, None when it has to be waited for."""
        ...

    def unprocessed(self, error: BaseException) -> bool:
        """Tell, after ``ask`` failed, whether it is certain that the other end did nothing with the request."""
        ...

    def release(self) -> bool:
        """Let go after the body's end; whether the channel, or what it belongs to, can carry another request."""
        ...

    def abandon(self, *, timed_out: bool = False) -> None:
        """Give the request up at once, without waiting: the other end is told by a closed connection or a reset."""
        ...
