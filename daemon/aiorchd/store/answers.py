"""The answers on disk: what `calls.ports.AnswerStore` promises, over ``cache.db``.

What is put can be read at once: gathered answers are looked up before the file is. Deletions hold at once as well: until
one is carried out it filters what is read. A file that cannot be read is an empty cache, one that cannot be written keeps
what it has; both are counted and shown.

Bounds: entries (counted by triggers) and bytes (pages in use, so that indexes and overhead count too). What has expired
goes first, then what was used longest ago. Used means written, read from here, or told by `Answers.touch`; it is kept to
the minute and written with the next batch, so that reading does not become writing. An answer that memory keeps serving is
not read from here: whoever owns the memory tells by `touch` what it serves.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

import trio

from aiorchd.calls.ports import StoredAnswer, WallClock
from aiorchd.core.memory_cache import CLOCK_TOLERANCE_S
from aiorchd.store.answer_rows import (
    USED_RESOLUTION_S,
    Row,
    count_answers,
    drop_expired,
    drop_keys,
    drop_rows,
    make_room,
    mark_used,
    read_answer,
    some_stored_at,
    storable,
    write_answers,
)
from aiorchd.store.database import DatabaseFile
from aiorchd.store.errors import FaultKind, FileFault
from aiorchd.store.forgetting import Forgetting
from aiorchd.store.known_keys import KnownKeys
from aiorchd.store.pages import give_back, pages_of
from aiorchd.store.writer import Waker

MAX_QUEUED: Final = 4096
MAX_QUEUED_BYTES: Final = 16 * 1024 * 1024
READ_TIMEOUT_S: Final = 0.5
"""A disk slower than this does not help: the call goes on as if nothing was found."""
DELETE_TIMEOUT_S: Final = 30.0

_HURRY_QUEUED: Final = 256
_HURRY_BYTES: Final = 1024 * 1024
_OVERHEAD_BYTES: Final = 300
_MAX_USED: Final = 4096
_MAX_POISON: Final = 1024
_MAX_FORGETTINGS: Final = 1024
_MAX_UNWANTED: Final = 1 << 16
_DELETE_STEP_S: Final = 0.03
_TIDY_ROWS: Final = 200
_SAMPLED: Final = 200


@dataclass(frozen=True, slots=True)
class AnswerBounds:
    """What ``cache.db`` may hold."""

    max_entries: int = 1_000_000
    max_bytes: int = 1024**3
    stale_s: float = 0.0
    """How long an answer that is out of date is still of use."""


@dataclass(frozen=True, slots=True)
class AnswerStatistics:
    """``bytes`` are pages in use, ``file_bytes`` the size of the file. Of those ``asked`` for, ``spared`` were known to be absent
    without reading. ``dropped`` answers were not written because the
    queue was full, the answer too large or the disk failing; ``poisoned`` ones failed their checksum; ``deletions_pending``
    are in force and not yet carried out."""

    entries: int
    bytes: int
    file_bytes: int
    max_entries: int
    max_bytes: int
    asked: int
    spared: int
    found: int
    read_faults: int
    written: int
    dropped: int
    poisoned: int
    expired: int
    evicted: int
    deleted: int
    queued: int
    queued_bytes: int
    deletions_pending: int


@dataclass(slots=True)
class AnswerBatch:
    """What goes to the disk in one transaction: deletions first, since what was put after them is to stay."""

    answers: tuple[StoredAnswer, ...]
    used: tuple[bytes, ...]
    poisoned: tuple[int, ...]
    forgettings: tuple[Forgetting, ...]
    unwanted: frozenset[bytes] = frozenset()
    refused: int = 0
    unwanted_rows: int = 0


class Answers:
    """The disk tier of the cache; satisfies `calls.ports.AnswerStore` and the writer's `Shelf`."""

    def __init__(self, file: DatabaseFile, *, wall_clock: WallClock, writer: Waker, bounds: AnswerBounds) -> None:
        self._file = file
        self._wall_clock = wall_clock
        self._writer = writer
        self._bounds = bounds
        # All that changes. Gathered and not yet handed to the writer:
        self._gathered: dict[bytes, StoredAnswer] = {}
        self._gathered_bytes = 0
        self._used: set[bytes] = set()
        self._poison: set[int] = set()
        self._unwanted: set[bytes] = set()
        self._forgettings: list[Forgetting] = []
        # With the writer now:
        self._writing: dict[bytes, StoredAnswer] = {}
        self._leaving: frozenset[bytes] = frozenset()
        self._changes = 0  # batches written and files replaced: what was read before may be gone, or another one
        self._keys = KnownKeys()
        # What is shown:
        self._entries = 0
        self._pages_bytes = 0
        self._file_bytes = 0
        self._asked = 0
        self._spared = 0
        self._found = 0
        self._read_faults = 0
        self._written = 0
        self._dropped = 0
        self._poisoned = 0
        self._expired = 0
        self._evicted = 0
        self._deleted = 0

    # --- AnswerStore -------------------------------------------------------------------------------------------------

    async def get(self, key: bytes) -> StoredAnswer | None:
        """Find an answer that is fresh, or out of date by at most the bounds' ``stale_s``; one that fails its checksum is
        dropped and counted."""
        if self.absent(key):
            return None
        self._asked += 1
        return self._of_use(self._gathered.get(key) or self._writing.get(key) or await self._read(key))

    def look(self, key: bytes) -> StoredAnswer | None:
        """Find the same without giving anybody else a turn, where it is very probably there and the disk lets nobody wait. None
        says nothing about what `get` would find."""
        answer = self._gathered.get(key) or self._writing.get(key)
        if answer is None:
            if not self._keys.has(key):
                return None
            try:
                row = self._file.read_at_once(partial(read_answer, key=key))
            except FileFault as fault:
                self._not_read(fault)
                return None
            if row is None:
                return None
            answer = self._checked(key, row)
        self._asked += 1
        return self._of_use(answer)

    def absent(self, key: bytes) -> bool:
        """Tell whether there is surely nothing: then it counts as asked for, and nothing was read for it."""
        if key in self._gathered or key in self._writing or not self._keys.lacks(key):
            return False
        self._asked += 1
        self._spared += 1
        return True

    def likely(self, key: bytes) -> bool:
        """Tell whether there is very probably an answer, not whether it is fresh; False while the keys are not known."""
        return self._keys.has(key)

    def put(self, answer: StoredAnswer) -> None:
        """Queue an answer to be written within a second; dropped (and counted) when the queue is full, and an older one with
        it."""
        if self._bounds.max_entries <= 0:
            return
        key, gathered, size = answer.key, self._gathered, _size_of(answer)
        if key in gathered:
            self._gathered_bytes -= _size_of(gathered.pop(key))
        gathered_bytes = self._gathered_bytes + size
        if len(gathered) >= MAX_QUEUED or gathered_bytes > MAX_QUEUED_BYTES or size > self._bounds.max_bytes // 4:
            self._dropped += 1
            self.drop(key)
            return
        self._keys.add(key)
        if not gathered:
            self._writer.wake()
        gathered[key] = storable(answer)
        self._gathered_bytes = gathered_bytes
        if len(gathered) >= _HURRY_QUEUED or gathered_bytes >= _HURRY_BYTES:
            self._writer.wake(hurry=True)

    def drop(self, key: bytes) -> None:
        """Have nothing under a key from now on, until something is put there; gone from the disk within a second. Costs nothing
        where surely nothing is."""
        if key not in self._gathered and key not in self._writing and self._keys.lacks(key):
            return
        self._ungather(key)
        self._writing.pop(key, None)  # hidden, as by `delete`
        if len(self._unwanted) >= _MAX_UNWANTED:  # the disk has not taken any for long: as in `delete`
            forgetting = Forgetting()
            forgetting.listed = True
            self._forgettings.append(forgetting)
            self._unwanted.clear()
        self._unwanted.add(key)
        self._writer.wake()

    def touch(self, keys: Iterable[bytes]) -> None:
        """Count these as used now, though they were served from elsewhere. Cheap; a hint that may be lost."""
        for key in keys:
            if len(self._used) >= _MAX_USED:
                break
            self._used.add(key)
        if len(self._used) >= _MAX_USED // 2:
            self._writer.wake()

    async def delete(
        self,
        *,
        uid: int | None = None,
        keys: Sequence[bytes] | None = None,
        source_id: str | None = None,
        tag: str | None = None,
        everything: bool = False,
    ) -> list[bytes]:
        """Delete what matches all the given marks, of one user or (uid None) of all; returns the keys.

        Holds from the moment of the call, also when the caller is cancelled or the disk fails: then it is tried again
        until it succeeds. Without any mark nothing is deleted unless ``everything`` says so.
        """
        if not everything and (uid, keys, source_id, tag) == (None, None, None, None):
            return []
        forgetting = Forgetting(uid=uid, keys=keys, source_id=source_id, tag=tag)
        if self._file.fault is not None and len(self._forgettings) >= _MAX_FORGETTINGS:
            forgetting = (
                Forgetting()
            )  # too many that the disk does not take: dropping all of it works even on a full one
        gone = {
            answer.key for answer in (*self._gathered.values(), *self._writing.values()) if forgetting.covers(answer)
        }
        for key in gone:
            self._ungather(key)
            self._writing.pop(key, None)  # hidden; the writer has its own list, and the deletion comes after it
        self._forgettings.append(forgetting)
        try:
            if forgetting.of_everything:
                gone.update(await self._keys_of(forgetting))
        finally:
            forgetting.listed = True
            self._writer.wake(hurry=True)
        with trio.move_on_after(DELETE_TIMEOUT_S):
            await forgetting.attempted.wait()
        gone.update(forgetting.removed)
        if not forgetting.finished:
            gone.update(await self._keys_of(forgetting))
        return list(gone)

    async def some_stored_at(self) -> list[float]:
        """Give the times at which some answers were stored, chosen evenly over all of them; none when the disk fails."""
        try:
            return await self._file.read(partial(some_stored_at, limit=_SAMPLED), timeout_s=READ_TIMEOUT_S)
        except FileFault:
            self._read_faults += 1
            return []

    def statistics(self) -> Mapping[str, Any]:
        """Tell entries, bytes, bounds, queue, faults: an `AnswerStatistics` as a map."""
        return asdict(
            AnswerStatistics(
                entries=self._entries,
                bytes=self._pages_bytes,
                file_bytes=self._file_bytes,
                max_entries=self._bounds.max_entries,
                max_bytes=self._bounds.max_bytes,
                asked=self._asked,
                spared=self._spared,
                found=self._found,
                read_faults=self._read_faults,
                written=self._written,
                dropped=self._dropped,
                poisoned=self._poisoned,
                expired=self._expired,
                evicted=self._evicted,
                deleted=self._deleted,
                queued=len(self._gathered) + len(self._writing),
                queued_bytes=self._gathered_bytes + sum(map(_size_of, self._writing.values())),
                deletions_pending=len(self._forgettings),
            )
        )

    # --- beyond the port ---------------------------------------------------------------------------------------------

    def reconfigure(self, bounds: AnswerBounds) -> None:
        """Hold to other bounds from now on; what exceeds them goes step by step."""
        self._bounds = bounds
        self._writer.tidy_soon()

    # --- Shelf ---------------------------------------------------------------------------------------------------------

    @property
    def file(self) -> DatabaseFile:
        """``cache.db``."""
        return self._file

    @property
    def wants_new_file(self) -> bool:
        """Whether everything is to be forgotten."""
        return any(forgetting.of_everything and forgetting.listed for forgetting in self._forgettings)

    @property
    def waiting(self) -> bool:
        """Whether anything is to be written. Uses alone wait for company."""
        return bool(self._gathered or self._forgettings or self._poison or self._unwanted)

    def collect(self) -> AnswerBatch | None:
        """Hand over what is gathered."""
        self._keys.read_if_due((*self._gathered, *self._writing))
        forgettings = tuple(forgetting for forgetting in self._forgettings if not forgetting.of_everything)
        if not (self._gathered or self._used or self._poison or self._unwanted or forgettings):
            return None
        self._leaving, self._unwanted = frozenset(self._unwanted), set()
        batch = AnswerBatch(
            tuple(self._gathered.values()), tuple(self._used), tuple(self._poison), forgettings, self._leaving
        )
        self._writing, self._gathered, self._gathered_bytes = self._gathered, {}, 0
        self._used = set()
        return batch

    def write(self, connection: sqlite3.Connection, work: AnswerBatch) -> None:
        """Delete what is to be deleted, write what was put, and make room for it."""
        until = time.monotonic() + _DELETE_STEP_S
        drop_rows(connection, work.poisoned)
        work.unwanted_rows = drop_keys(connection, tuple(work.unwanted))
        for forgetting in work.forgettings:
            forgetting.delete(connection, until)
        bounds, now = self._bounds, self._wall_clock()
        work.refused = write_answers(connection, work.answers, now) if work.answers else 0
        mark_used(connection, work.used, now)
        expired, evicted, _ = make_room(
            connection, now - bounds.stale_s, bounds.max_entries, bounds.max_bytes, len(work.answers) + _TIDY_ROWS
        )
        self._measure(connection, expired, evicted)

    def written(self, work: AnswerBatch) -> None:
        """The batch is on disk."""
        self._writing = {}
        self._written += len(work.answers) - work.refused
        self._dropped += work.refused
        self._poison.difference_update(work.poisoned)
        self._leaving = frozenset()
        self._deleted += work.unwanted_rows
        self._changes += 1
        for forgetting in work.forgettings:
            before = len(forgetting.removed)
            forgetting.committed()
            self._deleted += len(forgetting.removed) - before
            if forgetting.finished:
                self._forgettings.remove(forgetting)

    def failed(self, work: AnswerBatch, fault: FileFault) -> None:
        """Nothing of the batch is on disk: keep it for the next round, as far as there is room."""
        hidden, self._writing = self._writing, {}
        self._unwanted |= self._leaving
        self._leaving = frozenset()
        for forgetting in work.forgettings:
            forgetting.attempted.set()
        if fault.kind in (FaultKind.REFUSED, FaultKind.DEFECT):
            self._dropped += len(work.answers)
            return
        for answer in work.answers:
            if answer.key not in hidden or answer.key in self._gathered:
                continue  # forgotten or put again meanwhile
            size = _size_of(answer)
            if len(self._gathered) >= MAX_QUEUED or self._gathered_bytes + size > MAX_QUEUED_BYTES:
                self._dropped += 1
                continue
            self._gathered[answer.key] = answer
            self._gathered_bytes += size

    def tidy(self, connection: sqlite3.Connection) -> bool:
        """Delete some of what has expired or exceeds the bounds, give back some pages; tell whether to come again."""
        bounds, now = self._bounds, self._wall_clock()
        of_use_at = now - bounds.stale_s
        expired = drop_expired(connection, of_use_at, _TIDY_ROWS)
        more, evicted, still = make_room(connection, of_use_at, bounds.max_entries, bounds.max_bytes, _TIDY_ROWS)
        vacuum = give_back(connection, bounds.max_bytes)
        self._measure(connection, expired + more, evicted)
        return self._keys.read_on(connection) or expired >= _TIDY_ROWS or still or vacuum

    def renewed(self, fault: FileFault | None) -> None:
        """The file was replaced by an empty one, or could not be."""
        if fault is not None:
            for forgetting in self._forgettings:
                forgetting.attempted.set()
            return
        self._deleted += self._entries
        self._entries = 0
        self._poison.clear()
        self._unwanted.clear()
        self._changes += 1
        self._keys.read_anew((*self._gathered, *self._writing))
        for forgetting in self._forgettings:
            forgetting.finish()
        self._forgettings.clear()

    # --- inside ----------------------------------------------------------------------------------------------------------

    async def _read(self, key: bytes) -> StoredAnswer | None:
        while True:
            changes = self._changes
            try:
                row = await self._file.read(partial(read_answer, key=key), timeout_s=READ_TIMEOUT_S)
            except FileFault as fault:
                self._not_read(fault)
                return None
            newer = self._gathered.get(key) or self._writing.get(key)
            if newer is not None:
                return newer
            if changes == self._changes:
                break
        return None if row is None else self._checked(key, row)

    def _not_read(self, fault: FileFault) -> None:
        self._read_faults += 1
        if fault.kind is FaultKind.DAMAGED:
            self._writer.wake(hurry=True)

    def _of_use(self, answer: StoredAnswer | None) -> StoredAnswer | None:
        """Give an answer that is not too old, counted."""
        if answer is None:
            return None
        now = self._wall_clock()
        if not answer.stored_at - CLOCK_TOLERANCE_S <= now < answer.expires_at + self._bounds.stale_s:
            return None
        self._found += 1
        return answer

    def _checked(self, key: bytes, row: Row) -> StoredAnswer | None:
        """Give what was read, unless it is damaged or forgotten."""
        if key in self._unwanted or key in self._leaving:
            return None
        if row.answer is None:
            if row.number not in self._poison and len(self._poison) < _MAX_POISON:
                self._poisoned += 1
                self._poison.add(row.number)
                self._writer.wake()
            return None
        if any(forgetting.covers(row.answer) for forgetting in self._forgettings):
            return None
        if row.used_at < self._wall_clock() - USED_RESOLUTION_S:
            self.touch((key,))
        return row.answer

    async def _keys_of(self, forgetting: Forgetting) -> list[bytes]:
        try:
            return await self._file.read(forgetting.find)
        except FileFault:
            self._read_faults += 1
            return []

    def _ungather(self, key: bytes) -> None:
        answer = self._gathered.pop(key, None)
        if answer is not None:
            self._gathered_bytes -= _size_of(answer)

    def _measure(self, connection: sqlite3.Connection, expired: int, evicted: int) -> None:
        # In the worker thread: plain assignments of numbers that are only shown.
        pages = pages_of(connection)
        self._entries = count_answers(connection)
        self._pages_bytes, self._file_bytes = pages.used_bytes, pages.file_bytes
        self._expired += expired
        self._evicted += evicted


def _size_of(answer: StoredAnswer) -> int:
    return len(answer.body) + len(answer.key) + _OVERHEAD_BYTES
