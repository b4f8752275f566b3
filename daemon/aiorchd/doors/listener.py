"""The socket itself: bound by us, after looking whether somebody already serves there, or handed over by systemd."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from aiorch.errors import AiorchError

BACKLOG: Final = 4096
_PATH_BYTES: Final = 107


class SocketInUseError(AiorchError):
    """Another daemon answers at this path."""


class SocketPathError(AiorchError):
    """The path cannot be a socket's: too long, not a socket, or its directory is missing or closed to us."""


@contextmanager
def bound_socket(path: Path, *, mode: int, group: int | None = None) -> Iterator[socket.socket]:
    """Listen at ``path`` with ``mode``; on leaving, close and remove what we made.

    A socket file at which nobody answers is what a killed daemon left: it is replaced. Between looking and binding a
    second daemon could slip in; the lock on the state directory is what excludes that. Raises `SocketInUseError`,
    `SocketPathError`.
    """
    if len(os.fsencode(path)) > _PATH_BYTES:
        raise SocketPathError(f"{path}: a socket path may have at most {_PATH_BYTES} bytes; choose a shorter --socket")
    _remove_stale(path)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        # The mode is set by umask before the file appears, so that there is no moment in which others may connect.
        before = os.umask(0o777 & ~mode)
        try:
            listening.bind(os.fspath(path))
        except OSError as error:
            raise SocketPathError(
                f"{path}: {error.strerror}; does its directory exist, and may you write there?"
            ) from error
        finally:
            os.umask(before)
        made = path.lstat()
        try:
            if group is not None:
                os.chown(path, -1, group)
            listening.listen(BACKLOG)
            listening.setblocking(False)
            yield listening
        finally:
            _remove_own(path, made)
    finally:
        listening.close()


def _remove_stale(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    except OSError as error:
        raise SocketPathError(f"{path}: {error.strerror}") from error
    if not stat.S_ISSOCK(found.st_mode):
        raise SocketPathError(f"{path}: exists and is not a socket; remove it or choose another --socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(os.fspath(path))
        except BlockingIOError:
            pass  # its backlog is full: very much alive
        except OSError as error:
            if error.errno in (errno.ECONNREFUSED, errno.ENOENT):
                path.unlink(missing_ok=True)
                return
            raise SocketPathError(f"{path}: {error.strerror}") from error
    raise SocketInUseError(f"{path}: another daemon answers there; stop it first or choose another --socket")


def _remove_own(path: Path, made: os.stat_result) -> None:
    try:
        now = path.lstat()
        if (now.st_dev, now.st_ino) == (made.st_dev, made.st_ino):
            path.unlink()
    except OSError:
        pass  # the directory is gone, or a successor put its own there


@contextmanager
def inherited_socket(descriptor: int) -> Iterator[socket.socket]:
    """Use a listening Unix socket that systemd (or a test) holds open; its file is not ours to remove."""
    listening = socket.socket(fileno=descriptor)
    try:
        if listening.family != socket.AF_UNIX or listening.type != socket.SOCK_STREAM:
            raise SocketPathError(
                f"descriptor {descriptor}: not a Unix stream socket; check the .socket unit's ListenStream="
            )
        if not listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise SocketPathError(
                f"descriptor {descriptor}: does not listen; Accept=yes is not supported, use Accept=no"
            )
        listening.set_inheritable(False)
        listening.setblocking(False)
        yield listening
    finally:
        listening.close()
