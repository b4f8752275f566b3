"""The ledger: what was promised to be kept. A change is on the disk before whoever asked for it is told.

Changes that wait at the same time are committed together, each in a savepoint of its own, so that one that fails takes
nothing else with it. Later features bring their tables (`ledger_schema`) and their changes; this is how they are carried
out, and what is kept of the daemon itself: which instance this is, and when it started and stopped.
"""

from __future__ import annotations

import os
import sqlite3
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

from aiorch.errors import StorageError
from aiorchd.calls.ports import WallClock
from aiorchd.store.database import DatabaseFile
from aiorchd.store.errors import FaultKind, FileFault, fault_of
from aiorchd.store.line_to_disk import LineToDisk, Waiting
from aiorchd.store.writer import Waker

ResultT = TypeVar("ResultT")

MAX_WAITING: Final = 1000
"""Changes that may wait for the disk."""

_BOOTS_KEPT: Final = 1000


@dataclass(frozen=True, slots=True)
class Boot:
    """One start of the daemon; ``stopped_at`` is None when it did not end in order, or still runs. Wall seconds."""

    number: int
    release: str
    pid: int
    started_at: float
    stopped_at: float | None


@dataclass(frozen=True, slots=True)
class LedgerStatistics:
    """``instance_id`` names this state directory since ``created_at``; ``boot`` counts its starts; ``waiting`` changes wait
    for the disk, ``changes`` were committed, ``refused`` were not."""

    instance_id: str
    created_at: float
    boot: int
    waiting: int
    changes: int
    refused: int


@dataclass(slots=True, eq=False)
class Change(Waiting):
    """Something to be done in the ledger, and how it went."""

    carry_out: Callable[[sqlite3.Connection], Any]
    result: Any = None


class Ledger:
    """Writes and reads ``ledger.db``; satisfies the writer's `Shelf`."""

    def __init__(self, file: DatabaseFile, *, wall_clock: WallClock, writer: Waker) -> None:
        self._file = file
        self._wall_clock = wall_clock
        self._writer = writer
        self._line: LineToDisk[Change] = LineToDisk(writer, MAX_WAITING, "changes")
        self._changes = 0
        self._refused = 0
        self._instance_id = ""
        self._created_at = 0.0
        self._boot = 0
        self.previous: Boot | None = None
        """The start before this one, None at the first."""

    def begin(self, connection: sqlite3.Connection, release: str) -> None:
        """Note this start (at the start, in a transaction, before anything else is written)."""
        now = self._wall_clock()
        facts = {"instance_id": uuid.uuid4().hex, "created_at": repr(now)}
        for name, value in facts.items():
            connection.execute(
                "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT (name) DO NOTHING", (name, value)
            )
        meta = dict(connection.execute("SELECT name, value FROM meta").fetchall())
        row = connection.execute(
            "SELECT number, release, pid, started_at, stopped_at FROM boots ORDER BY number DESC LIMIT 1"
        ).fetchone()
        self.previous = None if row is None else Boot(*row)
        cursor = connection.execute(
            "INSERT INTO boots (release, pid, started_at) VALUES (?, ?, ?)", (release, os.getpid(), now)
        )
        self._boot = int(cursor.lastrowid or 0)
        connection.execute("DELETE FROM boots WHERE number <= ?", (self._boot - _BOOTS_KEPT,))
        try:
            self._instance_id, self._created_at = meta["instance_id"], float(meta["created_at"])
        except (KeyError, ValueError) as error:
            raise FileFault(FaultKind.DAMAGED, "it does not say which instance it belongs to") from error

    def end(self, connection: sqlite3.Connection) -> None:
        """Note that this run ended in order."""
        connection.execute("UPDATE boots SET stopped_at = ? WHERE number = ?", (self._wall_clock(), self._boot))

    async def change(self, carry_out: Callable[[sqlite3.Connection], ResultT]) -> ResultT:
        """Change something and return what ``carry_out`` returned, once it is safely on the disk.

        ``carry_out`` runs in the writer's thread, in a transaction that others share, perhaps more than once; what it raises
        is raised here and nothing of it is kept. Raises `StorageError` when the disk does not take it or too many wait;
        then it was not made. Cancelling does not wait for the answer, and the change may or may not be made.
        """
        self._refused += self._line.full
        waiting = Change(carry_out)
        await self._line.wait(waiting)
        return cast("ResultT", waiting.result)

    async def ask(self, question: Callable[[sqlite3.Connection], ResultT]) -> ResultT:
        """Ask the ledger, in a worker thread. Raises `StorageError` when it cannot be read."""
        try:
            return await self._file.read(question)
        except FileFault as fault:
            raise StorageError(f"the ledger cannot be read: {fault}", retryable=True, stage="store") from fault

    def statistics(self) -> LedgerStatistics:
        """Tell which instance this is and what waits."""
        return LedgerStatistics(
            instance_id=self._instance_id,
            created_at=self._created_at,
            boot=self._boot,
            waiting=len(self._line),
            changes=self._changes,
            refused=self._refused,
        )

    # --- Shelf ---------------------------------------------------------------------------------------------------------

    @property
    def file(self) -> DatabaseFile:
        """``ledger.db``."""
        return self._file

    @property
    def waiting(self) -> bool:
        """Whether any change waits."""
        return self._line.begun

    @property
    def wants_new_file(self) -> bool:
        """Never."""
        return False

    def renewed(self, fault: FileFault | None) -> None:
        """Does not happen: a ledger is not replaced."""

    def collect(self) -> list[Change] | None:
        """Hand over the changes that wait."""
        return self._line.take() if self._line.begun else None

    def write(self, connection: sqlite3.Connection, work: list[Change]) -> None:
        """Carry the changes out, each on its own."""
        for change in work:
            connection.execute("SAVEPOINT change")
            change.result, change.error = None, None
            try:
                change.result = change.carry_out(connection)
            except sqlite3.Error as error:
                if fault_of(error).kind is not FaultKind.REFUSED:
                    raise  # the file, not the change
                change.error = error
            except Exception as error:  # barrier: it belongs to whoever asked for the change
                change.error = error
            if change.error is not None:
                connection.execute("ROLLBACK TO change")
            connection.execute("RELEASE change")

    def written(self, work: list[Change]) -> None:
        """They are on the disk: say so."""
        self._changes += sum(change.error is None for change in work)
        self._line.settle(work)

    def failed(self, work: list[Change], fault: FileFault) -> None:
        """The disk did not take them: say so, and keep nothing that its owner believes lost."""
        self._refused += len(work)
        for change in work:
            change.result = None
            change.error = StorageError(f"the ledger cannot be written: {fault}", retryable=True, stage="store")
        self._line.settle(work)

    def tidy(self, connection: sqlite3.Connection) -> bool:
        """Nothing here grows by itself."""
        del connection
        return False
