"""Finished calls, counted and kept: what `calls.ports.RecordSink` promises, over ``metrics.db``.

Counting comes first and is exact: every record is added to the tally of its series at once, tallies are handed to the
writer with each round and come back when it fails, and the number of the round is written in the same transaction, so that
nothing is counted twice or not at all while the process lives. Single rows, which serve ``explain``, are best effort: when
more calls finish than `MAX_HITS` and `MAX_OTHERS` a round, the rest is counted and its rows are dropped, plain hits first.

The minute that a call is counted in is the one in which it ended.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from aiorch.errors import StorageError
from aiorchd.calls.caller import Caller
from aiorchd.calls.journal import CallRecord, Hit
from aiorchd.calls.ports import WallClock
from aiorchd.store.call_rows import (
    bounded,
    drop_before,
    drop_oldest,
    is_plain,
    most_calls,
    read_call,
    recount,
    write_calls,
)
from aiorchd.store.database import DatabaseFile
from aiorchd.store.errors import FaultKind, FileFault
from aiorchd.store.pages import give_back, pages_of
from aiorchd.store.progress import add_progress, read_progress, write_progress
from aiorchd.store.sums import HOUR_S, MINUTE_S, MINUTES_KEPT_S, SeriesNumbers, add_tallies, drop_old_sums, read_sums
from aiorchd.store.tallies import (
    RawSeries,
    Series,
    Tally,
    is_countable,
    raw_series_of,
    raw_series_of_attempt,
    raw_series_of_call,
    series_of,
    series_without_names,
    without_names,
)
from aiorchd.store.writer import Waker

ResultT = TypeVar("ResultT")

MAX_HITS: Final = 4096
"""Rows of plain hits that wait for one round; at four rounds a second, 16 000 a second are kept."""
MAX_OTHERS: Final = 8192
MAX_SERIES: Final = 2000
"""Combinations told apart in an hour; the names in further ones become ``(other)``."""
MAX_TALLIES: Final = 4096
"""Tallies kept while the file fails; then minutes are joined to hours, then names to ``(other)``."""

_NOTED_AT_MOST: Final = 256
_ENDED_AT_MOST: Final = 64
"""To count so many takes half a millisecond."""
_HURRY_ROWS: Final = 2048
_TIDY_ROWS: Final = 500
_SWEEP_S: Final = 60.0
_DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class RecordBounds:
    """What ``metrics.db`` may hold: rows of single calls (plain hits may take what the others leave, and at least half),
    days of rows and sums, and bytes in all."""

    keep_calls: int = 100_000
    keep_days: float = 30.0
    max_bytes: int = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class RecordStatistics:
    """``counted`` calls since the start; of their rows ``written`` are kept and ``dropped`` are not. ``queued`` rows and
    ``tallies`` wait to be written; ``calls_kept`` rows are on disk."""

    counted: int
    written: int
    dropped: int
    queued: int
    tallies: int
    series: int
    calls_kept: int
    keep_calls: int
    keep_days: float


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums by series from ``since`` on: wall seconds, rounded down to a minute, or to an hour where minutes are gone."""

    since: int
    tallies: dict[Series, Tally]


@dataclass(slots=True)
class RecordBatch:
    """What goes to the disk in one transaction."""

    number: int
    tallies: dict[tuple[int, Series], Tally]
    hits: list[CallRecord]
    others: list[CallRecord]
    rows_written: int = 0


class Records:
    """Counts and keeps finished calls; satisfies `calls.ports.RecordSink` and the writer's `Shelf`."""

    def __init__(self, file: DatabaseFile, *, wall_clock: WallClock, writer: Waker, bounds: RecordBounds) -> None:
        self._file = file
        self._wall_clock = wall_clock
        self._writer = writer
        self._bounds = bounds
        self._process = int.from_bytes(os.urandom(7), "little")
        # All that changes. Noted and not yet counted:
        self._noted: list[Hit] = []
        self._ended: list[CallRecord] = []
        self._refusals: dict[tuple[str, int, str], int] = {}
        # Gathered and not yet handed to the writer:
        self._tallies: dict[RawSeries, Tally] = {}
        self._hits: list[CallRecord] = []
        self._others: list[CallRecord] = []
        self._kept: dict[tuple[int, Series], Tally] = {}  # came back from a round that failed
        self._seen: set[RawSeries] = set()
        self._seen_hour = -1
        # With the writer now:
        self._writing: RecordBatch | None = None
        self._number = 0
        # In the writer's thread:
        self._numbers = SeriesNumbers()
        self._next_sweep = 0.0
        self._swept_for: RecordBounds | None = None
        # What is shown:
        self._counted = 0
        self._written = 0
        self._dropped = 0
        self._calls_kept = 0

    # --- RecordSink --------------------------------------------------------------------------------------------------

    def record(self, record: CallRecord) -> None:
        """Count and keep one finished call: at once a line in a list, as with `record_hit`."""
        ended = self._ended
        if not ended:
            self._writer.wake()
        ended.append(record)
        if len(ended) >= _ENDED_AT_MOST:
            self._take_ended()

    def record_hit(self, hit: Hit) -> None:
        """Count and keep one answer from memory: at once a line in a list, the work when many are together or somebody looks."""
        noted = self._noted
        if not noted:
            self._writer.wake()
        noted.append(hit)
        if len(noted) >= _NOTED_AT_MOST:
            self._take_noted()

    def record_refusal(self, caller: Caller, code: str) -> None:
        """Count one call that was turned away before anything was begun for it: no id, no row, and next to no work, because
        there are most of them when there is most to do."""
        key = caller.unit, caller.uid, code
        self._refusals[key] = self._refusals.get(key, 0) + 1
        if self._refusals[key] == 1:
            self._writer.wake()

    def record_hits(self, records: Iterable[CallRecord]) -> None:
        """Count and keep several plain hits at once, after what ended before."""
        if self._ended:
            self._take_ended()
        tallies, hits = self._tallies, self._hits
        room = MAX_HITS if self._bounds.keep_calls else 0
        count = dropped = 0
        for record in records:
            raw = raw_series_of(record)
            tally = tallies.get(raw)
            if tally is None:
                tally = self._tally(raw)
            tally.add_hit(record)
            count += 1
            if len(hits) < room:
                hits.append(record)
            else:
                dropped += 1
        self._counted += count
        self._dropped += dropped
        self._writer.wake()

    # --- asking --------------------------------------------------------------------------------------------------------

    async def totals(self, since: float, *, uid: int | None = None) -> Totals:
        """Add up all calls that ended since (wall seconds), of one user or of all; as of now, written or not.

        Raises `StorageError` when the file cannot be read.
        """
        now = self._wall_clock()
        self._take_noted()
        waiting = self._waiting_tallies(now)
        start, process, number, tallies = await self.ask(partial(read_sums, since=since, now=now, uid=uid))
        written = number if process == self._process else 0
        for batch, minute, series, tally in waiting:
            if batch > written and minute + MINUTE_S > start and (uid is None or series.uid == uid):
                _merge(tallies, series, tally)
        return Totals(since=start, tallies=tallies)

    async def find(self, call_id: str) -> CallRecord | None:
        """Find one finished call, written or not. Raises `StorageError` when the file cannot be read."""
        self._take_noted()
        waiting = [self._others, self._hits]
        if (writing := self._writing) is not None:
            waiting += [writing.others, writing.hits]
        for records in waiting:
            for record in records:
                if record.id == call_id:
                    return record
        found: CallRecord | None = await self.ask(partial(read_call, call_id=call_id))
        return found

    async def ask(self, question: Callable[[sqlite3.Connection], ResultT]) -> ResultT:
        """Run a query in the reader's thread. Raises `StorageError` when the file cannot be read."""
        try:
            return await self._file.read(question)
        except FileFault as fault:
            self._writer.wake()
            raise StorageError(
                f"the records of calls cannot be read: {fault}", retryable=True, stage="store"
            ) from fault

    def reconfigure(self, bounds: RecordBounds) -> None:
        """Hold to other bounds from now on; what exceeds them goes step by step."""
        self._bounds = bounds
        self._writer.tidy_soon()

    def statistics(self) -> RecordStatistics:
        """Tell what was counted, kept and dropped, and what waits."""
        self._take_noted()
        writing = self._writing
        return RecordStatistics(
            counted=self._counted,
            written=self._written,
            dropped=self._dropped,
            queued=len(self._hits)
            + len(self._others)
            + (len(writing.hits) + len(writing.others) if writing is not None else 0),
            tallies=len(self._tallies) + len(self._kept) + (len(writing.tallies) if writing is not None else 0),
            series=len(self._seen),
            calls_kept=self._calls_kept,
            keep_calls=self._bounds.keep_calls,
            keep_days=self._bounds.keep_days,
        )

    # --- Shelf ---------------------------------------------------------------------------------------------------------

    @property
    def file(self) -> DatabaseFile:
        """``metrics.db``."""
        return self._file

    @property
    def waiting(self) -> bool:
        """Whether anything is to be written."""
        return bool(
            self._noted or self._ended or self._refusals or self._tallies or self._kept or self._hits or self._others
        )

    @property
    def wants_new_file(self) -> bool:
        """Never."""
        return False

    def renewed(self, fault: FileFault | None) -> None:
        """The file was replaced by an empty one."""
        if fault is None:
            self._numbers.forget()
            self._calls_kept = 0

    def collect(self) -> RecordBatch | None:
        """Hand over what is gathered."""
        self._take_noted()
        if not self.waiting:
            return None
        tallies, self._kept = self._kept, {}
        minute = _minute_of(self._wall_clock())
        for raw, tally in self._tallies.items():
            _merge(tallies, (minute, series_of(raw)), tally)
        self._number += 1
        self._writing = RecordBatch(self._number, tallies, self._hits, self._others)
        self._tallies, self._hits, self._others = {}, [], []
        return self._writing

    def write(self, connection: sqlite3.Connection, work: RecordBatch) -> None:
        """Add the tallies to their minutes and hours, and write the rows."""
        now = self._wall_clock()
        add_tallies(
            connection,
            ((minute, series, tally) for (minute, series), tally in work.tallies.items()),
            self._numbers,
            now,
        )
        plain, told = write_calls(connection, work.hits + work.others)
        add_progress(connection, plain_calls=plain, told_calls=told)
        write_progress(connection, process=self._process, batch=work.number)
        work.rows_written = plain + told

    def written(self, work: RecordBatch) -> None:
        """The batch is on disk."""
        self._writing = None
        self._written += work.rows_written

    def failed(self, work: RecordBatch, fault: FileFault) -> None:
        """Nothing of the batch is on disk: keep the tallies, and the rows as far as there is room."""
        self._take_noted()
        self._writing = None
        self._numbers.forget()  # rows of series were rolled back
        for key, tally in work.tallies.items():
            _merge(self._kept, key, tally)
        self._coarsen()
        rows = len(work.hits) + len(work.others)
        if fault.kind not in (FaultKind.REFUSED, FaultKind.DEFECT):  # one of the rows may be the reason
            rows += len(self._hits) + len(self._others)
            self._hits = (work.hits + self._hits)[-MAX_HITS:]
            self._others = (work.others + self._others)[-MAX_OTHERS:]
            rows -= len(self._hits) + len(self._others)
        self._dropped += rows

    def tidy(self, connection: sqlite3.Connection) -> bool:
        """Delete some rows that are too old or too many, some old sums, give back some pages; tell whether to come again."""
        bounds, now = self._bounds, self._wall_clock()
        horizon = now - bounds.keep_days * _DAY_S
        more = self._drop_excess(connection, bounds.keep_calls)
        # What has grown old is looked for once a minute (more often where nothing is kept for long) and when other bounds hold.
        pause_s = min(_SWEEP_S, bounds.keep_days * _DAY_S / 100)
        if now >= self._next_sweep or now < self._next_sweep - pause_s or bounds is not self._swept_for:
            plain, told = drop_before(connection, horizon, _TIDY_ROWS)
            add_progress(connection, plain_calls=-plain, told_calls=-told)
            old_sums = drop_old_sums(connection, max(horizon, now - MINUTES_KEPT_S), horizon)
            if old_sums or plain + told == _TIDY_ROWS:
                more = True
            else:
                self._next_sweep, self._swept_for = now + pause_s, bounds
        if pages_of(connection).used_bytes > bounds.max_bytes:
            more |= self._shrink(connection)
        return give_back(connection, bounds.max_bytes) or more

    # --- inside ----------------------------------------------------------------------------------------------------------

    def _take_ended(self) -> None:
        ended, self._ended = self._ended, []
        tallies, keep = self._tallies, self._bounds.keep_calls > 0
        for record in ended:
            raw = raw_series_of_call(record)
            (tallies.get(raw) or self._tally(raw)).add(record)
            for attempt in record.tried:
                raw_of_attempt = raw_series_of_attempt(record, attempt, raw)
                (tallies.get(raw_of_attempt) or self._tally(raw_of_attempt)).add_attempt(attempt)
            rows, room = (self._hits, MAX_HITS) if is_plain(record) else (self._others, MAX_OTHERS)
            if keep and len(rows) < room:
                rows.append(bounded(record))
            else:
                self._dropped += 1
        self._counted += len(ended)
        if len(self._others) >= _HURRY_ROWS:
            self._writer.wake(hurry=True)

    def _take_noted(self) -> None:
        if self._ended:
            self._take_ended()
        if self._noted:
            noted, self._noted = self._noted, []
            self.record_hits([hit.record() for hit in noted])
        if self._refusals:
            refusals, self._refusals = self._refusals, {}
            for (unit, uid, code), number in refusals.items():
                raw: RawSeries = (unit, uid, None, None, "none", code, None)
                tally = self._tallies.get(raw) or self._tally(raw)
                tally.add_refusals(number)
                self._counted += number

    def _tally(self, raw: RawSeries) -> Tally:
        """Find or begin the tally of a series that is new in this round."""
        hour = int(self._wall_clock() // HOUR_S)
        if hour != self._seen_hour:
            self._seen_hour, self._seen = hour, set()
        if raw not in self._seen:
            if len(self._seen) < MAX_SERIES and is_countable(raw):
                self._seen.add(raw)
            else:
                raw = without_names(raw)
        tally = self._tallies.get(raw)
        if tally is None:
            tally = self._tallies[raw] = Tally()
        return tally

    def _waiting_tallies(self, now: float) -> list[tuple[int, int, Series, Tally]]:
        """Copy what is not written, or perhaps not: (number of its round, minute, series, tally).

        What is still gathered may be on disk by the time the file is read. Then the number there is that of the next
        round, or higher, for what a round that failed gives back goes into the one after it.
        """
        minute, following = _minute_of(now), self._number + 1
        waiting = [(following, minute, series_of(raw), tally.copy()) for raw, tally in self._tallies.items()]
        waiting += [(following, when, series, tally.copy()) for (when, series), tally in self._kept.items()]
        if (writing := self._writing) is not None:
            waiting += [
                (writing.number, when, series, tally.copy()) for (when, series), tally in writing.tallies.items()
            ]
        return waiting

    def _coarsen(self) -> None:
        if len(self._kept) > MAX_TALLIES:
            kept, self._kept = self._kept, {}
            for (minute, series), tally in kept.items():
                _merge(self._kept, (minute // HOUR_S * HOUR_S, series), tally)
        if len(self._kept) > MAX_TALLIES:
            kept, self._kept = self._kept, {}
            for (hour, series), tally in kept.items():
                _merge(self._kept, (hour, series_without_names(series)), tally)

    def _drop_excess(self, connection: sqlite3.Connection, keep: int) -> bool:
        progress = read_progress(connection)
        plain, told = progress.plain_calls, progress.told_calls
        if plain + told > most_calls(connection):
            plain, told = recount(connection)  # somebody else deleted rows
            write_progress(connection, plain_calls=plain, told_calls=told)
        excess = plain + told - keep
        self._calls_kept = plain + told
        if excess <= 0:
            return False
        # Each sort is sure of half; what exceeds its half goes first, plain hits before the rest.
        of_plain = plain > keep // 2
        limit = min(_TIDY_ROWS, excess, plain - keep // 2 if of_plain else excess)
        dropped = drop_oldest(connection, plain=of_plain, limit=limit)
        self._calls_kept -= dropped
        if dropped < limit:
            plain, told = recount(connection)
            write_progress(connection, plain_calls=plain, told_calls=told)
        elif of_plain:
            add_progress(connection, plain_calls=-dropped)
        else:
            add_progress(connection, told_calls=-dropped)
        return excess > dropped

    def _shrink(self, connection: sqlite3.Connection) -> bool:
        """The file is too large whatever the other bounds say: rows go first, then the oldest sums."""
        plain = drop_oldest(connection, plain=True, limit=_TIDY_ROWS)
        told = drop_oldest(connection, plain=False, limit=_TIDY_ROWS) if not plain else 0
        add_progress(connection, plain_calls=-plain, told_calls=-told)
        if plain or told:
            return True
        now = self._wall_clock()
        return drop_old_sums(connection, now - HOUR_S, now - HOUR_S)


KeyT = TypeVar("KeyT")


def _merge(tallies: dict[KeyT, Tally], key: KeyT, tally: Tally) -> None:
    there = tallies.get(key)
    if there is None:
        tallies[key] = tally
    else:
        there.merge(tally)


def _minute_of(now: float) -> int:
    return int(now) // MINUTE_S * MINUTE_S
