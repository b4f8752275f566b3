"""Reading a file that decides about the daemon: only a regular one, of sane size, that only its rightful owner can write.

Never blocks on what is not a file (a FIFO, a device), and never takes a file for whole that changed while it was read.
"""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from aiorchd.config.problems import ConfigError, Problem

LARGEST_BYTES: Final = 1024 * 1024
"""A configuration of a megabyte is a mistake; so is whatever else is that large."""

_READS: Final = 5
_Refuse: TypeAlias = Callable[..., ConfigError]


def read_guarded(path: Path, owners: frozenset[int]) -> bytes:
    """Give the content of a file whose owner is among ``owners`` (user numbers) or root and which nobody else may write.

    Raises `ConfigError` with the one thing that is wrong and how to mend it.
    """

    def refuse(sentence: str, remedy: str = "") -> ConfigError:
        return ConfigError([Problem(str(path), "", None, sentence, remedy)])

    try:
        # O_NONBLOCK: opening a FIFO without it waits for a writer. O_NOCTTY: a terminal must not become ours.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except FileNotFoundError:
        raise refuse("there is no such file.", "Make it, or name another with --config or $AIORCH_CONFIG.") from None
    except PermissionError:
        raise refuse(
            f"{_user(os.geteuid())} may not read it.", "Check its mode and those of the directories above it."
        ) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise refuse(f"it cannot be opened: {getattr(error, 'strerror', None) or error}.") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise refuse(f"it is {_kind(status.st_mode)}, not a regular file.")
        if status.st_uid not in owners and status.st_uid != 0:
            wanted = " or ".join(["root", *(_user(uid) for uid in sorted(owners) if uid != 0)])
            raise refuse(
                f"it belongs to {_user(status.st_uid)}, who could change it at any time.",
                f"It must belong to {wanted}.",
            )
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise refuse(
                f"others than its owner may write it (mode {stat.S_IMODE(status.st_mode):04o}).", f"chmod go-w {path}"
            )
        return _read_whole(descriptor, refuse)
    except OSError as error:
        raise refuse(f"it cannot be read: {error.strerror}.") from None
    finally:
        os.close(descriptor)


def _read_whole(descriptor: int, refuse: _Refuse) -> bytes:
    """Read until two looks at the file agree that nobody wrote to it in between."""
    for _ in range(_READS):
        before = os.fstat(descriptor)
        if before.st_size > LARGEST_BYTES:
            raise refuse(f"it is {before.st_size} bytes large; the most is {LARGEST_BYTES}.", "Is it the right file?")
        content = bytearray()
        os.lseek(descriptor, 0, os.SEEK_SET)
        while len(content) <= LARGEST_BYTES:
            piece = os.read(descriptor, LARGEST_BYTES + 1 - len(content))
            if not piece:
                break
            content += piece
        after = os.fstat(descriptor)
        if (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns) and len(content) == after.st_size:
            return bytes(content)
    raise refuse("it is being written to without a pause.", "It is read again when it changes next.")


def _kind(mode: int) -> str:
    for test, name in (
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a device"),
    ):
        if test(mode):
            return name
    return "something else"


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"
