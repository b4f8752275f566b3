"""What can be seen of a file from outside: the links that lead to it, which file it is, and whether it seems finished.

Two equal sights mean that nothing happened to the file or to any link on the way, whatever events came. That makes the
events of the kernel mere hints: none is trusted, none is missed for long.
"""

from __future__ import annotations

import fcntl
import os
import signal
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MOST_LINKS: Final = 40
"""Where the kernel, too, gives up following."""


@dataclass(frozen=True, slots=True)
class Sight:
    """One look at a path.

    ``links`` are the symbolic links on the way with what they said; ``file`` tells the file apart from any other and from
    itself before a change, None when there is none. ``directories`` are those in which something must happen for the
    next look to differ, each with its number, so that one put in place of another is noticed.
    """

    links: tuple[tuple[str, str], ...]
    file: tuple[int, ...] | None
    size: int
    regular: bool
    directories: tuple[tuple[str, int], ...]

    def same_file(self, other: Sight) -> bool:
        """Whether both looks saw the same content by the same way."""
        return self.file == other.file and self.links == other.links


def look(path: Path) -> Sight:
    """Follow an absolute path link by link, as the kernel would. Never raises and never opens anything."""
    todo = list(reversed(path.parts[1:]))
    here = "/"
    links: list[tuple[str, str]] = []
    directories: dict[str, int] = {}
    status: os.stat_result | None = None
    while todo:
        part = todo.pop()
        if part == "..":
            here = os.path.dirname(here)  # noqa: PTH120  # strings are several times cheaper here
            continue
        step = os.path.join(here, part)  # noqa: PTH118
        try:
            status = os.lstat(step)
            target = os.readlink(step) if stat.S_ISLNK(status.st_mode) else None  # noqa: PTH115
        except OSError:
            _note(directories, here)
            return Sight(tuple(links), None, 0, False, tuple(directories.items()))
        if target is None:
            if not todo:
                _note(directories, here)
            here = step
            continue
        links.append((step, target))
        _note(directories, here)
        status = None
        if len(links) > _MOST_LINKS:
            return Sight(tuple(links), None, 0, False, tuple(directories.items()))
        if target.startswith("/"):
            here = "/"
        todo += [each for each in reversed(target.split("/")) if each not in ("", ".")]
    if status is None:  # the path is the root directory, or a link to it
        return Sight(tuple(links), None, 0, False, tuple(directories.items()))
    identity = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_mode)
    return Sight(tuple(links), identity, status.st_size, stat.S_ISREG(status.st_mode), tuple(directories.items()))


def _note(directories: dict[str, int], directory: str) -> None:
    try:
        directories[directory] = os.stat(directory).st_ino  # noqa: PTH116
    except OSError:
        directories[directory] = 0


def is_being_written(path: Path) -> bool | None:
    """Tell whether some process has the file open for writing; None when the kernel will not say.

    It refuses a read lease on a file that anybody has open for writing, and grants leases to the owner of a file and to
    root. The lease is given back at once; should a writer come in that very moment, it waits for that moment and we get
    a signal, which is therefore made one that is ignored (fcntl(2), leases).
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return None
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return False
