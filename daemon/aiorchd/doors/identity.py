"""Who is at the other end of a Unix socket, as the kernel tells it, and what they may do."""

from __future__ import annotations

import array
import os
import pwd
import socket
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Protocol

from aiorchd.calls.caller import Caller

_SO_PEERGROUPS: Final = 59
_GROUPS_BYTES: Final = 1024
"""The most Python's getsockopt gives; someone in more than 256 groups is asked about in the group database."""


class Access(Protocol):
    """Who may call and who may administer."""

    def is_admin(self, uid: int, groups: Iterable[int], own_uid: int) -> bool:
        """Tell whether a peer may administer."""
        ...

    def may_enter(self, uid: int, groups: Iterable[int], own_uid: int) -> bool:
        """Tell whether a peer that the socket's permissions let in may use the daemon."""
        ...


def identify(connection: socket.socket, access: Access, number: int, own_uid: int) -> Caller:
    """Read the peer's credentials, fixed by the kernel when it connected. Raises OSError when it is already gone."""
    pid, uid, gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    groups = _groups(connection, uid, gid)
    return Caller(
        uid=uid,
        gid=gid,
        pid=pid,
        groups=groups,
        unit=unit_of(pid),
        connection=number,
        admin=access.is_admin(uid, groups, own_uid),
    )


def _groups(connection: socket.socket, uid: int, gid: int) -> frozenset[int]:
    try:
        packed = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BYTES)
    except OSError:
        try:
            return frozenset(os.getgrouplist(pwd.getpwuid(uid).pw_name, gid))
        except (KeyError, OSError):
            return frozenset((gid,))
    numbers = array.array("I")
    numbers.frombytes(packed[: len(packed) - len(packed) % numbers.itemsize])
    return frozenset((*numbers, gid))


def unit_of(pid: int) -> str:
    """Name the systemd system unit that owns a process, or ``"user"`` for anything else. For accounting only."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "user"
    for line in lines:
        path = line.rpartition(":")[2]
        parts = path.strip("/").split("/")
        if parts and parts[0] == "system.slice":
            for part in reversed(parts):
                if part.endswith((".service", ".scope", ".socket", ".mount")):
                    return part
    return "user"
