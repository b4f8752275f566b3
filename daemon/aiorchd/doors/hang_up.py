"""Whether a peer has left, without reading what it may have sent before."""

from __future__ import annotations

import select
import socket


def hung_up(connection: socket.socket) -> bool:
    """Tell whether the peer closed its side, without reading what it may have sent before."""
    watch = select.poll()
    watch.register(connection, select.POLLHUP | select.POLLRDHUP)
    return bool(watch.poll(0))
