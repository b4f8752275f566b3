"""Making a file, and looking at one before it is used: is it ours, of this release, whole? Costs no scan of a table, but
for the ledger, which is small and must be sound."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from aiorchd.store.connecting import connected, looking
from aiorchd.store.errors import FaultKind, FileFault, SchemaTooNew, fault_of
from aiorchd.store.kinds import FileKind, Table, migrate
from aiorchd.store.place import companions, create_private, make_private, remove, sync

_CHECK_S: Final = 0.1
"""Time that the check of a file which must not be lost may take of the start."""


def prepare_file(path: Path, kind: FileKind) -> None:
    """Make the file when it is missing, inspect it when it is not, and bring its schema up to date.

    Raises `FileFault` (damaged, or why it cannot be opened), `SchemaTooNew`, and what SQLite raises.
    """
    if not os.path.lexists(path):
        if any(os.path.lexists(file) for file in companions(path)):
            raise FileFault(FaultKind.DAMAGED, "it is missing while its journal is still there")
        _make(path, kind)
    _look_at(path, kind)
    make_private(path)
    with looking(path) as connection:
        version = version_of(path, kind, connection)
        if version == kind.version:
            _probe(connection, kind.tables)
        if not kind.disposable:
            _check(connection)
    if version < kind.version:
        with connected(path) as connection:
            migrate(connection, kind)


def version_of(path: Path, kind: FileKind, connection: sqlite3.Connection) -> int:
    """Tell the version of its schema; raises `SchemaTooNew`, or `FileFault` when this is some other file."""
    found = _pragma(connection, "application_id")
    if found != kind.application_id:
        raise FileFault(FaultKind.DAMAGED, f"it is not aiorch's {kind.name} file (application id {found})")
    version = int(_pragma(connection, "user_version"))
    if version > kind.version:
        raise SchemaTooNew(
            f"{path} has schema {version} and this release knows {kind.version}: it was written by a newer aiorchd; "
            "install that one again, or start with another --state-dir (nothing was changed)"
        )
    if version < 1:
        raise FileFault(FaultKind.DAMAGED, f"its schema {version} makes no sense")
    return version


def _make(path: Path, kind: FileKind) -> None:
    """Make the file under another name first: under its own it is never seen empty or half made."""
    new = path.with_name(f"{path.name}.new")
    remove(new)
    create_private(new)
    with connected(new) as connection:
        connection.execute("PRAGMA synchronous = OFF")  # it is synchronised as a whole below
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute(f"PRAGMA application_id = {kind.application_id}")
        migrate(connection, kind)
        connection.execute("PRAGMA journal_mode = WAL")
    if not kind.disposable:  # a power cut may take the others, and then they are begun anew
        sync(new)
    new.rename(path)
    if not kind.disposable:
        sync(path.parent)
    logging.getLogger("aiorchd.store").info(
        "file made", extra={"aiorch_fields": {"file": path.name, "schema": kind.version}}
    )


def _look_at(path: Path, kind: FileKind) -> None:
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise FileFault(FaultKind.DAMAGED, "it is not a regular file")
    if status.st_size == 0:
        raise FileFault(FaultKind.DAMAGED, "it is empty")
    if not os.access(path, os.R_OK | os.W_OK):
        kind_of_fault = FaultKind.DAMAGED if kind.disposable else FaultKind.UNAVAILABLE
        raise FileFault(kind_of_fault, "it may not be read and written")


def _probe(connection: sqlite3.Connection, tables: Iterable[Table]) -> None:
    """See whether the schema is what our statements are written for, and touch the first row of each table."""
    for table in tables:
        try:
            for probe in table.probes():
                connection.execute(f"EXPLAIN {probe}").fetchall()
        except sqlite3.OperationalError as error:
            fault = fault_of(error)
            raise FileFault(FaultKind.DAMAGED if fault.kind is FaultKind.REFUSED else fault.kind, fault.text) from error
        connection.execute(f'SELECT * FROM "{table.name}" LIMIT 1').fetchone()  # noqa: S608


def _check(connection: sqlite3.Connection) -> None:
    """Check the whole file as far as the time goes; a small one always entirely."""
    until = time.monotonic() + _CHECK_S
    connection.set_progress_handler(lambda: int(time.monotonic() > until), 10_000)
    try:
        found = [row[0] for row in connection.execute("PRAGMA integrity_check(1)")]
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_INTERRUPT:
            raise
    else:
        if found != ["ok"]:
            raise FileFault(FaultKind.DAMAGED, str(found[0]) if found else "its check gave no result")
    finally:
        connection.set_progress_handler(None, 0)


def _pragma(connection: sqlite3.Connection, name: str) -> Any:
    return connection.execute(f"PRAGMA {name}").fetchone()[0]
