"""One stream that several listen to, each from its beginning and at its own pace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import trio

from aiorchd.calls.ports import DeltaSink

_MOST_AHEAD: Final = 256
"""So many pieces the fastest listener may be behind before the provider is made to wait."""
_MOST_JOINED: Final = 4000
"""Pieces of text that were there before a listener came are joined until they are so long, in characters."""

_Piece: TypeAlias = "str | Sequence[Mapping[str, Any]]"


class Relay:
    """A `DeltaSink` that keeps what it is sent, for whoever listens now or later. Back-pressure is the fastest listener's: a slow
    one holds up nobody else. It holds no more than the answer, which its reply carries as well.
    """

    def __init__(self) -> None:
        self._pieces: list[_Piece] = []
        self._closed = False
        self._given: dict[object, int] = {}
        """How many pieces each listener has been given."""
        self._news = trio.lowlevel.ParkingLot()
        self._room = trio.lowlevel.ParkingLot()

    @property
    def started(self) -> bool:
        """Whether there is any content: from then on nothing may be asked again."""
        return bool(self._pieces)

    async def send(self, *, text: str | None = None, tool_calls: Sequence[Mapping[str, Any]] | None = None) -> None:
        """Pass one piece on to all; waits while none of them keeps up."""
        if text is not None:
            self._pieces.append(text)
        if tool_calls is not None:
            self._pieces.append(list(tool_calls))
        self._news.unpark_all()
        while self._given and len(self._pieces) - max(self._given.values()) > _MOST_AHEAD:
            await self._room.park()

    def close(self) -> None:
        """There will be no more."""
        self._closed = True
        self._news.unpark_all()

    async def play(self, sink: DeltaSink) -> None:
        """Send everything to ``sink``, from the beginning, until the end has come."""
        me = object()
        given = self._given[me] = 0
        missed = len(self._pieces)
        try:
            while True:
                while given < len(self._pieces):
                    piece, given = self._next(given, missed)
                    if isinstance(piece, str):
                        await sink.send(text=piece)
                    else:
                        await sink.send(tool_calls=piece)
                    self._given[me] = given
                    self._room.unpark_all()
                if self._closed:
                    return
                await self._news.park()
        finally:
            del self._given[me]
            self._room.unpark_all()

    def _next(self, at: int, missed: int) -> tuple[_Piece, int]:
        """Give what comes next, and where it ends: a piece as it came, or the text of several that were there before."""
        piece = self._pieces[at]
        at += 1
        if not isinstance(piece, str):
            return piece, at
        joined, length = [piece], len(piece)
        while at < missed and length < _MOST_JOINED:
            another = self._pieces[at]
            if not isinstance(another, str):
                break
            joined.append(another)
            length += len(another)
            at += 1
        return "".join(joined), at
