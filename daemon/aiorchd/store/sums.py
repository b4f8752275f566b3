"""The sums of ``metrics.db``: tallies added to their minute and hour, added up over any time, deleted when old."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final

from aiorchd.store.bulk import insert_many
from aiorchd.store.metrics_schema import SUMS, TIMES
from aiorchd.store.progress import read_progress
from aiorchd.store.tallies import Series, Tally

MINUTE_S: Final = 60
HOUR_S: Final = 3600
MINUTES_KEPT_S: Final = 49 * HOUR_S
"""How long sums are told to the minute; after that to the hour."""

_SPANS: Final = (("minute", MINUTE_S), ("hour", HOUR_S))
_ADD_SUMS: Final = "ON CONFLICT (starts_at, series) DO UPDATE SET " + ", ".join(
    f"{name} = {name} + excluded.{name}" for name in SUMS
)
_ADD_TIMES: Final = "ON CONFLICT (starts_at, series, bucket) DO UPDATE SET " + ", ".join(
    f"{name} = {name} + excluded.{name}" for name in TIMES
)
_KNOWN_NUMBERS: Final = 10_000


class SeriesNumbers:
    """Which row stands for a series. Lives in the writer's thread and remembers what it found, by the hour."""

    def __init__(self) -> None:
        self._known: dict[Series, tuple[int, int]] = {}

    def of(self, connection: sqlite3.Connection, series: Series, now: float) -> int:
        """Find or make the row of a series, and note once an hour that it is in use."""
        hour = int(now) // HOUR_S * HOUR_S
        number, seen = self._known.get(series, (0, 0))
        if seen != hour:
            names = ", ".join(Series._fields)
            row = connection.execute(
                f"INSERT INTO series ({names}, last_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?) "  # noqa: S608
                f"ON CONFLICT ({names}) DO UPDATE SET last_at = max(last_at, excluded.last_at) RETURNING number",
                (*series, hour),
            ).fetchone()
            number = int(row[0])
            if len(self._known) >= _KNOWN_NUMBERS:
                self._known.clear()
            self._known[series] = (number, hour)
        return number

    def forget(self) -> None:
        """What was found may not hold any more: a transaction failed, or the file was replaced."""
        self._known.clear()


def add_tallies(
    connection: sqlite3.Connection,
    tallies: Iterable[tuple[int, Series, Tally]],
    numbers: SeriesNumbers,
    now: float,
) -> None:
    """Add tallies, each to its minute (given as wall seconds) and to the hour that this minute is in."""
    numbered = [(minute, numbers.of(connection, series, now), tally) for minute, series, tally in tallies]
    for span, seconds in _SPANS:
        sums = [(minute // seconds * seconds, number, *tally.sums()) for minute, number, tally in numbered]
        insert_many(connection, f"INSERT INTO {span}s", len(SUMS) + 2, sums, _ADD_SUMS)
        times = [
            (minute // seconds * seconds, number, bucket, tally.total.get(bucket, 0), tally.overhead.get(bucket, 0))
            for minute, number, tally in numbered
            for bucket in {*tally.total, *tally.overhead}
        ]
        insert_many(connection, f"INSERT INTO {span}_times", 5, times, _ADD_TIMES)


def read_sums(
    connection: sqlite3.Connection, *, since: float, now: float, uid: int | None
) -> tuple[int, int, int, dict[Series, Tally]]:
    """Add up everything from ``since`` on, of one user or of all; whole hours are taken from the hours.

    Returns where it really begins, which process wrote last, the number of its last round, and the tallies: all as of
    one moment.
    """
    if since < now - MINUTES_KEPT_S:
        start = hours_from = max(0, int(since)) // HOUR_S * HOUR_S
    else:
        start = max(0, int(since)) // MINUTE_S * MINUTE_S
        hours_from = -(-start // HOUR_S) * HOUR_S
    connection.execute("BEGIN")
    try:
        progress = read_progress(connection)
        return start, progress.process, progress.batch, _read(connection, start, hours_from, uid)
    finally:
        connection.execute("COMMIT")


def _read(connection: sqlite3.Connection, start: int, hours_from: int, uid: int | None) -> dict[Series, Tally]:
    numbers: dict[int, Tally] = {}
    by_series: dict[Series, Tally] = {}
    where = "" if uid is None else "WHERE series.uid = ?"
    user = () if uid is None else (uid,)
    names = ", ".join(f"series.{name}" for name in Series._fields)
    added = ", ".join(f"sum(spans.{name})" for name in SUMS)
    rows: Iterable[Sequence[Any]] = connection.execute(
        f"SELECT spans.series, {names}, {added} FROM ({_spans('hours', 'minutes')}) AS spans "  # noqa: S608
        f"JOIN series ON series.number = spans.series {where} GROUP BY spans.series",
        (hours_from, start, hours_from, *user),
    )
    for number, *columns in rows:
        series = Series(*columns[: len(Series._fields)])
        tally = Tally()
        for name, value in zip(SUMS, columns[len(Series._fields) :], strict=True):
            setattr(tally, name, value)
        numbers[number] = by_series[series] = tally
    rows = connection.execute(
        "SELECT spans.series, spans.bucket, sum(spans.total_calls), sum(spans.overhead_calls) "  # noqa: S608
        f"FROM ({_spans('hour_times', 'minute_times')}) AS spans JOIN series ON series.number = spans.series {where} "
        "GROUP BY spans.series, spans.bucket",
        (hours_from, start, hours_from, *user),
    )
    for number, bucket, total, overhead in rows:
        if number in numbers:
            if total:
                numbers[number].total[bucket] = total
            if overhead:
                numbers[number].overhead[bucket] = overhead
    return by_series


def _spans(hours: str, minutes: str) -> str:
    return (
        f"SELECT * FROM {hours} WHERE starts_at >= ? UNION ALL "  # noqa: S608
        f"SELECT * FROM {minutes} WHERE starts_at >= ? AND starts_at < ?"
    )


def drop_old_sums(connection: sqlite3.Connection, minutes_before: float, hours_before: float) -> bool:
    """Delete one minute and one hour that ended before these (wall seconds); tell whether any did."""
    dropped = False
    for (span, seconds), before in zip(_SPANS, (minutes_before, hours_before), strict=True):
        oldest = connection.execute(f"SELECT min(starts_at) FROM {span}s").fetchone()[0]  # noqa: S608
        if oldest is None or oldest + seconds > before:
            continue
        connection.execute(f"DELETE FROM {span}s WHERE starts_at = ?", (oldest,))  # noqa: S608
        connection.execute(f"DELETE FROM {span}_times WHERE starts_at <= ?", (oldest,))  # noqa: S608
        dropped = True
    if not dropped:
        # A series is marked as used by the hour.
        cursor = connection.execute(
            "DELETE FROM series WHERE number IN (SELECT number FROM series WHERE last_at < ? LIMIT 100)",
            (hours_before - HOUR_S,),
        )
        dropped = cursor.rowcount > 0
    return dropped
