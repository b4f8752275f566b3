"""What all connections together hold of large messages that have not come whole.

Each connection is bounded by the largest message it may send, but thousands of them, each with most of a message, would be
gigabytes. So beyond a bound connections take turns: whoever began first goes on, and the others are not read from until
there is room. A message costs its sender milliseconds to write, so nobody notices but who sends such messages in masses.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

import trio

from aiorch.protocol import SMALL_FRAME_BYTES


class Intake:
    """Shared by the sessions of one door. ``max_bytes`` tells the bound that holds now.

    At most ``max_bytes`` and one largest message are held, besides up to `SMALL_FRAME_BYTES` of each connection, which need
    no place here.
    """

    def __init__(self, max_bytes: Callable[[], int]) -> None:
        self._max_bytes = max_bytes
        self._held: dict[Hashable, int] = {}
        self._held_bytes = 0
        self._waiting = trio.lowlevel.ParkingLot()

    @property
    def held_bytes(self) -> int:
        """Bytes of large unfinished messages."""
        return self._held_bytes

    def hold(self, holder: Hashable, size: int) -> None:
        """Note how many bytes of an unfinished message a connection holds now."""
        before = self._held.get(holder, 0)
        if size > SMALL_FRAME_BYTES:
            self._held[holder] = size
            self._held_bytes += size - before
        elif before:
            del self._held[holder]
            self._held_bytes -= before
            self._waiting.unpark_all()

    async def turn(self, holder: Hashable) -> None:
        """Wait until this connection may read on; who holds little, or began first, does not wait."""
        while holder in self._held and self._held_bytes > self._max_bytes() and next(iter(self._held)) is not holder:
            await self._waiting.park()
