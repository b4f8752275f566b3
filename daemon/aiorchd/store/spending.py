"""The accounts of budgets in ``ledger.db``: what is reserved is on the disk before an attempt starts.

Whoever reserves waits for the next commit, which takes along everything that changed until then: however many attempts start
at once, they share it. What was settled waits for nobody; until it is written the disk knows the higher reservation, so a
crash can only make the house believe that it spent more than it did.
"""

from __future__ import annotations

import logging
import sqlite3
from dataclasses import dataclass
from typing import Final

from aiorch.errors import StorageError
from aiorchd.core.spending import Key, Row, Spending, to_usd
from aiorchd.store.bulk import insert_many
from aiorchd.store.database import DatabaseFile
from aiorchd.store.errors import FileFault
from aiorchd.store.line_to_disk import LineToDisk, Waiting
from aiorchd.store.writer import Waker

MAX_WAITING: Final = 10_000
"""Attempts that may wait for the disk."""

_COLUMNS: Final = "scope, period, spent_nano_usd, estimated_nano_usd, held_nano_usd, attempts, estimates"
_UPDATED: Final = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS.split(", ")[2:])


@dataclass(frozen=True, slots=True)
class _Work:
    rows: list[Row]
    waiting: list[Waiting]


@dataclass(frozen=True, slots=True)
class SpendingStatistics:
    """Attempts that wait for the disk now; ``commits`` were made, ``failures`` were not."""

    waiting: int
    commits: int
    failures: int


class SpendingRows:
    """Keeps ``spending`` on the disk; satisfies the writer's `Shelf` and the port `calls.ports.SpendingStore`."""

    def __init__(self, file: DatabaseFile, spending: Spending, *, writer: Waker) -> None:
        self.spending = spending
        self._file = file
        self._writer = writer
        self._line: LineToDisk[Waiting] = LineToDisk(writer, MAX_WAITING, "attempts")
        self._commits = self._failures = 0

    def begin(self, connection: sqlite3.Connection) -> None:
        """Take over what earlier runs left (at the start, in a transaction, before anything is reserved)."""
        rows = [
            Row(Key(scope, period), *numbers)
            for scope, period, *numbers in connection.execute(f"SELECT {_COLUMNS} FROM spending")  # noqa: S608
        ]
        self.spending.load(rows)
        left = [row for row in rows if row.held]
        if left:
            connection.execute(
                "UPDATE spending SET spent_nano_usd = spent_nano_usd + held_nano_usd, "
                "estimated_nano_usd = estimated_nano_usd + held_nano_usd, held_nano_usd = 0 WHERE held_nano_usd != 0"
            )
            fields = {row.key.scope + " " + row.key.period: round(to_usd(row.held), 6) for row in left}
            logging.getLogger("aiorchd.store").warning(
                "attempts of an earlier run ended without an account: what they had reserved counts as spent",
                extra={"aiorch_fields": fields},
            )

    async def commit(self) -> None:
        """Wait until everything that changed before now is on the disk. Raises `StorageError`, and then it may or may not
        be."""
        await self._line.wait(Waiting())

    def write_soon(self) -> None:
        """Something changed that nobody waits for."""
        self._writer.wake()

    def statistics(self) -> SpendingStatistics:
        """Tell who waits."""
        return SpendingStatistics(len(self._line), self._commits, self._failures)

    # --- Shelf ---------------------------------------------------------------------------------------------------------

    @property
    def file(self) -> DatabaseFile:
        """``ledger.db``."""
        return self._file

    @property
    def waiting(self) -> bool:
        """Whether anything is to be written."""
        return self._line.begun or self.spending.changed

    @property
    def wants_new_file(self) -> bool:
        """Never."""
        return False

    def renewed(self, fault: FileFault | None) -> None:
        """Does not happen: a ledger is not replaced."""

    def collect(self) -> _Work | None:
        """Hand over the accounts that changed, and who waits for them."""
        if not self.waiting:
            return None
        return _Work(self.spending.take_changed(), self._line.take())

    def write(self, connection: sqlite3.Connection, work: _Work) -> None:
        """Write the accounts as they stood."""
        insert_many(
            connection,
            f"INSERT INTO spending ({_COLUMNS})",
            7,
            [(*row.key, row.spent, row.estimated, row.held, row.attempts, row.estimates) for row in work.rows],
            f"ON CONFLICT (scope, period) DO UPDATE SET {_UPDATED}",
        )

    def written(self, work: _Work) -> None:
        """They are on the disk: say so."""
        self._commits += 1
        self._line.settle(work.waiting)

    def failed(self, work: _Work, fault: FileFault) -> None:
        """The disk did not take them: whoever waits must not start; everything is to be written again."""
        self._failures += 1
        self.spending.give_back(work.rows)
        for each in work.waiting:
            each.error = StorageError(
                f"what this call may cost could not be written to the ledger, so it was not started: {fault}",
                retry_after_s=1.0,
                stage="store",
            )
        self._line.settle(work.waiting)

    def tidy(self, connection: sqlite3.Connection) -> bool:
        """Forget accounts of more than a year ago, a few at a time."""
        row = connection.execute("SELECT max(period) FROM spending").fetchone()
        if row[0] is None:
            return False
        before = f"{int(row[0][:4]) - 2}-13"  # years are kept whole
        removed = connection.execute(
            "DELETE FROM spending WHERE rowid IN (SELECT rowid FROM spending WHERE period < ? LIMIT 500)", (before,)
        ).rowcount
        return removed >= 500
