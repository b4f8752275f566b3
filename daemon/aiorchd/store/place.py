"""The state directory: private to its owner, used by one daemon at a time, and where damaged files are put aside."""

from __future__ import annotations

import fcntl
import logging
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from aiorchd.store.errors import StateDirectoryUnusable, StateInUse

LOCK_NAME: Final = "aiorchd.lock"
COMPANIONS: Final = ("-wal", "-shm", "-journal")
"""What SQLite keeps beside a database; it belongs to it and moves with it."""

_PRIVATE_DIRECTORY: Final = 0o700
_PRIVATE_FILE: Final = 0o600


def prepare_directory(directory: Path) -> None:
    """Make the state directory when it is missing, and make it private when it is not.

    Raises `StateDirectoryUnusable` when it is no directory, belongs to another user (who could exchange the files under
    our hands), or cannot be written.
    """
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        directory.mkdir(mode=_PRIVATE_DIRECTORY, exist_ok=True)
        status = directory.stat()
        if not stat.S_ISDIR(status.st_mode):
            raise StateDirectoryUnusable(f"{directory} is not a directory; name another one with --state-dir")
        if status.st_uid != os.geteuid():
            raise StateDirectoryUnusable(
                f"the state directory {directory} belongs to user {status.st_uid} and aiorchd runs as user "
                f"{os.geteuid()}; give it to that user (chown -R) or name another one with --state-dir"
            )
        if stat.S_IMODE(status.st_mode) != _PRIVATE_DIRECTORY:
            directory.chmod(_PRIVATE_DIRECTORY)
    except FileExistsError:
        raise StateDirectoryUnusable(f"{directory} is not a directory; name another one with --state-dir") from None
    except OSError as error:
        raise StateDirectoryUnusable(
            f"the state directory {directory} cannot be used: {error.strerror}; name another one with --state-dir"
        ) from error
    if not os.access(directory, os.R_OK | os.W_OK | os.X_OK):
        raise StateDirectoryUnusable(
            f"the state directory {directory} cannot be written; name another one with --state-dir"
        )


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold the state directory for this process; raises `StateInUse` when another one does.

    The kernel lets go of the lock when the process ends in whatever way, so there are no stale locks. The number in the
    file only serves the message.
    """
    path = directory / LOCK_NAME
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, _PRIVATE_FILE)
    except OSError as error:
        raise StateDirectoryUnusable(f"{path} cannot be opened: {error.strerror}") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            who = f" (process {holder})" if holder.isdigit() else ""
            raise StateInUse(
                f"another aiorchd{who} is using {directory}; stop it, or give this one a directory of its own with --state-dir"
            ) from None
        except OSError as error:
            raise StateDirectoryUnusable(f"{path} cannot be locked: {error.strerror}") from error
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        except OSError:
            pass  # a full disk; the lock holds without its text
        yield
    finally:
        os.close(descriptor)


def create_private(path: Path) -> None:
    """Make an empty file that only its owner may read, whatever the umask says. It must not exist.

    SQLite gives the files it adds the mode of the database, so this settles theirs too.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, _PRIVATE_FILE)
    try:
        os.fchmod(descriptor, _PRIVATE_FILE)
    finally:
        os.close(descriptor)


def make_private(path: Path) -> None:
    """Take the permissions of others from an existing database and its companions."""
    for file in (path, *companions(path)):
        try:
            if stat.S_IMODE(file.stat().st_mode) != _PRIVATE_FILE:
                file.chmod(_PRIVATE_FILE)
        except FileNotFoundError:
            continue


def companions(path: Path) -> tuple[Path, ...]:
    """Name the files SQLite may keep beside a database."""
    return tuple(path.with_name(path.name + suffix) for suffix in COMPANIONS)


def move_aside(path: Path, now: float) -> Path:
    """Rename a database and its companions so that they can still be examined together; returns the new name.

    Nothing is ever deleted or overwritten by this.
    """
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    number = 1
    while any(os.path.lexists(name) for name in (aside, *companions(aside))):
        number += 1
        aside = path.with_name(f"{path.name}.damaged-{stamp}-{number}")
    for old, new in zip((path, *companions(path)), (aside, *companions(aside)), strict=True):
        try:
            old.rename(new)
        except FileNotFoundError:
            continue
    logging.getLogger("aiorchd.store").error(
        "damaged file put aside", extra={"aiorch_fields": {"file": path.name, "kept_as": str(aside)}}
    )
    return aside


def remove(path: Path) -> None:
    """Delete a database and its companions."""
    for file in (*companions(path), path):
        file.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Let what a file or a directory holds survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
