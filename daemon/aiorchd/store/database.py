"""One SQLite file in use: opened, written in transactions, read beside the writer, replaced when damaged.

There are two connections, one for the writer and one for readers; in WAL mode neither waits for the other. The blocking
methods run in worker threads, never two writers at once (the `Writer` sees to that) and never two readers (the limiter
here does), whether they are awaited (`read`) or waited for (`read_at_once`). State for people, the faults, is noted on
Trio's thread.
"""

from __future__ import annotations

import logging
import math
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import trio

from aiorchd.calls.ports import WallClock
from aiorchd.core.brief_wait import BriefWait
from aiorchd.store.brief_reader import BriefReader
from aiorchd.store.connecting import connect_reader, connect_writer, looking
from aiorchd.store.errors import SQLITE_ERRORS, FaultKind, FileFault, StateError, fault_of, fault_of_system
from aiorchd.store.inspection import prepare_file, version_of
from aiorchd.store.kinds import FileKind
from aiorchd.store.place import companions, move_aside, remove

ResultT = TypeVar("ResultT")

_RENEWALS_APART_S: Final = 60.0
"""Damage that comes back at once has a cause that another new file does not cure."""


@dataclass(frozen=True, slots=True)
class FileStatistics:
    """How one file fares. ``state`` is ``ok`` or the kind of the fault it has now; ``fault`` says which, ``since`` (wall
    seconds) since when. ``bytes`` is its size with its write-ahead log."""

    path: str
    state: str
    fault: str | None
    since: float | None
    faults: int
    commits: int
    put_aside: tuple[str, ...]
    bytes: int


class DatabaseFile:
    """One file of the state directory."""

    def __init__(self, directory: Path, kind: FileKind, *, wall_clock: WallClock) -> None:
        self.kind = kind
        self.path = directory / f"{kind.name}.db"
        self._wall_clock = wall_clock
        self._writer: sqlite3.Connection | None = None
        self._reader: sqlite3.Connection | None = None
        self._reader_limit = trio.CapacityLimiter(1)
        self._brief_reader = BriefReader()
        self._brief_wait = BriefWait()
        self._gave_up_waiting = False
        self._identity: tuple[int, int] | None = None
        self._renewed_at = -math.inf
        self._write_fault: FileFault | None = None
        self._read_fault: FileFault | None = None
        self._fault_since: float | None = None
        self._faults = 0
        self._commits = 0
        self._put_aside: list[str] = []
        self._log = logging.getLogger("aiorchd.store")
        self.damaged = False
        """Set when a reader met damage; the writer replaces the file before it writes again."""

    # --- blocking; the writer's thread or the start ------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether it can be written without opening it first."""
        return self._writer is not None

    def refuse_newer(self) -> None:
        """Raise `SchemaTooNew` when a newer release wrote this file. Changes nothing; anything else is for `open`."""
        if not self.path.is_file() or self.path.stat().st_size == 0:
            return
        try:
            with looking(self.path) as connection:
                version_of(self.path, self.kind, connection)
        except (FileFault, *SQLITE_ERRORS):
            return

    def open(self) -> None:
        """Open the file for writing; make it when it is missing, bring it up to date when it is old.

        A damaged one is put aside when it is disposable. Raises `FileFault` when the file cannot be opened, also for one
        that is damaged and not disposable, and `SchemaTooNew`.
        """
        try:
            try:
                self._open()
            except FileFault as fault:
                if fault.kind is not FaultKind.DAMAGED or not self.kind.disposable:
                    raise
                self._close_writer()
                self._put_aside.append(move_aside(self.path, self._wall_clock()).name)
                self._open()
        except OSError as error:
            raise fault_of_system(error) from error

    def transact(self, work: Callable[[sqlite3.Connection], ResultT]) -> ResultT:
        """Do something in one transaction: all of it is there afterwards, or nothing. Raises `FileFault`.

        ``work`` may be called again for the same thing after a failure.
        """
        if self._writer is None:
            try:
                self.open()
            except StateError as error:
                raise FileFault(FaultKind.UNAVAILABLE, str(error)) from error
        connection = self._writer
        assert connection is not None
        try:
            self._check_identity()
            connection.execute("BEGIN IMMEDIATE")
            result = work(connection)
            connection.execute("COMMIT")
        except SQLITE_ERRORS as error:
            fault = fault_of(error)
            self._undo(fault)
            raise fault from error
        except BaseException:  # barrier: whatever ends a transaction, it is undone
            self._undo(None)
            raise
        self._commits += 1
        return result

    def renew(self, *, keep: bool) -> bool:
        """Replace the file by a new, empty one, the old one being put aside (``keep``) or deleted.

        The caller must hold the readers off (`readers_held`). Returns False, and changes nothing, when that was done a
        moment ago because of damage. Raises `FileFault` when no new one can be made now.
        """
        now = time.monotonic()
        gone = not os.path.lexists(self.path)  # nothing says that a new one would be damaged, too
        if keep and not gone and now - self._renewed_at < _RENEWALS_APART_S:
            return False
        self._close_both()
        try:
            if keep and not gone:
                self._renewed_at = now
            if keep and any(os.path.lexists(file) for file in (self.path, *companions(self.path))):
                self._put_aside.append(move_aside(self.path, self._wall_clock()).name)
            elif not keep:
                remove(self.path)
        except OSError as error:
            raise fault_of_system(error) from error
        self.open()
        return True

    def close(self) -> None:
        """Close both connections; the last one folds the write-ahead log into the file."""
        self._brief_reader.close()
        self._close_both()

    def _close_both(self) -> None:
        if self._reader is not None:
            with suppress(*SQLITE_ERRORS):
                self._reader.close()
            self._reader = None
        self._close_writer()

    # --- Trio's thread -------------------------------------------------------------------------------------------

    async def read(self, question: Callable[[sqlite3.Connection], ResultT], *, timeout_s: float = math.inf) -> ResultT:
        """Ask the file something in a worker thread, without waiting for the writer. Raises `FileFault`.

        When it takes longer than ``timeout_s`` the answer is given up (the thread finishes on its own), and until it has
        finished further questions with a limit are refused at once: a disk that hangs must not cost every call its
        patience. Cancelling leaves at once.
        """
        if self._gave_up_waiting and timeout_s < math.inf:
            if self._reader_limit.borrowed_tokens:
                raise FileFault(FaultKind.SLOW, "the disk still works on an earlier question")
            self._gave_up_waiting = False
        with trio.move_on_after(timeout_s):
            try:
                answer = await trio.to_thread.run_sync(
                    self._read, question, limiter=self._reader_limit, abandon_on_cancel=True
                )
            except SQLITE_ERRORS as error:
                fault = fault_of(error)
                if fault.kind is FaultKind.DAMAGED:
                    self.damaged = True
                self.note(fault, reading=True)
                raise fault from error
            self.note(None, reading=True)
            return answer
        self._gave_up_waiting = True
        fault = FileFault(FaultKind.SLOW, f"no answer within {timeout_s:g} s")
        self.note(fault, reading=True)
        raise fault

    def read_at_once(self, question: Callable[[sqlite3.Connection], ResultT]) -> ResultT | None:
        """Ask the file something and wait for the answer, for a millisecond at most: for what is nearly always in memory, since
        it holds up everybody. None when there is no answer by then, or lately was none, or others are asking: then `read`
        is the way. Raises `FileFault`.
        """
        if (
            self._gave_up_waiting
            or self._reader_limit.borrowed_tokens
            or not self._brief_wait.worth_it(trio.current_time())
        ):
            return None
        # Nobody else can begin to read before this returns, so the reader is taken only when it goes on after that.
        results = self._brief_reader.ask(partial(self._look, question), self._brief_wait.limit_s, self._looked_late)
        if results is None:
            self._reader_limit.acquire_on_behalf_of_nowait(self)
            self._brief_wait.was_late(trio.current_time())
            return None
        self._brief_wait.came()
        self._looked(results)
        result = results[0] if results else None
        if isinstance(result, FileFault):
            raise result
        return result

    def _look(self, question: Callable[[sqlite3.Connection], ResultT]) -> ResultT | FileFault:
        try:
            return self._read(question)
        except SQLITE_ERRORS as error:
            return fault_of(error)

    def _looked_late(self, results: list[Any]) -> None:
        """A look has ended that nobody waits for any more, on Trio's thread: others may read."""
        self._reader_limit.release_on_behalf_of(self)
        self._looked(results)

    def _looked(self, results: list[Any]) -> None:
        for result in results:
            fault = result if isinstance(result, FileFault) else None
            if fault is not None and fault.kind is FaultKind.DAMAGED:
                self.damaged = True
            if fault is not None or self._read_fault is not None:
                self.note(fault, reading=True)

    @property
    def readers_held(self) -> trio.CapacityLimiter:
        """Enter this (``async with``) to keep readers off while the file is replaced."""
        return self._reader_limit

    def note(self, fault: FileFault | None, *, reading: bool = False) -> None:
        """Remember how the last writing or reading went; a change is logged, once."""
        before = self.fault
        if fault is not None:
            fault = FileFault(fault.kind, fault.text)  # without the traceback and all it would keep alive
        if reading:
            self._read_fault = fault
        else:
            self._write_fault = fault
            if fault is None:
                self._read_fault = None  # a file that takes a transaction can be read, as far as is known
        self._faults += fault is not None
        now = self.fault
        if now is before or (now is not None and before is not None and now.kind is before.kind):
            return
        fields: dict[str, Any] = {"file": self.path.name}
        if now is None:
            fields["after_s"] = round(max(0.0, self._wall_clock() - (self._fault_since or 0.0)), 3)
            self._fault_since = None
            self._log.warning("file works again", extra={"aiorch_fields": fields})
            return
        self._fault_since = self._wall_clock()
        fields |= {"kind": now.kind.value, "error": now.text}
        self._log.error("file does not work", extra={"aiorch_fields": fields})

    @property
    def fault(self) -> FileFault | None:
        """What is wrong with the file at present."""
        return self._write_fault or self._read_fault

    def statistics(self) -> FileStatistics:
        """Tell how the file fares."""
        size = 0
        for file in (self.path, companions(self.path)[0]):
            with suppress(OSError):
                size += file.stat().st_size
        fault = self.fault
        if fault is None and self._writer is not None:
            try:
                self._check_identity()  # the ledger may go unwritten for days, and it must not be missed only then
            except FileFault as gone:
                fault = gone
        return FileStatistics(
            path=str(self.path),
            state="ok" if fault is None else fault.kind.value,
            fault=None if fault is None else fault.text,
            since=self._fault_since,
            faults=self._faults,
            commits=self._commits,
            put_aside=tuple(self._put_aside),
            bytes=size,
        )

    # --- inside --------------------------------------------------------------------------------------------------

    def _read(self, question: Callable[[sqlite3.Connection], ResultT]) -> ResultT:
        connection = self._reader
        if connection is None:
            connection = self._reader = connect_reader(self.path)
        try:
            return question(connection)
        except SQLITE_ERRORS:
            # A new connection next time: this one may hold a broken page or a half-open transaction.
            self._reader = None
            with suppress(*SQLITE_ERRORS):
                connection.close()
            raise

    def _open(self) -> None:
        if not self.kind.disposable and self._identity is not None:
            # Opened again after a fault: one that went away meanwhile (its disk, say) is not begun anew in its place.
            self._check_identity()
        try:
            prepare_file(self.path, self.kind)
            self._writer = connect_writer(self.path, self.kind)
            status = self.path.stat()
            self._identity = (status.st_dev, status.st_ino)
        except SQLITE_ERRORS as error:
            raise fault_of(error) from error

    def _check_identity(self) -> None:
        """Notice a file that was removed or exchanged: SQLite would go on writing into what nobody can find again."""
        try:
            status = self.path.stat()
            same = (status.st_dev, status.st_ino) == self._identity
        except FileNotFoundError:
            same = False
        except OSError as error:
            raise fault_of_system(error) from error
        if not same:
            raise FileFault(FaultKind.DAMAGED, "it was removed or exchanged while in use")

    def _undo(self, fault: FileFault | None) -> None:
        connection = self._writer
        if connection is None:
            return
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except SQLITE_ERRORS:
            self._close_writer()
        if fault is not None and fault.kind in (FaultKind.IO, FaultKind.UNAVAILABLE, FaultKind.MEMORY):
            self._close_writer()  # begin again from what is on the disk

    def _close_writer(self) -> None:
        if self._writer is not None:
            with suppress(*SQLITE_ERRORS):
                self._writer.close()
            self._writer = None
