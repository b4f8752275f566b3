"""How many requests to one origin may be under way at once, and who waits for a place.

Trio's `CapacityLimiter` does the same and remembers for whom; that takes five times the steps, with every request.
"""

from __future__ import annotations

import trio


class Places:
    """``total`` places; who comes beyond waits, first in first out. Who took one gives it back by `leave`."""

    __slots__ = ("_waiting", "taken", "total")

    def __init__(self, total: int) -> None:
        self.total = total
        """May be changed by `resize`."""
        self.taken = 0
        self._waiting = trio.lowlevel.ParkingLot()

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return len(self._waiting)

    def take_free(self) -> bool:
        """Take a place if there is one; tells whether. Nobody waits then: who waits is let in as soon as there is one."""
        if self.taken >= self.total:
            return False
        self.taken += 1
        return True

    async def take(self) -> None:
        """Take a place, waiting for one in turn. Cancelled while it waits, it has taken none."""
        if not self.take_free():
            await self._waiting.park()  # who woke us has counted our place

    def leave(self) -> None:
        """Give a place back."""
        self.taken -= 1
        if self.taken == self.total - 1:  # where fewer are taken nobody waits, where more are there is no place yet
            self._let_in()

    def resize(self, total: int) -> None:
        """Have another number of places; with fewer, those taken are kept until they are given back."""
        self.total = total
        self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self.taken < self.total:
            self.taken += 1
            self._waiting.unpark()
