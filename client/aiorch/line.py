"""One connected socket and the exchange on it: moves bytes, never waits."""

from __future__ import annotations

import os
import socket
from typing import Final

from aiorch.exchange import Exchange, Mover

READ_BYTES: Final = 64 * 1024

# A host may have given SIGPIPE its deadly default back.
NOW_OR_NOT: Final = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


class Line:
    """A connection as far as nobody waits; the shells add threads or tasks that do."""

    def __init__(self, connection: socket.socket, *, careful: bool = False, held: bool = False) -> None:
        self.connection = connection
        self.exchange = Exchange(careful=careful, held=held)
        self.pid = os.getpid()
        """Whose it is: a forked child must not touch it."""

    def __del__(self) -> None:
        self.connection.close()

    @property
    def usable(self) -> bool:
        """Whether new questions may be asked on it."""
        return not self.exchange.retiring

    @property
    def closed(self) -> bool:
        """Whether the socket is closed."""
        return self.connection.fileno() < 0

    def flush(self) -> list[Mover]:
        """Write what the kernel takes now. Gives the questions that failed because it takes nothing any more."""
        exchange = self.exchange
        written = exchange.written
        while not written:
            buffers = exchange.unsent()
            try:
                if len(buffers) == 1:
                    count = self.connection.send(buffers[0], NOW_OR_NOT)
                else:
                    count = self.connection.sendmsg(buffers, (), NOW_OR_NOT)
            except BlockingIOError:
                return []
            except OSError as error:
                return self.hear_out() + exchange.cannot_write(error.strerror or str(error))
            written = exchange.wrote(count)
        return []

    def hear_out(self) -> list[Mover]:
        """Take what the daemon has said already before it closed the connection, which may be why: one that is full says so
        and waits for no question. Gives the questions that moved on."""
        moved: list[Mover] = []
        try:
            while data := self.connection.recv(READ_BYTES, socket.MSG_DONTWAIT):
                moved += self.exchange.receive(data)
        except OSError:
            pass  # that was all
        return moved

    def take(self, data: bytes) -> list[Mover]:
        """Take what was read, nothing meaning that the daemon hung up. Gives the questions that moved on."""
        exchange = self.exchange
        moved = exchange.receive(data) if data else exchange.lost("the daemon closed it")
        if not exchange.written:
            moved += self.flush()
        return moved
