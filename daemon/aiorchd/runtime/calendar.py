"""Days and months of a time zone, by wall time: the periods for which budgets hold."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo


@dataclass(frozen=True, slots=True)
class Periods:
    """The day and the month of a moment, by name (``2026-11-28``, ``2026-11``), and when they began and end, in wall
    seconds."""

    day: str
    month: str
    day_began: float
    day_ends: float
    month_ends: float


class Calendar:
    """Tells the periods in ``timezone`` (a name of the zone database, or ``UTC``); raises `KeyError` or `ValueError` when this
    host knows none of that name."""

    def __init__(self, timezone: str) -> None:
        self.timezone = timezone
        self._zone: tzinfo = UTC if timezone.upper() == "UTC" else ZoneInfo(timezone)
        self._last: Periods | None = None

    def at(self, wall_s: float) -> Periods:
        """Find the periods of a moment. Cheap within one day."""
        last = self._last
        if last is None or not last.day_began <= wall_s < last.day_ends:
            last = self._last = self._find(wall_s)
        return last

    def _find(self, wall_s: float) -> Periods:
        today = datetime.fromtimestamp(wall_s, self._zone).date()
        first = today.replace(day=1)
        next_month = (first + timedelta(days=32)).replace(day=1)
        return Periods(
            day=today.isoformat(),
            month=f"{today:%Y-%m}",
            day_began=self._midnight(today.year, today.month, today.day),
            day_ends=self._midnight(
                *_parts(datetime(today.year, today.month, today.day, tzinfo=UTC) + timedelta(days=1))
            ),
            month_ends=self._midnight(next_month.year, next_month.month, next_month.day),
        )

    def _midnight(self, year: int, month: int, day: int) -> float:
        return datetime(year, month, day, tzinfo=self._zone).timestamp()


def _parts(moment: datetime) -> tuple[int, int, int]:
    return moment.year, moment.month, moment.day
