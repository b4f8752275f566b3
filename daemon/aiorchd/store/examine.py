"""A look at the files of a state directory from outside, without changing them: for ``aiorchctl doctor``, whether a daemon
runs on them or not.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias
from urllib.parse import quote

from aiorchd.store.cache_schema import CACHE
from aiorchd.store.errors import SQLITE_ERRORS, FaultKind, fault_of
from aiorchd.store.kinds import FileKind
from aiorchd.store.ledger_schema import LEDGER
from aiorchd.store.metrics_schema import METRICS
from aiorchd.store.place import companions

KINDS: Final = (CACHE, METRICS, LEDGER)
Finding: TypeAlias = Literal[
    "ok", "unchecked", "missing", "damaged", "foreign", "newer", "older", "closed", "unavailable"
]
_Found: TypeAlias = tuple[int | None, Finding, str]
"""Version of the schema, what was found, and why."""

_BUSY_S: Final = 0.25
_STEPS_BETWEEN_LOOKS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found of one file.

    ``finding`` is ``ok`` (all of it was checked), ``unchecked`` (sound as far as the time went), ``missing``, ``damaged``,
    ``foreign`` (not one of ours), ``newer`` or ``older`` (its schema), ``closed`` (this user may not read it), or
    ``unavailable`` (it cannot be read at present); ``fault`` says why. ``bytes`` includes its write-ahead log. ``schema`` is
    its own version and ``known_schema`` that of this release. ``disposable`` says that the daemon begins a damaged one anew.
    """

    name: str
    path: Path
    finding: Finding
    fault: str
    bytes: int
    schema: int | None
    known_schema: int
    disposable: bool
    mode: int | None
    uid: int | None


def examine(directory: Path, *, check_s: float) -> tuple[Examination, ...]:
    """Look at all three files; the check of the pages of each takes at most ``check_s`` seconds. Blocks."""
    return tuple(_examine(directory / f"{kind.name}.db", kind, check_s) for kind in KINDS)


def put_aside(directory: Path) -> tuple[Path, ...]:
    """Find the damaged files that a daemon put aside for examination."""
    return tuple(
        path
        for path in sorted(directory.glob("*.db.damaged-*"))
        if not path.name.endswith(("-wal", "-shm", "-journal"))
    )


def _examine(path: Path, kind: FileKind, check_s: float) -> Examination:
    size, mode, uid = 0, None, None
    found: _Found
    try:
        status = path.lstat()
        size, mode, uid = status.st_size, stat.S_IMODE(status.st_mode), status.st_uid
        log = companions(path)[0]
        size += log.stat().st_size if log.exists() else 0
        found = _look(path, kind, check_s)
    except FileNotFoundError:
        found = (None, "missing", "there is no such file")
    except OSError as error:
        found = (None, "closed", error.strerror or str(error))
    schema, finding, fault = found
    return Examination(path.name, path, finding, fault, size, schema, kind.version, kind.disposable, mode, uid)


def _look(path: Path, kind: FileKind, check_s: float) -> _Found:
    if not stat.S_ISREG(path.lstat().st_mode):
        return None, "damaged", "it is not a regular file"
    if not os.access(path, os.R_OK):
        return None, "closed", "this user may not read it"
    if path.stat().st_size == 0:
        return None, "damaged", "it is empty"
    # Without companions nobody has it open, and looking must not make any. Somebody may open it at this moment, though.
    used = _is_used(path)
    found = _look_inside(path, kind, check_s, immutable=not used)
    if found[1] == "damaged" and not used and _is_used(path):
        found = _look_inside(path, kind, check_s, immutable=False)
    return found


def _is_used(path: Path) -> bool:
    return any(os.path.lexists(file) for file in companions(path))


def _look_inside(path: Path, kind: FileKind, check_s: float, *, immutable: bool) -> _Found:
    schema: int | None = None
    try:
        address = f"file:{quote(str(path))}?{'immutable=1' if immutable else 'mode=ro'}"
        with closing(sqlite3.connect(address, uri=True, timeout=_BUSY_S, isolation_level=None)) as connection:
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("PRAGMA query_only = ON")
            application = _number(connection, "application_id")
            if application != kind.application_id:
                return None, "foreign", f"it is not aiorch's {kind.name} file (application id {application})"
            schema = _number(connection, "user_version")
            if schema > kind.version:
                return schema, "newer", f"it has schema {schema} and this release knows {kind.version}"
            wrong = _check(connection, check_s)
            if wrong:
                return schema, "damaged", wrong
            if schema < kind.version:
                return schema, "older", f"it has schema {schema}; the next start brings it to {kind.version}"
            if wrong is None:
                return schema, "unchecked", f"sound as far as {check_s:g} s went"
            return schema, "ok", ""
    except SQLITE_ERRORS as error:
        fault = fault_of(error)
        return schema, "damaged" if fault.kind is FaultKind.DAMAGED else "unavailable", fault.text


def _number(connection: sqlite3.Connection, pragma: str) -> int:
    return int(connection.execute(f"PRAGMA {pragma}").fetchone()[0])


def _check(connection: sqlite3.Connection, check_s: float) -> str | None:
    """Check all pages: what is wrong, empty when nothing is, None when the time was not enough to say so."""
    until = time.monotonic() + check_s
    connection.set_progress_handler(lambda: int(time.monotonic() > until), _STEPS_BETWEEN_LOOKS)
    try:
        found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(1)")]
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_INTERRUPT:
            raise
        return None
    finally:
        connection.set_progress_handler(None, 0)
    return "" if found == ["ok"] else " ".join(" ".join(found).split()) or "its check gave no result"
