"""How large batches may be, as it was learned: a small table of ``metrics.db``, so that a model that answers worse in batches
is not found out anew after each restart. Losing it costs some calls and some time, nothing else.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from aiorchd.store.database import DatabaseFile
from aiorchd.store.errors import FileFault
from aiorchd.store.writer import Waker

MOST_ROWS: Final = 1000
LOAD_TIMEOUT_S: Final = 10.0


@dataclass(slots=True)
class LearnedSizes:
    """What goes to the disk in one transaction: states by operation and model."""

    states: tuple[tuple[str, str, bytes], ...]


class BatchRows:
    """Satisfies `calls.ports.BatchStore` and the writer's `Shelf`."""

    def __init__(self, file: DatabaseFile, *, writer: Waker) -> None:
        self._file = file
        self._writer = writer
        self._states: dict[tuple[str, str], bytes] = {}

    async def load(self) -> Sequence[tuple[str, str, bytes]]:
        """Read all that was kept, what changed longest ago first; nothing when the disk fails."""
        try:
            return await self._file.read(_load, timeout_s=LOAD_TIMEOUT_S)
        except FileFault:
            return ()

    def keep(self, operation: str, model: str, state: bytes) -> None:
        """Queue what was learned of an operation and a model, in the place of what was."""
        if (operation, model) in self._states or len(self._states) < MOST_ROWS:
            self._states[operation, model] = state
            self._writer.wake()

    # --- Shelf ---------------------------------------------------------------------------------------------------------

    @property
    def file(self) -> DatabaseFile:
        """``metrics.db``."""
        return self._file

    @property
    def wants_new_file(self) -> bool:
        """Never."""
        return False

    @property
    def waiting(self) -> bool:
        """Whether anything is to be written."""
        return bool(self._states)

    def collect(self) -> LearnedSizes | None:
        """Hand over what is gathered."""
        if not self._states:
            return None
        work = LearnedSizes(tuple((*place, state) for place, state in self._states.items()))
        self._states = {}
        return work

    def write(self, connection: sqlite3.Connection, work: LearnedSizes) -> None:
        """Put each row in the place of the one before; numbers grow, so that the lowest is what changed longest ago."""
        connection.executemany(
            "INSERT OR REPLACE INTO batch_sizes (operation, model, state) VALUES (?, ?, ?)", work.states
        )

    def written(self, work: LearnedSizes) -> None:
        """Nothing is left to do."""

    def failed(self, work: LearnedSizes, fault: FileFault) -> None:  # noqa: ARG002 - whatever the reason
        """Try again with what is newest."""
        self._states = {(operation, model): state for operation, model, state in work.states} | self._states

    def tidy(self, connection: sqlite3.Connection) -> bool:
        """Delete what changed longest ago, beyond the bound."""
        connection.execute(
            "DELETE FROM batch_sizes WHERE number <= (SELECT number FROM batch_sizes ORDER BY number DESC LIMIT 1 OFFSET ?)",
            (MOST_ROWS,),
        )
        return False

    def renewed(self, fault: FileFault | None) -> None:
        """Another file: what is in memory is written when it changes again."""


def _load(connection: sqlite3.Connection) -> list[tuple[str, str, bytes]]:
    rows = connection.execute("SELECT operation, model, state FROM batch_sizes ORDER BY number LIMIT ?", (MOST_ROWS,))
    return [(str(operation), str(model), bytes(state)) for operation, model, state in rows]
