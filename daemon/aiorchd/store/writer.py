"""The one hand that writes: takes what the shelves have gathered, a transaction a file, a few times a second.

Everything is decided on Trio's thread, where the shelves gather what is to be written; a worker thread does the writing
and comes back; then the shelves are told how it went. So `put` and `record` never wait, no lock is needed anywhere, and
at most one batch of each shelf is on its way while the next one gathers, under the shelf's own bounds.

::

    quiet ──wake──▶ gathering ──flush_s, or hurry──▶ writing (worker thread) ──▶ settled ──▶ quiet, or gathering again

A shelf whose file fails keeps what may be kept and is left alone for ``retry_s``; the others are not affected. Damage of a
disposable file, seen by the writer or by a reader, is answered by a new file.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol, TypeVar

import trio

from aiorchd.store.database import DatabaseFile
from aiorchd.store.errors import FaultKind, FileFault

WorkT = TypeVar("WorkT")

TIDY_S: Final = 0.03
"""Time that deleting old rows may take in one round: what somebody waits for must not wait long."""

REFUSALS: Final = 3
"""So many rounds in a row that SQLite understands and refuses mean that the file is not what it was: its schema is damaged,
or an index contradicts its table."""
LAST_ROUNDS_S: Final = 5.0
"""Time that a long deletion may go on when the daemon stops."""


class Waker(Protocol):
    """What a shelf needs of the writer."""

    def wake(self, *, hurry: bool = False) -> None:
        """Come by soon, or at once."""
        ...

    def tidy_soon(self) -> None:
        """Come by although nothing is to be written."""
        ...


class Shelf(Protocol[WorkT]):
    """Something that gathers what is to be written to one file.

    ``write`` and ``tidy`` run in the worker thread, each in a transaction of its own; everything else on Trio's thread.
    """

    @property
    def file(self) -> DatabaseFile:
        """Where it goes."""
        ...

    @property
    def waiting(self) -> bool:
        """Whether anything is gathered."""
        ...

    @property
    def wants_new_file(self) -> bool:
        """Whether everything in the file is to be dropped, by beginning a new one."""
        ...

    def renewed(self, fault: FileFault | None) -> None:
        """The file was replaced by an empty one; or could not be, for this reason."""
        ...

    def collect(self) -> WorkT | None:
        """Hand over what is gathered, and begin to gather anew."""
        ...

    def write(self, connection: sqlite3.Connection, work: WorkT) -> None:
        """Write it; perhaps more than once, since a transaction may fail. Results are kept in the work."""
        ...

    def written(self, work: WorkT) -> None:
        """It is committed."""
        ...

    def failed(self, work: WorkT, fault: FileFault) -> None:
        """Nothing of it was committed."""
        ...

    def tidy(self, connection: sqlite3.Connection) -> bool:
        """Delete a few rows that are too old or too many; tell whether to come again."""
        ...


@dataclass(frozen=True, slots=True)
class WriterStatistics:
    """``rounds`` were written, ``defects`` ended in a mistake of this program; ``writing`` tells whether one is under way
    and ``last_round_s`` how long the last one took."""

    rounds: int
    defects: int
    writing: bool
    last_round_s: float


class Writer:
    """Writes for all shelves, in their order: the first is served first in every round."""

    def __init__(self, *, flush_s: float = 0.25, retry_s: float = 1.0) -> None:
        self._shelves: list[Shelf[Any]] = []
        self._flush_s = flush_s
        self._retry_s = retry_s
        self._thread = trio.CapacityLimiter(1)
        self._wanted = trio.Event()
        self._hurry = trio.Event()
        self._round_done = trio.Event()
        self._not_before: dict[int, float] = {}
        self._no_renewal_before: dict[int, float] = {}
        self._refusals: dict[int, int] = {}
        self._untidy: set[int] = set()
        self._tidy_all = False
        self._stopping = False
        self.ended = trio.Event()
        """Set when `run` has returned."""
        self._writing = False
        self._rounds = 0
        self._defects = 0
        self._last_round_s = 0.0
        self._log = logging.getLogger("aiorchd.store")

    def serve(self, *shelves: Shelf[Any]) -> None:
        """Write for these, too. What an earlier process left behind in their files is tidied without being asked."""
        self._shelves += shelves
        self.tidy_soon()

    def wake(self, *, hurry: bool = False) -> None:
        """Something was gathered: write it within ``flush_s``, or at once. Cheap, and may be called at any rate."""
        self._wanted.set()
        if hurry:
            self._hurry.set()

    def tidy_soon(self) -> None:
        """Look whether rows are too old or too many, though nothing was written."""
        self._tidy_all = True
        self.wake(hurry=True)

    async def flush(self) -> None:
        """Wait until everything gathered before now was written, or failed to be."""
        if not self.ended.is_set():
            self.wake(hurry=True)
            await self._round_done.wait()  # of the next round: one that is under way took its share before now

    async def run(self) -> None:
        """Write until told to `stop`, then what is left. Cancelling it has no effect: it would lose what was gathered."""
        with trio.CancelScope(shield=True):
            try:
                await self._run()
            finally:
                self.ended.set()
                self._round_done.set()

    async def _run(self) -> None:
        while not self._stopping:
            await self._wanted.wait()
            if not self._stopping:
                with trio.move_on_after(self._flush_s):
                    await self._hurry.wait()
            self._wanted, self._hurry = trio.Event(), trio.Event()
            await self._round()
        until = trio.current_time() + LAST_ROUNDS_S
        while True:
            await self._round(last=True)
            unfinished = any(shelf.waiting and shelf.file.fault is None for shelf in self._shelves)
            if not unfinished or trio.current_time() >= until:
                break

    def stop(self) -> None:
        """Let `run` end once everything gathered is written, or cannot be."""
        self._stopping = True
        self.wake(hurry=True)

    def statistics(self) -> WriterStatistics:
        """Tell what was written and whether something is being written."""
        return WriterStatistics(self._rounds, self._defects, self._writing, self._last_round_s)

    async def _round(self, *, last: bool = False) -> None:
        self._writing = True
        began = time.monotonic()
        done, self._round_done = self._round_done, trio.Event()
        try:
            await self._replace_files()
            works = self._collect(last=last)
            if self._tidy_all:
                self._tidy_all = False
                self._untidy.update(range(len(self._shelves)))
            if works or (self._untidy and not last):
                faults = await trio.to_thread.run_sync(self._write, works, not last, limiter=self._thread)
                self._settle(works, faults)
        finally:
            self._writing = False
            self._rounds += 1
            self._last_round_s = time.monotonic() - began
            done.set()
        if self._untidy or any(shelf.waiting for shelf in self._shelves):
            self._wanted.set()

    def _collect(self, *, last: bool) -> list[tuple[int, Any]]:
        works = []
        now = trio.current_time()
        for number, shelf in enumerate(self._shelves):
            if not last and now < self._not_before.get(number, 0.0):
                continue
            work = shelf.collect()
            if work is not None:
                works.append((number, work))
        return works

    def _settle(self, works: list[tuple[int, Any]], faults: list[FileFault | None]) -> None:
        for (number, work), fault in zip(works, faults, strict=True):
            file = self._shelves[number].file
            refused = fault is not None and fault.kind is FaultKind.REFUSED
            self._refusals[number] = self._refusals.get(number, 0) + 1 if refused else 0
            if fault is not None:
                self._not_before[number] = trio.current_time() + self._retry_s
            if fault is None or fault.kind is FaultKind.DEFECT:
                file.note(None)  # the file is sound
            else:
                file.note(fault)
                if fault.kind is FaultKind.DAMAGED or self._refusals[number] >= REFUSALS:
                    file.damaged = True
            if fault is None:
                self._shelves[number].written(work)
            else:
                self._shelves[number].failed(work, fault)

    async def _replace_files(self) -> None:
        for number, shelf in enumerate(self._shelves):
            file = shelf.file
            damaged = file.damaged and file.kind.disposable
            if not (damaged or shelf.wants_new_file) or trio.current_time() < self._no_renewal_before.get(number, 0.0):
                continue
            self._no_renewal_before[number] = trio.current_time() + self._retry_s
            renew = partial(file.renew, keep=damaged and not shelf.wants_new_file)
            async with file.readers_held:
                try:
                    renewed = await trio.to_thread.run_sync(renew, limiter=self._thread)
                except FileFault as fault:
                    file.note(fault)
                    shelf.renewed(fault)
                    continue
            if renewed:
                file.damaged = False
                file.note(None)
                self._not_before.pop(number, None)
                self._untidy.add(number)  # measures it anew
                shelf.renewed(None)

    def _write(self, works: list[tuple[int, Any]], tidy: bool) -> list[FileFault | None]:
        faults = []
        for number, work in works:
            shelf = self._shelves[number]
            faults.append(self._attempt(shelf.file, partial(shelf.write, work=work))[1])
        if tidy:
            self._untidy.update(number for (number, _), fault in zip(works, faults, strict=True) if fault is None)
            self._tidy()
        return faults

    def _attempt(
        self, file: DatabaseFile, step: Callable[[sqlite3.Connection], bool | None]
    ) -> tuple[bool, FileFault | None]:
        try:
            return bool(file.transact(step)), None
        except FileFault as fault:
            return False, fault
        except Exception as error:  # barrier: a mistake in one shelf's writing must not end the daemon
            self._defects += 1
            if self._defects.bit_count() == 1:  # the 1st, 2nd, 4th, 8th …: it may come back every second
                fields = {"file": file.path.name, "defects": self._defects}
                self._log.exception("defect while writing", extra={"aiorch_fields": fields})
            return False, FileFault(FaultKind.DEFECT, type(error).__name__)

    def _tidy(self) -> None:
        until = time.monotonic() + TIDY_S
        for number in sorted(self._untidy):
            shelf = self._shelves[number]
            more = True
            while more and time.monotonic() < until:
                more, _ = self._attempt(shelf.file, shelf.tidy)  # a fault shows at the next write
            if not more:
                self._untidy.discard(number)
