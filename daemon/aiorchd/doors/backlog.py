"""Requests of one connection that were read and could not be begun yet: first come, first served, and bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from aiorch.protocol import Request
from aiorchd.calls.leash import Leash
from aiorchd.doors.method import Asked

if TYPE_CHECKING:
    from aiorchd.doors.session import Session

_FACTOR: Final = 16
"""So many times the requests in flight may wait here for their turn. What is not read cannot be cancelled, and nobody can
tell how old it is."""


class Waiting(NamedTuple):
    """A request that was read and not begun."""

    request: Request
    received_at: float
    prepared: object
    """What `Recall` made of it; None when it was not asked yet."""
    size: int
    in_line: bool

    def asked(self, session: Session) -> Asked:
        """Give it as its handler takes it."""
        return Asked(session, self.request.msgid, self.request.params, self.received_at, self.prepared, Leash())


class Backlog:
    """Belongs to one session. At most ``_FACTOR`` times ``max_in_flight`` requests wait here, of ``max_bytes`` in all."""

    def __init__(self, *, max_in_flight: int, max_bytes: int) -> None:
        self._most = _FACTOR * max_in_flight
        self._max_bytes = max_bytes
        # This is all the mutable state.
        self.waiting: dict[int, Waiting] = {}
        """By msgid; for looking at only."""
        self._bytes = 0

    def full(self, size: int) -> bool:
        """Tell whether there is no room for a request of that size."""
        return len(self.waiting) >= self._most or self._bytes + size > self._max_bytes

    def add(self, waiting: Waiting) -> None:
        """Let a request wait behind all others."""
        self.waiting[waiting.request.msgid] = waiting
        self._bytes += waiting.size

    def first(self) -> Waiting | None:
        """Give the one whose turn is next, which stays."""
        return next(iter(self.waiting.values()), None)

    def take_first(self) -> Waiting:
        """Take the one whose turn it is."""
        waiting = self.waiting.pop(next(iter(self.waiting)))
        self._bytes -= waiting.size
        return waiting

    def take(self, msgid: int) -> Waiting | None:
        """Take one out of its turn; None when it does not wait here."""
        waiting = self.waiting.pop(msgid, None)
        if waiting is not None:
            self._bytes -= waiting.size
        return waiting

    def clear(self) -> None:
        """Forget all."""
        self.waiting.clear()
        self._bytes = 0
