"""Whoever works long in a thread stops for a moment when a turn is over, and not before."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from types import SimpleNamespace

import pytest
from store_values import StandingClock, an_answer

from aiorchd.store import short_turns
from aiorchd.store.answer_rows import write_answers
from aiorchd.store.cache_schema import CACHE
from aiorchd.store.connecting import connect_reader
from aiorchd.store.database import DatabaseFile
from aiorchd.store.short_turns import TURN_S, ShortTurns, in_short_turns


class Clock:
    """A clock that counts the pauses; each look at it takes ``step_s``."""

    def __init__(self, step_s: float) -> None:
        self.now = 100.0
        self.step_s = step_s
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        self.now += self.step_s
        return self.now

    def sleep(self, seconds: float) -> None:
        assert seconds > 0  # else nobody else runs
        self.pauses.append(self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(TURN_S / 10)
    monkeypatch.setattr(short_turns, "time", SimpleNamespace(monotonic=clock.monotonic, sleep=clock.sleep))
    return clock


def test_there_is_a_pause_after_each_turn(clock: Clock) -> None:
    turns = ShortTurns()
    for _ in range(100):
        assert turns() == 0
    apart = [later - earlier for earlier, later in zip(clock.pauses, clock.pauses[1:], strict=False)]
    assert 8 <= len(clock.pauses) <= 10
    assert all(TURN_S <= each <= 1.3 * TURN_S for each in apart)


def test_items_are_given_on_in_order_with_pauses_between(clock: Clock) -> None:
    assert list(in_short_turns(range(100))) == list(range(100))
    assert 8 <= len(clock.pauses) <= 10
    clock.pauses.clear()
    assert list(in_short_turns(range(5))) == list(range(5))
    assert clock.pauses == []


def test_long_statements_and_many_rows_are_done_in_turns(clock: Clock, tmp_path: Path) -> None:
    clock.step_s = TURN_S
    file = DatabaseFile(tmp_path, CACHE, wall_clock=StandingClock())
    file.open()
    count = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 50000) SELECT count(*) FROM n"

    def long(connection: sqlite3.Connection) -> None:
        clock.pauses.clear()
        assert connection.execute(count).fetchone() == (50000,)
        assert len(clock.pauses) > 10

    file.transact(long)
    reader = connect_reader(file.path)
    long(reader)
    reader.close()
    clock.pauses.clear()
    assert file.transact(lambda connection: write_answers(connection, [an_answer(n) for n in range(50)], 1.0)) == 0
    assert len(clock.pauses) >= 49
    file.close()
