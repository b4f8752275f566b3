"""Who is at the other end of a Unix socket, as the kernel tells it, and what they may do."""

from __future__ import annotations

import array
import grp
import os
import pwd
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiorchd.calls.caller import UNMAPPED_UID, Caller

_SO_PEERGROUPS: Final = 59
_GROUPS_BYTES: Final = 1024
"""The most Python's getsockopt gives; someone in more than 256 groups is asked about in the group database."""


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call, and who may administer, from ``[daemon]``; user and group numbers.

    Unless ``restricted``, everybody may call whom the socket's mode lets in. A list of names that this host does not know
    lets in nobody, not everybody. Administrators are root, the daemon's own user, and whoever is named; they may always
    call. A peer without a number here is nobody in particular, and matches no list by user.
    """

    restricted: bool = False

    users: frozenset[int] = frozenset()
    groups: frozenset[int] = frozenset()
    admin_users: frozenset[int] = frozenset()
    admin_groups: frozenset[int] = frozenset()
    own_uid: int = 0

    def is_admin(self, uid: int, groups: frozenset[int]) -> bool:
        """Tell whether this user administers the daemon."""
        if uid in (0, self.own_uid):
            return True
        return uid != UNMAPPED_UID and (uid in self.admin_users or not groups.isdisjoint(self.admin_groups))

    def may_call(self, uid: int, groups: frozenset[int]) -> bool:
        """Tell whether this user may use the daemon at all."""
        if not self.restricted or self.is_admin(uid, groups):
            return True
        return uid != UNMAPPED_UID and (uid in self.users or not groups.isdisjoint(self.groups))


def user_numbers(names: Iterable[str | int]) -> tuple[frozenset[int], list[str]]:
    """Turn user names or numbers into numbers; also gives the names that do not exist here."""
    return _numbers(names, lambda name: pwd.getpwnam(name).pw_uid)


def group_numbers(names: Iterable[str | int]) -> tuple[frozenset[int], list[str]]:
    """Turn group names or numbers into numbers; also gives the names that do not exist here."""
    return _numbers(names, lambda name: grp.getgrnam(name).gr_gid)


def _numbers(names: Iterable[str | int], look_up: Callable[[str], int]) -> tuple[frozenset[int], list[str]]:
    found: set[int] = set()
    unknown: list[str] = []
    for name in names:
        if isinstance(name, int) or name.isdigit():
            found.add(int(name))
            continue
        try:
            found.add(look_up(name))
        except (KeyError, ValueError):  # ValueError: a NUL in the name
            unknown.append(name)
    return frozenset(found), unknown


def identify(connection: socket.socket, access: Access, number: int) -> Caller:
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
        admin=access.is_admin(uid, groups),
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
