"""Connections to one of the three files: one that writes, one that reads."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote

from aiorchd.store.errors import SQLITE_ERRORS, FaultKind, FileFault
from aiorchd.store.kinds import FileKind
from aiorchd.store.place import companions
from aiorchd.store.short_turns import STEPS_A_LOOK, ShortTurns

BUSY_WRITER_S: Final = 0.25
"""How long a write waits for a stranger who holds the file (somebody's ``sqlite3`` shell); then it is retried later."""
BUSY_READER_S: Final = 0.1

_WAL_LIMIT_BYTES: Final = 16 * 1024 * 1024
_PAGES_KIB: Final = 2048


def connect(
    path: Path, busy_s: float = BUSY_WRITER_S, mode: Literal["rw", "ro", "ro&immutable=1"] = "rw"
) -> sqlite3.Connection:
    """Open an existing file; nothing is begun implicitly, and any thread may use it, one at a time."""
    # Never rwc: a file that vanished is a fault, not a reason to make another one without a schema.
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode={mode}", uri=True, timeout=busy_s, isolation_level=None, check_same_thread=False
    )
    try:
        connection.text_factory = _lenient_text
        connection.execute(f"PRAGMA cache_size = -{_PAGES_KIB}")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.set_progress_handler(ShortTurns(), STEPS_A_LOOK)
    except SQLITE_ERRORS:
        connection.close()
        raise
    return connection


@contextmanager
def connected(path: Path) -> Iterator[sqlite3.Connection]:
    """Do the same for the length of the block."""
    with closing(connect(path)) as connection:
        yield connection


@contextmanager
def looking(path: Path) -> Iterator[sqlite3.Connection]:
    """Open an existing file for the length of the block to look at it, without changing it.

    Whoever may write and is the last to close folds the write-ahead log into the file: into whatever stands there under
    that name, a stranger's file or the rest of a damaged one, which then could not be examined or mended any more.
    """
    log, _, journal = companions(path)
    mode: Literal["rw", "ro", "ro&immutable=1"] = "ro"
    if journal.exists():
        mode = "rw"  # only who may write can undo what it says
    elif not log.exists():
        mode = "ro&immutable=1"  # nobody has it open, and looking must not make a log
    with closing(connect(path, mode=mode)) as connection:
        yield connection


def connect_writer(path: Path, kind: FileKind) -> sqlite3.Connection:
    """Open a file to write to it, as durably as its kind says."""
    connection = connect(path)
    try:
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise FileFault(FaultKind.UNAVAILABLE, f"no write-ahead log is possible here (journal mode {mode})")
        connection.execute(f"PRAGMA synchronous = {kind.synchronous}")
        connection.execute(f"PRAGMA foreign_keys = {'ON' if kind.foreign_keys else 'OFF'}")
        connection.execute(f"PRAGMA secure_delete = {kind.secure_delete}").fetchone()
        connection.execute(f"PRAGMA journal_size_limit = {_WAL_LIMIT_BYTES}").fetchone()
        # For what undoes a part of a transaction: in a file, which is the default, every page would be written twice.
        connection.execute("PRAGMA temp_store = MEMORY")
    except (FileFault, *SQLITE_ERRORS):
        connection.close()
        raise
    return connection


def connect_reader(path: Path) -> sqlite3.Connection:
    """Open a file to read it; it refuses to write."""
    connection = connect(path, BUSY_READER_S)
    try:
        connection.execute("PRAGMA query_only = ON")
    except SQLITE_ERRORS:
        connection.close()
        raise
    return connection


def _lenient_text(raw: bytes) -> str:
    # A flipped bit must not make a whole row unreadable; answers have a checksum that finds it.
    return raw.decode("utf-8", "replace")
