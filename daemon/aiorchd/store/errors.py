"""What can be wrong with the state directory: reasons not to start, and faults of one file while running."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar, Final


class StateError(Exception):
    """The daemon cannot start on this state directory.

    The text is one sentence for whoever has to act; ``exit_code`` is the sysexits number the process should end with.
    """

    exit_code: ClassVar[int] = 78


class StateDirectoryUnusable(StateError):
    """The state directory is no directory, belongs to somebody else, or cannot be written."""

    exit_code: ClassVar[int] = 77


class StateInUse(StateError):
    """Another daemon runs on this state directory."""

    exit_code: ClassVar[int] = 75


class SchemaTooNew(StateError):
    """A file was written by a newer release. Nothing was changed, in none of the files."""


class LedgerDamaged(StateError):
    """``ledger.db`` holds what was promised to be kept, so it is never replaced by an empty one."""


class LedgerUnavailable(StateError):
    """``ledger.db`` could not be opened for a reason that may pass: a full disk, a lock, an I/O error."""

    exit_code: ClassVar[int] = 75


class FaultKind(StrEnum):
    """Why a file could not be read or written."""

    DAMAGED = "damaged"
    FULL = "full"
    IO = "io"
    BUSY = "busy"
    READ_ONLY = "read_only"
    UNAVAILABLE = "unavailable"
    """It cannot be opened."""
    SLOW = "slow"
    """It did not answer in time."""
    MEMORY = "memory"
    REFUSED = "refused"
    """What was to be written broke a rule of SQLite or of the schema; the file itself is sound."""
    DEFECT = "defect"
    """A mistake in this program; its traceback is in the log."""


class FileFault(Exception):
    """One operation on one file failed. Stays inside the store: who asked gets an empty answer or a `StorageError`."""

    def __init__(self, kind: FaultKind, text: str) -> None:
        text = " ".join(text.split())  # SQLite's findings come in several lines; this goes into one
        super().__init__(f"{kind.value}: {text}")
        self.kind = kind
        self.text = text


_KINDS: Final[Mapping[int, FaultKind]] = {
    sqlite3.SQLITE_CORRUPT: FaultKind.DAMAGED,
    sqlite3.SQLITE_NOTADB: FaultKind.DAMAGED,
    sqlite3.SQLITE_FORMAT: FaultKind.DAMAGED,
    sqlite3.SQLITE_FULL: FaultKind.FULL,
    sqlite3.SQLITE_IOERR: FaultKind.IO,
    sqlite3.SQLITE_BUSY: FaultKind.BUSY,
    sqlite3.SQLITE_LOCKED: FaultKind.BUSY,
    sqlite3.SQLITE_PROTOCOL: FaultKind.BUSY,
    sqlite3.SQLITE_READONLY: FaultKind.READ_ONLY,
    sqlite3.SQLITE_CANTOPEN: FaultKind.UNAVAILABLE,
    sqlite3.SQLITE_PERM: FaultKind.UNAVAILABLE,
    sqlite3.SQLITE_AUTH: FaultKind.UNAVAILABLE,
    sqlite3.SQLITE_INTERRUPT: FaultKind.UNAVAILABLE,
    sqlite3.SQLITE_NOMEM: FaultKind.MEMORY,
}
_PRIMARY: Final = 0xFF  # the low byte of an extended result code
_MISSING: Final = ("no such table", "no such column", "has no column named")


SQLITE_ERRORS: Final = (sqlite3.Error, UnicodeDecodeError)
"""What a statement may raise because of the file. The second comes when SQLite quotes from a damaged schema in its message,
and that is not text any more."""


def fault_of(error: Exception) -> FileFault:
    """Translate one of `SQLITE_ERRORS`: the one place where result codes are read."""
    if isinstance(error, UnicodeDecodeError):
        return FileFault(FaultKind.DAMAGED, "its schema holds bytes that are not text")
    code = getattr(error, "sqlite_errorcode", None)
    kind = FaultKind.REFUSED
    if code is not None:
        kind = _KINDS.get(code & _PRIMARY, FaultKind.REFUSED)
    if kind is FaultKind.REFUSED and any(phrase in str(error) for phrase in _MISSING):
        # The statements are ours and tested, so it is the file that lost its tables or was exchanged.
        kind = FaultKind.DAMAGED
    name = getattr(error, "sqlite_errorname", None)
    return FileFault(kind, f"{error} ({name})" if name else str(error))


_SYSTEM_KINDS: Final[Mapping[int, FaultKind]] = {
    errno.ENOSPC: FaultKind.FULL,
    errno.EDQUOT: FaultKind.FULL,
    errno.EFBIG: FaultKind.FULL,
    errno.EIO: FaultKind.IO,
    errno.EROFS: FaultKind.READ_ONLY,
}


def fault_of_system(error: OSError) -> FileFault:
    """Translate what the system said of a file."""
    kind = _SYSTEM_KINDS.get(error.errno or 0, FaultKind.UNAVAILABLE)
    return FileFault(kind, f"{error.strerror} ({error.filename})")
