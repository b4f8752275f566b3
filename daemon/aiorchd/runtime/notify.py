"""The systemd protocol, both directions: what the daemon tells its manager, and the sockets it is handed.

One datagram per message to ``$NOTIFY_SOCKET`` (sd_notify(3)), descriptors from 3 on by ``$LISTEN_FDS`` (sd_listen_fds(3)).
Outside systemd everything here does nothing. Nothing here raises: a manager that cannot be told is no reason to stop.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Final

import trio

from aiorchd.config.secrets import redact

_FIRST_DESCRIPTOR: Final = 3
_MOST_DESCRIPTORS: Final = 64
_LONGEST_STATUS: Final = 500
_PATIENCE_S: Final = 1
"""How long to wait for a manager that is behind with its messages, where one that is lost could not be made up for."""


class Notifier:
    """Tells the service manager how the daemon is. Each method gives back whether the message left."""

    def __init__(self, address: str | None) -> None:
        self._address: str | bytes | None = None
        self._socket: socket.socket | None = None
        if address and address[0] in "/@":  # vsock: and relative addresses are not ours
            self._address = b"\0" + os.fsencode(address[1:]) if address[0] == "@" else address
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", _PATIENCE_S, 0))

    @property
    def active(self) -> bool:
        """Whether there is anybody to tell."""
        return self._socket is not None

    def ready(self, status: str | None = None) -> bool:
        """Start-up, or a reload, is finished."""
        lines = ["READY=1"] if status is None else ["READY=1", _status(status)]
        return self._send(*lines, patient=True)

    def reloading(self) -> bool:
        """A reload begins; `ready` must follow, whatever comes of it."""
        return self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", patient=True)

    def stopping(self, status: str) -> bool:
        """Shutdown begins."""
        return self._send("STOPPING=1", _status(status), patient=True)

    def status(self, text: str) -> bool:
        """Say one line about the present state, shown by ``systemctl status``."""
        return self._send(_status(text))

    def alive(self) -> bool:
        """Feed the watchdog."""
        return self._send("WATCHDOG=1")

    def extend_timeout(self, seconds: float) -> bool:
        """Ask for this much more time, from now, for the start, stop or reload that is under way."""
        return self._send(f"EXTEND_TIMEOUT_USEC={max(0, int(seconds * 1_000_000))}", patient=True)

    def close(self) -> None:
        """Give the socket back; nothing is told after that."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *lines: str, patient: bool = False) -> bool:
        if self._socket is None or self._address is None:
            return False
        data = "\n".join(lines).encode("utf-8", "replace")
        try:
            self._socket.sendto(data, 0 if patient else socket.MSG_DONTWAIT, self._address)
        except OSError:
            return False
        return True


def _status(text: str) -> str:
    """One line, bounded and without secrets: a line break would begin another assignment."""
    return "STATUS=" + redact(" ".join(text.split()))[:_LONGEST_STATUS]


def take_notifier(environ: MutableMapping[str, str]) -> Notifier:
    """Make the notifier and remove its address from the environment: children must not speak for the daemon."""
    return Notifier(environ.pop("NOTIFY_SOCKET", None))


@dataclass(frozen=True, slots=True)
class Inherited:
    """A descriptor that was handed over, under the ``FileDescriptorName=`` of its unit."""

    name: str
    descriptor: int


def take_descriptors(environ: MutableMapping[str, str], pid: int) -> tuple[Inherited, ...]:
    """Take the descriptors that systemd opened for this process and remove them from the environment.

    They are no longer inherited by children. Variables that were meant for another process (``$LISTEN_PID``), or that
    make no sense, give nothing and are removed as well.
    """
    listen_pid = environ.pop("LISTEN_PID", "")
    count = environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if listen_pid != str(pid) or not count.isdecimal() or int(count) > _MOST_DESCRIPTORS:
        return ()
    found: list[Inherited] = []
    for number in range(int(count)):
        descriptor = _FIRST_DESCRIPTOR + number
        try:
            os.set_inheritable(descriptor, False)
        except OSError:
            continue  # promised and not open
        found.append(Inherited(names[number] if number < len(names) and names[number] else "unknown", descriptor))
    return tuple(found)


def take_watchdog_s(environ: MutableMapping[str, str], pid: int) -> float | None:
    """Give the time within which the watchdog wants to be fed, or None where there is none; removed likewise."""
    microseconds = environ.pop("WATCHDOG_USEC", "")
    watched = environ.pop("WATCHDOG_PID", str(pid))
    if watched != str(pid) or not microseconds.isdecimal() or int(microseconds) == 0:
        return None
    return int(microseconds) / 1_000_000


async def feed_watchdog(notifier: Notifier, within_s: float) -> None:
    """Feed the watchdog twice in each period, from the loop itself, so that a loop that is stuck is noticed."""
    while True:
        notifier.alive()
        await trio.sleep(within_s / 2)
