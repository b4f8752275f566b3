"""The store as a whole: the state directory taken, its files opened, the writer running; and all of it undone in reverse."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import trio

from aiorchd.calls.ports import WallClock
from aiorchd.core.spending import Spending
from aiorchd.store.answers import AnswerBounds, Answers
from aiorchd.store.batch_rows import BatchRows
from aiorchd.store.cache_schema import CACHE
from aiorchd.store.database import DatabaseFile, FileStatistics
from aiorchd.store.errors import FaultKind, FileFault, LedgerDamaged, LedgerUnavailable
from aiorchd.store.ledger import Ledger, LedgerStatistics
from aiorchd.store.ledger_schema import LEDGER
from aiorchd.store.metrics_schema import METRICS
from aiorchd.store.place import locked, prepare_directory
from aiorchd.store.records import RecordBounds, Records, RecordStatistics
from aiorchd.store.semantic_rows import SemanticRows
from aiorchd.store.spending import SpendingRows, SpendingStatistics
from aiorchd.store.writer import Writer, WriterStatistics


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """How the store fares; ``files`` by name."""

    state_dir: str
    files: Mapping[str, FileStatistics]
    writer: WriterStatistics
    answers: Mapping[str, Any]
    records: RecordStatistics
    ledger: LedgerStatistics
    ledger_writer: WriterStatistics
    spending: SpendingStatistics


class Store:
    """What the rest of the daemon is handed pieces of: ``answers``, ``records``, the ``ledger`` and, in the same file, the
    accounts of ``spending``; in the answers' file, the ``semantic`` cache's part; and, in that of the records, the sizes of
    ``batches``. The ledger has a writer of its own: who waits for it waits for no other file."""

    def __init__(
        self,
        directory: Path,
        writer: Writer,
        answers: Answers,
        records: Records,
        ledger_writer: Writer,
        ledger: Ledger,
        spending: SpendingRows,
        semantic: SemanticRows,
        batches: BatchRows,
    ) -> None:
        self.directory = directory
        self.semantic = semantic
        self.batches = batches
        self.answers = answers
        self.records = records
        self.ledger = ledger
        self.spending = spending
        self._writer = writer
        self._ledger_writer = ledger_writer

    async def flush(self) -> None:
        """Wait until everything put and recorded before now is on disk, or could not be written."""
        await self._ledger_writer.flush()
        await self._writer.flush()

    def statistics(self) -> StoreStatistics:
        """Tell how everything fares."""
        return StoreStatistics(
            state_dir=str(self.directory),
            files=MappingProxyType(
                {shelf.file.kind.name: shelf.file.statistics() for shelf in (self.answers, self.records, self.ledger)}
            ),
            writer=self._writer.statistics(),
            answers=self.answers.statistics(),
            records=self.records.statistics(),
            ledger=self.ledger.statistics(),
            ledger_writer=self._ledger_writer.statistics(),
            spending=self.spending.statistics(),
        )


@asynccontextmanager
async def open_store(
    state_dir: Path,
    *,
    release: str,
    wall_clock: WallClock = time.time,
    answers: AnswerBounds | None = None,
    records: RecordBounds | None = None,
    semantic_entries: int = 50_000,
    flush_s: float = 0.25,
    retry_s: float = 1.0,
) -> AsyncIterator[Store]:
    """Open the state directory for the length of the block.

    Raises a `StateError` (text for a person, ``exit_code``) when the daemon cannot start on it: the directory is not
    ours, another daemon holds it, a file is from a newer release, the ledger is damaged. A cache or metrics file that is
    damaged is put aside and begun anew; one that cannot be opened at present is tried again every ``retry_s``. What is put
    and recorded is gathered for ``flush_s`` before it is written.

    Leaving the block writes what was gathered and closes the files; it waits for the disk, also when cancelled.
    """
    await trio.to_thread.run_sync(prepare_directory, state_dir)
    with locked(state_dir):
        cache, metrics, ledger_file = (
            DatabaseFile(state_dir, kind, wall_clock=wall_clock) for kind in (CACHE, METRICS, LEDGER)
        )
        writer, ledger_writer = (Writer(flush_s=flush_s, retry_s=retry_s) for _ in range(2))
        ledger = Ledger(ledger_file, wall_clock=wall_clock, writer=ledger_writer)
        spending = SpendingRows(ledger_file, Spending(), writer=ledger_writer)
        store = Store(
            state_dir,
            writer,
            Answers(cache, wall_clock=wall_clock, writer=writer, bounds=answers or AnswerBounds()),
            Records(metrics, wall_clock=wall_clock, writer=writer, bounds=records or RecordBounds()),
            ledger_writer,
            ledger,
            spending,
            SemanticRows(cache, writer=writer, max_entries=semantic_entries),
            BatchRows(metrics, writer=writer),
        )
        try:
            await trio.to_thread.run_sync(_open, (cache, metrics), ledger_file, ledger, spending, release)
            writer.serve(store.answers, store.records, store.semantic, store.batches)
            ledger_writer.serve(spending, ledger)
            # The nursery is left by hand, without the body's exception, so that this one is not wrapped in a group.
            manager = trio.open_nursery()
            nursery = await manager.__aenter__()
            nursery.start_soon(writer.run)
            nursery.start_soon(ledger_writer.run)
            try:
                yield store
            finally:
                writer.stop()
                ledger_writer.stop()
                with trio.CancelScope(shield=True):
                    await writer.ended.wait()
                    await ledger_writer.ended.wait()
                await manager.__aexit__(None, None, None)
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(_close, (cache, metrics), ledger_file, ledger)


def _open(
    disposable: tuple[DatabaseFile, ...],
    ledger_file: DatabaseFile,
    ledger: Ledger,
    spending: SpendingRows,
    release: str,
) -> None:
    # All are looked at before any is changed: a newer release's state directory is refused as it is.
    for file in (*disposable, ledger_file):
        file.refuse_newer()
    if not os.path.lexists(ledger_file.path) and any(os.path.lexists(file.path) for file in disposable):
        logging.getLogger("aiorchd.store").warning(
            "the ledger is missing where other state is; an empty one is begun",
            extra={"aiorch_fields": {"file": str(ledger_file.path)}},
        )
    try:
        ledger_file.open()
        ledger_file.transact(lambda connection: ledger.begin(connection, release))
        ledger_file.transact(spending.begin)
    except FileFault as fault:
        raise _why_not(ledger_file, fault) from fault
    for file in disposable:
        try:
            file.open()
        except FileFault as fault:
            file.note(fault)


def _why_not(file: DatabaseFile, fault: FileFault) -> LedgerDamaged | LedgerUnavailable:
    if fault.kind is FaultKind.DAMAGED:
        return LedgerDamaged(
            f"{file.path} is damaged ({fault.text}); it is not replaced, because it holds what must not be lost: put a "
            f"backup in its place and remove {file.path.name}-wal, or move both away to begin an empty one"
        )
    return LedgerUnavailable(f"{file.path} cannot be used: {fault.text}")


def _close(disposable: tuple[DatabaseFile, ...], ledger_file: DatabaseFile, ledger: Ledger) -> None:
    if ledger_file.is_open:
        try:
            ledger_file.transact(ledger.end)
        except FileFault as fault:
            logging.getLogger("aiorchd.store").warning(
                "the end of this run could not be noted", extra={"aiorch_fields": {"error": str(fault)}}
            )
    for file in (*disposable, ledger_file):
        file.close()
