"""One connected socket and the exchange on it: moves bytes, never waits."""

from __future__ import annotations

import os
import socket
from typing import Final

from aiorch.exchange import Exchange, Pending

READ_BYTES: Final = 64 * 1024

# A host may have given SIGPIPE its deadly default back.
_NOW_OR_NOT: Final = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL


class Line:
    """A connection as far as nobody waits; the shells add threads or tasks that do."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.exchange = Exchange()
        self.pid = os.getpid()
        """Whose it is: a forked child must not touch it."""
        self._torn = False
        """Set while bytes are between the kernel and the books: still set later, a signal's exception came between."""

    @property
    def usable(self) -> bool:
        """Whether new questions may be asked on it."""
        return not self.exchange.retiring

    def flush(self) -> list[Pending]:
        """Write what the kernel takes now. Gives the questions that failed because it takes nothing any more."""
        exchange = self.exchange
        written = exchange.written
        while not written:
            buffers = exchange.unsent()
            self._torn = True
            try:
                if len(buffers) == 1:
                    count = self.connection.send(buffers[0], _NOW_OR_NOT)
                else:
                    count = self.connection.sendmsg(buffers, (), _NOW_OR_NOT)
            except BlockingIOError:
                self._torn = False
                return []
            except OSError as error:
                self._torn = False
                return exchange.cannot_write(error.strerror or str(error))
            written = exchange.wrote(count)
            self._torn = False
        return []

    def take(self, data: bytes) -> list[Pending]:
        """Take what was read, nothing meaning that the daemon hung up. Gives the questions that moved on."""
        self._torn = True
        exchange = self.exchange
        moved = exchange.receive(data) if data else exchange.lost("the daemon closed it")
        self._torn = False
        if not exchange.written:
            moved += self.flush()
        return moved

    def mend(self) -> list[Pending]:
        """Give up a connection whose books an exception has torn: nobody knows any more where a message begins."""
        if not self._torn:
            return []
        self._torn = False
        return self.exchange.lost("a signal interrupted it")
