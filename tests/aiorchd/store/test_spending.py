"""What is reserved is on the disk before anybody starts; a failing disk lets nobody start; a crash forgets nothing."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from store_values import StillWriter

from aiorch.errors import StorageError
from aiorchd.core.spending import Key, Limit, Reservation, Row, Spending
from aiorchd.store.errors import FaultKind, FileFault
from aiorchd.store.spending import SpendingRows

Opener = Callable[..., Any]
TODAY = Key("all", "2026-11-28")
LIMITS = [Limit(TODAY, 1000)]


def on_disk(state_dir: Path) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(state_dir / "ledger.db")
    try:
        return connection.execute("SELECT * FROM spending ORDER BY scope, period").fetchall()
    finally:
        connection.close()


async def hold(rows: SpendingRows, amount: int) -> Reservation:
    reservation = rows.spending.reserve(LIMITS, amount)
    assert isinstance(reservation, Reservation)
    await rows.commit()
    return reservation


async def test_it_is_on_the_disk_when_it_is_committed(opened: Opener, state_dir: Path) -> None:
    async with opened() as store:
        reservation = await hold(store.spending, 70)
        assert on_disk(state_dir) == [("all", "2026-11-28", 0, 0, 70, 0, 0)]
        store.spending.spending.settle(reservation, 30)
        store.spending.write_soon()
        await store.flush()
        assert on_disk(state_dir) == [("all", "2026-11-28", 30, 0, 0, 1, 0)]
        assert store.statistics().spending.waiting == 0


async def test_many_at_once_share_a_commit(opened: Opener) -> None:
    async with opened() as store:
        await store.flush()
        before = store.statistics().files["ledger"].commits
        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(hold, store.spending, 1)
        assert store.spending.spending.row(TODAY).held == 200
        assert store.statistics().files["ledger"].commits - before <= 5


async def test_who_waits_does_not_wait_for_the_other_files(opened: Opener) -> None:
    async with opened(flush_s=1000.0) as store:
        with trio.fail_after(10):
            await hold(store.spending, 5)
        assert store.statistics().writer.rounds <= 1


async def test_the_next_run_takes_what_was_held_as_spent(
    opened: Opener, state_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened() as store:
        settled = await hold(store.spending, 70)
        store.spending.spending.settle(settled, 30)
        await hold(store.spending, 50)  # its attempt never ends
    async with opened() as store:
        assert store.spending.spending.row(TODAY) == Row(TODAY, 80, 50, 0, 1, 0)
        await store.flush()
    assert on_disk(state_dir) == [("all", "2026-11-28", 80, 50, 0, 1, 0)]
    assert "counts as spent" in caplog.text
    async with opened() as store:
        assert store.spending.spending.row(TODAY).spent == 80  # once, not again with every start


async def test_a_full_disk_lets_nobody_start_and_works_again_when_there_is_room(opened: Opener) -> None:
    async with opened() as store:
        await hold(store.spending, 1)
        connection = store.spending.file._writer
        connection.execute(
            "CREATE TEMP TRIGGER full BEFORE INSERT ON spending BEGIN SELECT RAISE(FAIL, 'no room'); END"
        )
        refused = store.spending.spending.reserve(LIMITS, 10)
        with pytest.raises(StorageError, match="was not started"):
            await store.spending.commit()
        store.spending.spending.release(refused)
        connection.execute("DROP TRIGGER full")
        with trio.fail_after(10):
            await hold(store.spending, 5)
        assert store.spending.spending.row(TODAY).held == 6


async def test_who_leaves_while_the_disk_is_busy_is_forgotten() -> None:
    rows = SpendingRows(None, Spending(), writer=(writer := StillWriter()))  # type: ignore[arg-type]
    rows.spending.reserve(LIMITS, 5)
    with trio.move_on_after(0.01):
        await rows.commit()
    assert writer.hurried
    assert rows.statistics().waiting == 0
    assert rows.waiting  # the account still has to be written


async def test_what_could_not_be_written_is_written_the_next_time() -> None:
    rows = SpendingRows(None, Spending(), writer=StillWriter())  # type: ignore[arg-type]
    rows.spending.reserve(LIMITS, 5)
    work = rows.collect()
    assert work is not None
    assert rows.collect() is None
    rows.failed(work, FileFault(FaultKind.FULL, "no room"))
    again = rows.collect()
    assert again is not None
    assert again.rows == work.rows


async def test_accounts_of_long_ago_go(opened: Opener, state_dir: Path) -> None:
    async with opened() as store:
        for period in ("2024-12-31", "2024-12", "2025-01-01", "2026-11-28"):
            store.spending.spending.reserve([Limit(Key("all", period), 100)], 1)
        await store.spending.commit()
        await store.flush()
        await store.flush()
    assert [row[1] for row in on_disk(state_dir)] == ["2025-01-01", "2026-11-28"]


KILLED = """
import os, sys, trio
from pathlib import Path
from store_values import StandingClock
from aiorchd.core.spending import Key, Limit, Reservation
from aiorchd.store.opening import open_store

async def attempt(store, number):
    reservation = store.spending.spending.reserve([Limit(Key("all", "2026-11-28"), 10**9)], 10)
    await store.spending.commit()
    os.write(1, b"%d\\n" % number)  # from now on it may cost money
    if number % 2:
        store.spending.spending.settle(reservation, 4)
        store.spending.write_soon()
        os.write(1, b"-%d\\n" % number)

async def main():
    async with open_store(Path(sys.argv[1]), release="1.0", wall_clock=StandingClock(), flush_s=0.01) as store:
        async with trio.open_nursery() as nursery:
            for number in range(100000):
                nursery.start_soon(attempt, store, number)
                await trio.sleep(0)

trio.run(main)
""".replace("\\\\", "\\")


@pytest.mark.slow
def test_a_killed_process_never_makes_the_house_believe_that_it_spent_less(state_dir: Path) -> None:
    paths = [*sys.path, str(Path(__file__).parents[2] / "kit")]
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(state_dir)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert process.stdout is not None
    told = b""
    while told.count(b"\n") < 300:
        told += os.read(process.stdout.fileno(), 65536)
    process.send_signal(signal.SIGKILL)
    told += process.stdout.read()
    process.wait()
    process.stdout.close()
    numbers = [int(line) for line in told.split()]
    ended = {-number for number in numbers if number < 0}
    started = {number for number in numbers if number >= 0}
    cost = sum(4 if number in ended else 10 for number in started)

    async def look() -> int:
        from store_values import StandingClock

        from aiorchd.store.opening import open_store

        async with open_store(state_dir, release="1.0", wall_clock=StandingClock()) as store:
            return store.spending.spending.row(TODAY).spent

    assert trio.run(look) >= cost
