"""A TCP connection as a Trio stream, with fewer steps than Trio's own for what nearly always happens.

Trio's `SocketStream` tries to read before it waits, which an answer that takes a second never rewards, and goes through six
functions for a read or a write. A request that fits the socket's buffer leaves here in one system call, and an answer is
waited for once. What does not go at once is left to Trio's stream.

It also counts what leaves, so that the kernel need be asked only after a failure how much of it arrived.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Final

import trio

_READ_BYTES: Final = 64 * 1024
_CLOSED: Final = "the connection was closed"
_TCP_INFO_BYTES_ACKED: Final = struct.Struct("=120xQ")


class TcpStream(trio.abc.Stream):
    """Speaks on the socket of ``base``, which stays the owner of it and has sent nothing yet. One task sends and one receives at
    a time.

    Raises what `trio.SocketStream` raises.
    """

    def __init__(self, base: trio.SocketStream) -> None:
        self._base = base
        self._socket = base.socket
        self._acknowledged_at_first = _acknowledged(base.socket)
        self.sent_bytes = 0
        """How much was given to the kernel, by what was sent completely."""

    def acknowledged_bytes(self) -> int | None:
        """Ask the kernel how much of what was sent the other end's kernel has confirmed; None if unknown."""
        now, first = _acknowledged(self._socket), self._acknowledged_at_first
        return None if now is None or first is None else now - first

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of it."""
        await trio.lowlevel.checkpoint_if_cancelled()
        number = self._socket.fileno()
        if number < 0:
            raise trio.ClosedResourceError(_CLOSED)
        try:
            sent = os.write(number, data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            raise trio.BrokenResourceError(f"socket connection broken: {error}") from error
        if sent < len(data):
            await self._base.send_all(memoryview(data)[sent:])
        self.sent_bytes += len(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the socket takes something."""
        await self._base.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Wait for something and give it; ``b""`` when the other end has closed."""
        while True:
            number = self._socket.fileno()
            if number < 0:
                raise trio.ClosedResourceError(_CLOSED)
            await trio.lowlevel.wait_readable(number)
            # Asked for each time: once it is closed, the number may be another connection's.
            number = self._socket.fileno()
            if number < 0:
                raise trio.ClosedResourceError(_CLOSED)
            try:
                return os.read(number, max_bytes or _READ_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                raise trio.BrokenResourceError(f"socket connection broken: {error}") from error

    async def aclose(self) -> None:
        """Close the connection."""
        await self._base.aclose()


def _acknowledged(sock: trio.socket.SocketType) -> int | None:
    """Ask the kernel how many bytes the other end's kernel has confirmed on this TCP connection; None if unknown.

    ``tcpi_bytes_acked`` of Linux' ``struct tcp_info`` (since 4.1), still readable after the connection was reset.
    """
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES_ACKED.size)
    except OSError:
        return None
    if len(info) < _TCP_INFO_BYTES_ACKED.size:
        return None
    (acknowledged,) = _TCP_INFO_BYTES_ACKED.unpack(info)
    return int(acknowledged)
