"""What a daemon that cannot start does before it ends, when a service manager would start it again and again.

Systemd restarts it at once, so that a crash costs nobody more than a moment. A reason that will not go away by itself
(most of all a refused configuration) would then be met several times a second, and clients would wait at a socket that
nobody serves, for as long as nobody repairs it. So it stays a moment: it tells those who connect why, takes no processor
time, and ends at once when its configuration file changes.
"""

from __future__ import annotations

import errno
import socket
from typing import Final

import trio

from aiorch.errors import CallError
from aiorch.protocol import Connection
from aiorchd.config.secrets import redact
from aiorchd.runtime.watch import FileWatch

STAY_S: Final = 5.0

_QUESTION_S: Final = 1.0
"""How long to wait for what a client came to ask: it looks for an answer once it has asked."""
_OUT_OF_DESCRIPTORS: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_PAUSE_S: Final = 0.1


async def stay(reason: CallError, listening: socket.socket | None, watch: FileWatch | None) -> bool:
    """Give those who connect the reason as last words, for `STAY_S` seconds or until the watched file has changed, and
    tell whether it has.
    """
    words = Connection.pack_notification("error", {"code": reason.code, "message": redact(reason.message)})
    with trio.move_on_after(STAY_S) as patience:
        async with trio.open_nursery() as nursery:
            if listening is not None:
                nursery.start_soon(_turn_away, listening, words, nursery)
            if watch is None:
                await trio.sleep_forever()
            else:
                await watch.changed()
            nursery.cancel_scope.cancel()
    return not patience.cancelled_caught


async def _turn_away(listening: socket.socket, words: bytes, nursery: trio.Nursery) -> None:
    while True:
        await trio.lowlevel.wait_readable(listening)
        try:
            connection, _ = listening.accept()
        except BlockingIOError:
            continue  # it left
        except OSError as error:
            if error.errno in _OUT_OF_DESCRIPTORS:
                await trio.sleep(_PAUSE_S)
            continue
        nursery.start_soon(_tell, connection, words)


async def _tell(connection: socket.socket, words: bytes) -> None:
    with connection:
        connection.setblocking(False)
        with trio.move_on_after(_QUESTION_S):
            await trio.lowlevel.wait_readable(connection)
        try:
            connection.send(words)
        except OSError:
            pass  # it left
