"""Where the daemon is, and getting a connected socket to it.

The socket is the argument, else ``$AIORCH_SOCKET``, else the first that answers of
``$XDG_RUNTIME_DIR/aiorch/aiorch.sock`` (the user's own daemon) and ``/run/aiorch/aiorch.sock`` (the system's).

Connecting is done here, without blocking, rather than by asyncio or trio: when the queue of a Unix listener is full
``connect`` fails with EAGAIN, which they take for a connection in progress, and hand out a socket that is not connected.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Mapping, Sequence
from typing import Final

from aiorch.errors import Unreachable

SYSTEM_SOCKET: Final = "/run/aiorch/aiorch.sock"

_RESTART: Final = 5.0
_FIRST_DELAY_S: Final = 0.001
_LONGEST_DELAY_S: Final = 0.05

# What a restart, or a moment of load, looks like. Anything else will not mend by waiting.
_PASSING: Final[Mapping[int, str]] = {
    errno.ENOENT: "no such socket",
    errno.ECONNREFUSED: "nobody listens there",
    errno.EAGAIN: "its queue of waiting connections is full",
    errno.ENOTCONN: "its queue of waiting connections is full",
    errno.ECONNRESET: "it hung up",
    errno.EINTR: "interrupted",
}
_LASTING: Final[Mapping[int, str]] = {
    errno.EACCES: "permission denied: your user is not in the group of this socket",
    errno.EPERM: "permission denied",
    errno.ENOTDIR: "a part of the path is not a directory",
    errno.EPROTOTYPE: "not a stream socket",
}


def candidates(argument: str | os.PathLike[str] | None, environ: Mapping[str, str]) -> tuple[str, ...]:
    """List the sockets to try, in order; one that was named is the only one."""
    if argument is not None:
        return (os.fspath(argument),)
    named = environ.get("AIORCH_SOCKET")
    if named:
        return (named,)
    runtime_dir = environ.get("XDG_RUNTIME_DIR")
    if runtime_dir:
        return (f"{runtime_dir}/aiorch/aiorch.sock", SYSTEM_SOCKET)
    return (SYSTEM_SOCKET,)


class Patience:
    """How long one client looks for its daemon: ``connect_timeout_s``, or so many times that long from when it was first
    missed, if it had answered: on a busy machine a restart takes some seconds. Who asks later waits no longer than usual.
    """

    def __init__(self, connect_timeout_s: float) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._missed: tuple[object, float] | None = None
        """The connection that was found to be over, and when."""

    def until(self, now: float, before: object | None) -> float:
        """Give until when to look from now on. ``before`` is the connection that is over, None when there was none yet."""
        usual = now + self._connect_timeout_s
        if before is None:
            return usual
        if self._missed is None or self._missed[0] is not before:
            self._missed = before, now
        return max(usual, self._missed[1] + _RESTART * self._connect_timeout_s)


class Dial:
    """One effort to connect: the shell calls ``attempt``, sleeps ``delay_s``, and again, until it runs out of time."""

    def __init__(self, paths: Sequence[str]) -> None:
        self._paths = paths
        self._tried: list[tuple[str, str]] = []
        self._attempts = 0

    def attempt(self) -> tuple[socket.socket, str] | None:
        """Try every path once. Gives a connected, non-blocking socket and its path, or None when waiting may help.

        Raises `Unreachable` when it will not.
        """
        self._attempts += 1
        self._tried = []
        hope = False
        for path in self._paths:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connected = False
            try:
                connection.setblocking(False)
                connection.connect(path)
                connection.getpeername()  # connected for certain
                connected = True
                return connection, path
            except OSError as error:
                hope |= error.errno in _PASSING
                self._tried.append((path, _reason(error)))
            finally:
                if not connected:
                    connection.close()
        if not hope:
            raise self.unreachable()
        return None

    @property
    def delay_s(self) -> float:
        """How long to wait before the next attempt: a millisecond, doubling up to a twentieth of a second."""
        return min(_LONGEST_DELAY_S, _FIRST_DELAY_S * (1 << min(self._attempts, 10)))

    def unreachable(self, waited_s: float = 0.0) -> Unreachable:
        """Make the error that says what was tried and what to do."""
        tried = ", ".join(f"{path} ({reason})" for path, reason in self._tried) or "nothing yet"
        waited = f" for {waited_s:.1f} s" if waited_s >= 0.1 else ""
        return Unreachable(
            f"no aiorch daemon answers; tried{waited}: {tried}. Ask `aiorchctl doctor` what is wrong, start the service "
            "with `systemctl start aiorchd.socket`, or run `aiorchd` yourself; AIORCH_SOCKET names another socket",
            tried=tuple(self._tried),
        )


def _reason(error: OSError) -> str:
    code = error.errno or 0
    return _PASSING.get(code) or _LASTING.get(code) or error.strerror or str(error)
