"""The pieces of a streamed answer, on their way to its caller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aiorch.protocol import Connection
from aiorchd.doors.outbox import Outbox


class Deltas:
    """Where the pieces of one streamed answer go: notifications on its caller's connection, in order.

    ``notify`` names another method and leading arguments, for clients whose notifications must name a function of theirs;
    the delta then comes as an array of one, because what Neovim can be told to call takes its arguments so.
    """

    def __init__(self, outbox: Outbox, call_id: str | int | None, notify: Sequence[Any] | None) -> None:
        self._outbox = outbox
        self._call_id = call_id
        self._method = notify[0] if notify else "delta"
        self._leading = list(notify[1:]) if notify else None
        self._index = 0

    @property
    def started(self) -> bool:
        """Whether content already left."""
        return self._index > 0

    async def send(self, *, text: str | None = None, tool_calls: Sequence[Mapping[str, Any]] | None = None) -> None:
        """Pass one piece on; waits while the caller is behind in reading."""
        delta: dict[str, Any] = {"call_id": self._call_id, "index": self._index}
        if text is not None:
            delta["text"] = text
        if tool_calls is not None:
            delta["tool_calls"] = list(tool_calls)
        self._index += 1
        params = [delta] if self._leading is None else [*self._leading, [delta]]
        self._outbox.write(Connection.pack_notification(self._method, params))
        if self._outbox.full:
            await self._outbox.room()
