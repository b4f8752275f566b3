"""The configuration file as the person who runs a command finds and changes it: whole or not at all, as it was before.

A change is written beside the file and put in its place by one rename, so that whoever reads it (the daemon watches it)
sees the old text or the new one. Mode, owner, group and extended attributes are kept; a link is followed, and stays.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from aiorchd.config.problems import ConfigError, Problem
from aiorchd.config.reading import read_guarded

NEW_FILE_MODE = 0o600


class WriteError(Exception):
    """The file was not changed; the message says why and what to do."""

    def __init__(self, message: str, exit_code: int = os.EX_SOFTWARE) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A file as it was read: ``path`` as it was named, ``target`` what it leads to."""

    path: Path
    target: Path
    content: bytes
    status: os.stat_result

    @property
    def text(self) -> str:
        """The content as text. Raises `ConfigError` when it is not UTF-8."""
        try:
            return self.content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ConfigError(
                [Problem(str(self.path), "", None, "is not UTF-8.", "Save the file as UTF-8.")]
            ) from error


def read_file(path: Path) -> ConfigFile:
    """Read the file, whoever it belongs to; others than its owner must not be able to write it. Raises `ConfigError`."""
    try:
        target = path.resolve(strict=True)
        status = target.stat()
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        reason = getattr(error, "strerror", None) or "its links lead in a circle"
        raise ConfigError([Problem(str(path), "", None, f"it cannot be read: {reason}.")]) from None
    content = read_guarded(target, frozenset({os.geteuid(), status.st_uid}))
    return ConfigFile(path, target, content, status)


def replace_content(file: ConfigFile, content: bytes) -> None:
    """Put new content in the place of the file, if it is still what was read. Raises `WriteError`."""
    with _alone_in(file.target.parent):
        now = file.target.stat()
        if (now.st_ino, now.st_size, now.st_mtime_ns) != (
            file.status.st_ino,
            file.status.st_size,
            file.status.st_mtime_ns,
        ):
            raise WriteError(
                f"{file.path} was changed by somebody else meanwhile: look at it, then try again", os.EX_TEMPFAIL
            )
        _write(file.target, content, file.status)


def create(path: Path, content: bytes, *, replace: bool = False) -> None:
    """Make a file, with the directories to it; with ``replace`` one that is there is written anew. Raises `WriteError`."""
    try:
        for directory in reversed(path.parents):
            if not directory.exists():
                # A user's own below the home directory; the host's must be read by the daemon's user.
                directory.mkdir(mode=0o755 if os.geteuid() == 0 else 0o700)
    except OSError as error:
        raise _cannot(f"{error.filename} cannot be made", error) from error
    if path.exists():
        if not replace:
            raise WriteError(f"{path} is there already", os.EX_USAGE)
        replace_content(read_file(path), content)
        return
    with _alone_in(path.parent):
        _write(path, content, None)


@contextmanager
def _alone_in(directory: Path) -> Iterator[None]:
    """Keep other such commands out of a directory for a moment. Nothing is left behind, also when this process is killed."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _cannot(f"{directory} cannot be opened", error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(target: Path, content: bytes, like: os.stat_result | None) -> None:
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.new")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, NEW_FILE_MODE)
    except OSError as error:
        raise _cannot(f"no file can be made in {target.parent}", error) from error
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            if like is not None:
                _make_alike(descriptor, target, like)
            elif os.geteuid() == 0:
                os.fchmod(descriptor, 0o644)  # there is no secret in it, and the daemon's user must read it
            file.flush()
            os.fsync(descriptor)
        temporary.rename(target)
        _sync_directory(target.parent)
    except OSError as error:
        raise _cannot(f"{target} cannot be written", error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _make_alike(descriptor: int, target: Path, like: os.stat_result) -> None:
    """Give the new file owner, group, mode and attributes of the old one; who may read it must not change."""
    made = os.fstat(descriptor)
    if (made.st_uid, made.st_gid) != (like.st_uid, like.st_gid):
        os.fchown(descriptor, like.st_uid, like.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(like.st_mode))
    with suppress(OSError):  # a file system without them
        for name in os.listxattr(target):
            with suppress(OSError):  # some are the kernel's own
                os.setxattr(descriptor, name, os.getxattr(target, name))


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _cannot(what: str, error: OSError) -> WriteError:
    remedy = ""
    code = os.EX_SOFTWARE
    if isinstance(error, PermissionError):
        remedy = "; run this as the file's owner, or with sudo"
        code = os.EX_NOPERM
    return WriteError(f"{what}: {error.strerror}{remedy}", code)
