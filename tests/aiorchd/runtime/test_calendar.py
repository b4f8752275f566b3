"""Days and months of a zone, over the days on which the clocks change."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from aiorchd.runtime.calendar import Calendar


def wall(*parts: int, zone: str = "UTC") -> float:
    return datetime(*parts, tzinfo=UTC if zone == "UTC" else ZoneInfo(zone)).timestamp()  # type: ignore[arg-type,misc]


def test_a_day_and_a_month_in_utc() -> None:
    found = Calendar("UTC").at(wall(2026, 12, 31, 23, 59, 59))
    assert (found.day, found.month) == ("2026-12-31", "2026-12")
    assert found.day_ends == found.month_ends == wall(2027, 1, 1)


def test_midnight_is_the_next_day() -> None:
    calendar = Calendar("utc")
    assert calendar.at(wall(2028, 2, 28, 23, 59, 59)).day == "2028-02-28"
    assert calendar.at(wall(2028, 2, 29)).day == "2028-02-29"
    assert calendar.at(wall(2028, 2, 28, 12)).day == "2028-02-28"  # the clock was set back


@pytest.mark.parametrize(("day", "hours"), [((2026, 3, 29), 23), ((2026, 10, 25), 25), ((2026, 7, 1), 24)])
def test_days_on_which_the_clocks_change(day: tuple[int, int, int], hours: int) -> None:
    berlin = "Europe/Berlin"
    found = Calendar(berlin).at(wall(*day, 12, zone=berlin))
    assert found.day == f"{day[0]}-{day[1]:02}-{day[2]:02}"
    assert found.day_ends - found.day_began == hours * 3600


def test_the_same_moment_is_another_day_elsewhere() -> None:
    moment = wall(2026, 11, 30, 23, 30)
    assert Calendar("UTC").at(moment).month == "2026-11"
    assert Calendar("Asia/Tokyo").at(moment).month == "2026-12"


def test_a_zone_that_there_is_not() -> None:
    with pytest.raises((KeyError, ValueError)):
        Calendar("Mars/Olympus")
