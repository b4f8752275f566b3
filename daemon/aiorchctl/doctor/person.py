"""Who asks, and what the modes of files and directories let them do. Told from the modes and not by trying, so that a
finding can be made for somebody else too.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

Wish: TypeAlias = Literal["read", "write", "search"]


@dataclass(frozen=True, slots=True)
class Person:
    """A user with the groups that a process of theirs has now."""

    uid: int
    groups: frozenset[int]

    @property
    def name(self) -> str:
        """The user's name, or number."""
        return user_name(self.uid)

    def may(self, status: os.stat_result, wish: Wish) -> bool:
        """Tell whether owner, group and mode let this user do something; root may everything."""
        if self.uid == 0:
            return True
        bit = {"read": 0o4, "write": 0o2, "search": 0o1}[wish]
        mode = stat.S_IMODE(status.st_mode)
        if status.st_uid == self.uid:
            return bool(mode >> 6 & bit)
        if status.st_gid in self.groups:
            return bool(mode >> 3 & bit)
        return bool(mode & bit)

    def belongs_to(self, gid: int) -> bool:
        """Tell whether the group database has this user in a group, whether this process knows it yet or not."""
        try:
            entry = pwd.getpwuid(self.uid)
            return gid in os.getgrouplist(entry.pw_name, entry.pw_gid)
        except (KeyError, OSError):
            return False


def myself() -> Person:
    """Tell who runs this process."""
    return Person(os.geteuid(), frozenset((*os.getgroups(), os.getegid())))


def first_closed_directory(path: Path, person: Person) -> Path | None:
    """Find the first directory on the way to a path that a user may not pass; None when the way is open or ends early."""
    for directory in reversed(path.parents):
        try:
            status = directory.stat()
        except PermissionError:
            return directory.parent
        except OSError:
            return None
        if not person.may(status, "search"):
            return directory
    return None


def user_name(uid: int) -> str:
    """Give a user's name, or the number of one who has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    """Give a group's name, or its number."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def described(status: os.stat_result) -> str:
    """Write owner, group and mode in words: ``mode 0660, owner root, group aiorch``."""
    mode = stat.S_IMODE(status.st_mode)
    return f"mode {mode:04o}, owner {user_name(status.st_uid)}, group {group_name(status.st_gid)}"
