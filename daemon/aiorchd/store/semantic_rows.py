"""The semantic cache's part of ``cache.db``: questions by their vectors, and what was learned. Losing it costs money only.

A shelf of its own beside the answers, in the same file: an entry without its answer is dropped when it is met, so the
two need no common transaction, and a file that is begun anew begins both.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from aiorchd.calls.ports import SemanticEntry
from aiorchd.store.bulk import insert_many
from aiorchd.store.database import DatabaseFile
from aiorchd.store.errors import FileFault
from aiorchd.store.short_turns import in_short_turns
from aiorchd.store.writer import Waker

MAX_QUEUED: Final = 4096
LOAD_TIMEOUT_S: Final = 60.0
_TIDY_ROWS: Final = 200
_COUNTED_AGAIN: Final = 64
"""Entries are counted when as many have been put as one in so many of the bound, for to count them is to read a whole index:
some milliseconds among a hundred thousand. So many may be too many for a while."""
_LOADED_AT_ONCE: Final = 100
"""More would be held in memory twice, and keep the interpreter from the loop for longer."""
_STATE: Final = "model"
_KEYS_PER_STATEMENT: Final = 500
_COLUMNS: Final = ("key", "scope", "vector", "sketch", "mark", "source_id", "uid", "right", "wrong")
_INSERT: Final = f"INSERT INTO semantic_entries ({', '.join(_COLUMNS)})"
_UPSERT: Final = "ON CONFLICT (key) DO UPDATE SET " + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[1:])


@dataclass(slots=True)
class SemanticBatch:
    """What goes to the disk in one transaction: deletions first."""

    deleted: tuple[bytes, ...]
    entries: tuple[SemanticEntry, ...]
    state: bytes | None
    counts: tuple[tuple[int, int, bytes], ...]


class SemanticRows:
    """Satisfies `calls.ports.SemanticStore` and the writer's `Shelf`."""

    def __init__(self, file: DatabaseFile, *, writer: Waker, max_entries: int) -> None:
        self._file = file
        self._writer = writer
        self._max_entries = max_entries
        self._entries: dict[bytes, SemanticEntry] = {}
        self._deleted: dict[bytes, None] = {}
        self._counts: dict[bytes, tuple[int, int]] = {}
        self._state: bytes | None = None
        self._dropped = 0
        self._room: int | None = None
        """How many more may be put before they are counted; None: they are counted next time. Of the worker thread only, and so
        is the bound by which it was found."""
        self._bound = max_entries

    async def load_state(self) -> bytes | None:
        """Read what was learned; None when there is nothing or the disk fails."""
        try:
            return await self._file.read(_load_state, timeout_s=LOAD_TIMEOUT_S)
        except FileFault:
            return None

    async def load(self, after: int) -> tuple[Sequence[SemanticEntry], int | None]:
        """Read some entries, the oldest first, and where to go on; nothing more when the disk fails."""
        try:
            return await self._file.read(partial(_load, after=after), timeout_s=LOAD_TIMEOUT_S)
        except FileFault:
            return (), None

    def put(self, entry: SemanticEntry) -> None:
        """Queue an entry; dropped when the queue is full."""
        if entry.key not in self._entries and len(self._entries) >= MAX_QUEUED:
            self._dropped += 1
            return
        self._entries[entry.key] = entry
        self._writer.wake()

    def recount(self, key: bytes, right: int, wrong: int) -> None:
        """Queue the counts of an entry."""
        if key in self._counts or len(self._counts) < MAX_QUEUED:
            self._counts[key] = right, wrong
            self._writer.wake()

    def delete(self, keys: Sequence[bytes]) -> None:
        """Queue deletions."""
        for key in keys:
            self._entries.pop(key, None)
            self._counts.pop(key, None)
            self._deleted[key] = None
        if keys:
            self._writer.wake()

    def keep_state(self, state: bytes) -> None:
        """Queue the state."""
        self._state = state
        self._writer.wake()

    def reconfigure(self, max_entries: int) -> None:
        """Hold to another bound from now on."""
        self._max_entries = max_entries
        self._writer.tidy_soon()

    # --- Shelf ---------------------------------------------------------------------------------------------------------

    @property
    def file(self) -> DatabaseFile:
        """``cache.db``."""
        return self._file

    @property
    def wants_new_file(self) -> bool:
        """Never: whoever forgets everything asks it of the answers."""
        return False

    @property
    def waiting(self) -> bool:
        """Whether anything is to be written."""
        return bool(self._entries or self._deleted or self._counts or self._state is not None)

    def collect(self) -> SemanticBatch | None:
        """Hand over what is gathered."""
        if not self.waiting:
            return None
        batch = SemanticBatch(
            tuple(self._deleted),
            tuple(self._entries.values()),
            self._state,
            tuple((right, wrong, key) for key, (right, wrong) in self._counts.items()),
        )
        self._deleted, self._entries, self._counts, self._state = {}, {}, {}, None
        return batch

    def write(self, connection: sqlite3.Connection, work: SemanticBatch) -> None:
        """Delete, then write."""
        for start in range(0, len(work.deleted), _KEYS_PER_STATEMENT):
            part = work.deleted[start : start + _KEYS_PER_STATEMENT]
            marks = ",".join("?" * len(part))
            connection.execute(f"DELETE FROM semantic_entries WHERE key IN ({marks})", part)  # noqa: S608
        if self._room is not None:
            self._room -= len(work.entries)
        insert_many(connection, _INSERT, len(_COLUMNS), [_row(one) for one in in_short_turns(work.entries)], _UPSERT)
        connection.executemany("UPDATE semantic_entries SET right = ?, wrong = ? WHERE key = ?", work.counts)
        if work.state is not None:
            connection.execute(
                "INSERT INTO semantic_state (name, value) VALUES (?, ?) "
                "ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (_STATE, work.state),
            )

    def written(self, work: SemanticBatch) -> None:
        """Nothing is left to do."""

    def failed(self, work: SemanticBatch, fault: FileFault) -> None:  # noqa: ARG002 - whatever the reason
        """Keep the deletions, which must not be lost, and the state; entries are learned again."""
        self._deleted = {**dict.fromkeys(work.deleted), **self._deleted}
        for key in self._entries:
            self._deleted.pop(key, None)
        self._state = self._state if self._state is not None else work.state
        self._dropped += len(work.entries)

    def tidy(self, connection: sqlite3.Connection) -> bool:
        """Delete the oldest entries beyond the bound, when they are counted; True while there are more."""
        bound = self._max_entries
        if self._room is not None and self._room >= 0 and bound == self._bound:
            return False
        ((over,),) = connection.execute("SELECT count(*) - ? FROM semantic_entries", (bound,))
        self._bound, self._room = bound, max(-over, bound // _COUNTED_AGAIN)
        if over <= 0:
            return False
        connection.execute(
            "DELETE FROM semantic_entries WHERE number IN (SELECT number FROM semantic_entries ORDER BY number LIMIT ?)",
            (min(over, _TIDY_ROWS),),
        )
        if over > _TIDY_ROWS:
            self._room = None
            return True
        return False

    def renewed(self, fault: FileFault | None) -> None:  # noqa: ARG002 - whatever the reason
        """Another file: what is in memory is written when it changes again."""
        self._room = None


def _row(one: SemanticEntry) -> tuple[object, ...]:
    return (one.key, one.scope, one.vector, one.sketch, one.mark, one.source_id, one.uid, one.right, one.wrong)


def _load(connection: sqlite3.Connection, after: int) -> tuple[list[SemanticEntry], int | None]:
    rows = connection.execute(
        f"SELECT number, {', '.join(_COLUMNS)} FROM semantic_entries WHERE number > ? ORDER BY number LIMIT ?",  # noqa: S608
        (after, _LOADED_AT_ONCE),
    ).fetchall()
    return [SemanticEntry(*row[1:]) for row in rows], rows[-1][0] if len(rows) == _LOADED_AT_ONCE else None


def _load_state(connection: sqlite3.Connection) -> bytes | None:
    state = connection.execute("SELECT value FROM semantic_state WHERE name = ?", (_STATE,)).fetchone()
    return None if state is None else bytes(state[0])
