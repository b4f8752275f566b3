"""What one connection still has to write: bounded, in order, never blocking whoever writes.

Bytes go straight to the socket while the peer keeps up. When it does not, they wait here, and a task of the session
writes them as the socket takes them. A peer that reads nothing costs this buffer and no more: whoever produces for it
waits in `room`, and a peer that takes nothing at all for ``stall_s`` is cut off.
"""

from __future__ import annotations

import socket
from collections import deque

import trio


class PeerStalledError(Exception):
    """The peer took no byte for the stall limit."""


class Outbox:
    """Outgoing bytes of one connection; belongs to its session's tasks."""

    def __init__(self, connection: socket.socket, *, max_pending_bytes: int, stall_s: float) -> None:
        self._socket = connection
        self._max_pending_bytes = max_pending_bytes
        self._stall_s = stall_s
        self._waiting: deque[bytes] = deque()
        self._pending_bytes = 0
        self._wake = trio.Event()
        self._room = trio.Event()
        self._empty = trio.Event()
        self.broken = False

    @property
    def pending_bytes(self) -> int:
        """Bytes accepted and not yet taken by the kernel."""
        return self._pending_bytes

    @property
    def full(self) -> bool:
        """Whether producers should wait."""
        return self._pending_bytes > self._max_pending_bytes

    def write(self, data: bytes) -> bool:
        """Send now what the socket takes and keep the rest, in order; tells whether all of it has left. Never waits; a broken
        peer is noticed by readers."""
        if self.broken:
            return False
        if not self._waiting:
            try:
                sent = self._socket.send(data)
            except BlockingIOError:
                sent = 0
            except OSError:
                self._break()
                return False
            if sent == len(data):
                return True
            data = data[sent:]
        self._waiting.append(data)
        self._pending_bytes += len(data)
        self._wake.set()
        return False

    async def room(self) -> None:
        """Wait until the peer has taken enough to go on; returns at once for a broken one."""
        while self.full and not self.broken:
            if self._room.is_set():
                self._room = trio.Event()
            await self._room.wait()

    async def drain(self) -> None:
        """Write waiting bytes for as long as the session lives. Raises `PeerStalledError`."""
        while True:
            await self._wake.wait()
            await self._flush()
            if self.broken:
                return
            self._wake = trio.Event()

    async def emptied(self) -> None:
        """Wait until the peer has taken everything, before a connection is closed on purpose; at once for a broken one.

        It is `drain` that writes meanwhile.
        """
        while self._waiting and not self.broken:
            if self._empty.is_set():
                self._empty = trio.Event()
            await self._empty.wait()

    async def _flush(self) -> None:
        while self._waiting and not self.broken:
            with trio.move_on_after(self._stall_s) as patience:
                await trio.lowlevel.wait_writable(self._socket)
            if patience.cancelled_caught:
                self._break()
                raise PeerStalledError
            while self._waiting:
                head = self._waiting[0]
                try:
                    sent = self._socket.send(head)
                except BlockingIOError:
                    break
                except OSError:
                    self._break()
                    return
                self._pending_bytes -= sent
                if sent == len(head):
                    self._waiting.popleft()
                else:
                    self._waiting[0] = head[sent:]
                if not self.full:
                    self._room.set()
        self._empty.set()

    def _break(self) -> None:
        self.broken = True
        self._waiting.clear()
        self._pending_bytes = 0
        self._room.set()
        self._empty.set()
        self._wake.set()
