"""The socket that the daemon serves: the one systemd handed over, or one of its own."""

from __future__ import annotations

import socket
import stat
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from aiorchd.app.places import Places
from aiorchd.doors.listener import SocketPathError, bound_socket, inherited_socket


class Listening:
    """A socket from systemd is taken at once: who connects to it waits there already, and can be told should the rest of
    the start fail. One of our own is made by `open`, once everything else is known to be in order.

    As a context manager it closes what it has, and removes the file of what it made.
    """

    def __init__(self, places: Places) -> None:
        self._places = places
        self._stack = ExitStack()
        self.socket: socket.socket | None = None
        if places.descriptor is not None:
            self.socket = self._stack.enter_context(inherited_socket(places.descriptor))

    @property
    def path(self) -> Path | None:
        """Where it is, as far as it has a name."""
        if self.socket is None:
            return self._places.socket.path
        name = self.socket.getsockname()
        return Path(name) if isinstance(name, str) and name else None

    def open(self) -> socket.socket:
        """Give it, listening. Raises `SocketInUseError`, `SocketPathError`."""
        if self.socket is None:
            place = self._places.socket
            assert place.path is not None
            _make_parent(place.path, place.mode)
            self.socket = self._stack.enter_context(bound_socket(place.path, mode=place.mode))
        return self.socket

    def close(self) -> None:
        """Leave it: who connects from now on finds a successor, or nobody."""
        self.socket = None
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _make_parent(path: Path, mode: int) -> None:
    """Make the socket's own directory if that is all that is missing."""
    parent = path.parent
    try:
        if not parent.exists() and parent.parent.is_dir():
            parent.mkdir(mode=0o755 if mode & stat.S_IRWXG else 0o700)
    except OSError as error:
        raise SocketPathError(f"{parent}: {error.strerror}; make it, or choose another --socket") from error
